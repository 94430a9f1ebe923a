//! A shard's turn: readiness, reading, handlers, one write per connection.
//!
//! The driver is synchronous and generic over [`Io`]; the shard's one task calls
//! [`turn`](Driver::turn) again and again, and sleeps between turns when one found nothing.
//!
//! ```text
//!  readiness ┐
//!  wakes     ├─▶ run queue ─▶ for each connection: poll woken calls ─▶ receive ─▶ frames ─▶
//!  timers    ┘                handlers ─▶ one gathered send ─▶ arm its timer
//! ```
//!
//! With methods of several classes, woken calls wait for the turn of their class (`classes.rs`).
//!
//! Fairness: each connection is bounded in frames, receives and bytes per turn, and so is the whole turn
//! (`run_queue.rs`; the bounds are in `budgets.rs`). Connections with work left over wait behind those with little to
//! do, for the next turn.
//!
//! A shard that spins receives three times out of four only on the connection that was busy, before it asks for
//! readiness (`try_hot`): that connection's next call is found one system call sooner.
//!
//! When descriptors run out, accepting pauses for 100 ms at a time, with a warning.

mod classes;
mod connecting;
mod ending;
mod even;
mod evening;
pub(crate) mod executor;
pub(crate) mod hosting;
pub(crate) mod idle;
mod plain;
mod relief;
mod relieve;
mod run;
pub(crate) mod runtime;
mod serving;
mod snapshot;
mod stalled;

use corewire_codec::SendBuffer;
use corewire_proto::canary::{Bug, is_planted};
use corewire_proto::{ServerConfig, TransportError};
use slab::Slab;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::evening::Evening;
use self::relief::Relief;
use crate::calls::dispatch::Dispatch;
use crate::calls::extensions::Extensions;
use crate::calls::parked::ParkedCalls;
use crate::calls::queue_delay::DelayWatch;
use crate::channel::ChannelContext;
use crate::channel::caller::Caller;
use crate::conn::client::ClientConn;
use crate::conn::run_queue::{RunQueue, TurnBudget};
use crate::conn::server::ServerConn;
use crate::conn::turn::{After, Ready, SocketState, TurnContext};
use crate::identity::DriverConfig;
use crate::net::doorbell::Order;
use crate::net::io::{Io, Readiness, Token};
use crate::net::recv_pool::RecvPool;
use crate::shard::account::MemoryAccount;
use crate::shard::context::ShardContext;
use crate::shard::counters::ShardCounters;
use crate::shard::phase::Phase;
use crate::shard::timers::Timers;
use crate::stream::StreamCell;
use corewire_client::address::Peer;
use corewire_client::log_limit::Topic;
use corewire_client::remote::command::Completion;

/// How long a shard leaves its listener alone after the system refused it a descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A spinning shard polls for readiness once in this many tries; the other tries receive on the
/// busy connection.
const HOT_TRIES: u32 = 4;

/// How many stale timers may lie in the heap: of times that were moved, or of connections that are gone.
const STALE_TIMERS_MAX: usize = 1024;

/// A connection that moves more than this share of a receive buffer in a turn counts as having much to do.
const LITTLE: usize = 8;

/// How many rounds of accepting a drain starts with.
const DRAIN_ACCEPTS: usize = 256;

enum Conn<I: Io> {
    Server(Box<ServerConn<I::Socket>>),
    /// A client's connection, for callers on this shard.
    Client(Box<ClientConn<I::Socket, Caller>>),
    /// The same for callers on other threads.
    Remote(Box<ClientConn<I::Socket, Completion>>),
}

struct Entry<I: Io> {
    token: Token,
    queued: bool,
    /// Whether its last turn moved much, or left work: it then waits in the second queue.
    heavy: bool,
    socket: SocketState,
    /// The connection's earliest timer, and whether it is due.
    armed: Option<Instant>,
    due: bool,
    /// `None` while the connection has its turn.
    conn: Option<Conn<I>>,
}

