//! Where the two ends of a stream meet: its connection on one side, a handler or a caller on the
//! other.
//!
//! Both live on one shard and never run at the same time. Messages that came wait in the inbox,
//! messages to be sent in the outbox; the connection fills the one and empties the other in its turns.

use corewire_codec::{EncodedBody, Encoding, Forwarded, MetadataBuilder, Payload, Status};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use corewire_client::streams::{CONSUMED_BYTES, OUTBOX_BYTES};
use corewire_client::{Closed, Message, Opening, Outcome, StreamFailure};

use super::INBOX_COPY_BELOW;
use corewire_proto::StreamPlace;

use crate::net::io::Token;
use crate::shard::account::{Held, StreamAccount};
use crate::shard::context::ShardContext;

/// Which end of a connection a stream is at, and which stream it is there.
#[derive(Debug)]
pub(crate) enum Side {
    /// Its connection, and its call on the wire.
    Server {
        token: Token,
        call: u32,
    },
    Client(ClientSide),
    /// The connection is another shard's: what is woken in its place.
    Relay(RefCell<Option<Waker>>),
}

/// A stream at a client.
#[derive(Debug)]
pub(crate) struct ClientSide {
    /// Its name in its channel.
    pub(crate) name: u64,
    /// The connection to which the channel's new calls go.
    pub(crate) current: Rc<Cell<Option<Token>>>,
    /// That which carries it; `None` until its request is written.
    pub(crate) token: Cell<Option<Token>>,
}

/// The state of the receiving half.
#[derive(Debug)]
enum Incoming {
    Open,
    /// The peer has sent its last message; a failure that stopped it is still to be reported.
    Ended(Option<Status>),
}

/// The state of the sending half.
#[derive(Debug)]
pub(super) enum Sending {
    Open,
    /// The end follows the outbox, with the status that stopped the sender, if any.
    Ending(Option<Status>),
    /// Nothing more is sent.
    Ended,
}

#[derive(Debug)]
pub(super) struct State {
    inbox: VecDeque<(Message, u32, Held)>,
    incoming: Incoming,
    /// Cost of messages that were taken out and that were not yet reported to the connection.
    pub(super) consumed: u32,
    reader_gone: bool,
    /// Whether the connection must still be told that nobody reads.
    pub(super) stop: bool,
    reader: Option<Waker>,
    /// The peer's handler has taken the call.
    opened: bool,
    /// What came with the opening.
    opening: Opening,
    /// How the call ended, until somebody takes it; at the client only.
    outcome: Option<Outcome>,
    pub(super) outbox: VecDeque<(Encoding, EncodedBody, Held)>,
    pub(super) outbox_bytes: usize,
    /// An opening is to be sent, unless a message says the same.
    pub(super) accept: bool,
    /// The metadata for the opening; with it the opening is sent in any case.
    pub(super) accept_with: Option<Box<MetadataBuilder>>,
    /// Another shard has taken the call: the opening says so, and is sent in any case.
    pub(super) forwarded: Option<Forwarded>,
    pub(super) sending: Sending,
    /// The writer waits because the connection's streams hold all that they may.
    pub(super) starved: bool,
    writer: Option<Waker>,
    /// Nobody waits for the call any more; at the client only.
    pub(super) abandoned: bool,
    /// The call is over.
    over: bool,
}

impl State {
    /// Nothing more is sent.
    pub(super) fn end_sending(&mut self) {
        self.sending = Sending::Ended;
        self.outbox.clear();
        self.outbox_bytes = 0;
    }
}

/// The streams of a shard that want something of their connections, until the driver looks.
#[derive(Debug)]
pub(crate) struct StreamArrivals {
    shard: Rc<ShardContext>,
    cells: RefCell<Vec<Rc<StreamCell>>>,
}

impl StreamArrivals {
    pub(crate) fn new(shard: Rc<ShardContext>) -> Rc<Self> {
        Rc::new(Self { shard, cells: RefCell::default() })
    }

    fn push(&self, cell: Rc<StreamCell>) {
        self.cells.borrow_mut().push(cell);
        self.shard.wakes.note_news();
    }

    pub(crate) fn swap(&self, cells: &mut Vec<Rc<StreamCell>>) {
        core::mem::swap(&mut *self.cells.borrow_mut(), cells);
    }

    /// Takes out the streams of one connection, which has its turn.
    pub(crate) fn take_of(&self, token: Token, mut take: impl FnMut(Rc<StreamCell>)) {
        let cells = &mut *self.cells.borrow_mut();
        cells.extract_if(.., |cell| cell.token() == Some(token)).for_each(&mut take);
    }
}

