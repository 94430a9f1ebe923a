//! A channel without its sockets: where its connections are, which calls wait for one, and how all of it ends.
//!
//! A shell owns the sockets and the clock. It hands in calls and what was received, asks what there is to do, and
//! does that: connect ([`ClientCore::takes_connect`]), write ([`ClientCore::connection`]), drop a socket
//! ([`ClientCore::poll_ended`]), come back at a time ([`ClientCore::poll_timeout`]).
//!
//! Who waits for a call is a [`Waiter`]: a caller on another thread, or the thread that drives the connection.
//!
//! A connection whose server goes away is *retired*: it keeps its calls in flight until they have ended, while new
//! ones go to the next connection.
//!
//! The shells are the task of a tokio channel, a blocking channel, and a shard, for which this is public.

mod connection;
mod ending;
mod server_side;
mod snapshot;
mod streams;
#[cfg(all(test, feature = "remote"))]
mod tests;
mod wait_queue;
mod waiter;

use std::sync::Arc;
use std::time::Instant;

use corewire_codec::{RequestHead, request_flags};
use corewire_proto::canary::{Bug, is_planted};
use corewire_proto::{ClientConfig, CloseReason};

use self::wait_queue::WaitQueue;
use crate::address::Address;
use crate::config::ChannelConfig;
use crate::failure::{CallFailure, NotSent};
use crate::log_limit::{Topic, admit_here};
use crate::reconnect::{Backoff, random_seed};

pub use self::connection::Connection;
pub use self::server_side::ServerSide;
pub use self::snapshot::{ConnectionSnapshot, CoreSnapshot};
pub use self::streams::InFlight;
pub use self::waiter::{ConnectionId, PendingCall, StreamEnd, Waiter, WriteBody};

/// How many connections may wait for the last of their calls. While there are as many, the next server that
/// goes away is waited for.
const RETIRED_MAX: usize = 16;

/// Where the connection is to which new calls go.
#[derive(Debug)]
enum Current<W: Waiter> {
    /// None, and none is wanted. After a failure, not before `retry_at`.
    Down {
        retry_at: Option<Instant>,
        why: String,
    },
    /// The shell connects, or is to begin.
    Connecting {
        /// Whether the shell was told.
        is_told: bool,
    },
    Up(Box<Connection<W>>),
}

/// One channel to one server.
#[derive(Debug)]
pub struct ClientCore<W: Waiter> {
    server: Address,
    config: ChannelConfig,
    connection: Arc<ClientConfig>,
    current: Current<W>,
    retired: Vec<Connection<W>>,
    backoff: Backoff,
    /// What the jitter of the last connection was drawn from. It differs from client to client, and from connection
    /// to connection.
    jitter: u64,
    /// Calls that wait for a slot or for the connection.
    waiting: WaitQueue<W>,
    /// No call begins any more.
    is_closed: bool,
    /// Those who wait until the connections of a closed channel are gone.
    closing: Vec<W::Hold>,
    last_id: u64,
    server_side: Arc<ServerSide>,
}

impl<W: Waiter> ClientCore<W> {
    /// A channel without a connection; the first call wants one.
    pub fn new(server: Address, config: ChannelConfig) -> Self {
        Self::with_jitter(server, config, random_seed())
    }

    /// The same with all that is left to chance drawn from `jitter`.
    pub fn with_jitter(server: Address, config: ChannelConfig, jitter: u64) -> Self {
        Self {
            server,
            connection: Arc::new(config.connection),
            config,
            current: Current::Down { retry_at: None, why: String::new() },
            retired: Vec::new(),
            backoff: Backoff::new(jitter),
            jitter,
            waiting: WaitQueue::default(),
            is_closed: false,
            closing: Vec::new(),
            last_id: 0,
            server_side: Arc::default(),
        }
    }

    /// The same, and whoever has `server_side` sees there what the server says about itself.
    #[must_use]
    pub fn telling(self, server_side: Arc<ServerSide>) -> Self {
        Self { server_side, ..self }
    }

