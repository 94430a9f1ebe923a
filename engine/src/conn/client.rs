//! One connection that a channel made, and its turn.
//!
//! What it does is decided in the channel's `ClientCore`; here are the socket and the budgets of a turn. It is the same
//! whether the channel's callers are tasks of this shard or on other threads: who waits is the core's `W`.

use corewire_proto::CloseReason;
use std::rc::Rc;
use std::time::Instant;

use crate::channel::driven::DrivenChannel;
use crate::conn::dial::{Begun, Dial};
use crate::conn::turn::{After, Ready, Received, TurnContext, Unacked};
use crate::net::io::{Io, Token};
use corewire_client::config::{ChannelConfig, DEADLINE_TURNS};
use corewire_client::core::channel::{ClientCore, Connection, ConnectionId, Waiter};
use corewire_proto::canary::{Bug, is_planted};

/// What a connection wants after its turn, and when it is to come back at the latest.
type Next = (After, Option<Instant>);

/// Where the connection is.
enum Stage<S> {
    /// Other threads look its server's name up and connect.
    Dialing(Dial),
    Connecting(S),
    Connected(S, ConnectionId),
    /// Nothing is left of it but its place.
    Over,
}

pub(crate) struct ClientConn<S, W: Waiter> {
    stage: Stage<S>,
    token: Token,
    channel: Rc<DrivenChannel<W>>,
    /// The deadline of the connect.
    connect_by: Option<Instant>,
    clock: Clock,
}

/// What a connected one knows of its time.
#[derive(Default)]
struct Clock {
    /// Whether the last turn ended with only replies awaited, and its timer armed.
    steady: bool,
    /// The earliest deadline when a timer was last armed.
    deadline: Option<Instant>,
    /// What the server's side has not acknowledged of what was written.
    unacked: Unacked,
    /// How many turns in a row have put off the deadlines, because more had arrived than they read.
    put_off: u8,
}

impl<S: 'static, W: Waiter + 'static> ClientConn<S, W> {
    pub(crate) fn new(
        begun: Begun<S>,
        token: Token,
        channel: Rc<DrivenChannel<W>>,
        config: &ChannelConfig,
        now: Instant,
    ) -> Self {
        channel.add(token);
        let stage = match begun {
            Begun::Socket(socket) => Stage::Connecting(socket),
            Begun::Dial(dial) => Stage::Dialing(dial),
        };
        let connect_by = now.checked_add(config.connect_timeout);
        Self { stage, token, channel, connect_by, clock: Clock::default() }
    }

    /// One turn.
    pub(crate) fn turn<I: Io<Socket = S>>(
        &mut self,
        shared: &mut TurnContext<I>,
        ready: &mut Ready,
    ) -> Next {
        let channel = Rc::clone(&self.channel);
        let core = &mut *channel.core.borrow_mut();
        channel.run_deferred(core);
        if !matches!(self.stage, Stage::Connected(..)) {
            // Calls that wait for the connection keep their deadlines all the same.
            core.advance_calls(shared.now);
            if channel.is_released() {
                core.handle_released();
            }
            self.connect(shared, core, ready);
        }
        let next = match &self.stage {
            Stage::Connected(socket, id) => {
                let turn = Turn { socket, id: *id, channel: &channel, clock: &mut self.clock };
                turn.run(shared, core, ready)
            }
            Stage::Dialing(_) | Stage::Connecting(_) => {
                let timer = [self.connect_by, core.waiting_deadline()].into_iter().flatten().min();
                (After::Wait, timer)
            }
            Stage::Over => (After::Drop, None),
        };
        channel.settle(core);
        next
    }

    /// Goes on as far as it can: the next stage is the outcome.
    fn connect<I: Io<Socket = S>>(
        &mut self,
        shared: &mut TurnContext<I>,
        core: &mut ClientCore<W>,
        ready: &Ready,
    ) {
        let is_late = self.connect_by.is_some_and(|by| by <= shared.now);
        self.stage = match core::mem::replace(&mut self.stage, Stage::Over) {
            // The core has given the connect up.
            _ if !core.is_connecting() => Stage::Over,
            Stage::Connecting(socket) if ready.writable => match shared.io.connected(&socket) {
                Ok(()) => Stage::Connected(socket, core.handle_connected(shared.now)),
                Err(error) => {
                    let reason = CloseReason::Transport((&error).into());
                    shared.io.ending(&socket, reason);
                    return core.handle_connect_failed(reason, shared.now);
                }
            },
            Stage::Dialing(dial) => match dial.take(shared) {
                Some(Ok(socket)) => Stage::Connecting(socket),
                Some(Err(reason)) => return core.handle_connect_failed(reason, shared.now),
                None if is_late => {
                    return core.handle_connect_failed(CloseReason::ConnectTimeout, shared.now);
                }
                None => Stage::Dialing(dial),
            },
            Stage::Connecting(socket) if is_late => {
                shared.io.ending(&socket, CloseReason::ConnectTimeout);
                return core.handle_connect_failed(CloseReason::ConnectTimeout, shared.now);
            }
            other => other,
        };
    }

