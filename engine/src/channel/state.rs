//! The state that a channel's callers and its connection share.

use corewire_codec::{FrameWriter, RequestHead, SendBuffer};
use corewire_proto::{ClientConnection, CloseReason, StreamKind};
use slab::Slab;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use super::{ChannelCore, Ticket};
use crate::config::Reply;
use crate::failure::{CallFailure, NotSent, check_metadata};
use crate::io::Token;
use crate::local::clock;
use crate::stream::{Side, StreamCell};

/// A call that was sent.
#[derive(Debug)]
pub(crate) enum CallState {
    /// It has no outcome yet; its caller is woken when it has.
    Waiting { call: u32, waker: Waker },
    /// Its caller has not come for it yet.
    Done(Result<Reply, CallFailure>),
    /// It streams, and its ends hear of it there.
    Stream(Rc<StreamCell>),
}

impl CallState {
    /// The id of a call without an outcome.
    fn call(&self) -> Option<u32> {
        match self {
            Self::Waiting { call, .. } => Some(*call),
            Self::Stream(stream) => Some(stream.call),
            Self::Done(_) => None,
        }
    }
}

/// Where the channel's connection is.
#[derive(Debug)]
pub(crate) enum Link {
    /// None, and none is wanted. After a failure, not before `retry_at`.
    Down { retry_at: Option<Instant>, why: String },
    /// The driver was asked for one; it has a token as soon as the driver has begun.
    Connecting { token: Option<Token> },
    /// There is one.
    Up { token: Token, proto: Box<ClientConnection<usize>> },
}

#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) id: u64,
    pub(super) waker: Waker,
    pub(super) deadline: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct ChannelState {
    pub(crate) link: Link,
    pub(crate) out: SendBuffer,
    pub(crate) calls: Slab<CallState>,
    pub(super) waiting: VecDeque<Waiting>,
    waiting_ids: u64,
    waiting_earliest: Option<Instant>,
    /// Those who wait to write a one-way call until more has left.
    pub(crate) room: Vec<Waker>,
    /// Whether the connection has brought a reply: its server works.
    proven: bool,
    /// The shard that the server's hello named.
    pub(super) server_shard: Option<(u16, u16)>,
    pub(super) connection_id: Option<u64>,
}

/// How an attempt to begin a call went.
pub(super) enum Begin {
    Slot(usize),
    Wait,
    Failed(CallFailure),
}

impl ChannelState {
    pub(super) fn new() -> Self {
        Self {
            link: Link::Down { retry_at: None, why: String::new() },
            out: SendBuffer::new(),
            calls: Slab::new(),
            waiting: VecDeque::new(),
            waiting_ids: 0,
            waiting_earliest: None,
            room: Vec::new(),
            proven: false,
            server_shard: None,
            connection_id: None,
        }
    }

    /// Takes a slot if the connection is up and has one; wakes the caller when its call is over.
    #[inline]
    pub(super) fn try_begin(
        &mut self,
        core: &Rc<ChannelCore>,
        ticket: &mut Ticket,
        deadline: Option<Instant>,
        context: &Context<'_>,
    ) -> Begin {
        if ticket.id.is_none()
            && self.waiting.is_empty()
            && let Link::Up { token, proto } = &mut self.link
        {
            let entry = self.calls.vacant_entry();
            let key = entry.key();
            note_deadline(core, *token, proto, &self.out, deadline);
            if let Ok(call) = proto.begin_call(key, deadline) {
                entry.insert(CallState::Waiting { call, waker: context.waker().clone() });
                return Begin::Slot(key);
            }
        }
        self.try_again(core, ticket, None, deadline, context)
    }

    /// The long way: there is no connection, no free slot, or others wait.
    #[cold]
    pub(super) fn try_again(
        &mut self,
        core: &Rc<ChannelCore>,
        ticket: &mut Ticket,
        kind: Option<StreamKind>,
        deadline: Option<Instant>,
        context: &Context<'_>,
    ) -> Begin {
        let first = ticket.id.is_none();
        if !first && deadline.is_some_and(|deadline| deadline <= clock()) {
            return Begin::Failed(CallFailure::DeadlineExceeded { sent: false });
        }
        if let Link::Up { proto, .. } = &mut self.link {
            if proto.is_draining() {
                return Begin::Failed(CallFailure::going_away(&core.address));
            }
            // Those who wait already come first, unless this is one of them and it was woken.
            let turn =
                if first { self.waiting.is_empty() } else { ticket.place(&self.waiting).is_none() };
            if turn
                && proto.has_slot()
                && let Some(key) = self.take_slot(core, kind, deadline, context)
            {
                ticket.id = None;
                return Begin::Slot(key);
            }
            return Begin::Wait;
        }
        match self.want_connection(core, clock()) {
            Ok(()) => Begin::Wait,
            Err(why) => Begin::Failed(CallFailure::NotSent(NotSent::NoConnection(why))),
        }
    }