/// One stream call on one shard.
#[derive(Debug)]
pub(crate) struct StreamCell {
    arrivals: Rc<StreamArrivals>,
    account: Rc<StreamAccount>,
    pub(super) side: Side,
    /// Whether it is among the arrivals.
    pub(super) queued: Cell<bool>,
    pub(super) place: Cell<StreamPlace>,
    /// Whether it waits in its connection's queue of starved writers.
    pub(super) starves: Cell<bool>,
    pub(super) state: RefCell<State>,
}

impl StreamCell {
    /// A client's stream, which is charged to the account of the shard's clients.
    pub(crate) fn of_client(
        arrivals: Rc<StreamArrivals>,
        name: u64,
        current: Rc<Cell<Option<Token>>>,
        halves: (bool, bool),
    ) -> Rc<Self> {
        let account = Rc::clone(&arrivals.shard.client_streams);
        let side = Side::Client(ClientSide { name, current, token: Cell::new(None) });
        Self::new(arrivals, account, side, halves)
    }

    /// A stream whose messages are charged to this account.
    pub(crate) fn new(
        arrivals: Rc<StreamArrivals>,
        account: Rc<StreamAccount>,
        side: Side,
        (receives, sends): (bool, bool),
    ) -> Rc<Self> {
        Rc::new(Self {
            arrivals,
            account,
            side,
            queued: Cell::new(false),
            place: Cell::new(StreamPlace::Idle),
            starves: Cell::new(false),
            state: RefCell::new(State {
                inbox: VecDeque::new(),
                incoming: if receives { Incoming::Open } else { Incoming::Ended(None) },
                consumed: 0,
                reader_gone: !receives,
                stop: false,
                reader: None,
                opened: false,
                opening: None,
                outcome: None,
                outbox: VecDeque::new(),
                outbox_bytes: 0,
                accept: false,
                accept_with: None,
                forwarded: None,
                sending: if sends { Sending::Open } else { Sending::Ended },
                starved: false,
                writer: None,
                abandoned: false,
                over: false,
            }),
        })
    }

    /// What its messages are charged to.
    pub(super) fn account(&self) -> Rc<StreamAccount> {
        Rc::clone(&self.account)
    }

    /// The connection that carries it, if its request was written.
    pub(crate) fn token(&self) -> Option<Token> {
        match &self.side {
            Side::Server { token, .. } => Some(*token),
            Side::Client(side) => side.token.get(),
            Side::Relay(_) => None,
        }
    }

    /// Its call on the wire, at a server.
    pub(super) fn call(&self) -> u32 {
        match &self.side {
            Side::Server { call, .. } => *call,
            // The core of the channel, or another shard, knows it.
            Side::Client(_) | Side::Relay(_) => 0,
        }
    }

    /// Makes the connection look at this stream in its next turn, if it is on one.
    pub(super) fn mark(self: &Rc<Self>) {
        if let Side::Relay(relay) = &self.side {
            let relay = relay.borrow_mut().take();
            if let Some(relay) = relay {
                relay.wake();
            }
        } else if self.token().is_some() && !self.queued.replace(true) {
            self.arrivals.push(Rc::clone(self));
        }
    }

