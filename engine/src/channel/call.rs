//! One call, as its caller holds it: a future without inner futures, polled twice in the usual case.
//!
//! ```text
//!           slot free                        reply
//!   New ────────────────▶ Sent(key) ─────────────────▶ the outcome
//!    │ no slot, no link      ▲
//!    └────────▶ in a queue ──┘
//! ```

use corewire_codec::{FrameWriter, Limits, RequestHead, request_flags};
use std::fmt;
use std::future::Future;
use std::pin::Pin;

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::send::{Kind, Request};
use super::state::{Begin, CallState};
use super::{Channel, Ticket};
use crate::shard::clock::clock;
use corewire_client::config::Reply;
use corewire_client::failure::CallFailure;

/// What every server accepts before its hello was read (REQ-7).
pub(super) const METADATA_BYTES_EARLY: u16 = 1024;
const _: () = assert!(METADATA_BYTES_EARLY as u32 == Limits::EARLY.metadata_bytes.get());

/// A call that was made with [`Channel::call`](super::Channel::call). Nothing is sent before it is
/// polled; dropping it cancels the call on the server.
pub struct Call<F> {
    pub(super) head: RequestHead,
    pub(super) timeout: Option<Duration>,
    pub(super) deadline: Option<Instant>,
    pub(super) request: Request<F>,
    /// The call's place in the queue while it waits for a slot.
    pub(super) ticket: Ticket,
    pub(super) stage: Stage,
}

/// How far a call has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing of it was sent.
    New,
    /// It is in flight, with this key in the channel's table.
    Sent(usize),
    /// Its outcome was returned.
    Over,
}

/// Nothing in it is pinned, because it has no inner future.
impl<F> Unpin for Call<F> {}

impl<F> fmt::Debug for Call<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("head", &self.head)
            .field("deadline", &self.deadline)
            .field("stage", &self.stage)
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
        let request = Request::New(encode);
        Self { head, timeout, deadline: None, request, ticket, stage: Stage::New }
    }
}

impl<E, F> Call<F>
where
    E: fmt::Display,
    F: FnOnce(&mut FrameWriter<'_>) -> Result<(), E>,
{
    /// Takes a slot and writes the request, or waits in the queue for one.
    #[inline]
    fn begin(&mut self, context: &Context<'_>) -> Poll<Result<Reply, CallFailure>> {
        let channel = self.ticket.channel.clone();
        let core = channel.core();
        let mut state = core.state.borrow_mut();
        let waited = self.ticket.id.is_some();
        if !waited {
            self.deadline = self.timeout.and_then(|timeout| core.local.now().checked_add(timeout));
        }
        if !state.is_ready() {
            drop(state);
            if let Some(outcome) = self.begin_early(context) {
                return outcome;
            }
            state = core.state.borrow_mut();
        }
        if self.head.flags & request_flags::ONE_WAY != 0 {
            return self.begin_one_way(state, context);
        }
        match state.try_begin(core, &mut self.ticket, self.deadline, context) {
            Begin::Slot(key) => {
                // The time spent in the queue is no longer the server's.
                let left = match self.deadline {
                    Some(deadline) if waited => Some(deadline.saturating_duration_since(clock())),
                    _ => self.timeout,
                };
                let kind = Kind::Call(key);
                let outgoing = match state.begin_request(kind, &mut self.head, left) {
                    Ok(outgoing) => outgoing,
                    Err(failure) => return Poll::Ready(Err(failure)),
                };
                // The caller's code comes next, and may do anything.
                drop(state);
                match outgoing.write(core, kind, &self.head, &mut self.request) {
                    Ok(()) => {
                        core.local.note_known_wait();
                        self.stage = Stage::Sent(key);
                        Poll::Pending
                    }
                    Err(failure) => Poll::Ready(Err(failure)),
                }
            }
            Begin::Wait => self
                .ticket
                .wait(&mut state, context, self.deadline)
                .map(|failure| Err(CallFailure::NotSent(failure))),
            Begin::Failed(failure) => Poll::Ready(Err(failure)),
        }
    }

    /// Only the server's hello says whether it accepts a large request, or much metadata: such a call
    /// waits for the hello in the queue. Others may begin before it.
    #[cold]
    fn begin_early(&mut self, context: &Context<'_>) -> Option<Poll<Result<Reply, CallFailure>>> {
        let channel = self.ticket.channel.clone();
        if self.deadline.is_some_and(|deadline| deadline <= clock()) {
            return Some(Poll::Ready(Err(CallFailure::DeadlineExceeded { sent: false })));
        }
        let is_one_way = self.head.flags & request_flags::ONE_WAY != 0;
        let core = channel.core();
        let is_next = core.state.borrow().is_next(core, &self.ticket, is_one_way);
        let waits = self.head.metadata_bytes > METADATA_BYTES_EARLY
            // A call that waits in the queue anyway need not be encoded yet.
            || is_next
                && match self.request.encode_early() {
                    Ok(is_large) => is_large,
                    Err(failure) => {
                        return Some(Poll::Ready(Err(CallFailure::NotSent(failure))));
                    }
                };
        if !waits {
            return None;
        }
        let state = &mut *channel.core().state.borrow_mut();
        Some(match state.await_hello(channel.core(), self.deadline) {
            Begin::Failed(failure) => Poll::Ready(Err(failure)),
            Begin::Slot(_) | Begin::Wait => {
                let waiting = self.ticket.wait(state, context, self.deadline);
                waiting.map(|failure| Err(CallFailure::NotSent(failure)))
            }
        })
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
        let key = match this.stage {
            Stage::Sent(key) => key,
            Stage::New => {
                let begun = this.begin(context);
                if begun.is_ready() {
                    this.stage = Stage::Over;
                }
                return begun;
            }
            Stage::Over => return Poll::Ready(Err(CallFailure::Reused)),
        };
        let state = &mut *this.ticket.channel.core().state.borrow_mut();
        // The entry stays until this future takes its outcome or is dropped.
        match state.calls.get_mut(key) {
            Some(CallState::Waiting { waker, .. }) => {
                this.ticket.channel.core().local.note_known_wait();
                waker.clone_from(context.waker());
                Poll::Pending
            }
            Some(CallState::Done(_)) => {
                this.stage = Stage::Over;
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
        if let Stage::Sent(key) = self.stage {
            let core = self.ticket.channel.core();
            core.state.borrow_mut().abandon(core, key);
        }
    }
}
