//! A blocking channel's connection: its socket with its waits.
//!
//! The thread sleeps in the socket's own calls, because std has no way to wait for both directions at once. A
//! read sleeps until something is due. A write sleeps only for a moment, and what arrived meanwhile is
//! received before the next write: a server that is itself blocked on a write may read nothing until somebody
//! reads from it. So a peer that takes nothing, or takes it slowly, delays no timeout.

use std::io::{self, IoSlice};
use std::time::{Duration, Instant};

use corewire_proto::canary::{Bug, is_planted};

use super::system::{Socket, System};
use super::waiter::Caller;
use crate::core::channel::{Connection, ConnectionId};
use crate::core::session::{RECEIVE_BYTES, SLICES_MAX};

/// How long a write waits for room in the socket before what arrived is received, and the longest time between
/// two looks at the clock.
const WRITE_FOR: Duration = Duration::from_millis(10);

/// Bytes of one write. A Unix socket waits again for each 32 KiB of them.
const WRITE_BYTES_MAX: usize = 256 * 1024;

/// Receives of one look. A server that never stops sending must not hold up the timeouts.
const RECEIVES_PER_LOOK: usize = 16;

/// The size of the receive buffer while little arrives.
const SCRATCH_BYTES: usize = 4096;

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

/// The socket of a connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) connection: ConnectionId,
    pub(super) socket: Box<dyn Socket>,
    /// When it was connected.
    pub(super) since: Instant,
    /// How many looks in a row have not received everything.
    pub(super) unread: u8,
}

/// A connection with all that moves it.
pub(super) struct Turn<'a> {
    pub(super) link: &'a mut Link,
    pub(super) connection: &'a mut Connection<Caller>,
    pub(super) scratch: &'a mut Scratch,
    pub(super) system: &'a dyn System,
    /// The time when the clock was read last: a call reads it when it begins, and when it may have slept.
    pub(super) now: &'a mut Instant,
}

