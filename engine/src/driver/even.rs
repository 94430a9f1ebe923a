//! How a shard measures its load, and gives connections to others and takes theirs. What goes where is decided in
//! `balance/decide.rs`.
//!
//! Load is the CPU time of the thread, less what it spun without finding work. It is asked for every
//! [`LOOK_EVERY`], and only by a shard that turns anyway. What each connection adds to it is measured only while the shard is over: then the
//! clock is read before and after each connection's turn.
//!
//! A connection leaves between two of its turns, when nothing of it is here: no call, no stream, no unread and no unsent
//! byte. One that is chosen and busy leaves after the first of its turns that ends like this.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::evening::Evening;
use super::{Conn, Driver, Entry};
use crate::balance::Balance;
use crate::balance::decide::{Balancer, Move, Step};
use crate::conn::server::ServerConn;
use crate::conn::turn::SocketState;
use crate::net::io::{Io, Token};
use crate::shard::counters::ShardCounters;
use crate::shard::handover;
use crate::shard::handovers::{Given, Outcome, Taken};
use corewire_client::address::Peer;
use corewire_client::log_limit::Topic;
use corewire_codec::SendBuffer;

/// How often the load is measured.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How often a restless shard moves what it has.
const RESTLESS_EVERY: Duration = Duration::from_millis(1);

/// How long a connection that came stays, so that none goes from shard to shard.
const STAY: Duration = Duration::from_secs(5);

/// How many looks long a chosen connection may be busy.
const LEAVE_WITHIN: u32 = 8;

/// How often a shard says that its load cannot be evened.
const SAY_EVERY: Duration = Duration::from_secs(60);

impl<I: Io> Driver<I> {
    /// From now on the shard measures its load, and evens it as this says. `members` are the counters of all shards of
    /// the server, in order.
    pub(crate) fn even(&mut self, setting: Balance, members: Arc<[Arc<ShardCounters>]>) {
        let every = if setting == Balance::Restless { RESTLESS_EVERY } else { LOOK_EVERY };
        let setting = if members.len() > 1 { setting } else { Balance::Off };
        let me = usize::from(self.shared.config.info.id.0);
        self.evening = Evening {
            look_at: self.shared.now.checked_add(every),
            looked: self.shared.now,
            setting,
            balancer: Balancer::new(me),
            members,
            cpu: self.shared.io.thread_time(),
            ..Evening::new(self.shared.now)
        };
    }

    /// The shard has spun for this long and found nothing.
    #[inline]
    pub(crate) fn note_spun(&mut self, spun: Duration) {
        self.evening.note_spun(spun);
    }

    /// Measures the load, and decides.
    #[cold]
    pub(super) fn look_at_load(&mut self) {
        let now = self.shared.now;
        if self.evening.setting == Balance::Restless {
            self.evening.look_at = now.checked_add(RESTLESS_EVERY);
            if self.evening.looked + LOOK_EVERY <= now {
                let cpu = self.shared.io.thread_time();
                self.evening.measure(cpu, now, &self.shared.counters);
            }
            return self.choose_all();
        }
        self.evening.look_at = now.checked_add(LOOK_EVERY);
        let waited = self.local.thread_time.untold_wait();
        self.shared.counters.cpu_wait_us.add(u64::try_from(waited.as_micros()).unwrap_or(0));
        let cpu = self.shared.io.thread_time();
        self.evening.measure(cpu, now, &self.shared.counters);
        if self.evening.setting == Balance::Off || self.shared.drain_by.is_some() {
            return;
        }
        self.leave_late();
        self.evening.staying.retain(|(_, until)| *until > now);
        let mesh = &self.channels.mesh;
        let loads = self.evening.loads(|shard| mesh.is_gone(shard));
        let step = self.evening.balancer.look(&loads);
        let weighs = self.evening.setting == Balance::Move && step == Step::Weigh;
        if weighs && !self.evening.weighs {
            self.evening.weights.clear();
        }
        self.evening.weighs = weighs;
        if self.evening.setting == Balance::Move && step == Step::Choose {
            self.choose();
        }
        self.evening.watches = self.evening.weighs || !self.evening.leaving.is_empty();
        let stuck = self.evening.balancer.is_stuck();
        self.shared.counters.uneven.set(u64::from(stuck));
    }

