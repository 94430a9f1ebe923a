//! How a blocking channel's connections end: with the channel, with their server's go-away, or by a fault.

use corewire_proto::CloseReason;
use std::time::Instant;

use super::channel::Channel;
use super::client::Client;
use super::work::Deliver;
use crate::failure::{CallFailure, NotSent};
use crate::transport::Outcome;

impl Channel {
    /// Closes the channel for all its clones: tells the server that no more calls come, and lets those in
    /// flight finish. The connection is closed when they have. Calls that are made from now on fail with
    /// [`NotSent::Closed`]. Closing the channel again is no error; it checks again whether the connection can
    /// be closed.
    ///
    /// Only streams can be in flight here, and only this thread reads and fills them, so this does not wait
    /// for them. They go on as before, and the connection is closed when the last one is found to have ended.
    /// Without streams it is closed when this returns.
    ///
    /// This blocks until the server has taken what is unsent, which one-way calls and streams may have left:
    /// a system call or two if the server reads, and at most the write timeout (see
    /// [`Timeouts`](corewire_proto::Timeouts)) after it last took something.
    ///
    /// Dropping the last handle of a channel tells the server the same, if the socket takes it at once.
    #[doc(alias("shutdown", "graceful", "disconnect"))]
    pub fn close(&self) {
        self.info.closed.set(true);
        // An encoder may close its own call's channel: that request is sent first.
        if let Ok(mut client) = self.client.try_borrow_mut() {
            client.close();
        }
    }
}

impl Client {
    /// Catches up on the close if an encoder closed the channel while it wrote its request.
    pub(super) fn close_if_told(&mut self) {
        if self.info.closed.get()
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

    /// The failure of a call on a connection that is going away; its streams are finished first.
    pub(super) fn going_away(&self) -> CallFailure {
        CallFailure::NotSent(NotSent::NoConnection(format!(
            "the server at {} is shutting down; its calls are finished first",
            self.info.address
        )))
    }

    pub(super) fn handle_down(&mut self, reason: CloseReason) {
        self.handle_down_with(reason, &mut None);
    }

    /// The connection is over, and with it all its calls.
    pub(super) fn handle_down_with(&mut self, reason: CloseReason, done: &mut Option<Outcome>) {
        let Some(mut link) = self.link.take() else { return };
        link.session.fail_all(reason, &mut Deliver(done));
        tracing::debug!(server = %self.info.address, %reason, "connection closed");
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