    /// Takes a slot for a call of any kind.
    fn take_slot(
        &mut self,
        core: &Rc<ChannelCore>,
        kind: Option<StreamKind>,
        deadline: Option<Instant>,
        context: &Context<'_>,
    ) -> Option<usize> {
        let Link::Up { token, proto } = &mut self.link else { return None };
        note_deadline(core, *token, proto, &self.out, deadline);
        let entry = self.calls.vacant_entry();
        let key = entry.key();
        let call = match kind {
            None => {
                let call = proto.begin_call(key, deadline).ok()?;
                CallState::Waiting { call, waker: context.waker().clone() }
            }
            Some(kind) => {
                let call = proto.begin_stream(kind, key, deadline).ok()?;
                let halves = (kind.server_sends(), kind.client_sends());
                let local = Rc::clone(&core.local);
                CallState::Stream(StreamCell::new(local, *token, call, Side::Client, halves))
            }
        };
        entry.insert(call);
        Some(key)
    }

    /// The stream of the call with this key.
    pub(crate) fn stream(&self, key: Option<usize>) -> Option<&Rc<StreamCell>> {
        match self.calls.get(key?) {
            Some(CallState::Stream(stream)) => Some(stream),
            _ => None,
        }
    }

    /// Takes out a stream whose call is over.
    pub(crate) fn take_stream(&mut self, key: usize) -> Option<Rc<StreamCell>> {
        self.proven = true;
        self.stream(Some(key))?;
        match self.calls.remove(key) {
            CallState::Stream(stream) => Some(stream),
            CallState::Waiting { .. } | CallState::Done(_) => None,
        }
    }

    /// Gives back what a message cost that nobody reads.
    #[cold]
    pub(crate) fn consume(&mut self, call: u32, cost: u32) {
        if let Link::Up { proto, .. } = &mut self.link {
            proto.consume(call, cost, &mut self.out);
        }
    }

    /// Asks the driver for a connection, unless a failed one is too recent.
    pub(super) fn want_connection(
        &mut self,
        core: &Rc<ChannelCore>,
        now: Instant,
    ) -> Result<(), String> {
        if let Link::Down { retry_at, why } = &self.link {
            if let Some(retry_at) = retry_at.filter(|&at| at > now) {
                let wait = retry_at - now;
                return Err(format!(
                    "no connection to {}: {why}; the next try is in {wait:.0?}",
                    core.address
                ));
            }
            self.link = Link::Connecting { token: None };
            core.local.connect(Rc::clone(core));
        }
        Ok(())
    }

    /// Appends the request of a call that has its slot.
    #[inline]
    pub(super) fn send<E: std::fmt::Display>(
        &mut self,
        core: &Rc<ChannelCore>,
        key: usize,
        head: &mut RequestHead,
        timeout: Option<Duration>,
        encode: impl FnOnce(&mut FrameWriter<'_>) -> Result<(), E>,
    ) -> Result<(), CallFailure> {
        let (Link::Up { token, proto }, Some(call)) =
            (&mut self.link, self.calls.get(key).and_then(CallState::call))
        else {
            let why = "the connection ended before the call was sent".to_owned();
            return Err(CallFailure::NotSent(NotSent::NoConnection(why)));
        };
        head.call = call;
        head.timeout_us =
            timeout.map(|timeout| u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX));
        if let Err(failure) = check_metadata(head, &proto.peer().limits) {
            proto.unsend(head.call);
            self.calls.remove(key);
            self.wake_waiting(1);
            return Err(CallFailure::NotSent(failure));
        }
        let was_empty = self.out.is_empty();
        let mut frame = self.out.request(head, None);
        // The caller's code may panic; the slot that was taken for it must not stay taken.
        let encoded = catch_unwind(AssertUnwindSafe(|| encode(&mut frame)));
        let encoded = match encoded {
            Ok(encoded) => encoded,
            Err(panic) => {
                drop(frame);
                proto.unsend(head.call);
                self.calls.remove(key);
                // Whoever waits may have the slot.
                self.wake_waiting(1);
                resume_unwind(panic);
            }
        };
        let failure = match encoded {
            Ok(()) => match frame.finish(proto.peer_frame_bytes_max()) {
                Ok(()) => {
                    if was_empty {
                        core.local.mark_dirty(*token);
                    }
                    return Ok(());
                }
                Err(error) => NotSent::TooLarge(error),
            },
            Err(error) => {
                drop(frame);
                NotSent::Encode(error.to_string())
            }
        };
        proto.unsend(head.call);
        self.calls.remove(key);
        // The slot is free again: whoever waits may have it.
        self.wake_waiting(1);
        Err(CallFailure::NotSent(failure))
    }