    /// Gives those that were chosen another chance.
    fn leave_late(&mut self) {
        let leaving = core::mem::take(&mut self.evening.leaving);
        for (token, to, left) in leaving {
            let Some(entry) = self.conns.get(token.index()) else { continue };
            if entry.token == token && left > 0 && !self.leave(token, to) {
                self.evening.leaving.push((token, to, left - 1));
            }
        }
    }

    fn choose(&mut self) {
        let weights = core::mem::take(&mut self.evening.weights);
        let all: Duration = weights.iter().flatten().map(|(_, took)| *took).sum();
        let (mut tokens, mut shares) = (Vec::new(), Vec::new());
        for (token, took) in weights.into_iter().flatten() {
            let entry = self.conns.get(token.index()).filter(|entry| entry.token == token);
            let Some(Entry { conn: Some(Conn::Server(conn)), .. }) = entry else { continue };
            let stays = self.evening.staying.iter().any(|(it, _)| *it == token);
            if conn.may_move() && !stays && !all.is_zero() {
                // A part of the load, whatever else the thread does: that goes along.
                let share = took.as_secs_f64() / all.as_secs_f64();
                tokens.push(token);
                shares.push(share);
            }
        }
        let moves = self.evening.balancer.choose(&shares);
        if moves.is_empty() {
            self.say_stuck();
        }
        for Move { place, to } in moves {
            if let Some(token) = tokens.get(place)
                && !self.leave(*token, to)
            {
                self.evening.leaving.push((*token, to, LEAVE_WITHIN));
            }
        }
    }

    /// For tests: everything goes to the next shard.
    fn choose_all(&mut self) {
        let count = self.evening.members.len();
        if count < 2 || self.shared.drain_by.is_some() {
            return;
        }
        let to = (usize::from(self.shared.config.info.id.0) + 1) % count;
        let is_server = |conn: &Option<Conn<I>>| matches!(conn, Some(Conn::Server(_)));
        let servers = self.conns.iter().filter(|(_, entry)| is_server(&entry.conn));
        let tokens: Vec<Token> = servers.map(|(_, entry)| entry.token).collect();
        self.evening.leaving.clear();
        for token in tokens {
            if !self.leave(token, to) {
                self.evening.leaving.push((token, to, 1));
            }
        }
        self.evening.watches = !self.evening.leaving.is_empty();
    }

    #[cold]
    fn say_stuck(&mut self) {
        let now = self.shared.now;
        if self.evening.said.is_some_and(|said| now.saturating_duration_since(said) < SAY_EVERY) {
            return;
        }
        self.evening.said = Some(now);
        tracing::info!(
            shard = %self.shared.config.info.id,
            busy_permille = self.shared.counters.busy_permille.value(),
            "the shard has more than its share of the load, and no connection whose move would even it out"
        );
    }

    /// A connection's turn, while turns are watched.
    #[cold]
    pub(super) fn run_watched(&mut self, token: Token, since: Instant) -> bool {
        let began = self.shared.io.now();
        let received = self.run_unwatched(token, since);
        if self.evening.weighs {
            let took = self.shared.io.now().saturating_duration_since(began);
            let weights = &mut self.evening.weights;
            if weights.len() <= token.index() {
                weights.resize(token.index() + 1, None);
            }
            if let Some(weight) = weights.get_mut(token.index()) {
                let before =
                    weight.filter(|(of, _)| *of == token).map_or(Duration::ZERO, |it| it.1);
                *weight = Some((token, before + took));
            }
        }
        let leaves = self.evening.leaving.iter().position(|(of, ..)| *of == token);
        if let Some(place) = leaves
            && let Some((_, to, _)) = self.evening.leaving.get(place).copied()
            && self.leave(token, to)
        {
            self.evening.leaving.swap_remove(place);
        }
        received
    }

