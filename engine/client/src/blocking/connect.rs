//! How a blocking channel gets a connection that takes calls.
//!
//! A connect has its own thread, which ends with it. So it goes on when the call that began it has run out of
//! time, and the next call picks it up. The wait for the server's hello goes on in the same way.

use corewire_proto::CloseReason;
use std::io;
use std::time::Instant;

use super::client::Client;
use super::connecting::{Connecting, Waited, describe, is_over};
use super::link::{Link, Scratch};
use crate::core::session::Session;
use crate::failure::{CallFailure, NotSent};

impl Client {
    /// Makes sure that there is a connection that takes a call now: its server has said hello and owes no
    /// pong, and nothing older waits to be written.
    pub(super) fn ensure_connected(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<(), CallFailure> {
        if self.info.closed.get() {
            return Err(CallFailure::NotSent(NotSent::Closed));
        }
        self.drive(Link::catch_up);
        // Two, because the first connection may be lost before it takes the call.
        let mut connects_left = 2;
        loop {
            let Some(link) = &mut self.link else {
                if connects_left == 0 {
                    return Err(self.not_connected());
                }
                connects_left -= 1;
                self.connect(deadline)?;
                continue;
            };
            let session = &mut link.session;
            if session.is_draining() {
                if session.in_flight() != 0 {
                    return Err(self.going_away());
                }
                // The server is going away. If nothing is in flight, the connection is closed at once.
                session.close();
                self.handle_down(CloseReason::LocallyClosed);
                continue;
            }
            if session.is_ready() && !session.awaits_pong() && session.out.is_empty() {
                // Every slot may be waiting for the reply to a call that was given up.
                let full = CallFailure::NotSent(NotSent::QueueFull);
                return if session.has_slot() { Ok(()) } else { Err(full) };
            }
            if is_over(deadline) {
                return Err(CallFailure::DeadlineExceeded { sent: false });
            }
            self.drive(|link, scratch| link.step(deadline, scratch, &mut None));
        }
    }

    /// Runs `work` on the connection, if there is one, and drops the connection if it is over.
    fn drive(&mut self, work: impl FnOnce(&mut Link, &mut Scratch) -> io::Result<()>) {
        let hello_within = self.config.connection.timeouts.hello;
        let is_stale = self
            .link
            .as_ref()
            .is_some_and(|link| !link.session.is_ready() && link.since.elapsed() >= hello_within);
        let ended = self.move_on(&mut None, |link, scratch, _| work(link, scratch));
        if is_stale && matches!(ended, Some(CloseReason::PeerLeft | CloseReason::Transport(_))) {
            // The server need not wait longer than this for a hello from a thread that was away, so its leaving
            // is no reason to back off.
            self.retry_at = None;
        }
    }

    /// Connects, unless a failure is too recent, or waits for the connect that is under way.
    fn connect(&mut self, deadline: Option<Instant>) -> Result<(), CallFailure> {
        if self.retry_at.is_some_and(|at| at > Instant::now()) {
            return Err(self.not_connected());
        }
        if is_over(deadline) {
            return Err(CallFailure::DeadlineExceeded { sent: false });
        }
        let within = self.config.connect_timeout;
        loop {
            let connecting = match self.connecting.take() {
                // It was given up but still runs: wait for it again.
                Some(it) if it.is_given_up && is_over(it.by) => {
                    Connecting { by: Instant::now().checked_add(within), ..it }
                }
                Some(it) => it,
                None => Connecting::begin(&self.info.address, &self.config.resolver, within)
                    .map_err(|error| self.fail(describe(&error)))?,
            };
            match connecting.wait(deadline) {
                Waited::Connected(stream, since) => {
                    tracing::debug!(server = %self.info.address, "connected");
                    let session = Session::new(&self.connection, Instant::now());
                    self.links += 1;
                    self.link = Some(Box::new(Link::new(stream, session, since)));
                    return Ok(());
                }
                Waited::Failed(_) if connecting.is_given_up => {}
                Waited::Failed(why) => return Err(self.fail(why)),
                Waited::TooLong => {
                    self.connecting = Some(Connecting { is_given_up: true, ..connecting });
                    return Err(self.fail(CloseReason::ConnectTimeout.to_string()));
                }
                Waited::Deadline => {
                    self.connecting = Some(connecting);
                    return Err(CallFailure::DeadlineExceeded { sent: false });
                }
            }
        }
    }

    /// A connect failed: there will be no connection for a while.
    fn fail(&mut self, why: String) -> CallFailure {
        self.down(false, why);
        self.not_connected()
    }

    pub(super) fn not_connected(&self) -> CallFailure {
        let wait = self.retry_at.map(|at| at.saturating_duration_since(Instant::now()));
        let wait = wait.map_or_else(String::new, |wait| format!("; the next try is in {wait:.0?}"));
        let why = format!("no connection to {}: {}{wait}", self.info.address, self.why);
        CallFailure::NotSent(NotSent::NoConnection(why))
    }
}
