//! The seam between the driver and the operating system.
//!
//! The driver (`driver.rs`) decides what to do with sockets; an [`Io`] does it. The one for production is
//! [`Epoll`](crate::net::epoll::Epoll). Another one (another kernel interface, a simulated network)
//! implements the same trait, and the driver does not change.

use bytes::BytesMut;
use corewire_codec::SendBuffer;
use corewire_proto::CloseReason;
use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use corewire_client::address::{Address, Peer};

/// What a [`Readiness`] is about: an opaque number that was given when the thing was watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u64);

impl Token {
    /// The shard's doorbell.
    pub const DOORBELL: Self = Self(u64::MAX);
    /// The tokens from this one on are the shard's listeners; tokens of connections stay far below.
    const LISTENERS: u64 = u64::MAX << 32;

    /// The token of the shard's listener with this index.
    pub(crate) fn listener(index: usize) -> Self {
        Self(Self::LISTENERS | (index as u64 & 0xffff))
    }

    /// Which listener this is about, if any.
    pub(crate) fn as_listener(self) -> Option<usize> {
        (self.0 >= Self::LISTENERS && self != Self::DOORBELL).then_some((self.0 & 0xffff) as usize)
    }

    /// The token of a connection: its place in the table, and how often the place was used before,
    /// so that news about a connection that is gone reaches nobody.
    pub(crate) fn connection(index: u32, generation: u32) -> Self {
        Self(u64::from(index) | (u64::from(generation) << 32))
    }

    pub(crate) fn index(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }
}

/// News about one watched thing. Edge-triggered: it is reported once, and holds until the operation
/// it is about returns `WouldBlock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// What it is about.
    pub token: Token,
    /// Bytes, a connection, the peer's end or an error can be received.
    pub readable: bool,
    /// Bytes can be sent.
    pub writable: bool,
    /// The peer closed, or the socket failed: receive until that shows.
    pub hangup: bool,
    /// An urgent byte is among those that can be received. A receive stops in front of it, so one that
    /// brings less than there was room for has not emptied the socket.
    pub urgent: bool,
}

/// Non-blocking sockets with edge-triggered readiness.
pub trait Io: 'static {
    /// Whether [`connect`](Self::connect) takes addresses by name. The operating system's sockets do not: other threads
    /// look the name up.
    const CONNECTS_BY_NAME: bool = false;

    /// A connected, or connecting, stream. Dropping it closes it.
    type Socket: 'static;
    /// A listening socket. Dropping it does not close what it listens on.
    type Listener: 'static;

    /// The time, by the driver's clock.
    fn now(&self) -> Instant;

    /// Appends what became ready to `news`; waits for at most `wait` when nothing is.
    ///
    /// # Errors
    ///
    /// The operating system's error; the shard cannot go on.
    fn poll(&mut self, news: &mut Vec<Readiness>, wait: Duration) -> io::Result<()>;

    /// Watches a listener. Other sets may watch it, too; a new client wakes one of them that
    /// sleeps, or else all of them.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn watch_listener(&mut self, listener: &Self::Listener, token: Token) -> io::Result<()>;

    /// Stops watching, and takes the listener out of service: clients are refused from now on.
    fn retire_listener(&mut self, listener: &Self::Listener);

    /// Takes one waiting connection.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when none waits; otherwise what the operating system says.
    fn accept(&mut self, listener: &Self::Listener) -> io::Result<(Self::Socket, Peer)>;

    /// The CPU on which packets of an accepted connection arrive; `None` where that has no meaning.
    fn packets_cpu(&self, _socket: &Self::Socket) -> Option<usize> {
        None
    }

    /// Begins to connect; the socket becomes writable when the connect has succeeded or failed.
    ///
    /// # Errors
    ///
    /// What the operating system says at once.
    fn connect(&mut self, address: &Address) -> io::Result<Self::Socket>;

    /// Takes over a stream that was connected elsewhere. Only real sockets support this.
    ///
    /// # Errors
    ///
    /// What the operating system says; `Unsupported` where there are no real sockets.
    fn adopt(&mut self, _stream: TcpStream) -> io::Result<Self::Socket> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// How a connect ended, once its socket is writable.
    ///
    /// # Errors
    ///
    /// Why it failed.
    fn connected(&mut self, socket: &Self::Socket) -> io::Result<()>;

    /// Watches a stream in both directions. Writability is reported after an `accept` or a
    /// `connect`, and from then on only after a send that returned `WouldBlock`.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn watch(&mut self, socket: &Self::Socket, token: Token) -> io::Result<()>;

    /// Receives at most `max` bytes into the free capacity of `into`, of which there must be some;
    /// returns how many bytes, zero at the peer's end.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when nothing is there; otherwise what the operating system says.
    fn recv(&mut self, socket: &Self::Socket, into: &mut BytesMut, max: usize)
    -> io::Result<usize>;

    /// Sends from the front of `from` as much as the socket takes in one operation, at most `max`
    /// bytes.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when it takes nothing; otherwise what the operating system says.
    fn send(&mut self, socket: &Self::Socket, from: &SendBuffer, max: usize) -> io::Result<usize>;

    /// How many sent bytes the peer's side has not acknowledged: its kernel, for TCP, or its owner. The
    /// count may include the system's overhead for keeping them, so that only its change means anything.
    /// `None` if the socket cannot tell.
    fn unacknowledged(&mut self, socket: &Self::Socket) -> Option<usize>;

    /// Tells the peer that nothing more will be sent.
    fn shutdown_write(&mut self, socket: &Self::Socket);

    /// Stops watching a socket and gives its descriptor, for another shard to [`take`](Self::take). Only real sockets support
    /// this.
    ///
    /// # Errors
    ///
    /// The socket, unchanged, if that is not possible.
    fn release(&mut self, socket: Self::Socket) -> Result<OwnedFd, Self::Socket> {
        Err(socket)
    }

    /// Takes over a socket that another shard [released](Self::release). It is not watched yet.
    ///
    /// # Errors
    ///
    /// `Unsupported` where there are no real sockets.
    fn take(&mut self, _socket: OwnedFd) -> io::Result<Self::Socket> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The CPU time that this thread has used; 0 where that is not known.
    fn thread_time(&self) -> Duration {
        Duration::ZERO
    }

    /// A connection ends, and why: for a simulation, which checks the reason.
    fn ending(&self, _socket: &Self::Socket, _reason: CloseReason) {}
}
