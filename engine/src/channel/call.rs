//! One call, as its caller holds it: a future without inner futures, polled twice in the usual case.
//!
//! ```text
//!           slot free                        reply
//!   New ────────────────▶ Sent(key) ─────────────────▶ the outcome
//!    │ no slot, no link      ▲
//!    └────────▶ in the line ─┘
//! ```

use corewire_codec::{CancelReason, FrameWriter, Limits, RequestHead, request_flags};
use std::fmt;
use std::future::Future;
use std::pin::Pin;

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::state::{Begin, CallState, Link};
use super::{Channel, ChannelCore, ChannelState, Ticket};
use crate::config::Reply;
use crate::failure::{CallFailure, NotSent};

/// What every server takes before its hello was read (REQ-7).
pub(super) const METADATA_BYTES_EARLY: u16 = 1024;
const _: () = assert!(METADATA_BYTES_EARLY as u32 == Limits::EARLY.metadata_bytes.get());

/// A call that was made with [`Channel::call`](super::Channel::call). Nothing is sent before it is
/// polled; dropping it cancels the call on the server.
pub struct Call<F> {
    pub(super) head: RequestHead,
    pub(super) timeout: Option<Duration>,
    pub(super) deadline: Option<Instant>,
    /// `None` once the request is written.
    pub(super) encode: Option<F>,
    /// The call's place in the line while it waits for a slot.
    pub(super) ticket: Ticket,
    /// The call's entry in the channel's table while it is in flight.
    key: Option<usize>,
}

/// Nothing in it is pinned: it has no inner future.
impl<F> Unpin for Call<F> {}

impl<F> fmt::Debug for Call<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("head", &self.head)
            .field("deadline", &self.deadline)
            .field("in_flight", &self.key.is_some())
            .finish_non_exhaustive()
    }
}

impl<F> Call<F> {
    #[inline]
    pub(super) fn new(
        channel: Channel,
        head: RequestHead,
        timeout: Option<Duration>,
        encode: F,
    ) -> Self {
        let ticket = Ticket { channel, id: None };
        Self { head, timeout, deadline: None, encode: Some(encode), ticket, key: None }
    }
}

impl<E, F> Call<F>
where
    E: fmt::Display,
    F: FnOnce(&mut FrameWriter<'_>) -> Result<(), E>,
{
    /// Takes a slot and writes the request, or waits in the line for one.
    #[inline]
    fn begin(&mut self, context: &Context<'_>) -> Poll<Result<Reply, CallFailure>> {
        let channel = self.ticket.channel.clone();
        let core = channel.core();
        let state = &mut *core.state.borrow_mut();
        let waited = self.ticket.id.is_some();
        if !waited {
            self.deadline = self.timeout.and_then(|timeout| core.local.now().checked_add(timeout));
        }
        if self.head.metadata_bytes > METADATA_BYTES_EARLY
            && let Some(outcome) = self.await_hello(state, context)
        {
            return outcome;
        }
        if self.head.flags & request_flags::ONE_WAY != 0 {
            return self.begin_one_way(state, context);
        }
        match state.try_begin(core, &mut self.ticket, self.deadline, context) {
            Begin::Slot(key) => {
                // The closure is there: only this arm takes it, and it is reached once.
                let Some(encode) = self.encode.take() else { return Poll::Pending };
                // What was spent in the line is no longer the server's.
                let left = match self.deadline {
                    Some(deadline) if waited => {
                        Some(deadline.saturating_duration_since(crate::local::clock()))
                    }
                    _ => self.timeout,
                };
                match state.send(core, key, &mut self.head, left, encode) {
                    Ok(()) => {
                        core.local.note_known_wait();
                        self.key = Some(key);
                        Poll::Pending
                    }
                    Err(failure) => Poll::Ready(Err(failure)),
                }
            }
            Begin::Wait => self
                .ticket
                .wait(state, context, self.deadline)
                .map(|failure| Err(CallFailure::NotSent(failure))),
            Begin::Failed(failure) => Poll::Ready(Err(failure)),
        }
    }
}

impl<F> Call<F> {
    /// Only the server's hello says whether it takes that much metadata: waits for it in the line.
    #[cold]
    fn await_hello(
        &mut self,
        state: &mut ChannelState,
        context: &Context<'_>,
    ) -> Option<Poll<Result<Reply, CallFailure>>> {
        if matches!(&state.link, Link::Up { proto, .. } if proto.is_ready()) {
            return None;
        }
        let now = crate::local::clock();
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return Some(Poll::Ready(Err(CallFailure::DeadlineExceeded { sent: false })));
        }
        let waiting = match state.want_connection(self.ticket.channel.core(), now) {
            Ok(()) => self.ticket.wait(state, context, self.deadline),
            Err(why) => Poll::Ready(NotSent::NoConnection(why)),
        };
        Some(waiting.map(|failure| Err(CallFailure::NotSent(failure))))
    }
}

impl<E, F> Future for Call<F>
where
    E: fmt::Display,
    F: FnOnce(&mut FrameWriter<'_>) -> Result<(), E>,
{
    type Output = Result<Reply, CallFailure>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(key) = this.key else { return this.begin(context) };
        let state = &mut *this.ticket.channel.core().state.borrow_mut();
        // The entry stays until this future takes its outcome or is dropped.
        match state.calls.get_mut(key) {
            Some(CallState::Waiting { waker, .. }) => {
                this.ticket.channel.core().local.note_known_wait();
                waker.clone_from(context.waker());
                Poll::Pending
            }
            Some(CallState::Done(_)) => {
                this.key = None;
                match state.calls.remove(key) {
                    CallState::Done(outcome) => Poll::Ready(outcome),
                    CallState::Waiting { .. } | CallState::Stream(_) => Poll::Pending,
                }
            }
            // The key of a unary call is never that of a stream.
            Some(CallState::Stream(_)) | None => Poll::Pending,
        }
    }
}

impl<F> Drop for Call<F> {
    #[inline]
    fn drop(&mut self) {
        if let Some(key) = self.key {
            abandon(self.ticket.channel.core(), key);
        }
    }
}

/// Nobody waits for this call any more.
#[cold]
fn abandon(core: &ChannelCore, key: usize) {
    let state = &mut *core.state.borrow_mut();
    let Some(CallState::Waiting { call, .. }) = state.calls.try_remove(key) else { return };
    if let Link::Up { token, proto } = &mut state.link {
        proto.abandon(call, CancelReason::Dropped, &mut state.out);
        core.local.mark_dirty(*token);
    }
}