    /// A stream of the channel wants something.
    pub(crate) fn settle_stream(&self, name: u64) {
        self.channel.core.borrow_mut().settle_stream(name);
    }

    /// The shard ends, and nobody drives this channel any more.
    pub(crate) fn end(&self, now: Instant) {
        self.channel.end(now);
    }

    /// Drops the socket, and reports that.
    pub(crate) fn leave(self) {
        let Self { stage, token, channel, .. } = self;
        drop(stage);
        channel.remove(token);
    }

    /// Received bytes that wait to be handled.
    pub(crate) fn unread(&self) -> usize {
        let Stage::Connected(_, id) = self.stage else { return 0 };
        let core = &mut *self.channel.core.borrow_mut();
        core.connection(id).map_or(0, |connection| connection.session.recv.len())
    }
}

/// A connected one that has its turn.
struct Turn<'a, S, W: Waiter> {
    socket: &'a S,
    id: ConnectionId,
    channel: &'a DrivenChannel<W>,
    clock: &'a mut Clock,
}

impl<S: 'static, W: Waiter + 'static> Turn<'_, S, W> {
    fn run<I: Io<Socket = S>>(
        self,
        shared: &mut TurnContext<I>,
        core: &mut ClientCore<W>,
        ready: &mut Ready,
    ) -> Next {
        let (id, now) = (self.id, shared.now);
        let Some(connection) = core.connection(id) else { return self.over(shared) };
        // Judge the server only after reading what has arrived until now.
        ready.readable |= ready.due;
        if ready.due && is_planted(Bug::BlindClocks) {
            connection.handle_timeout(now, 0);
        }
        let mut again = receive(shared, self.socket, connection, ready);
        if ready.due {
            self.clock.handle_due(shared, self.socket, connection, again);
        }
        // Once for all that this turn brought.
        connection.wake_readers();
        if connection.session.is_ready() && !self.channel.is_ready_noted(id) {
            self.channel.note_ready(id);
        }
        let mut is_unused = self.channel.is_released();
        // In most turns nothing waits and nothing ends.
        let is_steady = core.is_steady() && !is_unused;
        let mut held = false;
        if !is_steady {
            // On a connection that has retired no call begins.
            let is_current = core.is_current(id);
            held = is_current && core.advance_calls(now);
            if is_unused {
                core.handle_released();
                is_unused = !(is_current && core.has_waiting());
            }
        }
        let Some(connection) = core.connection(id) else { return self.over(shared) };
        connection.serve_streams();
        again |= flush(shared, self.socket, connection, ready);
        again |= connection.has_ready_streams();
        if is_steady && connection.session.is_going_on() {
            let after = if again { After::Again } else { After::Wait };
            return (after, self.clock.timer(connection, None, ready.due));
        }
        if is_unused && connection.is_idle() {
            again |= leave(connection);
        }
        again |= held && core.has_room();
        if let Some(reason) = core.connection(id).and_then(|it| it.session.close_reason()) {
            shared.io.ending(self.socket, reason);
        }
        while let Some(ended) = core.poll_ended(now) {
            if ended != id {
                self.channel.wake_all();
            }
        }
        let is_current = core.is_current(id);
        let waiting_by = if is_current { core.waiting_deadline() } else { None };
        let Some(connection) = core.connection(id) else { return (After::Drop, None) };
        let after = if again { After::Again } else { After::Wait };
        (after, self.clock.timer(connection, waiting_by, ready.due))
    }

    /// Another connection's turn has ended this one.
    #[cold]
    fn over<I: Io<Socket = S>>(&self, shared: &TurnContext<I>) -> Next {
        shared.io.ending(self.socket, CloseReason::Drained);
        (After::Drop, None)
    }
}

