//! A blocking method's call, while its handler waits for a thread and runs there.

use corewire_codec::{Encode, Extras, Status};
use corewire_engine::{Offload, OffloadError, ReplySlot};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::answer::Answer;

/// The handler on its thread.
pub(crate) struct Offloaded<R>(pub(crate) Offload<Result<R, Status>>);

impl<R> Future for Offloaded<R> {
    type Output = OffloadedAnswer<R>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<OffloadedAnswer<R>> {
        Pin::new(&mut self.0).poll(context).map(OffloadedAnswer)
    }
}

/// The handler's outcome, or why there is none.
#[derive(Debug)]
pub(crate) struct OffloadedAnswer<R>(Result<Result<R, Status>, OffloadError>);

impl<R> Answer for OffloadedAnswer<R> {
    type Value = R;

    fn into_parts(self) -> (Result<R, Status>, Option<Box<Extras>>) {
        (self.0.unwrap_or_else(|error| Err(status(error))), None)
    }

    fn give<C: Encode<R>>(self, reply: &mut ReplySlot<'_>) {
        match self.0 {
            Ok(outcome) => outcome.give::<C>(reply),
            // Nothing of it has run, so that the caller may try again.
            Err(error @ (OffloadError::Full | OffloadError::NoThread)) => {
                reply.refuse(&status(error))
            }
            Err(error) => reply.status(&status(error)),
        }
    }
}

/// As for a handler that panics on its shard.
fn status(error: OffloadError) -> Status {
    match error {
        OffloadError::Panicked => Status::internal("the handler panicked"),
        error => error.into(),
    }
}