    /// The server's address.
    pub fn server(&self) -> &Address {
        &self.server
    }

    /// How the channel behaves.
    pub fn config(&self) -> &ChannelConfig {
        &self.config
    }

    fn connections(&self) -> impl Iterator<Item = &Connection<W>> {
        let current = match &self.current {
            Current::Up(connection) => Some(&**connection),
            Current::Down { .. } | Current::Connecting { .. } => None,
        };
        current.into_iter().chain(&self.retired)
    }

    fn connections_mut(&mut self) -> impl Iterator<Item = &mut Connection<W>> {
        let current = match &mut self.current {
            Current::Up(connection) => Some(&mut **connection),
            Current::Down { .. } | Current::Connecting { .. } => None,
        };
        current.into_iter().chain(&mut self.retired)
    }

    /// Whether new calls go to the connection with this name.
    pub fn is_current(&self, id: ConnectionId) -> bool {
        matches!(&self.current, Current::Up(connection) if connection.id == id)
    }

    /// The connection with this name, unless it has ended.
    #[inline]
    pub fn connection(&mut self, id: ConnectionId) -> Option<&mut Connection<W>> {
        match &mut self.current {
            Current::Up(connection) if connection.id == id => Some(connection),
            _ => self.retired.iter_mut().find(|connection| connection.id == id),
        }
    }

    /// The connection to which new calls go, if there is one.
    pub fn current(&self) -> Option<&Connection<W>> {
        match &self.current {
            Current::Up(connection) => Some(connection),
            Current::Down { .. } | Current::Connecting { .. } => None,
        }
    }

    /// Whether the channel was closed, or what drives it has ended.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }
}

/// What callers want.
impl<W: Waiter> ClientCore<W> {
    /// A call was made. It ends here if it cannot wait for a connection.
    pub fn begin(&mut self, call: impl Into<PendingCall<W>>, now: Instant) {
        let call = call.into();
        if call.waiter.is_abandoned() {
            return;
        }
        match self.admit(now) {
            Ok(()) => self.waiting.push(call),
            Err(failure) => call.waiter.complete(Err(CallFailure::NotSent(failure))),
        }
    }

    /// Makes room in the queue for one more call, and wants a connection for it.
    ///
    /// # Errors
    ///
    /// Why a call cannot wait.
    pub fn admit(&mut self, now: Instant) -> Result<(), NotSent> {
        if self.is_closed {
            return Err(NotSent::Closed);
        }
        if self.waiting.len() >= self.config.waiting_max {
            self.begin_waiting(now);
        }
        if self.waiting.len() >= self.config.waiting_max {
            return Err(NotSent::QueueFull);
        }
        self.want_connection(now)
    }

    /// The connection that a new call can be written to now with [`Connection::begin`]: no other call waits for the same.
    #[inline]
    pub fn open_connection(&mut self, head: &RequestHead) -> Option<&mut Connection<W>> {
        let Current::Up(connection) = &mut self.current else { return None };
        let is_open = if head.flags & request_flags::ONE_WAY == 0 {
            self.waiting.is_empty() && connection.takes_calls()
        } else {
            !self.waiting.has_one_way()
                && connection.session.is_ready()
                && connection.takes_frames()
        };
        let has_room =
            connection.unsent() <= self.config.unsent_max || is_planted(Bug::UnboundedUnsent);
        (is_open && has_room && !self.is_closed).then_some(&mut **connection)
    }

    /// A call was made whose body is not encoded yet. It is encoded straight into the connection's buffer if it can
    /// be written now; otherwise it waits as what `keep` makes of it.
    #[inline]
    pub fn begin_with<B: WriteBody>(
        &mut self,
        call: PendingCall<W, B>,
        keep: impl FnOnce(B) -> W::Body,
        now: Instant,
    ) {
        if let Some(connection) = self.open_connection(&call.head) {
            connection.begin(call, now);
            return;
        }
        let PendingCall { id, head, deadline, body, waiter } = call;
        self.begin(PendingCall { id, head, deadline, body: keep(body), waiter }, now);
    }

