//! Calls over a shard's channel, as the generated clients make them.

use corewire_codec::{FrameWriter, RequestHead, Status};
use pin_project_lite::pin_project;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::Channel;
use crate::failure::{CallFailure, NotSent};
use crate::local::Local;
use crate::transport::{Outcome, Pending, Transport};

impl Transport for Channel {
    fn call<E>(
        &self,
        head: RequestHead,
        timeout: Option<Duration>,
        encode: E,
    ) -> impl Pending + use<E>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        let channel = self.clone();
        ShardCall { call: async move { Self::call(&channel, head, timeout, encode).await } }
    }
}

pin_project! {
    /// A call on a shard.
    struct ShardCall<F> {
        #[pin]
        call: F,
    }
}

impl<F: Future<Output = Outcome>> Future for ShardCall<F> {
    type Output = Outcome;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        self.project().call.poll(context)
    }
}

impl<F: Future<Output = Outcome> + 'static> Pending for ShardCall<F> {
    fn wait(self) -> Outcome {
        Err(CallFailure::NotSent(NotSent::WouldBlock))
    }

    fn then(self, done: impl FnOnce(Outcome) + Send + 'static) {
        // A channel may outlive its shard; tasks do not begin there any more.
        match Local::current() {
            Some(local) => local.spawn(async move { done(self.call.await) }).detach(),
            None => done(Err(CallFailure::NotSent(NotSent::NotOnShard))),
        }
    }
}
