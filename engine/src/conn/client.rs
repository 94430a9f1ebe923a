//! One connection that a channel made, and its turn.
mod snapshot;

use corewire_codec::{CancelReason, RecvBuffer};
use corewire_proto::canary::{Bug, is_planted};
use corewire_proto::{ClientConnection, ClientInput, CloseReason, Expired};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use crate::channel::{ChannelCore, ChannelState};
use crate::conn::turn::{After, Ready, Received, TurnContext, Unacked, stream_bytes_max};
use crate::net::io::{Io, Token};
use crate::stream::{StreamCell, StreamQueue};
use corewire_client::config::{DEADLINE_TURNS, Reply};
use corewire_client::failure::CallFailure;
use corewire_client::log_limit::Topic;

/// A connection of a channel. Its state machine and send buffer live in the channel, where calls
/// reach them; the socket and what was received live here.
#[derive(Debug)]
pub(crate) struct ClientConn<S> {
    socket: S,
    token: Token,
    channel: Rc<ChannelCore>,
    recv: RecvBuffer,
    /// Its streams that want something; boxed, because most connections have none.
    streams: Option<Box<StreamQueue>>,
    connected: bool,
    /// The deadline of the connect.
    connect_by: Option<Instant>,
    /// Whether the last turn ended with only replies awaited, and its timer armed.
    steady: bool,
    /// The earliest deadline when a timer was last armed.
    deadline: Option<Instant>,
    /// What the server's side has not acknowledged of what was written.
    unacked: Unacked,
    /// How many turns in a row have put off the deadlines, because more had arrived than they read.
    put_off: u8,
    /// How many calls that wait for a slot were woken by what this turn received.
    turns_given: usize,
}

