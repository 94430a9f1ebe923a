//! Contexts for handlers that a unit test calls directly.

use bytes::Bytes;
use corewire_client::Peer;
use corewire_codec::{Extras, MetadataBuilder, MetadataError, TraceContext};
use corewire_engine::Extensions;
use corewire_proto::ShardId;
use std::cell::RefCell;
use std::time::Duration;

use crate::clock;
use crate::context::{CallId, Context};

/// The priority of a caller who says nothing.
const PRIORITY: u8 = 3;

/// The most metadata that a caller of the default limits takes, in bytes.
const REPLY_METADATA_BYTES: u16 = 16 * 1024;

/// For unit tests of handlers.
impl Context {
    /// A context for a unit test that calls a handler directly; see [`TestContext`].
    #[doc(alias("mock", "fake"))]
    pub fn for_test() -> TestContext {
        TestContext::default()
    }

    /// What the handler has added to its reply's metadata so far, for its unit test.
    #[must_use]
    pub fn reply_metadata(&self) -> MetadataBuilder {
        let reply = self.reply.borrow();
        reply.as_ref().map(|extras| extras.metadata.clone()).unwrap_or_default()
    }

    /// The attachment of its reply so far, for a unit test of a handler; empty when there is none.
    #[must_use]
    pub fn reply_attachment(&self) -> Bytes {
        let reply = self.reply.borrow();
        reply.as_ref().map(|extras| extras.attachment.clone()).unwrap_or_default()
    }
}

/// What a test's context contains; made by [`Context::for_test`]. What is not said is as of a plain call: no
/// deadline, no metadata, priority 3, the first shard, a peer on a Unix socket.
///
/// ```
/// use corewire::{Context, Status};
/// use std::time::Duration;
///
/// #[corewire::service]
/// pub trait Greeter {
///     async fn greet(&self, context: &Context) -> Result<String, Status>;
/// }
///
/// struct Host;
///
/// impl Greeter for Host {
///     async fn greet(&self, context: &Context) -> Result<String, Status> {
///         context.add_reply_metadata("shard", b"0")?;
///         let name = context.metadata().text("name").ok_or_else(|| Status::unauthenticated("no name"))?;
///         Ok(format!("hello, {name}"))
///     }
/// }
///
/// # futures_lite::future::block_on(async {
/// let context = Context::for_test().timeout(Duration::from_secs(1)).metadata("name", b"Ada")?.build();
/// assert_eq!(Host.greet(&context).await?, "hello, Ada");
/// assert_eq!(context.reply_metadata().view().text("shard"), Some("0"));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
#[must_use = "`build` makes the context"]
pub struct TestContext {
    peer: Option<Peer>,
    shard: Option<ShardId>,
    timeout: Option<Duration>,
    priority: Option<u8>,
    trace: Option<TraceContext>,
    extras: Extras,
    extensions: Extensions,
}

impl TestContext {
    /// Who calls.
    pub fn peer(mut self, peer: Peer) -> Self {
        self.peer = Some(peer);
        self
    }

    /// The shard that runs the handler.
    pub fn shard(mut self, shard: ShardId) -> Self {
        self.shard = Some(shard);
        self
    }

    /// How long the caller waits, from [`build`](Self::build) on.
    #[doc(alias("deadline"))]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The caller's priority, 0 to 7.
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = Some(priority.min(7));
        self
    }

    /// The trace that the call belongs to.
    pub fn trace(mut self, trace: TraceContext) -> Self {
        self.trace = Some(trace);
        self
    }

    /// Adds an entry to the request's metadata.
    ///
    /// # Errors
    ///
    /// What is wrong with the entry, as for a caller.
    #[doc(alias("headers"))]
    pub fn metadata(mut self, key: &str, value: &[u8]) -> Result<Self, MetadataError> {
        self.extras.metadata.insert(key, value)?;
        Ok(self)
    }

    /// The raw bytes that came with the request.
    pub fn attachment(mut self, attachment: impl Into<Bytes>) -> Self {
        self.extras.attachment = attachment.into();
        self
    }

    /// Adds what a layer would have left for the handler, such as who the caller is.
    #[doc(alias("identity", "authentication", "user"))]
    pub fn extension<T: 'static>(mut self, value: T) -> Self {
        self.extensions.insert(value);
        self
    }

    /// The context.
    #[must_use]
    pub fn build(self) -> Context {
        Context {
            peer: self.peer.unwrap_or(Peer::Unix),
            shard: self.shard.unwrap_or(ShardId(0)),
            deadline: self.timeout.and_then(|timeout| clock::now().checked_add(timeout)),
            id: CallId { connection: 0, call: 0 },
            priority: self.priority.unwrap_or(PRIORITY),
            trace: self.trace,
            request: (!self.extras.is_empty()).then(|| Box::new(self.extras)),
            reply: RefCell::new(None),
            reply_metadata_bytes_max: REPLY_METADATA_BYTES,
            extensions: self.extensions,
        }
    }
}
