//! What a caller may say about its calls in addition to their arguments.

use bytes::Bytes;
use corewire_codec::{Extras, FrameWriter, MetadataBuilder, RequestHead, Status, TraceContext};
use std::time::{Duration, Instant};

use crate::clock;
use crate::context::Context;

/// Options of calls. A client made by its `with` sends them with every call; a client without
/// options pays nothing for them.
///
/// ```
/// # use corewire::{CallOptions, Metadata, MetadataError};
/// # use std::time::Duration;
/// let options = CallOptions::new()
///     .timeout(Duration::from_millis(50))
///     .priority(5)
///     .metadata("tenant", b"blue")?;
/// # Ok::<(), MetadataError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct CallOptions {
    timeout: Option<Duration>,
    priority: Option<u8>,
    trace: Option<TraceContext>,
    extras: Extras,
    /// Inherited: when the caller's own caller stops waiting.
    deadline: Option<Instant>,
}

impl CallOptions {
    /// No option.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How long each call may take from its start to its reply. Zero lets the server answer
    /// `DeadlineExceeded` without running it; a timeout beyond the clock's range is for ever here
    /// and the greatest number (584,000 years) on the wire.
    #[doc(alias("deadline"))]
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How urgent each call is: 0 (lowest) to 7; more is 7. Without it, 3.
    #[must_use]
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = Some(priority.min(RequestHead::PRIORITY_MAX));
        self
    }

    /// The trace that the calls belong to, and the span that makes them. Read one from a
    /// `traceparent` header by its `FromStr`.
    #[doc(alias("tracing", "opentelemetry", "traceparent", "span"))]
    #[must_use]
    pub fn trace(mut self, trace: TraceContext) -> Self {
        self.trace = Some(trace);
        self
    }

    /// Adds a small named value. A call with more than its server accepts is not sent.
    ///
    /// # Errors
    ///
    /// What is wrong with the key or the value, or that the block is full.
    #[doc(alias("headers"))]
    pub fn metadata(
        mut self,
        key: &str,
        value: &[u8],
    ) -> Result<Self, corewire_codec::MetadataError> {
        self.extras.metadata.insert(key, value)?;
        Ok(self)
    }

    /// Passes on the entries with these keys that came with a handler's own call, for
    /// `client.in_context(&context).with(options)`: `in_context` passes none on by
    /// itself, because metadata may be meant for one server only, such as a token. Keys that did not come are
    /// left out.
    ///
    /// # Errors
    ///
    /// That the block is full.
    pub fn metadata_of(
        mut self,
        context: &Context,
        keys: &[&str],
    ) -> Result<Self, corewire_codec::MetadataError> {
        for key in keys {
            if let Some(value) = context.metadata().value(key) {
                self.extras.metadata.insert(key, value)?;
            }
        }
        Ok(self)
    }

    /// Attaches raw bytes to the request; from 4 KiB on they are not copied. They count towards the
    /// largest frame that the server accepts.
    #[doc(alias("payload", "blob"))]
    #[must_use]
    pub fn attachment(mut self, attachment: Bytes) -> Self {
        self.extras.attachment = attachment;
        self
    }

    /// What a handler's own calls inherit: the time that is left, the priority, and the trace with a
    /// new span.
    pub(crate) fn of_context(context: &Context) -> Self {
        Self {
            deadline: context.deadline(),
            priority: Some(context.priority()),
            trace: context.trace().map(|trace| trace.with_span(new_span())),
            ..Self::default()
        }
    }

    /// These options where they are set, `base` where they are not.
    pub(crate) fn over(mut self, base: &Self) -> Self {
        if self.extras.metadata.is_empty() {
            self.extras.metadata = base.extras.metadata.clone();
        }
        if self.extras.attachment.is_empty() {
            self.extras.attachment = base.extras.attachment.clone();
        }
        Self {
            timeout: self.timeout.or(base.timeout),
            priority: self.priority.or(base.priority),
            trace: self.trace.or(base.trace),
            extras: self.extras,
            deadline: [self.deadline, base.deadline].into_iter().flatten().min(),
        }
    }

    /// The same options with another timeout.
    pub(crate) fn with_own_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.timeout = timeout;
        self
    }

    /// Whether the request carries more than its head says.
    pub(crate) fn has_extras(&self) -> bool {
        !self.extras.is_empty()
    }

    /// Writes the options that the head states; returns the call's timeout, given that of the client.
    pub(crate) fn apply(
        &self,
        head: &mut RequestHead,
        timeout: Option<Duration>,
    ) -> Option<Duration> {
        head.priority = self.priority.unwrap_or(head.priority);
        head.trace = self.trace;
        head.attachment_bytes = self.extras.attachment_bytes();
        let metadata: &MetadataBuilder = &self.extras.metadata;
        // A builder never holds more than a u16 can say.
        head.metadata_bytes = u16::try_from(metadata.as_bytes().len()).unwrap_or(u16::MAX);
        let inherited =
            self.deadline.map(|deadline| deadline.saturating_duration_since(clock::now()));
        [self.timeout.or(timeout), inherited].into_iter().flatten().min()
    }

    /// Writes metadata, body and attachment.
    #[cold]
    pub(crate) fn encode(
        &self,
        frame: &mut FrameWriter<'_>,
        arguments: impl FnOnce(&mut FrameWriter<'_>) -> Result<(), Status>,
    ) -> Result<(), Status> {
        frame.put_slice(self.extras.metadata.as_bytes());
        arguments(frame)?;
        self.extras.write_attachment(frame);
        Ok(())
    }
}

/// A span id that no other span has, as far as 64 bits go. Never zero.
fn new_span() -> [u8; 8] {
    #[cfg(not(feature = "shard"))]
    use corewire_client::reconnect::random_seed;
    #[cfg(feature = "shard")]
    use corewire_engine::random_seed;
    random_seed().max(1).to_le_bytes()
}
