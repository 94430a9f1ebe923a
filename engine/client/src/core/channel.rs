//! A channel without its sockets: where its connections are, which calls wait for one, and how all of it ends.
//!
//! A shell owns the sockets and the clock. It hands in calls and what was received, asks what there is to do, and
//! does that: connect ([`ClientCore::takes_connect`]), write ([`ClientCore::connection`]), drop a socket
//! ([`ClientCore::poll_ended`]), come back at a time ([`ClientCore::poll_timeout`]).
//!
//! A connection whose server goes away is *retired*: it keeps its calls in flight until they have ended, while new
//! ones go to the next connection.

mod connection;
#[cfg(feature = "sim")]
mod snapshot;
mod streams;
#[cfg(test)]
mod tests;
mod wait_queue;

use std::sync::Arc;
use std::time::Instant;

use corewire_proto::canary::{Bug, is_planted};
use corewire_proto::{ClientConfig, CloseReason};

use self::wait_queue::WaitQueue;
use crate::address::Address;
use crate::config::ChannelConfig;
use crate::failure::{CallFailure, NotSent};
use crate::log_limit::{Topic, admit_here};
use crate::reconnect::Backoff;
#[cfg(any(test, feature = "tokio"))]
use crate::reconnect::random_seed;
use crate::remote::command::{Command, Hold};

pub(crate) use self::connection::{Connection, ConnectionId};
#[cfg(feature = "sim")]
pub use self::snapshot::{ConnectionSnapshot, CoreSnapshot};

/// How many connections may wait for the last of their calls. While there are as many, the next server that
/// goes away is waited for.
const RETIRED_MAX: usize = 16;

/// Where the connection is to which new calls go.
#[derive(Debug)]
enum Current {
    /// None, and none is wanted. After a failure, not before `retry_at`.
    Down {
        retry_at: Option<Instant>,
        why: String,
    },
    /// The shell connects, or is to begin.
    Connecting,
    Up(Box<Connection>),
}

/// One channel to one server.
#[derive(Debug)]
pub(crate) struct ClientCore {
    server: Address,
    config: ChannelConfig,
    connection: Arc<ClientConfig>,
    current: Current,
    retired: Vec<Connection>,
    /// The shell has not been told yet to connect.
    wants_connect: bool,
    backoff: Backoff,
    /// What the jitter of the last connection was drawn from. It differs from client to client, and from connection
    /// to connection.
    jitter: u64,
    /// Calls that wait for a slot or for the connection.
    waiting: WaitQueue,
    /// No call begins any more.
    is_closed: bool,
    /// Those who wait until the connections of a closed channel are gone.
    closing: Vec<Hold>,
    last_id: u64,
}

impl ClientCore {
    #[cfg(any(test, feature = "tokio"))]
    pub(crate) fn new(server: Address, config: ChannelConfig) -> Self {
        Self::with_jitter(server, config, random_seed())
    }

    /// The same with all that is left to chance drawn from `jitter`.
    pub(crate) fn with_jitter(server: Address, config: ChannelConfig, jitter: u64) -> Self {
        Self {
            server,
            connection: Arc::new(config.connection),
            config,
            current: Current::Down { retry_at: None, why: String::new() },
            retired: Vec::new(),
            wants_connect: false,
            backoff: Backoff::new(jitter),
            jitter,
            waiting: WaitQueue::default(),
            is_closed: false,
            closing: Vec::new(),
            last_id: 0,
        }
    }

    pub(crate) fn server(&self) -> &Address {
        &self.server
    }

    pub(crate) fn config(&self) -> &ChannelConfig {
        &self.config
    }

    fn connections(&self) -> impl Iterator<Item = &Connection> {
        let current = match &self.current {
            Current::Up(connection) => Some(&**connection),
            Current::Down { .. } | Current::Connecting => None,
        };
        current.into_iter().chain(&self.retired)
    }

    fn connections_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        let current = match &mut self.current {
            Current::Up(connection) => Some(&mut **connection),
            Current::Down { .. } | Current::Connecting => None,
        };
        current.into_iter().chain(&mut self.retired)
    }

    /// The connection with this name, unless it has ended.
    pub(crate) fn connection(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections_mut().find(|connection| connection.id == id)
    }
}

/// What callers want.
impl ClientCore {
    /// A call was made. It ends here if it cannot wait for a connection.
    pub(crate) fn begin(&mut self, command: Command, now: Instant) {
        if command.done.is_abandoned() {
            return;
        }
        if self.is_closed {
            return command.done.complete(Err(CallFailure::NotSent(NotSent::Closed)));
        }
        if self.waiting.len() >= self.config.waiting_max {
            self.begin_waiting(now);
        }
        if self.waiting.len() >= self.config.waiting_max {
            return command.done.complete(Err(CallFailure::NotSent(NotSent::QueueFull)));
        }
        if let Err(why) = self.want_connection(now) {
            let failure = NotSent::NoConnection(why);
            return command.done.complete(Err(CallFailure::NotSent(failure)));
        }
        self.waiting.push(command);
    }