struct Listening<I: Io> {
    listener: I::Listener,
    /// Whether a client may be waiting there.
    acceptable: bool,
}

/// One shard's driver.
pub(crate) struct Driver<I: Io> {
    shared: TurnContext<I>,
    server: Rc<ServerConfig>,
    local: Rc<ShardContext>,
    channels: Rc<ChannelContext>,
    listeners: Vec<Listening<I>>,
    accept_after: Option<Instant>,
    /// The drain's deadline has passed, and the callers who still waited are being told.
    drain_is_over: bool,
    connections_made: u64,
    conns: Slab<Entry<I>>,
    generation: u32,
    server_conns: usize,
    /// Connections that want a turn.
    run: RunQueue,
    /// The connection that received last, if it was the only one in its round.
    hot: Option<Token>,
    hot_tries: u32,
    relief: Relief,
    evening: Evening,
    news: Vec<Readiness>,
    keys: Vec<u32>,
    tokens: Vec<Token>,
    streams: Vec<Rc<StreamCell>>,
}

impl<I: Io> Driver<I> {
    #[allow(clippy::large_types_passed_by_value, reason = "once per shard")]
    pub(crate) fn new(
        mut io: I,
        config: DriverConfig,
        channels: Rc<ChannelContext>,
        listeners: Vec<I::Listener>,
        dispatch: Rc<dyn Dispatch>,
        counters: Arc<ShardCounters>,
    ) -> io::Result<Self> {
        for (index, listener) in listeners.iter().enumerate() {
            io.watch_listener(listener, Token::listener(index))?;
        }
        let now = io.now();
        let local = Rc::clone(&channels.shard);
        local.holds.set_limit(config.warn_held_after);
        local.thread_time.untold_wait();
        let budgets = &config.budgets;
        let listen = |listener| Listening { listener, acceptable: true };
        let mut this = Self {
            server: Rc::new(config.server),
            shared: TurnContext {
                now,
                token: Token::DOORBELL,
                failure: io::ErrorKind::Other.into(),
                ran: (0, 0),
                clock_in: 1,
                turn: TurnBudget::new(budgets, 0),
                memory: MemoryAccount::new(budgets, local.totals.clone()),
                delay: budgets.queue_delay.map(|delay| Rc::new(DelayWatch::new(delay, now))),
                io,
                counters,
                served: Rc::clone(&dispatch),
                dispatch,
                streams: Rc::clone(&channels.streams),
                calls: ParkedCalls::new(Rc::clone(&local)),
                extensions: Extensions::default(),
                timers: Timers::default(),
                recv: RecvPool::new(budgets.receive_bytes),
                send: SendBuffer::new(),
                drain_by: None,
                config,
            },
            local,
            channels,
            listeners: listeners.into_iter().map(listen).collect(),
            accept_after: None,
            drain_is_over: false,
            connections_made: 0,
            conns: Slab::new(),
            generation: 0,
            server_conns: 0,
            run: RunQueue::default(),
            hot: None,
            hot_tries: 0,
            relief: Relief::default(),
            evening: Evening::new(now),
            news: Vec::new(),
            keys: Vec::new(),
            tokens: Vec::new(),
            streams: Vec::new(),
        };
        this.know_methods();
        Ok(this)
    }