impl<S: 'static> ClientConn<S> {
    pub(crate) fn new(socket: S, token: Token, channel: Rc<ChannelCore>, now: Instant) -> Self {
        let connect_by = now.checked_add(channel.config.connect_timeout);
        Self {
            socket,
            token,
            channel,
            recv: RecvBuffer::new(),
            streams: None,
            connected: false,
            connect_by,
            steady: false,
            deadline: None,
            unacked: Unacked::default(),
            put_off: 0,
            turns_given: 0,
        }
    }

    /// A stream of this connection wants something.
    pub(crate) fn push_stream(&mut self, stream: Rc<StreamCell>) {
        self.streams.get_or_insert_default().push(stream);
    }

    /// One turn; returns what comes next and when to come back at the latest.
    pub(crate) fn turn<I: Io<Socket = S>>(
        &mut self,
        shared: &mut TurnContext<I>,
        ready: &mut Ready,
    ) -> (After, Option<Instant>) {
        if !self.connected {
            if !ready.writable {
                return self.wait_for_connect(shared);
            }
            if let Err(error) = shared.io.connected(&self.socket) {
                return self.down(shared, CloseReason::Transport((&error).into()));
            }
            self.connected = true;
            self.up(shared);
        }
        // Judge the server only after reading what has arrived until now.
        ready.readable |= ready.due;
        if ready.due
            && is_planted(Bug::BlindClocks)
            && let Some((proto, out)) = self.channel.state.borrow_mut().connection(self.token)
        {
            proto.handle_timeout(out, shared.now);
        }
        let again = self.receive(shared, ready);
        let core = Rc::clone(&self.channel);
        let (more, failed) = {
            let state = &mut *core.state.borrow_mut();
            if let Some(streams) = &mut self.streams {
                serve_streams(state, self.token, streams, stream_bytes_max(shared));
            }
            // A channel may be closed while it connects, when there is no peer to tell yet.
            let is_unwanted = core.is_unwanted(state);
            let Some((proto, out)) = state.connection(self.token) else {
                return (After::Drop, None);
            };
            if ready.due {
                if again {
                    proto.handle_unread();
                }
                // A socket may take nothing for a long while although a slow reader takes bytes all the time.
                if proto.is_blocked() && self.unacked.falls(shared, &self.socket) {
                    proto.handle_acknowledged(shared.now);
                }
                proto.handle_timeout(out, shared.now);
            }
            if is_unwanted && proto.in_flight() == 0 {
                proto.leave(out);
            }
            flush(shared, &self.socket, ready, proto, out)
        };
        if failed {
            self.hear_last_words(shared, ready);
        }
        let state = &mut *core.state.borrow_mut();
        let is_current = state.is_current(self.token);
        if is_current && state.out.len() <= core.config.unsent_max {
            if state.has_room_waiters() {
                state.wake_room();
            }
            if state.has_waiting() {
                self.let_go_on(state);
            }
        } else if state.has_room_waiters() {
            state.wake_expired_for_room(shared.now);
        }
        self.turns_given = 0;
        let waiting = is_current && (state.has_waiting() || state.has_room_waiters());
        let waiting_by = if waiting { state.first_waiting_deadline() } else { None };
        let Some((proto, out)) = state.connection(self.token) else { return (After::Drop, None) };
        let unsent_max = stream_bytes_max(shared);
        let streams = self.streams.as_ref();
        let more = more || streams.is_some_and(|it| it.has_ready() && out.len() <= unsent_max);
        // The last frames leave first: cancels of calls that nobody waits for, and the notice that
        // no more calls will come.
        if out.is_empty() {
            if proto.is_drained() {
                proto.close(CloseReason::Drained);
            } else if core.released.get() && proto.in_flight() == 0 {
                proto.close(CloseReason::LocallyClosed);
            }
        }
        if let Some(reason) = proto.close_reason() {
            return self.down_with(shared, state, reason);
        }
        let after = if again || more { After::Again } else { After::Wait };
        // Most turns leave every clock where it is or move it later; the armed timer is still right.
        let (deadline, steady) = (proto.earliest_deadline(), proto.is_steady());
        let sooner = deadline.is_some_and(|at| self.deadline.is_none_or(|armed| at < armed));
        let was_steady = core::mem::replace(&mut self.steady, steady && !waiting);
        if was_steady && self.steady && !sooner && !ready.due {
            return (after, None);
        }
        self.deadline = deadline;
        (after, [proto.poll_timeout(), waiting_by].into_iter().flatten().min())
    }

    /// The socket takes nothing more. What the server sent before it left can still be received,
    /// and tells which calls it has not run.
    #[cold]
    fn hear_last_words<I: Io<Socket = S>>(
        &mut self,
        shared: &mut TurnContext<I>,
        ready: &mut Ready,
    ) {
        let error = shared.failure;
        ready.readable = true;
        self.receive(shared, ready);
        if let Some((proto, _)) = self.channel.state.borrow_mut().connection(self.token) {
            proto.handle_error(error);
        }
    }

    /// The connect is not decided: calls that wait for it keep their deadlines all the same.
    fn wait_for_connect<I: Io<Socket = S>>(
        &self,
        shared: &TurnContext<I>,
    ) -> (After, Option<Instant>) {
        if self.connect_by.is_some_and(|by| by <= shared.now) {
            return self.down(shared, CloseReason::ConnectTimeout);
        }
        let state = &mut *self.channel.state.borrow_mut();
        if self.channel.is_unwanted(state) {
            return self.down_with(shared, state, CloseReason::LocallyClosed);
        }
        state.wake_expired(shared.now);
        let timer = [self.connect_by, state.waiting_deadline()].into_iter().flatten().min();
        (After::Wait, timer)
    }

    fn up<I: Io<Socket = S>>(&self, shared: &TurnContext<I>) {
        let state = &mut *self.channel.state.borrow_mut();
        let config = Arc::clone(&self.channel.connection);
        let id = self.channel.next_id();
        let proto = ClientConnection::new(config, id, &mut state.out, shared.now);
        state.handle_connected(self.token, Box::new(proto));
        tracing::debug!(server = %self.channel.address, "connected");
    }

    fn down<I: Io<Socket = S>>(
        &self,
        shared: &TurnContext<I>,
        reason: CloseReason,
    ) -> (After, Option<Instant>) {
        let state = &mut *self.channel.state.borrow_mut();
        self.down_with(shared, state, reason)
    }

    /// The shard ends, and nobody drives this connection any more.
    pub(crate) fn end(&self, now: Instant) {
        let state = &mut *self.channel.state.borrow_mut();
        state.handle_end(&self.channel, self.token, CloseReason::LocallyClosed, now);
    }

    fn down_with<I: Io<Socket = S>>(
        &self,
        shared: &TurnContext<I>,
        state: &mut ChannelState,
        reason: CloseReason,
    ) -> (After, Option<Instant>) {
        shared.io.ending(&self.socket, reason);
        let server = &self.channel.address;
        let log = &shared.calls.local().log;
        if Topic::of_server(reason).is_some_and(|topic| log.admit(topic, shared.now)) {
            tracing::warn!(%server, %reason, "connection lost");
        } else {
            tracing::debug!(%server, %reason, "connection closed");
        }
        state.handle_end(&self.channel, self.token, reason, shared.now);
        (After::Drop, None)
    }

    /// A slot is free. A call that waits for one is woken before the caller whose call has ended: if that
    /// one calls again at once, it would take the slot each time, and the queue would never move.
    #[cold]
    fn give_turn(&mut self, state: &mut ChannelState) {
        let has_room = state.out.len() <= self.channel.config.unsent_max;
        if has_room && state.is_current(self.token) && state.has_waiting() {
            state.wake_waiting(1);
            self.turns_given += 1;
        }
    }

    /// Little waits for the socket: calls that wait for a slot, or for the socket, have their turn as far as
    /// there are slots.
    #[cold]
    fn let_go_on(&self, state: &mut ChannelState) {
        let Some((proto, _)) = state.connection(self.token) else { return };
        // Before the hello no incoming frame frees a slot. A call that waits for the hello itself
        // would be woken again and again: with a deadline it asks for another turn each time.
        let free = if proto.is_ready() { proto.free_slots() } else { 0 };
        let free = if is_planted(Bug::LostTurn) { 0 } else { free };
        state.wake_waiting(free.saturating_sub(self.turns_given));
    }

    /// Receives and handles frames within the turn's bounds; returns whether work is left.
    fn receive<I: Io<Socket = S>>(
        &mut self,
        shared: &mut TurnContext<I>,
        ready: &mut Ready,
    ) -> bool {
        let mut again = false;
        // Most turns without news are for requests that were just made.
        if ready.readable || !self.recv.is_empty() {
            let mut buffer = shared.recv.begin(&mut self.recv);
            again = self.receive_with(shared, ready, &mut buffer);
            shared.recv.settle(&mut self.recv, buffer);
        }
        let state = &mut *self.channel.state.borrow_mut();
        if let Some((proto, _)) = state.connection(self.token).filter(|_| !again) {
            proto.handle_rest(&self.recv, shared.now);
        }
        if state.has_waiting() {
            state.wake_expired(shared.now);
        }
        if ready.due {
            if again && self.put_off < DEADLINE_TURNS {
                self.put_off += 1;
            } else {
                self.put_off = 0;
                expire(state, self.token, shared.now);
            }
        }
        again
    }

    fn receive_with<I: Io<Socket = S>>(
        &mut self,
        shared: &mut TurnContext<I>,
        ready: &mut Ready,
        buffer: &mut RecvBuffer,
    ) -> bool {
        let budgets = shared.config.budgets;
        let core = Rc::clone(&self.channel);
        let mut frames_left = budgets.frames_per_turn;
        for round in 0.. {
            if !buffer.is_empty() && !self.handle_frames(shared, buffer, &mut frames_left) {
                return true;
            }
            let state = &mut *core.state.borrow_mut();
            let Some((proto, _)) = state.connection(self.token) else { return false };
            if proto.close_reason().is_some() || !ready.readable {
                return false;
            }
            if round >= shared.turn.receives_each() {
                return true;
            }
            match shared.receive(&self.socket, buffer, ready) {
                Received::Bytes => {}
                Received::Nothing => return false,
                Received::End => {
                    proto.handle_eof();
                    return false;
                }
                Received::Failed(kind) => {
                    proto.handle_error(kind);
                    return false;
                }
            }
        }
        false
    }

    /// Handles whole frames; returns `false` when it stopped at the bound with frames left.
    fn handle_frames<I: Io<Socket = S>>(
        &mut self,
        shared: &TurnContext<I>,
        recv: &mut RecvBuffer,
        frames_left: &mut usize,
    ) -> bool {
        let core = Rc::clone(&self.channel);
        let state = &mut *core.state.borrow_mut();
        loop {
            if *frames_left == 0 {
                return false;
            }
            let Some((proto, out)) = state.connection(self.token) else { return true };
            match proto.handle_frame(recv, out, shared.now) {
                ClientInput::NeedBytes | ClientInput::Closed(_) => return true,
                ClientInput::Handled => {}
                ClientInput::Opened { call, payload } => {
                    let key = proto.work_mut(call).copied();
                    if let Some(stream) = state.stream(key) {
                        stream.open(payload);
                    }
                }
                ClientInput::StreamData { call, encoding, cost, payload } => {
                    let key = proto.work_mut(call).copied();
                    match state.stream(key) {
                        Some(stream) => stream.push(encoding, cost, payload),
                        None => state.consume(self.token, call, cost),
                    }
                }
                ClientInput::StreamEnd { work, code, payload } => {
                    self.give_turn(state);
                    if let Some(stream) = state.take_stream(work) {
                        stream.end_incoming(code, &payload);
                        stream.finish(None);
                    }
                }
                ClientInput::Writable { call } => {
                    if let Some(streams) = &mut self.streams {
                        streams.handle_writable(call);
                    }
                }
                ClientInput::Ready => {
                    state.handle_ready();
                    // The hello grants more than was assumed before it, and no credit frame announces that.
                    if let Some(streams) = &mut self.streams {
                        streams.handle_writable(None);
                    }
                }
                ClientInput::Reply { work, head, payload } => {
                    if state.has_waiting() {
                        self.give_turn(state);
                    }
                    state.complete(work, Ok(Reply::new(head, payload)));
                }
                ClientInput::GoAway => state.handle_go_away(&core, self.token, shared.now),
            }
            *frames_left -= 1;
        }
    }
}

