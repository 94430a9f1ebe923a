//! What a connection's turn works with, on either side.

use core::ops::{Deref, DerefMut};
use corewire_codec::{RecvBuffer, SendBuffer, Status};
use corewire_proto::TransportError;
use corewire_proto::canary::{Bug, is_planted};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::calls::dispatch::Dispatch;
use crate::calls::extensions::Extensions;
use crate::calls::observed::ObservedDispatch;
use crate::calls::parked::ParkedCalls;
use crate::calls::queue_delay::{DelayWatch, expired_status, shed_status};
use crate::conn::run_queue::TurnBudget;
use crate::identity::DriverConfig;
use crate::net::io::{Io, Token};
use crate::net::recv_pool::{PARTIAL_SHARE, RecvPool};
use crate::shard::account::MemoryAccount;
use crate::shard::counters::ShardCounters;
use crate::shard::timers::Timers;
use crate::stream::StreamArrivals;

/// What every connection needs while it has its turn.
pub(crate) struct TurnContext<I: Io> {
    pub(crate) io: I,
    pub(crate) config: DriverConfig,
    pub(crate) counters: Arc<ShardCounters>,
    /// Who makes calls: [`served`](Self::served), with a measurement around it while anybody wants one.
    pub(crate) dispatch: Rc<dyn Dispatch>,
    /// Who makes calls without any.
    pub(crate) served: Rc<dyn Dispatch>,
    pub(crate) calls: ParkedCalls,
    /// What the layers of the call that begins hand to its handler; empty between calls. It is kept here because
    /// dropping an empty one for each call costs more than looking whether it is.
    pub(crate) extensions: Extensions,
    pub(crate) timers: Timers,
    /// Lent to each connection for its turn, so that idle connections own no buffers.
    pub(crate) recv: RecvPool,
    pub(crate) send: SendBuffer,
    pub(crate) now: Instant,
    /// The server's connection that has its turn.
    pub(crate) token: Token,
    /// The error of the transport that failed last.
    pub(crate) failure: TransportError,
    /// Calls begun, and other polls, when the clock was read.
    pub(crate) ran: (u64, u64),
    /// Frames until the clock is read again within a turn.
    pub(crate) clock_in: u32,
    /// What this turn of the shard may still do.
    pub(crate) turn: TurnBudget,
    /// Streams that want something of their connections.
    pub(crate) streams: Rc<StreamArrivals>,
    /// What all connections of the server hold.
    pub(crate) memory: MemoryAccount,
    /// How long requests wait, if some are to be shed because of it.
    pub(crate) delay: Option<Rc<DelayWatch>>,
    /// While the shard drains: by when all calls must have ended.
    pub(crate) drain_by: Option<Instant>,
}

/// How one receive went.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Received {
    /// Bytes came.
    Bytes,
    /// Nothing is there.
    Nothing,
    /// The peer closed its side.
    End,
    /// The transport failed.
    Failed(TransportError),
}

/// How writing went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    /// Whether any byte left.
    pub(crate) progress: bool,
    /// The transport failed, and the bytes that waited are dropped; [`TurnContext::failure`] says how.
    pub(crate) failed: bool,
    /// Whether it stopped at the bound of a turn: the socket may take more, and nobody will say so.
    pub(crate) more: bool,
}

/// Frames that are handled on one reading of the clock. A reading costs some 25 ns.
const FRAMES_PER_CLOCK: u32 = 16;

impl<I: Io> TurnContext<I> {
    /// Reads the clock, for what follows in this turn. Everything since the last time was work, but for `slept`.
    pub(crate) fn read_clock(&mut self, slept: Duration) {
        self.clock_in = FRAMES_PER_CLOCK;
        let now = self.io.now();
        let before = core::mem::replace(&mut self.now, now);
        let ran = (self.counters.calls.value(), self.calls.local().holds.polls());
        let ran_before = core::mem::replace(&mut self.ran, ran);
        let time = now.saturating_duration_since(before);
        if time > self.config.warn_held_after {
            self.note_gap(time.saturating_sub(slept), ran_before);
        }
        self.calls.local().set_now(Some(now));
    }

