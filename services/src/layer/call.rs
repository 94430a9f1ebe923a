//! A call as layers see it, of either side.

use corewire_client::{MethodName, Peer};
#[cfg(feature = "shard")]
use corewire_codec::Payload;
use corewire_codec::{Metadata, MethodId, RequestHead, StatusCode, TraceContext};
#[cfg(feature = "shard")]
use corewire_engine::{Extensions, Incoming};
use std::time::Duration;
#[cfg(feature = "shard")]
use std::time::Instant;

/// A call that is about to begin.
///
/// ```
/// use corewire::Status;
/// use corewire::layer::CallView;
///
/// /// What a layer may ask before it lets a call pass.
/// fn admit(call: &CallView<'_>) -> Result<(), Status> {
///     match call.metadata().text("tenant") {
///         Some(_) => Ok(()),
///         None => Err(Status::unauthenticated(format!("{} wants a tenant", call.method()))),
///     }
/// }
/// ```
#[derive(Debug)]
pub struct CallView<'a> {
    name: MethodName,
    method: MethodId,
    priority: u8,
    trace: Option<TraceContext>,
    side: Side<'a>,
}

#[derive(Debug)]
enum Side<'a> {
    #[cfg(feature = "shard")]
    Server {
        peer: Peer,
        metadata: Metadata<'a>,
        deadline: &'a mut Option<Instant>,
        extensions: &'a mut Extensions,
    },
    Client {
        timeout: &'a mut Option<Duration>,
    },
}

impl<'a> CallView<'a> {
    #[cfg(feature = "shard")]
    #[inline]
    pub(super) fn incoming(name: MethodName, incoming: &'a mut Incoming<'_>) -> Self {
        let metadata = incoming.payload.as_ref().map(Payload::metadata).unwrap_or_default();
        let request = &incoming.request;
        Self {
            name,
            method: request.method,
            priority: request.priority,
            trace: request.trace,
            side: Side::Server {
                peer: incoming.peer,
                metadata,
                deadline: &mut incoming.deadline,
                extensions: incoming.extensions,
            },
        }
    }

    pub(super) fn outgoing(
        name: MethodName,
        head: &RequestHead,
        timeout: &'a mut Option<Duration>,
    ) -> Self {
        let side = Side::Client { timeout };
        Self { name, method: head.method, priority: head.priority, trace: head.trace, side }
    }

    /// Whether a client makes the call, and not this side.
    #[must_use]
    pub fn is_incoming(&self) -> bool {
        !matches!(self.side, Side::Client { .. })
    }

    /// The method's name.
    #[must_use]
    pub fn method(&self) -> MethodName {
        self.name
    }

    /// The method's number on the wire.
    #[must_use]
    pub fn method_id(&self) -> MethodId {
        self.method
    }

    /// Who calls; `None` at the client.
    #[must_use]
    pub fn peer(&self) -> Option<Peer> {
        match &self.side {
            #[cfg(feature = "shard")]
            Side::Server { peer, .. } => Some(*peer),
            Side::Client { .. } => None,
        }
    }

    /// The request's metadata, read in place; empty at the client, whose requests are not written yet.
    #[must_use]
    pub fn metadata(&self) -> Metadata<'_> {
        match &self.side {
            #[cfg(feature = "shard")]
            Side::Server { metadata, .. } => *metadata,
            Side::Client { .. } => Metadata::default(),
        }
    }

    /// The caller's priority, 0 (lowest) to 7.
    #[must_use]
    pub fn priority(&self) -> u8 {
        self.priority
    }

    /// The trace that the call belongs to.
    #[must_use]
    pub fn trace(&self) -> Option<TraceContext> {
        self.trace
    }

    /// Whether the call has a deadline.
    #[must_use]
    pub fn has_time_limit(&self) -> bool {
        match &self.side {
            #[cfg(feature = "shard")]
            Side::Server { deadline, .. } => deadline.is_some(),
            Side::Client { timeout } => timeout.is_some(),
        }
    }

    /// Leaves a value for the handler, which reads it by
    /// [`Context::extension`](crate::Context::extension), in place of another of the same type. The
    /// value belongs to the call and is dropped with its context. A layer can keep a type of its own, so
    /// that no other layer can put another value in its place. At a client it does nothing.
    #[cfg(feature = "shard")]
    pub fn insert<T: 'static>(&mut self, value: T) {
        if let Side::Server { extensions, .. } = &mut self.side {
            extensions.insert(value);
        }
    }

    /// Gives the call no more than this much time from now; what it has already may be less. At the
    /// end the handler is dropped, and the caller gets `DeadlineExceeded`.
    pub fn limit_time(&mut self, at_most: Duration) {
        match &mut self.side {
            #[cfg(feature = "shard")]
            Side::Server { deadline, .. } => {
                let end = crate::clock::now().checked_add(at_most);
                **deadline = [**deadline, end].into_iter().flatten().min();
            }
            Side::Client { timeout } => {
                **timeout = Some(timeout.map_or(at_most, |timeout| timeout.min(at_most)));
            }
        }
    }
}

/// How a call ended.
///
/// ```
/// use corewire::StatusCode;
/// use corewire::layer::{CallEnd, Guard};
///
/// struct Watched;
///
/// impl Guard for Watched {
///     fn end(self, end: &mut CallEnd) {
///         if end.code() != StatusCode::Ok {
///             eprintln!("a call ended with {}", end.code().name());
///         }
///     }
/// }
/// ```
#[derive(Debug)]
pub struct CallEnd {
    code: StatusCode,
    pub(super) handler_us: Option<u32>,
}

impl CallEnd {
    pub(super) fn new(code: StatusCode) -> Self {
        Self { code, handler_us: None }
    }

    /// The status code of its reply; at a client without a reply, the code that describes why there is
    /// none.
    #[must_use]
    pub fn code(&self) -> StatusCode {
        self.code
    }

    /// States in the reply how long the handler took, in whole µs and at least one. At a client it
    /// has no effect.
    pub fn set_handler_time(&mut self, time: Duration) {
        self.handler_us = Some(u32::try_from(time.as_micros()).unwrap_or(u32::MAX).max(1));
    }
}
