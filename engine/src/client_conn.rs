//! One connection that a channel made, and its turn.

use corewire_codec::{CancelReason, RecvBuffer};
use corewire_proto::{ClientConnection, ClientInput, CloseReason};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use crate::channel::{ChannelCore, Link};
use crate::config::{ONE_WAY_UNSENT_MAX, Reply};
use crate::failure::CallFailure;
use crate::io::{Io, Token};
use crate::stream::{StreamCell, StreamQueue};
use crate::turn::{After, Ready, Received, Shared, stream_bytes_max};

/// A connection of a channel. Its state machine and send buffer live in the channel, where calls
/// reach them; the socket and what was received live here.
#[derive(Debug)]
pub(crate) struct ClientConn<S> {
    socket: S,
    token: Token,
    channel: Rc<ChannelCore>,
    recv: RecvBuffer,
    /// Its streams that want something; boxed, for most connections have none.
    streams: Option<Box<StreamQueue>>,
    connected: bool,
    /// By when the connect must be decided.
    connect_by: Option<Instant>,
    /// Whether the last turn ended with nothing but replies awaited, and its timer armed.
    steady: bool,
    /// The earliest deadline when a timer was armed last.
    deadline: Option<Instant>,
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
        }
    }

    /// A stream of this connection wants something.
    pub(crate) fn push_stream(&mut self, stream: Rc<StreamCell>) {
        self.streams.get_or_insert_default().push(stream);
    }

    /// One turn; answers what comes next and when to come back at the latest.
    pub(crate) fn turn<I: Io<Socket = S>>(
        &mut self,
        shared: &mut Shared<I>,
        ready: &mut Ready,
    ) -> (After, Option<Instant>) {
        if !self.connected {
            if !ready.writable {
                return self.wait_for_connect(shared);
            }
            if let Err(error) = shared.io.connected(&self.socket) {
                return self.down(shared, CloseReason::Transport(error.kind()));
            }
            self.connected = true;
            self.up(shared);
        }
        let again = self.receive(shared, ready);
        let core = Rc::clone(&self.channel);
        let (more, failed) = {
            let state = &mut *core.state.borrow_mut();
            let Link::Up { proto, .. } = &mut state.link else { return (After::Drop, None) };
            if ready.due {
                proto.handle_timeout(&mut state.out, shared.now);
            }
            if let Some(streams) = &mut self.streams {
                streams.serve(&mut **proto, &mut state.out, stream_bytes_max(shared));
                while let Some(call) = streams.pop_ended() {
                    if let Some(key) = proto.abandon(call, CancelReason::Dropped, &mut state.out) {
                        state.calls.try_remove(key);
                    }
                }
            }
            flush(shared, &self.socket, ready, proto, &mut state.out)
        };
        if let Some(kind) = failed {
            self.hear_last_words(shared, ready, kind);
        }
        let state = &mut *core.state.borrow_mut();
        if state.out.len() <= ONE_WAY_UNSENT_MAX {
            state.room.drain(..).for_each(Waker::wake);
        }
        let (waiting, waiting_by) = (state.has_waiting(), state.waiting_deadline());
        let Link::Up { proto, .. } = &mut state.link else { return (After::Drop, None) };
        let unsent_max = stream_bytes_max(shared);
        let streams = self.streams.as_ref();
        let more =
            more || streams.is_some_and(|it| it.has_ready() && state.out.len() <= unsent_max);
        let released = core.released.get() && proto.in_flight() == 0 && state.out.is_empty();
        if proto.is_drained() {
            proto.close(CloseReason::Drained);
        } else if released {
            proto.close(CloseReason::LocallyClosed);
        }
        if let Some(reason) = proto.close_reason() {
            return self.down_with(shared, state, reason);
        }
        let after = if again || more { After::Again } else { After::Wait };
        // Most turns leave every clock where it is or move it later; the timer that is armed serves.
        let (deadline, steady) = (proto.earliest_deadline(), proto.is_steady());
        let sooner = deadline.is_some_and(|at| self.deadline.is_none_or(|armed| at < armed));
        let was_steady = core::mem::replace(&mut self.steady, steady && !waiting);
        if was_steady && self.steady && !sooner && !ready.due {
            return (after, None);
        }
        self.deadline = deadline;
        (after, [proto.poll_timeout(), waiting_by].into_iter().flatten().min())
    }

    /// The socket takes nothing more. What the server said before it left is still to be had, and
    /// tells which calls it has not run.
    #[cold]
    fn hear_last_words<I: Io<Socket = S>>(
        &mut self,
        shared: &mut Shared<I>,
        ready: &mut Ready,
        kind: std::io::ErrorKind,
    ) {
        ready.readable = true;
        self.receive(shared, ready);
        if let Link::Up { proto, .. } = &mut self.channel.state.borrow_mut().link {
            proto.handle_error(kind);
        }
    }

    /// The connect is not decided: those who wait for it keep their deadlines all the same.
    fn wait_for_connect<I: Io<Socket = S>>(&self, shared: &Shared<I>) -> (After, Option<Instant>) {
        if self.connect_by.is_some_and(|by| by <= shared.now) {
            return self.down(shared, CloseReason::ConnectTimeout);
        }
        let mut state = self.channel.state.borrow_mut();
        state.wake_expired(shared.now);
        let timer = [self.connect_by, state.waiting_deadline()].into_iter().flatten().min();
        (After::Wait, timer)
    }

    fn up<I: Io<Socket = S>>(&self, shared: &Shared<I>) {
        let state = &mut *self.channel.state.borrow_mut();
        let config = Arc::clone(&self.channel.connection);
        let proto = ClientConnection::new(config, &mut state.out, shared.now);
        state.handle_connected(self.token, Box::new(proto));
        tracing::debug!(server = %self.channel.address, "connected");
    }

    fn down<I: Io<Socket = S>>(
        &self,
        shared: &Shared<I>,
        reason: CloseReason,
    ) -> (After, Option<Instant>) {
        let state = &mut *self.channel.state.borrow_mut();
        self.down_with(shared, state, reason)
    }

    fn down_with<I: Io<Socket = S>>(
        &self,
        shared: &Shared<I>,
        state: &mut crate::channel::ChannelState,
        reason: CloseReason,
    ) -> (After, Option<Instant>) {
        let server = &self.channel.address;
        if reason.is_fault() {
            tracing::warn!(%server, %reason, "connection lost");
        } else {
            tracing::debug!(%server, %reason, "connection closed");
        }
        state.handle_down(&self.channel, reason, shared.now);
        (After::Drop, None)
    }

    /// Receives and handles frames within the turn's bounds; answers whether work is left.
    fn receive<I: Io<Socket = S>>(&mut self, shared: &mut Shared<I>, ready: &mut Ready) -> bool {
        let mut again = false;
        // Most turns without news are for requests that were just made.
        if ready.readable || !self.recv.is_empty() {
            let mut buffer = shared.recv.begin(&mut self.recv);
            again = self.receive_with(shared, ready, &mut buffer);
            shared.recv.settle(&mut self.recv, buffer);
        }
        let state = &mut *self.channel.state.borrow_mut();
        if let Link::Up { proto, .. } = &mut state.link {
            if !again {
                proto.handle_rest(&self.recv, shared.now);
            }
            let free = proto.free_slots();
            if free > 0 && state.has_waiting() {
                state.wake_waiting(free);
            }
        }
        if state.has_waiting() {
            state.wake_expired(shared.now);
        }
        if ready.due
            && let Link::Up { .. } = &state.link
        {
            expire(state, shared.now);
        }
        again
    }

    fn receive_with<I: Io<Socket = S>>(
        &mut self,
        shared: &mut Shared<I>,
        ready: &mut Ready,
        buffer: &mut RecvBuffer,
    ) -> bool {
        let budgets = shared.config.budgets;
        let core = Rc::clone(&self.channel);
        let mut frames_left = budgets.frames_per_turn;
        for round in 0.. {
            let state = &mut *core.state.borrow_mut();
            if !buffer.is_empty()
                && !handle_frames(state, &mut self.streams, shared, buffer, &mut frames_left)
            {
                return true;
            }
            let Link::Up { proto, .. } = &mut state.link else { return false };
            if proto.close_reason().is_some() || !ready.readable {
                return false;
            }
            if round >= budgets.receives_per_turn {
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
}

/// Handles whole frames; answers `false` when it stopped at the bound with frames left.
fn handle_frames<I: Io>(
    state: &mut crate::channel::ChannelState,
    streams: &mut Option<Box<StreamQueue>>,
    shared: &Shared<I>,
    recv: &mut RecvBuffer,
    frames_left: &mut usize,
) -> bool {
    loop {
        if *frames_left == 0 {
            return false;
        }
        let Link::Up { proto, .. } = &mut state.link else { return true };
        match proto.handle_frame(recv, &mut state.out, shared.now) {
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
                    None => state.consume(call, cost),
                }
            }
            ClientInput::StreamEnd { work, code, payload } => {
                if let Some(stream) = state.take_stream(work) {
                    stream.end_incoming(code, &payload);
                    stream.finish(None);
                }
            }
            ClientInput::Writable { call } => {
                if let Some(streams) = streams {
                    streams.handle_writable(call);
                }
            }
            ClientInput::Ready => {
                // Streams that began before the hello may have more credit than they were given.
                if let Some(streams) = streams {
                    streams.handle_writable(None);
                }
                state.handle_ready();
            }
            ClientInput::Reply { work, head, payload } => {
                state.complete(work, Ok(Reply::new(head, payload)));
            }
            ClientInput::GoAway => {
                state.wake_waiting(usize::MAX);
                while let Link::Up { proto, .. } = &mut state.link
                    && let Some(key) = proto.poll_refused()
                {
                    state.complete(key, Err(CallFailure::Refused));
                }
            }
        }
        *frames_left -= 1;
    }
}

/// Ends the calls whose deadline has passed.
fn expire(state: &mut crate::channel::ChannelState, now: Instant) {
    while let Link::Up { proto, .. } = &mut state.link
        && let Some(key) = proto.poll_expired(&mut state.out, now)
    {
        state.complete(key, Err(CallFailure::DeadlineExceeded { sent: true }));
    }
}

/// Writes what there is, first and without asking; stops at the first `WouldBlock`, or at the bound of
/// a turn. Answers whether another turn is wanted, and how the socket failed, if it did.
fn flush<I: Io>(
    shared: &mut Shared<I>,
    socket: &I::Socket,
    ready: &mut Ready,
    proto: &mut ClientConnection<usize>,
    out: &mut corewire_codec::SendBuffer,
) -> (bool, Option<std::io::ErrorKind>) {
    if out.is_empty() {
        return (false, None);
    }
    let written = shared.write(socket, out, ready);
    proto.handle_write(written.progress, !out.is_empty(), shared.now);
    (written.more, written.failed)
}
