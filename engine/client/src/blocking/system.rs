//! What a blocking channel needs of the world: sockets that wait for a limited time, and a clock.
//!
//! Everything else of the channel is above this. So whatever implements [`System`] can carry one: the operating
//! system here, or a network that is simulated.
#![allow(unreachable_pub, reason = "the simulator, a crate of its own, implements these traits")]

use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use corewire_proto::CloseReason;

use crate::address::Address;
use crate::dial;
use crate::reconnect::random_seed;
use crate::resolver::Resolver;

/// Where a channel's connections come from, and its time.
pub trait System: fmt::Debug {
    /// The time.
    fn now(&self) -> Instant;

    /// What is left to chance is drawn from this.
    fn jitter(&self) -> u64 {
        random_seed()
    }

    /// Begins a connect, which fails with `TimedOut` after `within` if the system can stop it.
    ///
    /// # Errors
    ///
    /// It cannot even begin.
    fn connect(
        &self,
        address: &Address,
        resolver: &Resolver,
        within: Duration,
    ) -> io::Result<Box<dyn Connect>>;
}

/// A socket, and when it was connected.
pub type Connected = io::Result<(Box<dyn Socket>, Instant)>;

/// A connect that goes on by itself. Dropping it gives it up.
pub trait Connect: fmt::Debug {
    /// Waits for the end until this time, if any; `None` if it is not there by then. Returns it once.
    fn wait(&mut self, until: Option<Instant>) -> Option<Connected>;
}

/// A connected socket of a thread that sleeps in it.
pub trait Socket: fmt::Debug {
    /// Whether reads and writes return at once instead of waiting.
    ///
    /// # Errors
    ///
    /// Those of the system.
    fn set_nonblocking(&mut self, on: bool) -> io::Result<()>;

    /// Receives. Waits until something is there, for at most `within`; then it fails with `WouldBlock` or `TimedOut`. 0
    /// bytes are the end.
    ///
    /// # Errors
    ///
    /// Also `Interrupted`, at any time; after any other the connection is over.
    fn read(&mut self, into: &mut [u8], within: Option<Duration>) -> io::Result<usize>;

    /// Sends what the socket takes. Waits until it takes something, or all of it, as `read` does.
    ///
    /// # Errors
    ///
    /// Those of [`read`](Self::read).
    fn write(&mut self, from: &[IoSlice<'_>], within: Duration) -> io::Result<usize>;

    /// The connection ends for this reason.
    fn ending(&mut self, reason: CloseReason) {
        let _ = reason;
    }
}

/// The operating system, by way of std.
#[derive(Debug)]
pub(super) struct Std;

impl System for Std {
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// On a thread of its own, which ends with the connect: std cannot stop one to a Unix socket whose server accepts
    /// nobody.
    fn connect(
        &self,
        address: &Address,
        resolver: &Resolver,
        within: Duration,
    ) -> io::Result<Box<dyn Connect>> {
        let (sender, outcome) = sync_channel(1);
        let (address, resolver) = (address.clone(), resolver.clone());
        let connect = move || {
            let connected = Stream::connect(&address, &resolver, within);
            // This fails if the channel is gone, and then closes the socket.
            drop(sender.send(connected.map(|stream| (stream, Instant::now()))));
        };
        let thread = Builder::new().name("corewire-connect".to_owned()).spawn(connect)?;
        Ok(Box::new(ConnectThread { outcome, thread: Some(thread) }))
    }
}

#[derive(Debug)]
struct ConnectThread {
    outcome: Receiver<io::Result<(Stream, Instant)>>,
    thread: Option<JoinHandle<()>>,
}

impl Connect for ConnectThread {
    fn wait(&mut self, until: Option<Instant>) -> Option<Connected> {
        let connected = match until {
            None => self.outcome.recv().ok(),
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now());
                match self.outcome.recv_timeout(left) {
                    Err(RecvTimeoutError::Timeout) => return None,
                    received => received.ok(),
                }
            }
        };
        // It has nothing more to do. What it had is given back before the channel goes on.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        // Only if a resolver panics is the sender gone without having sent.
        let lost = || Err(io::Error::other("the thread that connects has ended"));
        let boxed = |(stream, at)| -> (Box<dyn Socket>, Instant) {
            (Box::new(StdSocket { stream, is_nonblocking: false, read: None, write: None }), at)
        };
        Some(connected.unwrap_or_else(lost).map(boxed))
    }
}

/// A stream of either family.
#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn connect(address: &Address, resolver: &Resolver, within: Duration) -> io::Result<Self> {
        let stream = match address {
            Address::Name { host, port } => dial::connect(resolver, host, *port, within)?,
            Address::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, within)?;
                crate::self_connect::refuse(stream.local_addr().ok(), stream.peer_addr().ok())?;
                stream
            }
            Address::Unix(path) => return UnixStream::connect(path).map(Self::Unix),
        };
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }
}

/// A stream, and the limits that are set on it.
#[derive(Debug)]
struct StdSocket {
    stream: Stream,
    is_nonblocking: bool,
    /// `None` before the first is set.
    read: Option<Option<Duration>>,
    write: Option<Duration>,
}

impl Socket for StdSocket {
    fn set_nonblocking(&mut self, on: bool) -> io::Result<()> {
        match &self.stream {
            Stream::Tcp(stream) => stream.set_nonblocking(on),
            Stream::Unix(stream) => stream.set_nonblocking(on),
        }?;
        self.is_nonblocking = on;
        Ok(())
    }

    fn read(&mut self, into: &mut [u8], within: Option<Duration>) -> io::Result<usize> {
        if !self.is_nonblocking {
            // In whole milliseconds, so that calls with equal timeouts seldom have to set it again.
            let within = within.map(whole_millis);
            if self.read != Some(within) {
                match &self.stream {
                    Stream::Tcp(stream) => stream.set_read_timeout(within),
                    Stream::Unix(stream) => stream.set_read_timeout(within),
                }?;
                self.read = Some(within);
            }
        }
        match &mut self.stream {
            Stream::Tcp(stream) => stream.read(into),
            Stream::Unix(stream) => stream.read(into),
        }
    }

    fn write(&mut self, from: &[IoSlice<'_>], within: Duration) -> io::Result<usize> {
        let within = Some(whole_millis(within));
        if !self.is_nonblocking && self.write != within {
            match &self.stream {
                Stream::Tcp(stream) => stream.set_write_timeout(within),
                Stream::Unix(stream) => stream.set_write_timeout(within),
            }?;
            self.write = within;
        }
        match &mut self.stream {
            Stream::Tcp(stream) => stream.write_vectored(from),
            Stream::Unix(stream) => stream.write_vectored(from),
        }
    }
}

/// Rounded up, and at least one: zero is not a timeout.
fn whole_millis(time: Duration) -> Duration {
    let millis = u64::try_from(time.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
    Duration::from_millis(millis.max(1))
}
