//! How a channel's connections end: with their server's go-away, with the channel, or by themselves.
//!
//! A connection with calls in flight whose server goes away is retired (`retired.rs`): it closes when the last of
//! them has ended. The channel connects again at once, and calls in the queue wait for that. At most 16 are retired
//! at a time. A connection to a server that was not seen to work (no reply, and no call counted in its go-away) is
//! followed by a back-off, in which calls fail at once as not sent (`corewire_client::reconnect`).

use corewire_proto::{ClientConnection, CloseReason};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Instant;

use super::retired::Retired;
use super::state::{ChannelState, Link};
use super::{Channel, ChannelCore};
use crate::net::io::Token;
use corewire_client::failure::{CallFailure, NotSent};

/// How many connections of a channel may wait for the last of their calls. While there are that many,
/// the channel waits for the next server that goes away.
const RETIRED_MAX: usize = 16;

impl ChannelState {
    /// The server of this connection takes no new calls. Calls that it refused fail as refused; calls in
    /// flight are left to it, and a new connection for the next ones is made at once.
    pub(crate) fn handle_go_away(&mut self, core: &Rc<ChannelCore>, of: Token, now: Instant) {
        while let Some((proto, _)) = self.connection(of)
            && let Some(key) = proto.poll_refused()
        {
            self.complete(key, Err(CallFailure::Refused));
        }
        if !matches!(self.link, Link::Up { token, .. } if token == of) {
            return;
        }
        self.retire(core, now);
        // Calls in the queue have their turn on the next connection.
        self.wake_waiting(usize::MAX);
        self.wake_room();
    }

    fn retire(&mut self, core: &Rc<ChannelCore>, now: Instant) {
        let is_needed = matches!(&self.link, Link::Up { proto, .. } if !proto.is_drained());
        if !is_needed || self.closed || self.retired.len() >= RETIRED_MAX {
            return;
        }
        let link = core::mem::replace(&mut self.link, Link::Connecting { token: None });
        if let Link::Up { token, proto } = link {
            let retry_at =
                core.backoff.borrow_mut().handle_end(proto.is_proven(), &core.config, now);
            let why = "the server is shutting down".to_owned();
            self.link = Link::Down { retry_at, why };
            let out = core::mem::take(&mut self.out);
            self.retired.push(Retired { token, proto, out });
        }
        if !core.released.get() {
            // After a failure the calls themselves try again, when the back-off lets them.
            let _ = self.want_connection(core, now);
        }
    }

    /// Why no call begins on a connection that is draining.
    #[cold]
    pub(super) fn going_away(&self, core: &ChannelCore) -> CallFailure {
        match self.closed {
            true => CallFailure::NotSent(NotSent::Closed),
            false => CallFailure::going_away(&core.address),
        }
    }

    /// A connection ended, or could not be made. Its calls in flight fail.
    pub(crate) fn handle_end(
        &mut self,
        core: &ChannelCore,
        of: Token,
        reason: CloseReason,
        now: Instant,
    ) {
        if self.is_current(of) {
            return self.handle_down(core, reason, now);
        }
        if let Some(index) = self.retired.iter().position(|retired| retired.token == of) {
            let retired = self.retired.swap_remove(index);
            self.fail_calls(*retired.proto, reason);
            self.wake_closing();
        }
    }

    fn fail_calls(&mut self, mut proto: ClientConnection<usize>, reason: CloseReason) {
        for failed in proto.fail_all() {
            let failure = match failed.may_have_run {
                true => CallFailure::Unknown(reason),
                false => CallFailure::Refused,
            };
            self.complete(failed.work, Err(failure));
        }
    }

    /// The channel's connection ended, or could not be made. The next call connects again, after the
    /// back-off if the server was not seen to work.
    pub(crate) fn handle_down(&mut self, core: &ChannelCore, reason: CloseReason, now: Instant) {
        let link = core::mem::replace(&mut self.link, Link::Connecting { token: None });
        let mut proven = false;
        if let Link::Up { proto, .. } = link {
            proven = proto.is_proven();
            self.fail_calls(*proto, reason);
        }
        self.out.clear();
        let retry_at = core.backoff.borrow_mut().handle_end(proven, &core.config, now);
        self.link = Link::Down { retry_at, why: reason.to_string() };
        self.wake_waiting(usize::MAX);
        self.wake_room();
        self.wake_closing();
    }

    fn is_gone(&self) -> bool {
        self.is_down() && self.retired.is_empty()
    }

    fn wake_closing(&mut self) {
        if self.is_gone() {
            self.closing.drain(..).for_each(Waker::wake);
        }
    }

    /// No call begins any more; calls in flight may finish.
    fn close(&mut self, core: &ChannelCore) {
        self.closed = true;
        // Calls that wait for a slot or for the connection learn that there will be none.
        self.wake_waiting(usize::MAX);
        self.wake_room();
        if self.is_writing() {
            // A caller's code closes the channel while it writes a request; the request goes first.
            return;
        }
        match &mut self.link {
            Link::Up { token, proto } => {
                proto.leave(&mut self.out);
                core.local.mark_dirty(*token);
            }
            Link::Connecting { token: Some(token) } => core.local.mark_dirty(*token),
            Link::Connecting { token: None } | Link::Down { .. } => {}
        }
    }
}

impl Channel {
    /// Closes the channel, for all its clones: tells the server that no more calls come, lets calls in
    /// flight finish, and waits until they have and the connection is gone.
    ///
    /// Calls that have not been sent, and calls made from now on, fail with [`NotSent::Closed`].
    /// Dropping the future does not stop the closing. A call without a deadline may keep it waiting for
    /// ever; a caller that cannot wait puts a timeout on this future and drops the calls. Closing a
    /// channel again is no error, and waits for the same.
    ///
    /// It costs one frame, sent after what is unsent; a channel that has no connection is closed at once.
    ///
    /// Dropping a channel's last handle tells the server the same and does not wait.
    #[doc(alias("shutdown", "graceful", "disconnect"))]
    pub async fn close(&self) {
        self.core().state.borrow_mut().close(self.core());
        poll_fn(|context| {
            let state = &mut *self.core().state.borrow_mut();
            if state.is_gone() {
                return Poll::Ready(());
            }
            self.core().local.note_known_wait();
            state.closing.retain(|waker| !waker.will_wake(context.waker()));
            state.closing.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