    /// Does everything there is to do now, each connection within its bounds; waits for readiness for
    /// at most `wait` when there is nothing else to do. Returns whether it did anything.
    pub(crate) fn turn(&mut self, wait: Duration) -> io::Result<bool> {
        let ready = self.has_work() || self.is_acceptable();
        let wait = if ready { Duration::ZERO } else { wait };
        // Longer sleeps than a doze are a plain host's, and the supervisor must not take them for a stall.
        let sleeps = wait > runtime::REACTOR_EVERY;
        if sleeps {
            self.shared.look_before_sleep();
            self.shared.counters.parked.set(1);
        }
        self.shared.io.poll(&mut self.news, wait)?;
        if sleeps {
            self.shared.counters.parked.set(0);
        }
        self.shared.read_clock(if sleeps { Duration::MAX } else { wait });
        if let Some(delay) = &self.shared.delay {
            delay.begin_turn(self.shared.now);
        }
        self.take_readiness();
        if self.local.wakes.take_news() {
            self.take_local();
        }
        self.take_due();
        self.accept();
        if self.evening.is_due(self.shared.now) {
            self.look_at_load();
        }
        self.local.classes.begin_turn();
        let mut rounds = self.run_queue();
        if self.local.classes.has_waiting() {
            rounds += self.run_classes();
        }
        if self.local.holds.has_news() {
            self.tell_holds();
        }
        if is_planted(Bug::ForgottenAccept) {
            return Ok(rounds > 0);
        }
        // A client may still wait to be accepted, even if there is nothing else to do.
        Ok(rounds > 0 || self.is_acceptable())
    }

    /// Gives a turn to connections that wait for room when there may be some, and updates the
    /// counters of what is held.
    fn tell_holdings(&mut self) {
        if let Some(waiting) = self.shared.memory.take_waiting() {
            for token in waiting {
                self.enqueue(token);
            }
        }
        // Memory is tight long before it is short.
        if self.shared.memory.is_tight() || self.relief.is_on() {
            self.relieve();
        }
        self.trim_buffers();
        let TurnContext { counters, memory, .. } = &self.shared;
        counters.calls_pending.set(memory.calls() as u64);
        counters.held_bytes.set(memory.bytes() as u64);
    }

    /// Whether connections have work left, so that the shard must not sleep. What they wait for may also have been given back
    /// since they last looked, by a task or by a call of another shard.
    pub(crate) fn has_queue(&self) -> bool {
        !self.run.is_empty() || self.local.classes.has_waiting() || self.shared.memory.may_let_in()
    }

    /// Whether there is something to do for connections or tasks.
    fn has_work(&self) -> bool {
        self.has_queue() || self.local.wakes.has_news() || self.local.wakes.ready_tasks() > 0
    }

    /// For a shard that spins: tries to receive only on the connection that was busy, without polling
    /// for readiness first, which saves its next call a system call. Every fourth time it declines,
    /// so that the others are served. Returns whether something came, or `None` if it declined.
    pub(crate) fn try_hot(&mut self) -> Option<bool> {
        self.hot_tries = (self.hot_tries + 1) % HOT_TRIES;
        let busy = self.has_work();
        // The kernel reports waiting clients only once, and a shard that finds nothing here may go to sleep.
        let is_acceptable = self.is_acceptable();
        let is_acceptable = is_acceptable && !is_planted(Bug::ForgottenAccept);
        if self.hot_tries == 0 || busy || is_acceptable {
            return None;
        }
        let token = self.hot?;
        let Some(entry) = self.conns.get_mut(token.index()).filter(|entry| entry.token == token)
        else {
            self.hot = None;
            return None;
        };
        entry.socket.readable = true;
        self.shared.read_clock(Duration::ZERO);
        self.begin_budget(1);
        Some(self.run_connection(token, self.shared.now))
    }

    /// The time that the last turn worked with.
    pub(crate) fn now(&self) -> Instant {
        self.shared.now
    }

    /// Whether everything is over: the shard has drained, and no connection of its server is left.
    pub(crate) fn is_drained(&self) -> bool {
        self.shared.drain_by.is_some() && self.server_conns == 0 && !self.evening.awaits_answers()
    }

    /// Whether the deadline of the drain was over `grace` ago.
    pub(crate) fn is_past_drain(&self, grace: Duration) -> bool {
        self.shared.drain_by.is_some_and(|by| by + grace <= self.shared.now)
    }

    fn enqueue(&mut self, token: Token) -> Option<&mut Entry<I>> {
        self.enqueue_since(token, self.shared.now)
    }

    fn enqueue_since(&mut self, token: Token, since: Instant) -> Option<&mut Entry<I>> {
        let entry = self.conns.get_mut(token.index()).filter(|entry| entry.token == token)?;
        if !entry.queued {
            entry.queued = true;
            self.run.push(token, since, entry.heavy);
        }
        Some(entry)
    }

