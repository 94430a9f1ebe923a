//! A stream that comes over a connection, of whichever channel.

use corewire_client::{Message, Outcome, ReadMessages, StreamFailure};
use corewire_codec::{Decode, Status, StatusCode};
use std::task::{Context, Poll};

use super::end_listeners::EndListeners;
use crate::client::outcome::{CallError, read_outcome};

/// Messages, and the function that decodes them.
#[derive(Debug)]
pub struct Wire<T, R> {
    pub(super) reader: R,
    decode: fn(Message) -> Result<T, Status>,
    listeners: EndListeners,
}

impl<T, R: ReadMessages> Wire<T, R> {
    /// Messages in the codec `C`. The call's listeners are told of its end.
    pub(crate) fn new<C: Decode<T>>(reader: R, listeners: EndListeners) -> Self {
        Self { reader, decode: decode::<C, T>, listeners }
    }

    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<T, Status>>> {
        let Poll::Ready(item) = self.reader.poll_next(context) else { return Poll::Pending };
        let item = match item {
            Some(Ok(message)) => Some((self.decode)(message)),
            Some(Err(StreamFailure::Status(status))) => Some(Err(status)),
            Some(Err(StreamFailure::Call(outcome))) => {
                failure(outcome).map(|error| Err(error.to_status()))
            }
            None => None,
        };
        match &item {
            Some(Ok(_)) => {}
            Some(Err(status)) => self.listeners.end(status.code()),
            None => self.listeners.end(StatusCode::Ok),
        }
        Poll::Ready(item)
    }
}

fn decode<C: Decode<T>, T>(message: Message) -> Result<T, Status> {
    message
        .encoding
        .check(C::ID)
        .map_err(|error| Status::unimplemented(format!("a message of the stream: {error}")))?;
    C::decode(message.body)
        .map_err(|error| Status::invalid_argument(format!("a message of the stream: {error}")))
}

/// Why a call that should have returned a stream failed; `None` if it ended well.
pub(crate) fn failure(outcome: Outcome) -> Option<CallError> {
    match &outcome {
        Ok(reply) if reply.head.code == StatusCode::Ok => None,
        _ => read_outcome::<corewire_codec::Raw, bytes::Bytes>(outcome).err(),
    }
}
