//! The state that a channel's callers and its connection share.

use corewire_codec::SendBuffer;
use corewire_proto::{ClientConnection, StreamKind};
use slab::Slab;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Instant;

use super::retired::Retired;
use super::wait_queue::WaitQueue;
use super::{ChannelCore, Ticket};
use crate::net::io::Token;
use crate::shard::clock::clock;
use crate::stream::{Side, StreamCell};
use corewire_client::config::Reply;
use corewire_client::failure::{CallFailure, NotSent};

/// A call that was sent.
#[derive(Debug)]
pub(crate) enum CallState {
    /// It has no outcome yet; its caller is woken when there is one.
    Waiting { call: u32, waker: Waker },
    /// Its caller has not taken the outcome yet.
    Done(Result<Reply, CallFailure>),
    /// It streams; its ends learn of the outcome through the cell.
    Stream(Rc<StreamCell>),
}

impl CallState {
    /// The id of a call without an outcome.
    pub(super) fn call(&self) -> Option<u32> {
        match self {
            Self::Waiting { call, .. } => Some(*call),
            Self::Stream(stream) => Some(stream.call),
            Self::Done(_) => None,
        }
    }
}

/// The state of the channel's connection.
#[derive(Debug)]
pub(crate) enum Link {
    /// There is none, and none is wanted. After a failure, not before `retry_at`.
    Down { retry_at: Option<Instant>, why: String },
    /// The driver was asked for one; it gets a token when the driver begins the connect.
    Connecting { token: Option<Token> },
    /// There is one that takes calls, unless it is draining and could not be retired.
    Up { token: Token, proto: Box<ClientConnection<usize>> },
}

/// Whether a caller's code is writing a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writing {
    No,
    Yes,
    /// It is, and it has used the channel meanwhile.
    Disturbed,
}

#[derive(Debug)]
pub(crate) struct ChannelState {
    pub(crate) link: Link,
    pub(crate) out: Box<SendBuffer>,
    /// Stands in for `out` while a caller's code writes into that.
    pub(super) spare_out: Option<Box<SendBuffer>>,
    /// Whether a caller's code is writing into what is otherwise `out`.
    pub(super) writing: Writing,
    /// Calls that were dropped by code that was writing; their cancels are still to be appended.
    pub(super) given_up: Vec<u32>,
    /// Connections whose servers went away, until their calls in flight have ended.
    pub(super) retired: Vec<Retired>,
    /// No call begins any more.
    pub(super) closed: bool,
    /// Callers that wait until every connection of a closed channel is gone.
    pub(super) closing: Vec<Waker>,
    pub(crate) calls: Slab<CallState>,
    /// Callers that wait for a slot or for the connection.
    pub(super) waiting: WaitQueue,
    /// Callers that wait to write a one-way call until more bytes have left.
    pub(super) waiting_for_room: WaitQueue,
    /// The last id given to a waiting caller.
    waiting_ids: u64,
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
            out: Box::default(),
            spare_out: None,
            writing: Writing::No,
            given_up: Vec::new(),
            retired: Vec::new(),
            closed: false,
            closing: Vec::new(),
            calls: Slab::new(),
            waiting: WaitQueue::default(),
            waiting_for_room: WaitQueue::default(),
            waiting_ids: 0,
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
            && self.writing == Writing::No
            && self.out.len() <= core.unsent_max()
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