    fn take_readiness(&mut self) {
        let mut news = core::mem::take(&mut self.news);
        for ready in news.drain(..) {
            match ready.token {
                Token::DOORBELL => self.answer_doorbell(),
                token => {
                    if let Some(index) = token.as_listener() {
                        if let Some(listening) = self.listeners.get_mut(index) {
                            listening.acceptable = true;
                        }
                    } else if let Some(entry) = self.enqueue(token) {
                        entry.socket.readable |= ready.readable;
                        entry.socket.writable |= ready.writable;
                        entry.socket.hangup |= ready.hangup;
                        entry.socket.full &= !(ready.writable || ready.hangup);
                        entry.socket.to_the_end |= ready.hangup || ready.urgent;
                    }
                }
            }
        }
        self.news = news;
    }

    fn answer_doorbell(&mut self) {
        let doorbell = Arc::clone(&self.local.wakes.doorbell);
        doorbell.silence();
        while let Some(order) = doorbell.take() {
            match order {
                Order::Wake(key) => self.local.wakes.wake_key(key),
                Order::Drain(within) => self.drain(self.shared.now + within),
                Order::LameDuck => self.local.phase.enter(Phase::LameDuck),
                Order::Notify => {}
                Order::Listen => self.set_acceptable(),
                Order::Stalled(stalled) => self.name_holder(&stalled),
            }
        }
    }

    fn wake_call(&mut self, key: u32) {
        let Some((token, call)) = self.shared.calls.owner(key) else { return };
        if let Some(Entry { conn: Some(Conn::Server(conn)), .. }) = self.enqueue(token) {
            conn.wake(call);
        }
    }

    /// Takes what code on this thread left for it: wakes, connections, streams and connects.
    fn take_local(&mut self) {
        let mut keys = core::mem::take(&mut self.keys);
        self.local.wakes.swap_calls(&mut keys);
        if self.local.classes.in_use() {
            self.queue_calls(&mut keys);
        }
        for key in keys.drain(..) {
            self.wake_call(key);
        }
        self.keys = keys;
        let mut tokens = core::mem::take(&mut self.tokens);
        self.local.swap_dirty(&mut tokens);
        for token in tokens.drain(..) {
            self.enqueue(token);
        }
        self.tokens = tokens;
        let mut streams = core::mem::take(&mut self.streams);
        self.shared.streams.swap(&mut streams);
        for stream in streams.drain(..) {
            let entry = stream.token().and_then(|token| self.enqueue(token));
            if let Some(Entry { conn: Some(conn), .. }) = entry {
                match (conn, stream.name()) {
                    (Conn::Server(conn), _) => conn.push_stream(stream),
                    (Conn::Client(conn), Some(name)) => conn.settle_stream(name),
                    // Their streams are not of this shard.
                    (Conn::Client(_) | Conn::Remote(_), _) => {}
                }
            }
        }
        self.streams = streams;
        if self.local.handovers.take_news() {
            self.take_handovers();
        }
        self.begin_connects();
    }

    fn take_due(&mut self) {
        while let Some((at, token)) = self.shared.timers.pop_due(self.shared.now) {
            let stale = self.conns.get(token.index()).is_none_or(|entry| entry.armed != Some(at));
            if stale {
                continue;
            }
            if let Some(entry) = self.enqueue(token) {
                entry.armed = None;
                entry.due = true;
            }
        }
        if self.shared.timers.len() > 2 * self.conns.len() + STALE_TIMERS_MAX {
            let conns = &self.conns;
            let live = |at, token: Token| {
                conns
                    .get(token.index())
                    .is_some_and(|entry| entry.token == token && entry.armed == Some(at))
            };
            self.shared.timers.retain(live);
        }
        self.local.log.write_due(self.shared.now);
        if !self.drain_is_over && self.shared.drain_by.is_some_and(|by| by <= self.shared.now) {
            self.drain_is_over = true;
            self.abandon_connections();
        }
    }

