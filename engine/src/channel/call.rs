//! One call, as its caller holds it: a future without inner futures, polled twice in the usual case.

use corewire_client::failure::CallFailure;
use corewire_client::transport::Outcome;
use corewire_codec::{FrameWriter, RequestHead, request_flags};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::Channel;
use super::begin::Encoder;
use super::driven::Wants;
use crate::shard::clock::clock;

/// A call that was made with [`Channel::call`](super::Channel::call). Nothing is sent before it is
/// polled; dropping it cancels the call on the server.
pub struct Call<F> {
    channel: Channel,
    head: RequestHead,
    timeout: Option<Duration>,
    /// Writes the request. It is not moved before it does.
    encode: Option<F>,
    pub(super) stage: Stage,
}

/// How far a call has got.
pub(super) enum Stage {
    /// It was not begun.
    New,
    /// It waits or is in flight, with this key in the channel's table.
    Begun(usize),
    /// Its outcome was returned.
    Over,
}

/// Nothing in it is pinned, because it has no inner future.
impl<F> Unpin for Call<F> {}

impl<F> fmt::Debug for Call<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("head", &self.head).finish_non_exhaustive()
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
        Self { channel, head, timeout, encode: Some(encode), stage: Stage::New }
    }
}

impl<E, F> Call<F>
where
    E: fmt::Display,
    F: FnOnce(&mut FrameWriter<'_>) -> Result<(), E>,
{
    #[inline]
    fn begin(&mut self, context: &Context<'_>) -> Poll<Outcome> {
        let now = self.channel.driven().shard.now();
        if self.head.flags & request_flags::ONE_WAY != 0
            && let Some(timeout) = self.timeout
            && now.checked_add(timeout).is_some_and(|deadline| deadline <= clock())
        {
            // Nothing would be heard of it any more.
            self.stage = Stage::Over;
            return Poll::Ready(Err(CallFailure::DeadlineExceeded { sent: false }));
        }
        let (key, waiter) = self.channel.calls().open(context.waker().clone());
        // Before the caller's code runs, which may panic.
        self.stage = Stage::Begun(key);
        let (head, body) = (&mut self.head, Encoder(&mut self.encode));
        let is_begun = self.channel.begin(None, head, self.timeout, body, waiter, now);
        if is_begun {
            self.channel.driven().shard.note_known_wait();
            return Poll::Pending;
        }
        self.poll_begun(key, context)
    }
}

impl<F> Call<F> {
    #[inline]
    fn poll_begun(&mut self, key: usize, context: &Context<'_>) -> Poll<Outcome> {
        let outcome = self.channel.calls().poll(key, context);
        if outcome.is_pending() {
            self.channel.driven().shard.note_known_wait();
        } else {
            self.stage = Stage::Over;
        }
        outcome
    }

    /// Nobody waits for it any more.
    #[cold]
    fn abandon(&self, key: usize) {
        let Some(begun) = self.channel.calls().abandon(key) else { return };
        let driven = self.channel.driven();
        driven.ask(Wants::All, move |core| core.cancel_unnamed(begun));
        driven.wake();
    }
}

impl<E, F> Future for Call<F>
where
    E: fmt::Display,
    F: FnOnce(&mut FrameWriter<'_>) -> Result<(), E>,
{
    type Output = Outcome;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        match this.stage {
            Stage::Begun(key) => this.poll_begun(key, context),
            Stage::New => this.begin(context),
            Stage::Over => Poll::Ready(Err(CallFailure::Reused)),
        }
    }
}

impl<F> Drop for Call<F> {
    #[inline]
    fn drop(&mut self) {
        if let Stage::Begun(key) = self.stage {
            self.abandon(key);
        }
    }
}