    pub(super) fn wake_reader(&self) {
        let waker = self.state.borrow_mut().reader.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn wake_writer(&self) {
        let waker = self.state.borrow_mut().writer.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The connection's side.
impl StreamCell {
    /// A message came for a server's stream.
    pub(crate) fn receive(self: &Rc<Self>, encoding: Encoding, cost: u32, payload: Payload<'_>) {
        if self.state.borrow().reader_gone {
            return self.discard(cost);
        }
        let message = self.received(encoding, payload);
        self.push(message, cost);
        self.wake_reader();
    }

    /// A message came that nobody reads.
    fn discard(self: &Rc<Self>, cost: u32) {
        let state = &mut *self.state.borrow_mut();
        state.opened = true;
        state.consumed = state.consumed.saturating_add(cost);
        self.mark();
    }

    /// A message, as it waits in the inbox. While memory is short, it keeps no more alive than its own bytes.
    pub(super) fn received(&self, encoding: Encoding, payload: Payload<'_>) -> Message {
        let copy_below = if self.account.is_tight() { usize::MAX } else { INBOX_COPY_BELOW };
        Message::received_below(encoding, payload, copy_below)
    }

    /// A message came. Its reader is to be woken.
    pub(super) fn push(self: &Rc<Self>, message: Message, cost: u32) {
        let state = &mut *self.state.borrow_mut();
        state.opened = true;
        if state.reader_gone {
            state.consumed = state.consumed.saturating_add(cost);
            self.mark();
        } else {
            let held = self.account.hold_incoming(cost as usize);
            state.inbox.push_back((message, cost, held));
        }
    }

    /// The peer sends no more.
    pub(crate) fn end_incoming(&self, failure: Option<Status>) {
        {
            let state = &mut *self.state.borrow_mut();
            state.opened = true;
            if let Incoming::Open = state.incoming {
                state.incoming = Incoming::Ended(failure);
            }
        }
        if corewire_proto::canary::is_planted(corewire_proto::canary::Bug::LostEnd) {
            return;
        }
        self.wake_reader();
    }

    /// The peer's last message came.
    pub(crate) fn end_incoming_ok(&self) {
        self.state.borrow_mut().incoming = Incoming::Ended(None);
        if corewire_proto::canary::is_planted(corewire_proto::canary::Bug::LostEnd) {
            return;
        }
        self.wake_reader();
    }

    /// The server's handler took the call. The reader is to be woken.
    pub(super) fn open(&self, opening: Opening) {
        let state = &mut *self.state.borrow_mut();
        state.opened = true;
        state.opening = opening;
    }

    /// The client's call ended: received messages can still be read, nothing more is sent.
    pub(crate) fn finish(self: &Rc<Self>, outcome: Option<Outcome>) {
        {
            let state = &mut *self.state.borrow_mut();
            state.outcome = outcome;
            state.over = true;
            state.end_sending();
        }
        self.wake_reader();
        self.wake_writer();
    }

    /// Nothing more is written: the connection must not keep it among the streams that wait for credit.
    fn leave_line(self: &Rc<Self>) {
        if self.place.get() != StreamPlace::Idle {
            self.mark();
        }
    }

    /// The server's call is over: nobody reads or sends any more.
    pub(crate) fn close(self: &Rc<Self>) {
        {
            let state = &mut *self.state.borrow_mut();
            state.over = true;
            state.end_sending();
            let unread: u32 = state.inbox.drain(..).map(|(_, cost, _)| cost).sum();
            state.consumed = state.consumed.saturating_add(unread);
            if let Incoming::Open = state.incoming {
                let status = Status::cancelled("the call that this stream belongs to is over");
                state.incoming = Incoming::Ended(Some(status));
            }
        }
        if self.state.borrow().consumed > 0 {
            self.mark();
        }
        self.leave_line();
        self.wake_reader();
        self.wake_writer();
    }

    /// Whether there is something to write.
    pub(super) fn wants_to_write(&self) -> bool {
        let state = self.state.borrow();
        match state.sending {
            Sending::Open => state.accept || !state.outbox.is_empty(),
            Sending::Ending(_) => true,
            Sending::Ended => false,
        }
    }
}

/// The reader's side.
impl StreamCell {
    fn wait(&self, state: &mut State, context: &Context<'_>) {
        self.arrivals.shard.note_known_wait();
        match &mut state.reader {
            Some(waker) => waker.clone_from(context.waker()),
            None => state.reader = Some(context.waker().clone()),
        }
    }

    /// The next message, whose cost the reader must consume.
    pub(super) fn poll_next(
        &self,
        context: &Context<'_>,
    ) -> Poll<Option<Result<(Message, u32), StreamFailure>>> {
        let state = &mut *self.state.borrow_mut();
        if let Some((message, cost, _)) = state.inbox.pop_front() {
            return Poll::Ready(Some(Ok((message, cost))));
        }
        if let Incoming::Ended(failure) = &mut state.incoming {
            return Poll::Ready(failure.take().map(|status| Err(StreamFailure::Status(status))));
        }
        if state.over {
            let outcome = state.outcome.take();
            return Poll::Ready(outcome.map(|outcome| Err(StreamFailure::Call(outcome))));
        }
        self.wait(state, context);
        Poll::Pending
    }

    /// A message of this cost was taken out.
    pub(super) fn consume(self: &Rc<Self>, cost: u32) {
        let tell = {
            let state = &mut *self.state.borrow_mut();
            state.consumed = state.consumed.saturating_add(cost);
            state.inbox.is_empty() || state.consumed >= CONSUMED_BYTES
        };
        if tell {
            self.mark();
        }
    }

    /// Waits until the server's handler has taken the call; returns how the call ended if that
    /// happened first.
    pub(super) fn poll_opened(&self, context: &Context<'_>) -> Poll<Result<Opening, Outcome>> {
        let state = &mut *self.state.borrow_mut();
        if state.opened {
            return Poll::Ready(Ok(state.opening.take()));
        }
        if let Some(outcome) = state.outcome.take() {
            return Poll::Ready(Err(outcome));
        }
        if state.over {
            return Poll::Ready(Ok(None));
        }
        self.wait(state, context);
        Poll::Pending
    }

    /// Waits until the request of the client's call is written; returns how the call ended if that happened first.
    pub(crate) fn poll_written(&self, context: &Context<'_>) -> Poll<Result<(), Outcome>> {
        let state = &mut *self.state.borrow_mut();
        if self.token().is_some() {
            return Poll::Ready(Ok(()));
        }
        if let Some(outcome) = state.outcome.take() {
            return Poll::Ready(Err(outcome));
        }
        self.wait(state, context);
        Poll::Pending
    }

    pub(super) fn poll_outcome(&self, context: &Context<'_>) -> Poll<Outcome> {
        let state = &mut *self.state.borrow_mut();
        if let Some(outcome) = state.outcome.take() {
            return Poll::Ready(outcome);
        }
        self.wait(state, context);
        Poll::Pending
    }

    /// Nobody reads any more. At the client this gives up the call, unless it is over.
    pub(super) fn drop_reader(self: &Rc<Self>) {
        {
            let state = &mut *self.state.borrow_mut();
            let unread: u32 = state.inbox.drain(..).map(|(_, cost, _)| cost).sum();
            state.consumed = state.consumed.saturating_add(unread);
            state.reader = None;
            state.stop = !state.reader_gone && !state.over;
            state.reader_gone = true;
        }
        match self.side {
            Side::Client(_) => self.abandon(),
            Side::Server { .. } | Side::Relay(_) => self.mark(),
        }
    }

    /// Gives up the client's call, unless it is over.
    pub(super) fn abandon(self: &Rc<Self>) {
        {
            let state = &mut *self.state.borrow_mut();
            if !state.over {
                state.abandoned = true;
                state.over = true;
                state.end_sending();
            }
        }
        self.mark();
        self.wake_writer();
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state.borrow().over
    }
}

/// The writer's side.
impl StreamCell {
    /// Waits for room in the outbox.
    pub(super) fn poll_ready(self: &Rc<Self>, context: &Context<'_>) -> Poll<Result<(), Closed>> {
        let state = &mut *self.state.borrow_mut();
        if !matches!(state.sending, Sending::Open) {
            return Poll::Ready(Err(Closed));
        }
        let starved = self.account.is_writer_over_share();
        if state.outbox_bytes < OUTBOX_BYTES && !starved {
            return Poll::Ready(Ok(()));
        }
        self.arrivals.shard.note_known_wait();
        state.writer = Some(context.waker().clone());
        if starved && !core::mem::replace(&mut state.starved, true) {
            // The connection wakes it when there is room.
            self.mark();
        }
        Poll::Pending
    }

    /// Waits until nothing more is sent.
    pub(super) fn poll_ended(&self, context: &Context<'_>) -> Poll<()> {
        if matches!(self.state.borrow().sending, Sending::Ended) {
            return Poll::Ready(());
        }
        self.arrivals.shard.note_known_wait();
        self.watch(context);
        Poll::Pending
    }

    /// Wakes the writer when nothing more can be sent.
    pub(super) fn watch(&self, context: &Context<'_>) {
        let writer = &mut self.state.borrow_mut().writer;
        match writer {
            Some(waker) => waker.clone_from(context.waker()),
            None => *writer = Some(context.waker().clone()),
        }
    }

    pub(super) fn send(self: &Rc<Self>, encoding: Encoding, body: EncodedBody) {
        {
            let state = &mut *self.state.borrow_mut();
            if !matches!(state.sending, Sending::Open) {
                return;
            }
            // Empty messages count, too, or their number would have no bound.
            let bytes = body.len() + 16;
            state.outbox_bytes += bytes;
            state.outbox.push_back((encoding, body, self.account.hold_outgoing(bytes)));
        }
        self.mark();
    }

    pub(super) fn accept(
        self: &Rc<Self>,
        metadata: Option<MetadataBuilder>,
        forwarded: Option<Forwarded>,
    ) {
        {
            let state = &mut *self.state.borrow_mut();
            state.accept = true;
            state.forwarded = forwarded;
            state.accept_with = metadata.map(Box::new);
        }
        self.mark();
    }

    pub(super) fn end(self: &Rc<Self>, failure: Option<Status>) {
        {
            let state = &mut *self.state.borrow_mut();
            if !matches!(state.sending, Sending::Open) {
                return;
            }
            state.sending = Sending::Ending(failure);
        }
        self.mark();
    }
}
