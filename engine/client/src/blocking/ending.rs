//! How a blocking channel's connections end: with the channel, with their server's go-away, or by a fault.

use corewire_proto::CloseReason;
use std::time::Instant;

use super::channel::{Channel, Client, Deliver};
use crate::failure::{CallFailure, NotSent};
use crate::transport::Outcome;

impl Channel {
    /// Closes the channel, for all its clones: tells the server that no more calls come, lets those in
    /// flight finish, and the connection is gone when they have. Calls that are made from now on fail with
    /// [`NotSent::Closed`]. Closing it again is no error, and looks anew whether the connection can go.
    ///
    /// Only streams can be in flight here, and this thread is the one that reads and fills them: they are
    /// not waited for. They go on as before, and whatever finds that the last has ended closes the
    /// connection. Without any it is gone when this returns.
    ///
    /// It blocks for as long as the server takes to take what is unsent, which one-way calls and streams
    /// may have left: a system call or two when it reads, and at most the write timeout (see
    /// [`Timeouts`](crate::Timeouts)) after it took something last.
    ///
    /// A channel whose last handle is dropped says the same to its server, if the socket takes it at once.
    pub fn close(&self) {
        self.apart.closed.set(true);
        // An encoder may close its own call's channel: that request goes first.
        if let Ok(mut client) = self.client.try_borrow_mut() {
            client.close();
        }
    }
}

impl Client {
    /// Makes up for it if a caller's code closed the channel while it wrote a request.
    pub(super) fn close_if_told(&mut self) {
        if self.apart.closed.get()
            && self.link.as_ref().is_some_and(|link| !link.session.is_draining())
        {
            self.close();
        }
    }

    fn close(&mut self) {
        if let Some(link) = &mut self.link {
            link.session.leave();
        }
        while self.link.as_ref().is_some_and(|link| !link.session.out.is_empty()) {
            self.move_on(&mut None, |link, scratch, done| link.push(None, scratch, done).map(drop));
        }
        if let Some(link) = &mut self.link
            && link.session.in_flight() == 0
        {
            link.session.close();
            self.handle_down(CloseReason::LocallyClosed);
        }
    }

    /// Its streams are finished before it is left.
    pub(super) fn going_away(&self) -> CallFailure {
        CallFailure::NotSent(NotSent::NoConnection(format!(
            "the server at {} is shutting down; its calls are finished first",
            self.apart.address
        )))
    }

    pub(super) fn handle_down(&mut self, reason: CloseReason) {
        self.handle_down_with(reason, &mut None);
    }

    /// The connection is over, and with it all its calls.
    pub(super) fn handle_down_with(&mut self, reason: CloseReason, done: &mut Option<Outcome>) {
        let Some(mut link) = self.link.take() else { return };
        link.session.fail_all(reason, &mut Deliver(done));
        tracing::debug!(server = %self.apart.address, %reason, "connection closed");
        self.down(link.session.is_proven(), reason.to_string());
    }

    pub(super) fn down(&mut self, proven: bool, why: String) {
        self.retry_at = self.backoff.handle_end(proven, &self.config, Instant::now());
        self.why = why;
    }
}

/// Nobody can call any more, and nothing is in flight.
impl Drop for Client {
    fn drop(&mut self) {
        if let Some(link) = &mut self.link {
            link.session.leave();
        }
    }
}