    /// A sleep follows whose length nobody will know: whatever held the shard is found before.
    pub(crate) fn look_before_sleep(&mut self) {
        let ran = (self.counters.calls.value(), self.calls.local().holds.polls());
        if ran != self.ran {
            self.read_clock(Duration::ZERO);
        }
    }

    /// The shard went without a look for `time`, in which handlers or tasks may have run.
    #[cold]
    fn note_gap(&mut self, time: Duration, (calls, polls): (u64, u64)) {
        if time <= self.config.warn_held_after {
            return;
        }
        let ran = (self.ran.0.wrapping_sub(calls), self.ran.1.wrapping_sub(polls));
        let last = self.counters.current.last_method();
        let local = self.calls.local();
        local.holds.note_gap(self.now, local.thread_time.span(time), ran, last);
        self.observe_polls();
    }

    /// Somebody wants to know of polls, or does not any more.
    #[cold]
    pub(crate) fn observe_polls(&mut self) {
        let (inner, local) = (Rc::clone(&self.served), Rc::clone(self.calls.local()));
        local.observe_polls();
        self.dispatch = match local.observes_polls() {
            true => {
                let counters = Arc::clone(&self.counters);
                Rc::new(ObservedDispatch { inner, local, counters })
            }
            false => inner,
        };
    }

    /// A frame was handled; after some of them, reads the clock again.
    #[inline]
    pub(crate) fn note_frame(&mut self) {
        self.clock_in -= 1;
        if self.clock_in == 0 {
            self.turn.take_frames(FRAMES_PER_CLOCK as usize);
            self.read_clock(Duration::ZERO);
        }
    }

    /// Why a call that waited for its turn since `came` is not run; `None` if it is.
    #[inline]
    pub(crate) fn judge_wait(
        &self,
        priority: u8,
        came: Instant,
        deadline: Option<Instant>,
    ) -> Option<Status> {
        if deadline.is_some_and(|by| by <= self.now) {
            return Some(self.expired());
        }
        let now = self.now;
        let delay = self.delay.as_ref()?;
        let waited = now.saturating_duration_since(came);
        let sheds = delay.sheds(priority, waited, now);
        sheds.then(|| self.shed(waited))
    }

    #[cold]
    fn expired(&self) -> Status {
        self.counters.calls_expired.add(1);
        expired_status()
    }

    #[cold]
    fn shed(&self, waited: Duration) -> Status {
        self.counters.calls_shed.add(1);
        let retry_after = self.delay.as_ref().map_or(Duration::ZERO, |delay| delay.retry_after());
        shed_status(waited, retry_after)
    }

    /// A request of more bytes than this needs room of its own before it is received: as many as a
    /// receive buffer has, or while memory is tight, as many as are copied out of it when they wait.
    #[inline]
    pub(crate) fn room_needed_from(&self) -> usize {
        let usual = self.config.budgets.receive_bytes;
        if self.memory.is_tight() { usual / PARTIAL_SHARE } else { usual }
    }

    /// Receives once into `buffer`, or into one with more room that replaces it, and updates `ready`.
    #[inline]
    pub(crate) fn receive(
        &mut self,
        socket: &I::Socket,
        buffer: &mut RecvBuffer,
        ready: &mut Ready,
    ) -> Received {
        self.receive_up_to(socket, buffer, ready, usize::MAX)
    }

