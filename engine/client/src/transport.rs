//! What the generated clients call through, whatever drives the connection.
//!
//! A [`Transport`] begins calls; a [`Pending`] is a call that was begun, or will be. There are three
//! transports over one sans-io connection: `Channel` on a shard, `SharedChannel` for any thread, and
//! `blocking::Channel` for a thread of its own.

use corewire_codec::{FrameWriter, RequestHead, Status};
use std::future::Future;
use std::time::Duration;

use crate::config::Reply;
use crate::failure::CallFailure;

/// How a call ended: with a reply of any status, or without one.
pub type Outcome = Result<Reply, CallFailure>;

/// The name of a method, for layers that report its calls to people.
///
/// ```
/// # use corewire_client as corewire;
/// use corewire::MethodName;
///
/// let name = MethodName { service: "KeyValue", method: "get" };
/// assert_eq!(name.to_string(), "KeyValue/get");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MethodName {
    /// Its service's name on the wire.
    pub service: &'static str,
    /// Its own.
    pub method: &'static str,
}

impl std::fmt::Display for MethodName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.service, self.method)
    }
}

/// Something that carries calls to a server.
pub trait Transport: Clone + 'static {
    /// A call with one request and one reply. It begins when the result is polled, waited for, or given a
    /// callback. `head.call` and `head.timeout_us` are filled in on the way; `timeout` counts from the
    /// beginning; `encode` writes the body, once.
    fn call<E>(
        &self,
        head: RequestHead,
        timeout: Option<Duration>,
        encode: E,
    ) -> impl Pending + use<Self, E>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static;

    /// As [`call`](Self::call), with the method's name for layers that look at calls on their way. Channels
    /// do not use it.
    #[inline]
    fn call_named<E>(
        &self,
        name: MethodName,
        head: RequestHead,
        timeout: Option<Duration>,
        encode: E,
    ) -> impl Pending + use<Self, E>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        let _ = name;
        self.call(head, timeout, encode)
    }
}

/// A call whose outcome is to come. Dropping it cancels the call.
pub trait Pending: Future<Output = Outcome> + Sized + 'static {
    /// Blocks the thread until the call ends. Fails with
    /// [`NotSent::WouldBlock`](crate::NotSent::WouldBlock) where that would keep the reply from arriving.
    ///
    /// # Errors
    ///
    /// Why there is no reply.
    fn wait(self) -> Outcome;

    /// Lets the call run on its own and calls `done` with its outcome, once, on the thread that
    /// drives the connection.
    fn then(self, done: impl FnOnce(Outcome) + Send + 'static);
}

/// A call whose outcome is known when it is made; for test doubles.
impl Pending for std::future::Ready<Outcome> {
    fn wait(self) -> Outcome {
        self.into_inner()
    }

    fn then(self, done: impl FnOnce(Outcome) + Send + 'static) {
        done(self.into_inner());
    }
}