    /// Gives a connection to shard `to`, if nothing of it is here. Returns whether it is gone.
    fn leave(&mut self, token: Token, to: usize) -> bool {
        let entry = self.conns.get_mut(token.index()).filter(|entry| entry.token == token);
        let Some(entry) = entry.filter(|entry| !entry.queued && !entry.socket.hangup) else {
            return false;
        };
        let Some(Conn::Server(conn)) = &entry.conn else { return false };
        let Some(state) = conn.to_idle() else { return false };
        if self.shared.drain_by.is_some() || !handover::has_room(&self.channels.mesh, to) {
            return false;
        }
        let Some(Conn::Server(conn)) = entry.conn.take() else { return false };
        let (socket, peer) = conn.into_socket(&mut self.shared);
        match self.shared.io.release(socket) {
            Ok(socket) => {
                self.conns.remove(token.index());
                self.count_gone();
                let (shard, connection) = (self.shared.config.info.id, state.connection_id());
                tracing::debug!(%shard, %peer, connection, to, "an idle connection goes to another shard");
                self.give(to, Given::new(socket, peer, Some(state)));
                true
            }
            Err(socket) => {
                let conn = ServerConn::from_idle(socket, peer, self.server.clone(), state);
                entry.conn = Some(Conn::Server(Box::new(conn)));
                self.enqueue(token);
                false
            }
        }
    }

    fn give(&mut self, to: usize, given: Given) {
        self.evening.away += 1;
        handover::give(&self.channels.mesh, to, given);
    }

    fn count_gone(&mut self) {
        self.server_conns -= 1;
        self.shared.counters.connections_open.set(self.server_conns as u64);
    }

    /// Hands a connection that was just accepted to a shard with less load. Returns it if it stays here.
    #[inline]
    pub(super) fn hand_off(&mut self, socket: I::Socket, peer: Peer) -> Option<I::Socket> {
        if self.evening.setting == Balance::Off {
            return Some(socket);
        }
        let Some(to) = self.evening.balancer.hand_off(self.server_conns) else {
            return Some(socket);
        };
        if self.shared.drain_by.is_some() || !handover::has_room(&self.channels.mesh, to) {
            return Some(socket);
        }
        let socket = match self.shared.io.release(socket) {
            Ok(socket) => socket,
            Err(socket) => return Some(socket),
        };
        self.shared.counters.connections_accepted.add(1);
        self.shared.counters.connections_handed_off.add(1);
        tracing::debug!(shard = %self.shared.config.info.id, %peer, to, "a new connection goes to another shard");
        self.give(to, Given::new(socket, peer, None));
        None
    }

    /// Takes what other shards gave, and learns what became of what was given to them.
    #[cold]
    pub(super) fn take_handovers(&mut self) {
        for taken in self.local.handovers.taken() {
            self.shared.counters.connections_moved_here.add(1);
            self.adopt(taken);
        }
        for outcome in self.local.handovers.ended() {
            self.evening.away -= 1;
            match outcome {
                Outcome::Gone => self.shared.counters.connections_moved_away.add(1),
                Outcome::Back(taken) => self.adopt(*taken),
                Outcome::Lost => {
                    let shard = self.shared.config.info.id;
                    tracing::warn!(%shard, "a connection is lost with the shard that it was given to");
                }
            }
        }
    }

    /// Goes on with a connection.
    fn adopt(&mut self, taken: Taken) {
        let Taken { socket, peer, state } = taken;
        let token = self.next_token();
        let mut out = SendBuffer::new();
        // Real sockets can always be taken.
        let Ok(socket) = self.shared.io.take(socket) else { return };
        let watched = self.shared.io.watch(&socket, token);
        let mut conn = match state {
            Some(state) => ServerConn::from_idle(socket, peer, self.server.clone(), state),
            None => {
                let id = self.next_connection_id();
                let now = self.shared.now;
                ServerConn::new(socket, peer, self.server.clone(), id, now)
            }
        };
        if let Err(error) = watched {
            self.shared.counters.accept_failures.add(1);
            if self.local.log.admit(Topic::ACCEPT, self.shared.now) {
                tracing::warn!(%peer, %error, "cannot watch a connection that another shard gave; it is closed");
            }
            return conn.send_away(&mut self.shared, &mut out);
        }
        if self.drain_is_over {
            conn.abandon();
        }
        self.server_conns += 1;
        self.shared.counters.connections_open.set(self.server_conns as u64);
        if let Some(until) = self.shared.now.checked_add(STAY)
            && self.evening.setting == Balance::Move
        {
            self.evening.staying.push((token, until));
        }
        self.insert(token, Conn::Server(Box::new(conn)));
        if let Some(entry) = self.conns.get_mut(token.index()) {
            // What arrived while it was under way is reported as well, but perhaps later.
            entry.socket = SocketState { readable: true, writable: true, ..SocketState::default() };
        }
    }
}
