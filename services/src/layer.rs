//! Layers: code that runs around calls, at a server or at a client, whatever their methods are.
//!
//! A [`Layer`] is asked before each call and may turn it away with a status. Otherwise it returns a
//! [`Guard`], which is kept for as long as the call lives. When the call ends, [`Guard::end`] is
//! told the code; a call that streams keeps its guard until the last stream of its server has ended, on both
//! sides. When the call is dropped before (its caller has gone, its time is over, its
//! handler panicked), the guard is only dropped: what it holds is given back in any case.
//!
//! A layer sees a call before it is decoded, and does not change its arguments or its result. So one
//! implementation serves both sides, every kind of method, and futures that are not `Send`; none is
//! boxed. `docs/decisions/0007-layers.md` says why this is not tower's trait.
//!
//! # At a server
//!
//! ```no_run
//! use corewire::layer::{Authorize, Log, TimeLimit};
//! use corewire::{Server, Service, Status, echo};
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), corewire::StartError> {
//! Server::builder()
//!     .address("127.0.0.1:7000")
//!     // Around everything: one layer for each shard. A tuple is several, the first outermost.
//!     .layer(|_shard| (Log::new(), TimeLimit::at_most(Duration::from_secs(5))))
//!     // Around one service.
//!     .service(|_shard| {
//!         echo::EchoServer::new(echo::Echoer).layer(Authorize::new(|call| {
//!             match call.metadata().text("token") {
//!                 Some("secret") => Ok(()),
//!                 _ => Err(Status::unauthenticated("say who you are")),
//!             }
//!         }))
//!     })
//!     .run()?;
//! # Ok(())
//! # }
//! ```
//!
//! A layer that must wait for somebody else, such as a token service, is an [`AsyncLayer`]
//! (`ServerBuilder::async_layer`). It is for servers: a client awaits what a call needs before it makes the call.
//!
//! # At a client
//!
//! A [`LayeredChannel`] is a channel for any client: `KeyValueClient::new(LayeredChannel::new(channel,
//! Log::new()))`.
//!
//! # What it costs
//!
//! A call without layers pays nothing for them. With layers it pays one indirect call for each
//! `layer(…)`, however many layers its tuple has, and what they do themselves. A handler that is
//! ready at once allocates nothing; a pending one has its guard in memory that the method keeps for
//! its next calls.

#[cfg(feature = "shard")]
mod async_method;
#[cfg(feature = "shard")]
mod asynchronous;
mod authorize;
mod call;
mod channel;
mod limit;
mod log;
#[cfg(feature = "shard")]
mod method;
#[cfg(feature = "shard")]
mod spare;
mod time_limit;
mod timer;
mod tuples;

#[cfg(feature = "shard")]
pub use crate::server::service::{AsyncLayeredService, LayeredService};
#[cfg(feature = "shard")]
pub use asynchronous::AsyncLayer;
#[doc(alias("authentication", "auth", "token", "acl"))]
pub use authorize::Authorize;
pub use call::{CallEnd, CallView};
#[doc(alias("middleware", "interceptor"))]
pub use channel::LayeredChannel;
#[doc(alias("rate limit", "semaphore", "load shedding", "backpressure"))]
pub use limit::ConcurrencyLimit;
pub use limit::Permit;
#[doc(alias("tracing", "logging", "access log"))]
pub use log::Log;
pub use log::LogGuard;
#[doc(alias("timeout", "deadline"))]
pub use time_limit::TimeLimit;
#[doc(alias("latency", "histogram", "metrics"))]
pub use timer::CallTimer;
pub use timer::{CallTime, TimerGuard};

use corewire_codec::Status;

/// Code that runs around calls. See the [module](self).
///
/// ```
/// use corewire::Status;
/// use corewire::layer::{CallEnd, CallView, Guard, Layer};
/// use std::cell::Cell;
/// use std::rc::Rc;
///
/// /// Counts the calls that run on one shard.
/// #[derive(Default)]
/// struct Running(Rc<Cell<u32>>);
///
/// struct Counted(Rc<Cell<u32>>);
///
/// impl Layer for Running {
///     type Guard = Counted;
///
///     fn begin(&self, call: &mut CallView<'_>) -> Result<Counted, Status> {
///         if call.priority() == 0 && self.0.get() > 100 {
///             return Err(Status::resource_exhausted("busy"));
///         }
///         self.0.set(self.0.get() + 1);
///         Ok(Counted(Rc::clone(&self.0)))
///     }
/// }
///
/// impl Guard for Counted {
///     fn end(self, _: &mut CallEnd) {}
/// }
///
/// /// However the call ends.
/// impl Drop for Counted {
///     fn drop(&mut self) {
///         self.0.set(self.0.get() - 1);
///     }
/// }
///
/// let server = corewire::Server::builder().layer(|_shard| Running::default());
/// # let _ = server;
/// ```
#[doc(alias("middleware", "interceptor", "filter", "hook"))]
pub trait Layer: 'static {
    /// What it keeps for each call that it lets pass.
    type Guard: Guard;

    /// A call is about to begin. It is not awaited: a layer that cannot let the call pass now turns it
    /// away. At a server, `AsyncLayer` waits.
    ///
    /// # Errors
    ///
    /// What the caller gets in place of its result. At a server the status goes out marked as
    /// refused, at a client as not sent: the handler has not run.
    fn begin(&self, call: &mut CallView<'_>) -> Result<Self::Guard, Status>;

    /// Whether the layer's settings are within their ranges. A server checks before it starts; at a
    /// client, where nothing checks, a layer that cannot work turns each call away with the same text.
    ///
    /// # Errors
    ///
    /// One sentence: which setting, what it is, and what is allowed.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// What a [`Layer`] keeps for a call. Dropped without [`end`](Self::end), the call was cancelled, ran
/// out of time, or panicked.
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
pub trait Guard: 'static {
    /// The call has ended, and its outcome is known.
    fn end(self, end: &mut CallEnd);
}

/// For layers that only look at calls before they begin.
impl Guard for () {
    #[inline]
    fn end(self, _: &mut CallEnd) {}
}