    /// Nobody waits for the call with this name any more.
    pub fn cancel(&mut self, id: u64) {
        if !self.connections_mut().any(|connection| connection.cancel(id)) {
            self.waiting.handle_cancel();
        }
    }

    /// Nobody waits any more for a call without a name: `begun` says where it is in flight, if it was begun.
    pub fn cancel_unnamed(&mut self, begun: Option<(ConnectionId, u32)>) {
        let Some((connection, call)) = begun else { return self.waiting.handle_cancel() };
        if let Some(connection) = self.connection(connection) {
            drop(connection.session.cancel(call));
        }
    }

    /// The connection that carries the stream with this name.
    pub fn stream_connection(&mut self, id: u64) -> Option<&mut Connection<W>> {
        self.connections_mut().find(|connection| connection.has_stream(id))
    }

    /// The caller's ends of the stream with this name want something.
    pub fn settle_stream(&mut self, id: u64) {
        let _ = self.connections_mut().any(|connection| connection.settle_stream(id));
    }

    /// No call begins any more, those in flight are finished, and `hold` is dropped when all connections are gone.
    pub fn close(&mut self, hold: W::Hold) {
        self.closing.push(hold);
    }

    /// Begins the calls that wait, as far as there are slots, and lets streams write. Returns whether calls are
    /// left because too much waits for the socket, and would go on if it took some of that.
    pub fn advance(&mut self, now: Instant) -> bool {
        let held = self.advance_calls(now);
        self.connections_mut().for_each(Connection::serve_streams);
        held
    }

    /// As [`advance`](Self::advance), without the streams: for a shell that gives each connection a turn of its own
    /// and has its streams write there. Calls are written on the current connection.
    pub fn advance_calls(&mut self, now: Instant) -> bool {
        self.waiting.expire(now);
        let held = self.begin_waiting(now);
        if !self.closing.is_empty() {
            self.handle_close();
        }
        if W::DRIVES {
            self.close_unused();
        }
        held
    }

    fn begin_waiting(&mut self, now: Instant) -> bool {
        if self.waiting.is_empty() {
            return false;
        }
        let Current::Up(connection) = &mut self.current else { return false };
        while connection.takes_frames() {
            if connection.unsent() > self.config.unsent_max && !is_planted(Bug::UnboundedUnsent) {
                return !self.waiting.is_empty();
            }
            let is_ready = connection.session.is_ready();
            let may_go = |call: &PendingCall<W>| is_ready || W::may_precede_hello(call);
            let Some(call) = self.waiting.pop(connection.session.has_slot(), may_go) else { break };
            connection.begin(call, now);
            if is_planted(Bug::LostTurn) {
                break;
            }
        }
        if W::DRIVES && connection.session.is_full() {
            // Every slot may be that of a stream, which only the thread that would wait could end.
            self.waiting.fail(&CallFailure::NotSent(NotSent::QueueFull));
        }
        false
    }

    /// Ends the connection of a thread that drives it itself, if it takes no calls and nobody waits for one: for the
    /// sake of a call that waits, or because the channel is closed and everything is written.
    fn close_unused(&mut self) {
        if let Current::Up(connection) = &mut self.current
            && connection.session.is_draining()
            && connection.session.in_flight() == 0
            && (!self.waiting.is_empty() || (self.is_closed && connection.unsent() == 0))
        {
            connection.session.close();
        }
    }

    /// Whether calls wait for a slot or for the connection.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether there is nothing to do but to wait for the sockets: no call waits, no connection is over or goes away,
    /// and no stream has something to write.
    #[inline]
    pub fn is_steady(&self) -> bool {
        let is_steady = match &self.current {
            Current::Up(connection) => connection.is_steady(),
            Current::Down { .. } | Current::Connecting { .. } => true,
        };
        is_steady && self.waiting.is_empty() && self.closing.is_empty() && self.retired.is_empty()
    }