    /// The same, but takes no more than `most` bytes, which is not 0.
    #[inline]
    pub(crate) fn receive_up_to(
        &mut self,
        socket: &I::Socket,
        buffer: &mut RecvBuffer,
        ready: &mut Ready,
        most: usize,
    ) -> Received {
        let room = self.recv.make_room(buffer).min(most);
        self.counters.receives.add(1);
        let outcome = self.io.recv(socket, buffer.storage(0), room);
        // A receive that did not fill its buffer has emptied the socket, unless the peer's end or an
        // urgent byte is behind it.
        ready.readable =
            matches!(outcome, Ok(count) if count > 0 && (count == room || ready.to_the_end));
        match outcome {
            Ok(0) => Received::End,
            Ok(count) => {
                ready.received = true;
                ready.moved += count;
                self.counters.bytes_received.add(count as u64);
                Received::Bytes
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Received::Nothing,
            Err(error) => Received::Failed(TransportError::from(&error)),
        }
    }

    /// Writes what there is, first and without asking; stops at the first `WouldBlock`, or at the bound
    /// of a turn. A connection that was never reported writable is still worth trying, but not one whose
    /// socket is known to be full: a turn may be about something else, and many of them follow each other
    /// while a peer sends and does not read.
    #[inline]
    pub(crate) fn write(
        &mut self,
        socket: &I::Socket,
        out: &mut SendBuffer,
        ready: &mut Ready,
    ) -> Written {
        let mut written = Written { progress: false, failed: false, more: false };
        if !out.is_empty() && is_planted(Bug::FullSocketTurns) {
            written.more = true;
        }
        if ready.full {
            return written;
        }
        let mut left = self.turn.send_bytes_each();
        while !out.is_empty() {
            if left == 0 {
                written.more = true;
                break;
            }
            self.counters.sends.add(1);
            match self.io.send(socket, out, left) {
                Ok(count) => {
                    written.progress = true;
                    left = left.saturating_sub(count);
                    ready.moved += count;
                    self.counters.bytes_sent.add(count as u64);
                    out.advance(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready.writable = false;
                    ready.full = true;
                    break;
                }
                Err(error) => {
                    written.failed = true;
                    self.failure = TransportError::from(&error);
                    break;
                }
            }
        }
        written
    }
}

/// Bytes that were sent and not acknowledged by the peer's side, when the socket was last asked.
#[derive(Debug, Default)]
pub(crate) struct Unacked(Option<usize>);

impl Unacked {
    /// Whether there are fewer than at the last look. Bytes sent in between count as progress of their own.
    pub(crate) fn falls<I: Io>(&mut self, shared: &mut TurnContext<I>, socket: &I::Socket) -> bool {
        let before = core::mem::replace(&mut self.0, shared.io.unacknowledged(socket));
        before.zip(self.0).is_some_and(|(before, now)| now < before)
    }
}

/// What a connection wants after its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// To be left alone until something happens.
    Wait,
    /// Another turn: there is work left.
    Again,
    /// To be dropped.
    Drop,
}

/// What a connection's socket is ready for, as far as it was reported and not used up. Five bytes in a row,
/// because they are copied into each turn and back.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SocketState {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    pub(crate) hangup: bool,
    /// A send met a full socket, and nothing was reported since.
    pub(crate) full: bool,
    /// A receive that brings little proves nothing: the peer's end, or an urgent byte, may be behind it.
    pub(crate) to_the_end: bool,
}

/// A connection's readiness, for the length of its turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    pub(crate) socket: SocketState,
    pub(crate) due: bool,
    /// Set by the turn: something was received.
    pub(crate) received: bool,
    /// Bytes that the turn received and sent.
    pub(crate) moved: usize,
    /// Since when the bytes to be read have waited, as far as the shard can know.
    pub(crate) since: Instant,
}

impl Deref for Ready {
    type Target = SocketState;

    #[inline]
    fn deref(&self) -> &SocketState {
        &self.socket
    }
}

impl DerefMut for Ready {
    #[inline]
    fn deref_mut(&mut self) -> &mut SocketState {
        &mut self.socket
    }
}

/// Above this many unsent bytes of a connection, its streams write nothing more: a part of what it may
/// hold, so that streams neither keep it from being read nor delay its replies much.
pub(crate) fn stream_bytes_max<I: Io>(shared: &TurnContext<I>) -> usize {
    shared.config.budgets.unsent_bytes_max / 4
}