    /// Nobody waits for the call with this name any more.
    pub(crate) fn cancel(&mut self, id: u64) {
        if !self.connections_mut().any(|connection| connection.cancel(id)) {
            self.waiting.handle_cancel();
        }
    }

    /// The caller's ends of the stream with this name want something.
    pub(crate) fn settle_stream(&mut self, id: u64) {
        let _ = self.connections_mut().any(|connection| connection.settle_stream(id));
    }

    /// No call begins any more, those in flight are finished, and `hold` is dropped when all connections are gone.
    pub(crate) fn close(&mut self, hold: Hold) {
        self.closing.push(hold);
    }

    /// Begins the calls that wait, as far as there are slots, and lets streams write. Returns whether calls are
    /// left because too much waits for the socket, and would go on if it took some of that.
    pub(crate) fn advance(&mut self, now: Instant) -> bool {
        self.waiting.expire(now);
        let held = self.begin_waiting(now);
        if !self.closing.is_empty() {
            self.handle_close();
        }
        self.connections_mut().for_each(Connection::serve_streams);
        held
    }

    fn begin_waiting(&mut self, now: Instant) -> bool {
        let Current::Up(connection) = &mut self.current else { return false };
        while connection.takes_calls() {
            if connection.unsent() > self.config.unsent_max && !is_planted(Bug::UnboundedUnsent) {
                return !self.waiting.is_empty();
            }
            let Some(command) = self.waiting.pop() else { break };
            connection.begin(command, now);
            if is_planted(Bug::LostTurn) {
                break;
            }
        }
        false
    }

    /// Whether a call that waits could be written now.
    pub(crate) fn has_room(&self) -> bool {
        match &self.current {
            Current::Up(connection) => connection.unsent() <= self.config.unsent_max,
            Current::Down { .. } | Current::Connecting => true,
        }
    }

    /// Somebody closes the channel: every connection tells its server that no more calls come.
    fn handle_close(&mut self) {
        self.is_closed = true;
        self.waiting.fail(&CallFailure::NotSent(NotSent::Closed));
        if let Current::Connecting = self.current {
            self.give_up_connect();
        }
        self.leave();
    }

    /// Lets those go on who wait for the end of a closed channel, if no connection is left. To be asked when the shell
    /// has dropped the sockets of those that have ended.
    pub(crate) fn release_closed(&mut self) {
        let is_gone = self.retired.is_empty() && matches!(self.current, Current::Down { .. });
        if self.is_closed && is_gone {
            self.closing.clear();
        }
    }

    /// No handle of the channel is left. A connection that nothing is in flight on is left, though others may still
    /// finish their calls.
    pub(crate) fn handle_released(&mut self) {
        if !self.waiting.is_empty() {
            return;
        }
        match &mut self.current {
            Current::Up(connection) if connection.is_idle() => {
                self.is_closed = true;
                connection.session.leave();
            }
            Current::Connecting => self.give_up_connect(),
            Current::Up(_) | Current::Down { .. } => {}
        }
    }

    fn give_up_connect(&mut self) {
        self.current = Current::Down { retry_at: None, why: String::new() };
        self.wants_connect = false;
    }

    /// Tells the servers that no more calls come.
    pub(crate) fn leave(&mut self) {
        self.connections_mut().for_each(|connection| connection.session.leave());
    }
}

/// Connecting.
impl ClientCore {
    /// Wants a connection, unless a failure is too recent.
    fn want_connection(&mut self, now: Instant) -> Result<(), String> {
        match &self.current {
            Current::Down { retry_at: Some(retry_at), why } if *retry_at > now => {
                let wait = *retry_at - now;
                Err(format!(
                    "no connection to {}: {why}; the next try is in {wait:.0?}",
                    self.server
                ))
            }
            Current::Down { .. } => {
                self.current = Current::Connecting;
                self.wants_connect = true;
                Ok(())
            }
            Current::Up(connection) if connection.session.is_draining() => Err(format!(
                "the server at {} is shutting down; its calls are finished first",
                self.server
            )),
            Current::Connecting | Current::Up(_) => Ok(()),
        }
    }

    /// Whether the shell is to begin a connect. It is told once.
    pub(crate) fn takes_connect(&mut self) -> bool {
        core::mem::take(&mut self.wants_connect)
    }