    /// The connection is there: calls may begin.
    pub(crate) fn handle_connected(&mut self, token: Token, proto: Box<ClientConnection<usize>>) {
        self.link = Link::Up { token, proto };
        self.proven = false;
        self.wake_waiting(usize::MAX);
    }

    /// The server's hello is here.
    pub(crate) fn handle_ready(&mut self) {
        if let Link::Up { proto, .. } = &self.link {
            self.server_shard = proto.peer().shard;
            self.connection_id = proto.peer().connection_id;
        }
        self.wake_waiting(usize::MAX);
    }

    /// A call ended.
    #[inline]
    pub(crate) fn complete(&mut self, key: usize, outcome: Result<Reply, CallFailure>) {
        if let Some(state) = self.calls.get_mut(key) {
            self.proven |= outcome.is_ok();
            if let CallState::Stream(_) = state {
                return self.complete_stream(key, outcome);
            }
            if let CallState::Waiting { waker, .. } =
                core::mem::replace(state, CallState::Done(outcome))
            {
                waker.wake();
            }
        }
    }

    #[cold]
    fn complete_stream(&mut self, key: usize, outcome: Result<Reply, CallFailure>) {
        let proven = self.proven;
        if let Some(stream) = self.take_stream(key) {
            stream.finish(Some(outcome));
        }
        self.proven = proven;
    }

    /// Lets up to `count` of those who wait try again.
    pub(crate) fn wake_waiting(&mut self, count: usize) {
        for _ in 0..count.min(self.waiting.len()) {
            if let Some(waiting) = self.waiting.pop_front() {
                waiting.waker.wake();
            }
        }
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// A time no later than that at which the first of those who wait gives up.
    pub(crate) fn waiting_deadline(&self) -> Option<Instant> {
        self.waiting_earliest.filter(|_| !self.waiting.is_empty())
    }

    /// Takes a place in the line, or the one that was had before with this number; answers the
    /// number. Numbers ascend along the line.
    pub(super) fn push_waiting(
        &mut self,
        had: Option<u64>,
        waker: Waker,
        deadline: Option<Instant>,
    ) -> u64 {
        let id = had.unwrap_or_else(|| {
            self.waiting_ids += 1;
            self.waiting_ids
        });
        if let Some(deadline) = deadline {
            let earliest = self.waiting_deadline();
            self.waiting_earliest = Some(earliest.map_or(deadline, |at| at.min(deadline)));
        }
        let place = self.waiting.partition_point(|waiting| waiting.id < id);
        self.waiting.insert(place, Waiting { id, waker, deadline });
        id
    }

    /// Wakes those whose time is over; they find out themselves.
    pub(crate) fn wake_expired(&mut self, now: Instant) {
        if self.waiting_deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        let mut earliest: Option<Instant> = None;
        self.waiting.retain(|waiting| {
            let Some(deadline) = waiting.deadline else { return true };
            if deadline <= now {
                waiting.waker.wake_by_ref();
                return false;
            }
            earliest = Some(earliest.map_or(deadline, |at| at.min(deadline)));
            true
        });
        self.waiting_earliest = earliest;
    }

    /// The connection ended, or could not be made. Calls in flight fail; the next call connects
    /// again, after the back-off if this connection brought no reply.
    pub(crate) fn handle_down(&mut self, core: &ChannelCore, reason: CloseReason, now: Instant) {
        let link = core::mem::replace(&mut self.link, Link::Connecting { token: None });
        if let Link::Up { mut proto, .. } = link {
            for failed in proto.fail_all() {
                let failure = match failed.may_have_run {
                    true => CallFailure::Unknown(reason),
                    false => CallFailure::Refused,
                };
                self.complete(failed.work, Err(failure));
            }
        }
        self.out.clear();
        let proven = core::mem::take(&mut self.proven);
        let retry_at = core.backoff.borrow_mut().handle_end(proven, &core.config, now);
        self.link = Link::Down { retry_at, why: reason.to_string() };
        self.wake_waiting(usize::MAX);
        self.room.drain(..).for_each(Waker::wake);
    }
}

/// A call with this deadline is about to begin. What waits to be sent may be stuck behind a full socket,
/// so that a request that is put behind it brings about no turn; the driver's timer must know of the
/// deadline all the same, if it is the first one.
#[inline]
fn note_deadline(
    core: &ChannelCore,
    token: Token,
    proto: &ClientConnection<usize>,
    out: &SendBuffer,
    deadline: Option<Instant>,
) {
    let Some(deadline) = deadline.filter(|_| !out.is_empty()) else { return };
    // One that has passed may be that of a call long gone: no timer waits for it any more.
    let now = core.local.now();
    let is_known = |earliest: Instant| now < earliest && earliest <= deadline;
    if !proto.earliest_deadline().is_some_and(is_known) {
        core.local.mark_dirty(token);
    }
}