impl Clock {
    /// Does what is due. `again` says that more has arrived than was read.
    fn handle_due<I: Io, W: Waiter>(
        &mut self,
        shared: &mut TurnContext<I>,
        socket: &I::Socket,
        connection: &mut Connection<W>,
        again: bool,
    ) {
        self.put_off = if again { self.put_off + 1 } else { 0 };
        // A socket may take nothing for a long while although a slow reader takes bytes all the time.
        if connection.session.is_blocked() && self.unacked.falls(shared, socket) {
            connection.session.handle_acknowledged(shared.now);
        }
        connection.handle_timeout(shared.now, self.put_off);
        if self.put_off >= DEADLINE_TURNS {
            self.put_off = 0;
        }
    }

    /// When the connection wants its next turn at the latest, unless the timer that is armed is right.
    #[inline]
    fn timer<W: Waiter>(
        &mut self,
        connection: &Connection<W>,
        waiting_by: Option<Instant>,
        was_due: bool,
    ) -> Option<Instant> {
        // Most turns leave every clock where it is or move it later.
        let deadline = connection.session.earliest_deadline();
        let sooner = deadline.is_some_and(|at| self.deadline.is_none_or(|armed| at < armed));
        let steady = connection.has_steady_timers() && waiting_by.is_none();
        let was_steady = core::mem::replace(&mut self.steady, steady);
        if was_steady && steady && !sooner && !was_due {
            return None;
        }
        self.deadline = deadline;
        [connection.poll_timeout(), waiting_by].into_iter().flatten().min()
    }
}

/// Receives and handles frames within the turn's bounds; returns whether work is left.
fn receive<I: Io, W: Waiter>(
    shared: &mut TurnContext<I>,
    socket: &I::Socket,
    connection: &mut Connection<W>,
    ready: &mut Ready,
) -> bool {
    // Most turns without news are for requests that were just made.
    if !ready.readable && connection.session.recv.is_empty() {
        return false;
    }
    let lent = shared.recv.begin(&mut connection.session.recv);
    connection.session.recv = lent;
    let again = receive_with(shared, socket, connection, ready);
    let buffer = core::mem::take(&mut connection.session.recv);
    shared.recv.settle(&mut connection.session.recv, buffer);
    again
}

fn receive_with<I: Io, W: Waiter>(
    shared: &mut TurnContext<I>,
    socket: &I::Socket,
    connection: &mut Connection<W>,
    ready: &mut Ready,
) -> bool {
    let mut frames_left = shared.config.budgets.frames_per_turn;
    for round in 0.. {
        let has_bytes = !connection.session.recv.is_empty();
        if has_bytes && !connection.handle_frames(shared.now, &mut frames_left) {
            return true;
        }
        if connection.session.close_reason().is_some() || !ready.readable {
            return false;
        }
        if round >= shared.turn.receives_each() {
            return true;
        }
        match shared.receive(socket, &mut connection.session.recv, ready) {
            Received::Bytes => {}
            Received::Nothing => return false,
            Received::End => {
                connection.session.handle_eof();
                return false;
            }
            Received::Failed(error) => {
                connection.session.handle_error(error);
                return false;
            }
        }
    }
    false
}

/// Writes what there is, first and without asking; stops at the first `WouldBlock`, or at the bound of a turn. Returns
/// whether another turn is wanted.
fn flush<I: Io, W: Waiter>(
    shared: &mut TurnContext<I>,
    socket: &I::Socket,
    connection: &mut Connection<W>,
    ready: &mut Ready,
) -> bool {
    if !connection.prepare_write(shared.now) {
        return false;
    }
    let written = shared.write(socket, &mut connection.session.out, ready);
    connection.session.handle_sent(written.progress, written.more, shared.now);
    if written.failed {
        connection.handle_write_error(shared.failure, shared.now);
        // What the server sent before it left tells which calls it has not run.
        ready.readable = true;
    }
    written.more || written.failed
}

/// Nobody has a handle of the channel any more and nothing is in flight here: tells the server, and ends the
/// connection when that is written. Returns whether it is to be written.
#[cold]
fn leave<W: Waiter>(connection: &mut Connection<W>) -> bool {
    connection.session.leave();
    let is_unsent = connection.unsent() > 0;
    if !is_unsent {
        connection.session.close();
    }
    is_unsent
}