    fn set_acceptable(&mut self) {
        self.listeners.iter_mut().for_each(|listening| listening.acceptable = true);
    }

    /// Whether there may be a client to accept now.
    #[inline]
    fn is_acceptable(&self) -> bool {
        self.accept_after.is_none() && self.listeners.iter().any(|listening| listening.acceptable)
    }

    fn accept(&mut self) {
        if self.accept_after.is_some_and(|after| after <= self.shared.now) {
            self.accept_after = None;
            self.set_acceptable();
        }
        if self.is_acceptable() {
            for index in 0..self.listeners.len() {
                self.accept_from(index);
            }
        }
    }

    fn accept_from(&mut self, index: usize) {
        for _ in 0..self.shared.config.budgets.accepts_per_turn {
            let Some(listening) = self.listeners.get_mut(index) else { return };
            if !listening.acceptable || self.accept_after.is_some() {
                return;
            }
            match self.shared.io.accept(&listening.listener) {
                Ok((socket, peer)) => self.add_server_conn(socket, peer),
                Err(error) if is_exhaustion(&error) => self.pause_accepting(&error),
                Err(error) => match error.kind() {
                    // `InvalidInput` is a listener that the supervisor took out of service.
                    io::ErrorKind::WouldBlock | io::ErrorKind::InvalidInput => {
                        listening.acceptable = false;
                    }
                    // This client was gone before it was accepted; try the next one.
                    _ => {}
                },
            }
        }
    }

    #[cold]
    fn pause_accepting(&mut self, error: &io::Error) {
        let shard = self.shared.config.info.id;
        self.shared.counters.accept_failures.add(1);
        if self.local.log.admit(Topic::ACCEPT, self.shared.now) {
            let error = TransportError::from(error);
            tracing::warn!(%shard, %error, "cannot accept; trying again in {ACCEPT_PAUSE:?}");
        }
        self.accept_after = Some(self.shared.now + ACCEPT_PAUSE);
    }

    fn next_token(&mut self) -> Token {
        self.generation = self.generation.wrapping_add(1) & 0x7fff_ffff;
        // A table of 2³² connections would need a machine with terabytes of descriptors.
        let index = u32::try_from(self.conns.vacant_key()).unwrap_or(u32::MAX);
        Token::connection(index, self.generation)
    }

    fn insert(&mut self, token: Token, conn: Conn<I>) {
        self.conns.insert(Entry {
            token,
            queued: false,
            heavy: false,
            socket: SocketState::default(),
            armed: None,
            due: false,
            conn: Some(conn),
        });
        self.enqueue(token);
    }

    fn next_connection_id(&mut self) -> u64 {
        let (first, step) = self.shared.config.connection_ids;
        let id = first.wrapping_add(step.wrapping_mul(self.connections_made));
        self.connections_made += 1;
        id
    }

    fn add_server_conn(&mut self, socket: I::Socket, peer: Peer) {
        let Some(socket) = self.hand_off(socket, peer) else { return };
        let token = self.next_token();
        if let Err(error) = self.shared.io.watch(&socket, token) {
            self.shared.counters.accept_failures.add(1);
            if self.local.log.admit(Topic::ACCEPT, self.shared.now) {
                tracing::warn!(%peer, %error, "cannot watch an accepted connection; it is closed");
            }
            return;
        }
        let id = self.next_connection_id();
        self.shared.counters.connections_accepted.add(1);
        self.note_arrival(&socket);
        self.server_conns += 1;
        self.shared.counters.connections_open.set(self.server_conns as u64);
        let config = Rc::clone(&self.server);
        let conn = ServerConn::new(socket, peer, config, id, self.shared.now);
        tracing::debug!(shard = %self.shared.config.info.id, %peer, connection = id, "connection opened");
        self.insert(token, Conn::Server(Box::new(conn)));
    }