/// Gives streams their turn, and ends the calls that nobody waits for any more.
#[cold]
fn serve_streams(state: &mut ChannelState, token: Token, streams: &mut StreamQueue, max: usize) {
    let Some((proto, out)) = state.connection(token) else { return };
    if proto.poll_writable() {
        streams.handle_writable(None);
    }
    streams.serve(proto, out, max);
    while let Some(call) = streams.pop_ended() {
        let Some((proto, out)) = state.connection(token) else { return };
        if let Some(key) = proto.abandon(call, CancelReason::Dropped, out) {
            state.calls.try_remove(key);
        }
    }
    // Those that were just given up may have left credit to the others, which have the next turn.
    if let Some((proto, _)) = state.connection(token)
        && proto.poll_writable()
    {
        streams.handle_writable(None);
    }
}

/// Ends the calls whose deadline has passed.
fn expire(state: &mut ChannelState, token: Token, now: Instant) {
    while let Some((proto, out)) = state.connection(token)
        && let Some(Expired { work, sent }) = proto.poll_expired(out, now)
    {
        state.complete(work, Err(CallFailure::DeadlineExceeded { sent }));
    }
}

/// Writes what there is, first and without asking; stops at the first `WouldBlock`, or at the bound of
/// a turn. Returns whether another turn is wanted, and whether the socket failed.
fn flush<I: Io>(
    shared: &mut TurnContext<I>,
    socket: &I::Socket,
    ready: &mut Ready,
    proto: &mut ClientConnection<usize>,
    out: &mut corewire_codec::SendBuffer,
) -> (bool, bool) {
    if out.is_empty() {
        return (false, false);
    }
    proto.prepare_write(out, shared.now);
    let written = shared.write(socket, out, ready);
    match written.more {
        true => proto.handle_part_written(shared.now),
        false => proto.handle_write(written.progress, !out.is_empty(), shared.now),
    }
    (written.more, written.failed)
}
