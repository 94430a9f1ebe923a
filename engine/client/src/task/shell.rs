//! What a task that drives a channel needs of its runtime.
//!
//! The contracts are those of tokio, because its channels came first. Everything is used by one task, which hands in its
//! own context each time.
#![allow(unreachable_pub, reason = "the simulator, a crate of its own, implements these traits")]

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::BytesMut;
use corewire_codec::SendBuffer;
use corewire_proto::CloseReason;

use crate::address::Address;
use crate::config::ChannelConfig;

/// A runtime, as the driver of one channel sees it.
pub trait Shell {
    /// A connection's socket. Dropping it closes it.
    type Socket: Socket;
    /// A connect that is under way. Dropping it gives the connect up.
    type Connecting: Future<Output = io::Result<Self::Socket>> + Unpin;

    /// The time.
    fn now(&self) -> Instant;

    /// Hears the bell of the channel's mailbox: `Some` once for any number of rings since it was heard last, `None` when
    /// no handle of the channel is left. Until then the task is woken when it is rung.
    fn poll_bell(&mut self, context: &mut Context<'_>) -> Poll<Option<()>>;

    /// Begins to connect. The connect ends by itself within the `connect_timeout` of `config`.
    fn connect(&mut self, server: &Address, config: &ChannelConfig) -> Self::Connecting;

    /// Waits until this time, never less; `None` is never. The next call replaces the wait.
    fn poll_sleep(&mut self, until: Option<Instant>, context: &mut Context<'_>) -> Poll<()>;

    /// Runs a future as a task of its own.
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>);
}

/// A socket with the readiness that the runtime knows of.
///
/// `try_read` and `try_write` return `WouldBlock` when the socket is not ready, and make the runtime forget its
/// readiness. Readiness may be reported wrongly, and late; the task is woken when it is. `Pending` may also mean that the
/// task has used up its turn; it is woken then, too.
pub trait Socket {
    /// The same socket without what the runtime knows of it.
    type Bare: Bare;

    /// Whether somebody hears why connections end: [`ending`](Self::ending) is not called otherwise.
    const HEARS_ENDINGS: bool = false;

    /// Waits until there may be something to read.
    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Waits until there may be room.
    fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Appends what has arrived to `into`, as far as it has room. 0 bytes are the end.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is nothing; else the connection is over.
    fn try_read(&self, into: &mut BytesMut) -> io::Result<usize>;

    /// Writes what the socket takes of `from`, and returns how many bytes that were.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if it takes nothing; else nothing more can be written.
    fn try_write(&self, from: &SendBuffer) -> io::Result<usize>;

    /// A way to look at the socket itself.
    ///
    /// # Errors
    ///
    /// There is none now.
    fn bare(&self) -> io::Result<Self::Bare>;

    /// The connection ends for this reason.
    fn ending(&self, reason: CloseReason) {
        let _ = reason;
    }
}

/// A socket, asked directly: what the runtime knows of it may be old.
pub trait Bare {
    /// Reads what has arrived, as far as `into` has room. 0 bytes are the end.
    ///
    /// # Errors
    ///
    /// As [`Socket::try_read`]; also `Interrupted`.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize>;

    /// Writes what the socket takes of `from`, and returns how many bytes that were.
    ///
    /// # Errors
    ///
    /// As [`Socket::try_write`].
    fn write(&mut self, from: &SendBuffer) -> io::Result<usize>;
}