impl Turn<'_> {
    /// Writes what waits, sleeps until something arrives, receives it, and does what is due. Returns at `until` at
    /// the latest, and earlier when something else is due or the socket is full. Running out of time is no error.
    pub(super) fn step(&mut self, until: Option<Instant>) -> io::Result<()> {
        if !self.push(until)? {
            return Ok(());
        }
        let due = self.due(until);
        let waited = self.wait(due);
        // What arrived makes nothing due at once.
        if due.is_none_or(|due| due > *self.now) {
            return waited;
        }
        // The thread may have been away when that time passed: a stopped process resumes without a look at the
        // socket. So what arrived is received first.
        let judged = self.look_and_judge();
        waited.and(judged)
    }

    fn read_clock(&mut self) -> Instant {
        *self.now = self.system.now();
        *self.now
    }

    /// Writes what waits, for a moment at most. When the socket is full, receives what arrived and does what
    /// is due. Returns whether everything was written.
    pub(super) fn push(&mut self, until: Option<Instant>) -> io::Result<bool> {
        self.push_and(until, |_| ())
    }

    /// The same; if not everything was written, `look` looks at that before what is due is done.
    pub(super) fn push_and(
        &mut self,
        until: Option<Instant>,
        look: impl FnOnce(&mut Self),
    ) -> io::Result<bool> {
        if self.connection.unsent() == 0 {
            return Ok(true);
        }
        let written = self.write(self.due(until));
        if let Ok(true) = written {
            return Ok(true);
        }
        // Do this also when nothing can be written any more: what the server said before it left tells which
        // calls it has not run.
        let heard = self.look();
        look(self);
        self.handle_due(&heard);
        heard.map(drop).and(written)
    }

    /// When something is due, or `until` if that is earlier.
    fn due(&self, until: Option<Instant>) -> Option<Instant> {
        [until, self.connection.session.poll_timeout()].into_iter().flatten().min()
    }

    /// After a pause in which nobody looked at the socket: receives what arrived and writes what waits, both
    /// without sleeping, and then does what is due.
    pub(super) fn catch_up(&mut self) -> io::Result<()> {
        if is_planted(Bug::BlindClocks) {
            self.connection.handle_timeout(*self.now, 0);
        }
        let heard = self.look();
        self.push_now();
        self.handle_due(&heard);
        heard.map(drop)
    }

    fn look_and_judge(&mut self) -> io::Result<()> {
        let heard = self.look();
        self.handle_due(&heard);
        heard.map(drop)
    }

    /// Does what is due after a look. `heard` says whether the look received everything.
    fn handle_due(&mut self, heard: &io::Result<bool>) {
        self.link.unread = match heard {
            Ok(false) => self.link.unread.saturating_add(1),
            _ => 0,
        };
        self.connection.handle_timeout(*self.now, self.link.unread);
    }

    /// Writes until everything is written or the socket is full, for a moment at most. Returns whether
    /// everything was written.
    fn write(&mut self, due: Option<Instant>) -> io::Result<bool> {
        let now = *self.now;
        self.connection.session.prepare_write(now);
        let longest = now + WRITE_FOR;
        let by = due.map_or(longest, |due| due.min(longest));
        self.flush(by.saturating_duration_since(now), by)
    }

    /// Writes until everything is written, the socket takes less than it is given, or the time is over. A write
    /// waits for `within` at most.
    fn flush(&mut self, within: Duration, by: Instant) -> io::Result<bool> {
        while self.connection.unsent() > 0 {
            let session = &self.connection.session;
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let filled = session.out.chunks(&mut slices, WRITE_BYTES_MAX);
            let slices = slices.get(..filled).unwrap_or(&[]);
            let given: usize = slices.iter().map(|slice| slice.len()).sum();
            let taken = match self.link.socket.write(slices, within) {
                Ok(taken) => taken,
                Err(error) if is_timeout(&error) => 0,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    self.read_clock();
                    return Ok(false);
                }
                Err(error) => return Err(error),
            };
            let now = self.read_clock();
            let session = &mut self.connection.session;
            session.handle_write(taken, now);
            if taken > 0 && taken < given {
                // The socket is full.
                session.handle_write(0, now);
            }
            if taken < given || now >= by {
                break;
            }
        }
        Ok(self.connection.unsent() == 0)
    }

    /// Sleeps until something arrives, or until `due`, and receives it.
    fn wait(&mut self, due: Option<Instant>) -> io::Result<()> {
        let within = due.map(|at| at.saturating_duration_since(*self.now));
        match self.receive(within) {
            Err(error) if is_timeout(&error) => {
                self.read_clock();
                Ok(())
            }
            received => received,
        }
    }

    /// Receives once and handles what arrived.
    fn receive(&mut self, within: Option<Duration>) -> io::Result<()> {
        let room = self.scratch.room();
        let session = &mut self.connection.session;
        match self.link.socket.read(room, within) {
            Ok(0) => session.handle_eof(),
            Ok(count) => {
                let is_full = count == room.len() && count < RECEIVE_BYTES;
                session.recv.extend_from_slice(room.get(..count).unwrap_or(&[]));
                if is_full {
                    self.scratch.grow();
                }
                let now = self.read_clock();
                self.connection.handle_received(now);
                self.connection.wake_readers();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.read_clock();
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Receives what arrived, without waiting: pings, a go-away, the end. Returns whether that was everything.
    fn look(&mut self) -> io::Result<bool> {
        self.link.socket.set_nonblocking(true)?;
        let mut looked = Ok(());
        for _ in 0..RECEIVES_PER_LOOK {
            if looked.is_err() || self.connection.session.close_reason().is_some() {
                break;
            }
            looked = self.receive(None);
        }
        self.link.socket.set_nonblocking(false)?;
        match looked {
            Err(error) if !is_timeout(&error) => Err(error),
            Err(_) => Ok(true),
            Ok(()) => Ok(self.connection.session.close_reason().is_some()),
        }
    }

    /// Writes what the socket takes without waiting; the rest goes with the next turn, where an error shows,
    /// too.
    pub(super) fn push_now(&mut self) {
        if self.connection.unsent() == 0 || self.link.socket.set_nonblocking(true).is_err() {
            return;
        }
        let by = self.read_clock() + WRITE_FOR;
        let pushed = self.flush(WRITE_FOR, by);
        let blocking = self.link.socket.set_nonblocking(false);
        if let Err(error) = pushed.and(blocking) {
            self.connection.session.handle_error(&error);
        }
    }

    /// Writes the last frames of a connection, whichever side ends it: that the client leaves, or which rule the
    /// server broke. What cannot be written now is not needed: the end of the connection says as much.
    pub(super) fn push_last(&mut self) {
        if self.link.socket.set_nonblocking(true).is_ok() {
            let by = self.read_clock() + WRITE_FOR;
            let _ = self.flush(WRITE_FOR, by);
        }
    }

    /// Gives back unused memory, if it is much.
    pub(super) fn shrink(&mut self) {
        let session = &mut self.connection.session;
        session.out.shrink_above(SCRATCH_BYTES);
        if session.recv.room() > SCRATCH_BYTES {
            session.recv.shrink();
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