    /// The slow path: there is no connection, no free slot, or others wait.
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
        if self.is_writing() {
            return Begin::Wait;
        }
        if let Link::Up { proto, .. } = &mut self.link {
            if proto.is_draining() {
                return Begin::Failed(self.going_away(core));
            }
            // Callers that wait already come first, unless this is one of them and it was woken.
            let turn = if first { self.waiting.is_empty() } else { !ticket.is_in(&self.waiting) };
            if turn
                && proto.has_slot()
                && self.out.len() <= core.unsent_max()
                && let Some(key) = self.take_slot(core, kind, deadline, context)
            {
                ticket.id = None;
                return Begin::Slot(key);
            }
            return Begin::Wait;
        }
        match self.want_connection(core, clock()) {
            Ok(()) => Begin::Wait,
            Err(why) => Begin::Failed(CallFailure::NotSent(why)),
        }
    }

    /// For a call that must not be sent before the server's hello: makes it wait, or returns why it
    /// cannot.
    #[cold]
    pub(super) fn await_hello(
        &mut self,
        core: &Rc<ChannelCore>,
        deadline: Option<Instant>,
    ) -> Begin {
        let now = clock();
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Begin::Failed(CallFailure::DeadlineExceeded { sent: false });
        }
        match self.want_connection(core, now) {
            Ok(()) => Begin::Wait,
            Err(why) => Begin::Failed(CallFailure::NotSent(why)),
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
                let arrivals = Rc::clone(&core.context.streams);
                CallState::Stream(StreamCell::new(arrivals, *token, call, Side::Client, halves))
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
        self.stream(Some(key))?;
        match self.calls.remove(key) {
            CallState::Stream(stream) => Some(stream),
            CallState::Waiting { .. } | CallState::Done(_) => None,
        }
    }

    /// Returns the credit of a message that nobody reads.
    #[cold]
    pub(crate) fn consume(&mut self, of: Token, call: u32, cost: u32) {
        if let Some((proto, out)) = self.connection(of) {
            proto.consume(call, cost, out);
        }
    }

    /// The connection with this token, and what is still to be sent on it.
    #[inline]
    pub(crate) fn connection(
        &mut self,
        of: Token,
    ) -> Option<(&mut ClientConnection<usize>, &mut SendBuffer)> {
        match &mut self.link {
            Link::Up { token, proto } if *token == of => Some((proto, &mut self.out)),
            _ => Retired::find(&mut self.retired, of),
        }
    }

    /// Whether the channel's calls go to the connection with this token, or will go to it.
    #[inline]
    pub(crate) fn is_current(&self, of: Token) -> bool {
        match self.link {
            Link::Up { token, .. } | Link::Connecting { token: Some(token) } => token == of,
            Link::Connecting { token: None } | Link::Down { .. } => false,
        }
    }

    /// Whether there is a connection whose server has said hello.
    #[inline]
    pub(super) fn is_ready(&self) -> bool {
        matches!(&self.link, Link::Up { proto, .. } if proto.is_ready())
    }

    /// Whether the socket takes nothing of what waits.
    #[inline]
    pub(super) fn is_blocked(&self) -> bool {
        matches!(&self.link, Link::Up { proto, .. } if proto.is_blocked())
    }

    /// Whether the call with this ticket could be written now.
    pub(super) fn is_next(&self, core: &ChannelCore, ticket: &Ticket, is_one_way: bool) -> bool {
        if self.out.len() > core.config.unsent_max {
            return false;
        }
        let is_turn = match ticket.id {
            None => self.waiting.is_empty(),
            Some(_) => !ticket.is_in(&self.waiting),
        };
        match &self.link {
            // They take no slot, and do not wait for callers that do.
            Link::Up { .. } if is_one_way => true,
            Link::Up { proto, .. } => is_turn && proto.has_slot(),
            Link::Down { .. } | Link::Connecting { .. } => false,
        }
    }

    /// Whether there is no connection, and none is being made.
    pub(crate) fn is_down(&self) -> bool {
        matches!(self.link, Link::Down { .. })
    }

    /// Asks the driver for a connection, unless a failed one is too recent.
    pub(super) fn want_connection(
        &mut self,
        core: &Rc<ChannelCore>,
        now: Instant,
    ) -> Result<(), NotSent> {
        if self.closed {
            return Err(NotSent::Closed);
        }
        if core.local.is_over() {
            return Err(NotSent::NotOnShard);
        }
        if let Link::Down { retry_at, why } = &self.link {
            if let Some(retry_at) = retry_at.filter(|&at| at > now) {
                let wait = retry_at - now;
                return Err(NotSent::NoConnection(format!(
                    "no connection to {}: {why}; the next try is in {wait:.0?}",
                    core.address
                )));
            }
            self.link = Link::Connecting { token: None };
            core.context.connect(Rc::clone(core));
        }
        Ok(())
    }

    /// Whether a caller waits for room.
    #[inline]
    pub(crate) fn has_room_waiters(&self) -> bool {
        !self.waiting_for_room.is_empty()
    }

    /// A time no later than the first deadline of the callers that wait for a slot or for room.
    #[cold]
    pub(crate) fn first_waiting_deadline(&self) -> Option<Instant> {
        let (slot, room) = (self.waiting.deadline(), self.waiting_for_room.deadline());
        [slot, room].into_iter().flatten().min()
    }

    /// Lets callers that wait for room try again.
    #[cold]
    pub(crate) fn wake_room(&mut self) {
        self.waiting_for_room.wake(usize::MAX);
    }

    /// Wakes callers that wait for room and whose deadline has passed.
    #[cold]
    pub(crate) fn wake_expired_for_room(&mut self, now: Instant) {
        self.waiting_for_room.wake_expired(now);
    }

    /// The connection is there: calls may begin.
    pub(crate) fn handle_connected(&mut self, token: Token, proto: Box<ClientConnection<usize>>) {
        self.link = Link::Up { token, proto };
        self.wake_waiting(usize::MAX);
    }

    /// The server's hello has arrived.
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
        if let Some(stream) = self.take_stream(key) {
            stream.finish(Some(outcome));
        }
    }

    /// Lets up to `count` waiting callers try again.
    pub(crate) fn wake_waiting(&mut self, count: usize) {
        self.waiting.wake(count);
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// A time no later than the first deadline of the waiting callers.
    pub(crate) fn waiting_deadline(&self) -> Option<Instant> {
        self.waiting.deadline()
    }

    /// An id for another waiting caller.
    pub(super) fn next_waiting_id(&mut self) -> u64 {
        self.waiting_ids += 1;
        self.waiting_ids
    }

    /// Wakes waiting callers whose deadline has passed; they find that out themselves.
    pub(crate) fn wake_expired(&mut self, now: Instant) {
        self.waiting.wake_expired(now);
    }
}

/// A call with this deadline is about to begin. What is to be sent may be stuck behind a full socket,
/// and then a request added behind it causes no turn. The driver's timer must still know the deadline,
/// if it is the first one.
#[inline]
fn note_deadline(
    core: &ChannelCore,
    token: Token,
    proto: &ClientConnection<usize>,
    out: &SendBuffer,
    deadline: Option<Instant>,
) {
    let Some(deadline) = deadline.filter(|_| !out.is_empty()) else { return };
    // A deadline that has passed may be that of a call long gone: no timer waits for it any more.
    let now = core.local.now();
    let is_known = |earliest: Instant| now < earliest && earliest <= deadline;
    if !proto.earliest_deadline().is_some_and(is_known) {
        core.local.mark_dirty(token);
    }
}