    /// Whether a call that waits could be written now.
    pub fn has_room(&self) -> bool {
        match &self.current {
            Current::Up(connection) => connection.unsent() <= self.config.unsent_max,
            Current::Down { .. } | Current::Connecting { .. } => true,
        }
    }
}

/// Connecting.
impl<W: Waiter> ClientCore<W> {
    /// Wants a connection, unless a failure is too recent.
    ///
    /// # Errors
    ///
    /// Why there will be none for now.
    pub fn want_connection(&mut self, now: Instant) -> Result<(), NotSent> {
        match &self.current {
            Current::Down { retry_at: Some(retry_at), why } if *retry_at > now => {
                let wait = *retry_at - now;
                let server = &self.server;
                Err(NotSent::NoConnection(format!(
                    "no connection to {server}: {why}; the next try is in {wait:.0?}"
                )))
            }
            Current::Down { .. } => {
                self.current = Current::Connecting { is_told: false };
                Ok(())
            }
            // The next step closes one that nobody uses, and the next call gets another.
            Current::Up(connection)
                if connection.session.is_draining()
                    && !(W::DRIVES && connection.session.in_flight() == 0) =>
            {
                Err(NotSent::going_away(&self.server))
            }
            Current::Connecting { .. } | Current::Up(_) => Ok(()),
        }
    }

    /// Whether there is a connection whose server has said hello.
    pub fn is_connected(&self) -> bool {
        matches!(&self.current, Current::Up(connection) if connection.session.is_ready())
    }

    /// Whether the shell is to begin a connect. It is told once.
    #[inline]
    pub fn takes_connect(&mut self) -> bool {
        match &mut self.current {
            Current::Connecting { is_told } => !core::mem::replace(is_told, true),
            Current::Down { .. } | Current::Up(_) => false,
        }
    }

    /// Whether a connect is wanted, or under way and still wanted.
    pub fn is_connecting(&self) -> bool {
        matches!(self.current, Current::Connecting { .. })
    }

    /// The connect that was wanted has succeeded. Returns the name of the connection.
    pub fn handle_connected(&mut self, now: Instant) -> ConnectionId {
        self.last_id += 1;
        let id = ConnectionId(self.last_id);
        // The golden ratio: no two of many steps are near each other.
        self.jitter = self.jitter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let connection = Connection::new(id, &self.connection, &self.server_side, self.jitter, now);
        self.current = Current::Up(Box::new(connection));
        tracing::debug!(server = %self.server, "connected");
        id
    }

    /// The connect that was wanted has failed.
    pub fn handle_connect_failed(&mut self, reason: CloseReason, now: Instant) {
        self.handle_connect_failed_because(reason, reason.to_string(), now);
    }

    /// The same, with what callers are told of it.
    pub fn handle_connect_failed_because(
        &mut self,
        reason: CloseReason,
        why: String,
        now: Instant,
    ) {
        let server = &self.server;
        if reason.is_fault() && admit_here(Topic::CONNECT, now) {
            tracing::warn!(%server, %reason, "cannot connect");
        } else {
            tracing::debug!(%server, %reason, "not connected");
        }
        self.handle_down(reason, why, false, now);
    }
}

/// Time.
impl<W: Waiter> ClientCore<W> {
    /// When something is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = self.connections().filter_map(Connection::poll_timeout);
        due.chain(self.waiting.deadline()).min()
    }

    /// A time no later than that at which the first of the calls gives up that wait for a slot or for the
    /// connection.
    pub fn waiting_deadline(&self) -> Option<Instant> {
        self.waiting.deadline()
    }

    /// A lower bound on the first deadline of all calls.
    pub fn first_deadline(&self) -> Option<Instant> {
        let deadlines = self.connections().filter_map(|it| it.session.earliest_deadline());
        deadlines.chain(self.waiting.deadline()).min()
    }

    /// Ends the calls whose time is over, and leaves everything else as it is.
    pub fn expire(&mut self, now: Instant) {
        self.connections_mut().for_each(|connection| connection.expire(now));
        self.waiting.expire(now);
    }
}
