//! What a handler's future ends with, and how that becomes a reply.

use corewire_codec::{Encode, Extras, Status};
use corewire_engine::ReplySlot;

/// A handler's outcome: `Result<R, Status>`, or one with metadata and attachment.
pub trait Answer {
    /// What a success carries.
    type Value;

    /// The outcome, and the metadata and attachment that go with it.
    fn into_parts(self) -> (Result<Self::Value, Status>, Option<Box<Extras>>);

    /// Writes the reply.
    fn give<C: Encode<Self::Value>>(self, reply: &mut ReplySlot<'_>);
}

impl<R> Answer for Result<R, Status> {
    type Value = R;

    fn into_parts(self) -> (Self, Option<Box<Extras>>) {
        (self, None)
    }

    #[inline]
    fn give<C: Encode<R>>(self, reply: &mut ReplySlot<'_>) {
        match self {
            Ok(value) => reply.send::<C, R>(value),
            Err(status) => reply.status(&status),
        }
    }
}

/// An outcome with what the handler added to its reply through its [`Context`](crate::Context).
#[derive(Debug)]
pub struct Answered<R> {
    pub(crate) outcome: Result<R, Status>,
    pub(crate) extras: Option<Box<Extras>>,
}

impl<R> Answer for Answered<R> {
    type Value = R;

    fn into_parts(self) -> (Result<R, Status>, Option<Box<Extras>>) {
        (self.outcome, self.extras)
    }

    #[inline]
    fn give<C: Encode<R>>(self, reply: &mut ReplySlot<'_>) {
        match (self.outcome, self.extras) {
            (Ok(value), Some(extras)) => reply.send_with::<C, R>(value, &extras),
            (outcome, _) => outcome.give::<C>(reply),
        }
    }
}
