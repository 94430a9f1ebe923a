//! A blocking channel's connection: its socket with its waits, and its state machine.
//!
//! The thread sleeps in the socket's own calls, because std has no way to wait for both directions at once. A
//! read sleeps until something is due. A write sleeps only for a moment, and what arrived meanwhile is
//! received before the next write: a server that is itself blocked on a write may read nothing until somebody
//! reads from it. So a peer that takes nothing, or takes it slowly, delays no timeout.

use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::work::{Deliver, Work};
use crate::address::Address;
use crate::core::session::{RECEIVE_BYTES, SLICES_MAX, Session};
use crate::dial;
use crate::resolver::Resolver;
use crate::transport::Outcome;

/// How long a write waits for room in the socket before what arrived is received, and the longest time between
/// two looks at the clock.
const WRITE_FOR: Duration = Duration::from_millis(10);

/// Bytes of one write. A Unix socket waits again for each 32 KiB of them.
const WRITE_BYTES_MAX: usize = 256 * 1024;

/// Receives of one look. A server that never stops sending must not hold up the timeouts.
const RECEIVES_PER_LOOK: usize = 16;

/// The size of the receive buffer while little arrives.
const SCRATCH_BYTES: usize = 4096;

/// A stream of either family.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Connects, which blocks. The wait for a Unix socket whose server accepts nobody has no bound: std offers
    /// none.
    pub(super) fn connect(
        address: &Address,
        resolver: &Resolver,
        within: Duration,
    ) -> io::Result<Self> {
        match address {
            Address::Name { host, port } => {
                let stream = dial::connect(resolver, host, *port, within)?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
            Address::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, within)?;
                crate::self_connect::refuse(stream.local_addr().ok(), stream.peer_addr().ok())?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
            Address::Unix(path) => UnixStream::connect(path).map(Self::Unix),
        }
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(into),
            Self::Unix(stream) => stream.read(into),
        }
    }

    fn write(&mut self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write_vectored(from),
            Self::Unix(stream) => stream.write_vectored(from),
        }
    }

    fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nonblocking(on),
            Self::Unix(stream) => stream.set_nonblocking(on),
        }
    }

    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(timeout),
            Self::Unix(stream) => stream.set_read_timeout(timeout),
        }
    }

    fn set_write_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_write_timeout(Some(timeout)),
            Self::Unix(stream) => stream.set_write_timeout(Some(timeout)),
        }
    }
}

/// The receive buffer: small, until more arrives at once.
#[derive(Debug, Default)]
pub(super) struct Scratch(Vec<u8>);

impl Scratch {
    fn room(&mut self) -> &mut [u8] {
        if self.0.is_empty() {
            self.0.resize(SCRATCH_BYTES, 0);
        }
        &mut self.0
    }

    /// The buffer was filled: makes it larger for the next receive.
    #[cold]
    fn grow(&mut self) {
        self.0.resize(RECEIVE_BYTES, 0);
    }

    /// Gives back what only large receives need.
    pub(super) fn shrink(&mut self) {
        if self.0.len() > SCRATCH_BYTES {
            self.0 = Vec::new();
        }
    }
}

/// A connection, and the time-outs that are set on its socket.
#[derive(Debug)]
pub(super) struct Link {
    stream: Stream,
    pub(super) session: Session<Work>,
    /// When the socket was connected.
    pub(super) since: Instant,
    /// `None` before the first is set.
    read_timeout: Option<Option<Duration>>,
    write_timeout: Option<Duration>,
    /// How many looks in a row have not received everything.
    unread: u8,
}

impl Link {
    pub(super) fn new(stream: Stream, session: Session<Work>, since: Instant) -> Self {
        Self { stream, session, since, read_timeout: None, write_timeout: None, unread: 0 }
    }

    /// One turn: writes what waits, sleeps until something arrives, receives it, and does what is due. Returns
    /// at `until` at the latest, and earlier when something else is due or the socket is full. Running out of
    /// time is no error.
    pub(super) fn step(
        &mut self,
        until: Option<Instant>,
        scratch: &mut Scratch,
        done: &mut Option<Outcome>,
    ) -> io::Result<()> {
        if !self.push(until, scratch, done)? {
            return Ok(());
        }
        let waited = self.wait(self.due(until), scratch, done);
        let judged = self.judge(scratch, done);
        waited.and(judged)
    }

    /// Writes what waits, for a moment at most. When the socket is full, receives what arrived and does what
    /// is due. Returns whether everything was written.
    pub(super) fn push(
        &mut self,
        until: Option<Instant>,
        scratch: &mut Scratch,
        done: &mut Option<Outcome>,
    ) -> io::Result<bool> {
        let written = self.write(self.due(until));
        if let Ok(true) = written {
            return Ok(true);
        }
        // Do this also when nothing can be written any more: what the server said before it left tells which
        // calls it has not run.
        let heard = self.look_and_judge(scratch, done);
        heard.and(written)
    }

    /// When something is due, or `until` if that is earlier.
    fn due(&self, until: Option<Instant>) -> Option<Instant> {
        [until, self.session.poll_timeout()].into_iter().flatten().min()
    }

    /// After a pause in which nobody looked at the socket: receives what arrived and writes what waits, both
    /// without sleeping, and then does what is due.
    pub(super) fn catch_up(&mut self, scratch: &mut Scratch) -> io::Result<()> {
        let heard = self.look(scratch, &mut None);
        self.push_now();
        self.handle_due(&heard, &mut None);
        heard.map(drop)
    }

