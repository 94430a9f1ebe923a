//! How a channel and its connections end: with the server's go-away, by themselves, or because somebody closes it.
//!
//! A connection with calls in flight whose server goes away is retired: it closes when the last of them has ended. The
//! channel connects again at once, and calls that wait are written there.

use std::time::Instant;

use corewire_proto::CloseReason;

use super::connection::Connection;
use super::waiter::{ConnectionId, Waiter};
use super::{ClientCore, Current, RETIRED_MAX};
use crate::failure::{CallFailure, NotSent};
use crate::log_limit::{Topic, admit_here};

/// Closing.
impl<W: Waiter> ClientCore<W> {
    /// Somebody closes the channel: every connection tells its server that no more calls come.
    pub(super) fn handle_close(&mut self) {
        self.is_closed = true;
        self.waiting.fail(&CallFailure::NotSent(NotSent::Closed));
        if self.is_connecting() {
            self.give_up_connect();
        }
        self.leave();
    }

    /// Releases those who wait for the end of a closed channel, if no connection is left. To be asked when the shell
    /// has dropped the sockets of those that have ended.
    pub fn release_closed(&mut self) {
        if self.is_gone() {
            self.closing.clear();
        }
    }

    /// Whether the channel is closed, and no connection is left.
    pub fn is_gone(&self) -> bool {
        let is_down = matches!(self.current, Current::Down { .. });
        self.is_closed && is_down && self.retired.is_empty()
    }

    /// No handle of the channel is left. A connection that nothing is in flight on is left, though others may still
    /// finish their calls.
    pub fn handle_released(&mut self) {
        if !self.waiting.is_empty() {
            return;
        }
        match &mut self.current {
            Current::Up(connection) if connection.is_idle() => {
                self.is_closed = true;
                connection.session.leave();
            }
            Current::Connecting { .. } => self.give_up_connect(),
            Current::Up(_) | Current::Down { .. } => {}
        }
    }

    fn give_up_connect(&mut self) {
        self.current = Current::Down { retry_at: None, why: String::new() };
    }

    /// Tells the servers that no more calls come.
    pub fn leave(&mut self) {
        self.connections_mut().for_each(|connection| connection.session.leave());
    }
}

/// Connections that are over.
impl<W: Waiter> ClientCore<W> {
    /// A connection that is over by now: its calls have ended, and its socket is to be dropped. To be asked until it
    /// returns `None`.
    pub fn poll_ended(&mut self, now: Instant) -> Option<ConnectionId> {
        // Those that were retired first: each that is gone makes room for another one.
        let over = |(place, connection): (usize, &mut Connection<W>)| {
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
            self.log_end(reason, now);
            self.handle_down(reason, reason.to_string(), proven, now);
            return Some(id);
        }
        if connection.session.is_draining() && !self.is_closed {
            self.retire(now);
        }
        None
    }

    /// The server takes no new calls. Those in flight are left to it, and the next ones get another connection.
    fn retire(&mut self, now: Instant) {
        if W::DRIVES || self.retired.len() >= RETIRED_MAX {
            if !self.waiting.is_empty() {
                self.fail_waiting(NotSent::going_away(&self.server));
            }
            return;
        }
        let down = Current::Down { retry_at: None, why: String::new() };
        if let Current::Up(connection) = core::mem::replace(&mut self.current, down) {
            let proven = connection.session.is_proven();
            let retry_at = self.backoff.handle_end(proven, &self.config, now);
            let why = "the server is shutting down".to_owned();
            self.current = Current::Down { retry_at, why };
            self.retired.push(*connection);
        }
        if let Err(failure) = self.want_connection(now) {
            self.fail_waiting(failure);
        }
    }

    /// The current connection ended, or could not be made. Calls that wait have their turn on the next one.
    pub(super) fn handle_down(
        &mut self,
        reason: CloseReason,
        why: String,
        proven: bool,
        now: Instant,
    ) {
        let retry_at = self.backoff.handle_end(proven, &self.config, now);
        let is_excused = matches!(&self.current, Current::Up(it) if it.is_excused(reason));
        let down = Current::Down { retry_at: retry_at.filter(|_| !is_excused), why };
        let current = core::mem::replace(&mut self.current, down);
        if let Current::Up(connection) = current {
            connection.end(reason);
        }
        if !self.waiting.is_empty()
            && let Err(failure) = self.want_connection(now)
        {
            self.fail_waiting(failure);
        }
    }

    /// What drives the channel ends, and with it every connection and every call.
    pub fn end(&mut self, now: Instant) {
        self.is_closed = true;
        if self.is_connecting() {
            self.give_up_connect();
        }
        self.fail_waiting(NotSent::NoConnection("what drives the channel has ended".to_owned()));
        self.connections_mut().for_each(|connection| connection.session.close());
        while self.poll_ended(now).is_some() {}
        self.closing.clear();
    }

    fn fail_waiting(&mut self, failure: NotSent) {
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
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.connections().all(Connection::is_idle)
    }
}