    /// Notes whether the connection's packets arrive on this shard's CPU.
    fn note_arrival(&self, socket: &I::Socket) {
        let Some(own) = self.shared.config.info.cpu else { return };
        let Some(cpu) = self.shared.io.packets_cpu(socket) else { return };
        let counters = &self.shared.counters;
        if cpu == own {
            counters.connections_local.add(1);
        }
        if let Some(arrivals) = &counters.arrivals {
            arrivals.note(cpu);
        }
    }

    /// Gives a connection its turn; returns whether it received something.
    #[inline]
    fn run_connection(&mut self, token: Token, since: Instant) -> bool {
        if self.evening.watches() {
            return self.run_watched(token, since);
        }
        self.run_unwatched(token, since)
    }

    fn run_unwatched(&mut self, token: Token, since: Instant) -> bool {
        let Some(entry) = self.conns.get_mut(token.index()).filter(|entry| entry.token == token)
        else {
            return false;
        };
        entry.queued = false;
        let Some(mut conn) = entry.conn.take() else { return false };
        let mut ready = Ready {
            socket: entry.socket,
            due: core::mem::take(&mut entry.due),
            received: false,
            moved: 0,
            since,
        };
        let (after, timer) = match &mut conn {
            Conn::Server(conn) => {
                self.shared.token = token;
                conn.turn(&mut self.shared, &mut ready)
            }
            Conn::Client(conn) => conn.turn(&mut self.shared, &mut ready),
            Conn::Remote(conn) => conn.turn(&mut self.shared, &mut ready),
        };
        self.shared.turn.take_bytes(ready.moved);
        if after == After::Drop {
            self.conns.remove(token.index());
            self.forget(conn);
            return true;
        }
        if let Some(entry) = self.conns.get_mut(token.index()) {
            if let Some(at) = timer {
                self.shared.timers.arm(token, at, &mut entry.armed);
            }
            entry.socket = ready.socket;
            entry.conn = Some(conn);
            let little = self.shared.config.budgets.receive_bytes / LITTLE;
            entry.heavy = after == After::Again || ready.moved > little;
        }
        if after == After::Again {
            self.enqueue_since(token, ready.since);
        }
        ready.received
    }

    fn forget(&mut self, conn: Conn<I>) {
        match conn {
            Conn::Server(mut conn) => {
                conn.leave(&mut self.shared);
                self.server_conns -= 1;
                self.shared.counters.connections_open.set(self.server_conns as u64);
            }
            Conn::Client(conn) => conn.leave(),
            Conn::Remote(conn) => conn.leave(),
        }
    }

    /// Stops accepting and lets each connection finish. Connections that wait to be accepted are
    /// still taken, so that they learn why instead of being reset.
    fn drain(&mut self, by: Instant) {
        if self.shared.drain_by.is_some() {
            return;
        }
        self.local.phase.enter(Phase::Draining);
        self.shared.counters.takes.set(0);
        self.accept_after = None;
        self.set_acceptable();
        // Bounded, because clients may come as fast as they are accepted.
        for _ in 0..DRAIN_ACCEPTS {
            if !self.is_acceptable() {
                break;
            }
            self.accept();
        }
        for listening in self.listeners.drain(..) {
            self.shared.io.retire_listener(&listening.listener);
        }
        self.accept_after = None;
        self.shared.drain_by = Some(by);
        tracing::info!(shard = %self.shared.config.info.id, connections = self.server_conns, "draining");
        let tokens: Vec<Token> = self.conns.iter().map(|(_, entry)| entry.token).collect();
        for token in tokens {
            self.enqueue(token);
        }
    }

    /// The drain deadline passed: ends the calls that are left, and their connections.
    fn abandon_connections(&mut self) {
        let mut left = Vec::new();
        for (_, entry) in &mut self.conns {
            if let Some(Conn::Server(conn)) = &mut entry.conn {
                conn.abandon();
                left.push(entry.token);
            }
        }
        for token in left {
            self.enqueue(token);
        }
    }
}

/// Whether the system lacks descriptors or memory for one more connection.
fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

#[cfg(test)]
mod tests;
