//! Calls over a shard's channel, as the generated clients make them.

use corewire_codec::{FrameWriter, RequestHead, Status};
use std::fmt;
use std::time::Duration;

use super::call::Stage;
use super::{Call, Channel};
use crate::shard::context::ShardContext;
use corewire_client::failure::{CallFailure, NotSent};
use corewire_client::transport::{Outcome, Pending, Transport};

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
        Self::call(self, head, timeout, encode)
    }
}

impl<E, F> Pending for Call<F>
where
    E: fmt::Display + 'static,
    F: FnOnce(&mut FrameWriter<'_>) -> Result<(), E> + 'static,
{
    fn wait(self) -> Outcome {
        match self.stage {
            Stage::New => Err(CallFailure::NotSent(NotSent::WouldBlock)),
            // Dropping it here cancels what was sent; the failure is the reuse, not that waiting would block.
            Stage::Begun(_) | Stage::Over => Err(CallFailure::Reused),
        }
    }

    fn then(self, done: impl FnOnce(Outcome) + Send + 'static) {
        // A channel may outlive its shard; tasks do not begin there any more.
        match ShardContext::current() {
            Some(local) => local.spawn(async move { done(self.await) }).detach(),
            None => done(Err(CallFailure::NotSent(NotSent::NotOnShard))),
        }
    }
}