    /// Whether the shell has something to begin.
    pub(crate) fn wants_connect(&self) -> bool {
        self.wants_connect
    }

    /// Whether a connect that is under way is still wanted.
    pub(crate) fn is_connecting(&self) -> bool {
        matches!(self.current, Current::Connecting)
    }

    /// The connect that was wanted has succeeded. Returns the name of the connection.
    pub(crate) fn handle_connected(&mut self, now: Instant) -> ConnectionId {
        self.last_id += 1;
        let id = ConnectionId(self.last_id);
        // The golden ratio: no two of many steps are near each other.
        self.jitter = self.jitter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let connection = Connection::new(id, &self.connection, self.jitter, now);
        self.current = Current::Up(Box::new(connection));
        tracing::debug!(server = %self.server, "connected");
        id
    }

    /// The connect that was wanted has failed.
    pub(crate) fn handle_connect_failed(&mut self, reason: CloseReason, now: Instant) {
        self.handle_down(reason, false, now);
    }
}

/// Ending.
impl ClientCore {
    /// A connection that is over by now: its calls have ended, and its socket is to be dropped. To be asked until it
    /// returns `None`.
    pub(crate) fn poll_ended(&mut self, now: Instant) -> Option<ConnectionId> {
        // Those that were retired first: each that is gone makes room for another one.
        let over = |(place, connection): (usize, &mut Connection)| {
            Some((place, connection.session.close_reason()?))
        };
        if let Some((place, reason)) = self.retired.iter_mut().enumerate().find_map(over) {
            let connection = self.retired.swap_remove(place);
            let id = connection.id;
            self.log_end(reason, now);
            connection.end(reason);
            return Some(id);
        }
        let Current::Up(connection) = &mut self.current else { return None };
        let id = connection.id;
        if let Some(reason) = connection.session.close_reason() {
            let proven = connection.session.is_proven();
            self.handle_down(reason, proven, now);
            return Some(id);
        }
        if connection.session.is_draining() && !self.is_closed {
            self.retire(now);
        }
        None
    }

    /// The server takes no new calls. Those in flight are left to it, and the next ones get another connection.
    fn retire(&mut self, now: Instant) {
        if self.retired.len() >= RETIRED_MAX {
            return self.fail_waiting("the server is shutting down; its calls are finished first");
        }
        let down = Current::Down { retry_at: None, why: String::new() };
        if let Current::Up(connection) = core::mem::replace(&mut self.current, down) {
            let proven = connection.session.is_proven();
            let retry_at = self.backoff.handle_end(proven, &self.config, now);
            let why = "the server is shutting down".to_owned();
            self.current = Current::Down { retry_at, why };
            self.retired.push(*connection);
        }
        if let Err(why) = self.want_connection(now) {
            self.fail_waiting(&why);
        }
    }

    /// The current connection ended, or could not be made. Calls that wait have their turn on the next one.
    fn handle_down(&mut self, reason: CloseReason, proven: bool, now: Instant) {
        let retry_at = self.backoff.handle_end(proven, &self.config, now);
        let down = Current::Down { retry_at, why: reason.to_string() };
        let current = core::mem::replace(&mut self.current, down);
        self.log_end(reason, now);
        if let Current::Up(connection) = current {
            connection.end(reason);
        }
        if !self.waiting.is_empty()
            && let Err(why) = self.want_connection(now)
        {
            self.fail_waiting(&why);
        }
    }

    fn fail_waiting(&mut self, why: &str) {
        let failure = NotSent::NoConnection(why.to_owned());
        self.waiting.fail(&CallFailure::NotSent(failure));
    }

    fn log_end(&self, reason: CloseReason, now: Instant) {
        let server = &self.server;
        if Topic::of_server(reason).is_some_and(|topic| admit_here(topic, now)) {
            tracing::warn!(%server, %reason, "connection lost");
        } else {
            tracing::debug!(%server, %reason, "connection closed");
        }
    }

    /// Whether no call waits and none is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.connections().all(Connection::is_idle)
    }
}

/// Time.
impl ClientCore {
    /// When something is due next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let due = self.connections().filter_map(Connection::poll_timeout);
        due.chain(self.waiting.deadline()).min()
    }

    /// A time no later than that at which the first of the calls is over.
    pub(crate) fn first_deadline(&self) -> Option<Instant> {
        let deadlines = self.connections().filter_map(|it| it.session.earliest_deadline());
        deadlines.chain(self.waiting.deadline()).min()
    }

    /// Ends the calls whose time is over, and leaves everything else as it is.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.connections_mut().for_each(|connection| connection.expire(now));
        self.waiting.expire(now);
    }
}