    /// Does what is due, if anything is. The thread may have been away when that time passed: a stopped process
    /// resumes without a look at the socket. So what arrived is received first.
    fn judge(&mut self, scratch: &mut Scratch, done: &mut Option<Outcome>) -> io::Result<()> {
        if self.session.poll_timeout().is_none_or(|at| at > Instant::now()) {
            return Ok(());
        }
        self.look_and_judge(scratch, done)
    }

    fn look_and_judge(
        &mut self,
        scratch: &mut Scratch,
        done: &mut Option<Outcome>,
    ) -> io::Result<()> {
        let heard = self.look(scratch, done);
        self.handle_due(&heard, done);
        heard.map(drop)
    }

    /// Does what is due after a look. `heard` says whether the look received everything.
    fn handle_due(&mut self, heard: &io::Result<bool>, done: &mut Option<Outcome>) {
        self.unread = match heard {
            Ok(false) => self.unread.saturating_add(1),
            _ => 0,
        };
        self.session.handle_timeout(Instant::now(), self.unread, &mut Deliver(done));
    }

    /// Writes until everything is written or the socket is full, for a moment at most. Returns whether
    /// everything was written.
    fn write(&mut self, due: Option<Instant>) -> io::Result<bool> {
        if self.session.out.is_empty() {
            return Ok(true);
        }
        let now = Instant::now();
        self.session.prepare_write(now);
        let longest = now + WRITE_FOR;
        let by = due.map_or(longest, |due| due.min(longest));
        let timeout = whole_millis(by.saturating_duration_since(now));
        if self.write_timeout != Some(timeout) {
            self.stream.set_write_timeout(timeout)?;
            self.write_timeout = Some(timeout);
        }
        self.flush(by)
    }

    /// Writes until everything is written, the socket takes less than it is given, or the time is over.
    fn flush(&mut self, by: Instant) -> io::Result<bool> {
        while !self.session.out.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let filled = self.session.out.chunks(&mut slices, WRITE_BYTES_MAX);
            let slices = slices.get(..filled).unwrap_or(&[]);
            let given: usize = slices.iter().map(|slice| slice.len()).sum();
            let taken = match self.stream.write(slices) {
                Ok(taken) => taken,
                Err(error) if is_timeout(&error) => 0,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(false),
                Err(error) => return Err(error),
            };
            let now = Instant::now();
            self.session.handle_write(taken, now);
            if taken < given || now >= by {
                break;
            }
        }
        Ok(self.session.out.is_empty())
    }

    /// Sleeps until something arrives, or until `due`, and receives it.
    fn wait(
        &mut self,
        due: Option<Instant>,
        scratch: &mut Scratch,
        done: &mut Option<Outcome>,
    ) -> io::Result<()> {
        // In whole milliseconds, so that calls with equal timeouts seldom have to set it again.
        let timeout = due.map(|at| whole_millis(at.saturating_duration_since(Instant::now())));
        if self.read_timeout != Some(timeout) {
            self.stream.set_read_timeout(timeout)?;
            self.read_timeout = Some(timeout);
        }
        match self.receive(scratch, done) {
            Err(error) if is_timeout(&error) => Ok(()),
            received => received,
        }
    }

    /// Receives once and handles what arrived; the outcome of a call that ended goes to `done`.
    fn receive(&mut self, scratch: &mut Scratch, done: &mut Option<Outcome>) -> io::Result<()> {
        let room = scratch.room();
        match self.stream.read(room) {
            Ok(0) => self.session.handle_eof(),
            Ok(count) => {
                let is_full = count == room.len() && count < RECEIVE_BYTES;
                self.session.recv.extend_from_slice(room.get(..count).unwrap_or(&[]));
                if is_full {
                    scratch.grow();
                }
                self.session.handle_received(Instant::now(), &mut Deliver(done));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Receives what arrived, without waiting: pings, a go-away, the end. Returns whether that was everything.
    fn look(&mut self, scratch: &mut Scratch, done: &mut Option<Outcome>) -> io::Result<bool> {
        self.stream.set_nonblocking(true)?;
        let mut looked = Ok(());
        for _ in 0..RECEIVES_PER_LOOK {
            if looked.is_err() || self.session.close_reason().is_some() {
                break;
            }
            looked = self.receive(scratch, done);
        }
        self.stream.set_nonblocking(false)?;
        match looked {
            Err(error) if !is_timeout(&error) => Err(error),
            Err(_) => Ok(true),
            Ok(()) => Ok(self.session.close_reason().is_some()),
        }
    }

    /// Writes what the socket takes without waiting; the rest goes with the next turn, where an error shows,
    /// too.
    pub(super) fn push_now(&mut self) {
        if self.session.out.is_empty() || self.stream.set_nonblocking(true).is_err() {
            return;
        }
        let pushed = self.flush(Instant::now() + WRITE_FOR);
        let blocking = self.stream.set_nonblocking(false);
        if let Err(error) = pushed.and(blocking) {
            self.session.handle_error(&error);
        }
    }

    /// Gives back unused memory, if it is much.
    pub(super) fn shrink(&mut self) {
        self.session.out.shrink_above(SCRATCH_BYTES);
        if self.session.recv.room() > SCRATCH_BYTES {
            self.session.recv.shrink();
        }
    }
}

/// Writes the last frames of a connection, whichever side ends it: that the client leaves, or which rule the
/// server broke.
impl Drop for Link {
    fn drop(&mut self) {
        // What cannot be written now is not needed: the end of the connection says as much.
        if self.stream.set_nonblocking(true).is_ok() {
            let _ = self.flush(Instant::now() + WRITE_FOR);
        }
    }
}

/// Rounded up, and at least one: zero is not a time-out.
fn whole_millis(time: Duration) -> Duration {
    let millis = u64::try_from(time.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
    Duration::from_millis(millis.max(1))
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
