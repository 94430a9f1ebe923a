//! From a stream of values to messages of a call.

use corewire_codec::{Encode, EncodedBody, Encoding, Status};
use corewire_engine::StreamWriter;
use std::marker::PhantomData;
use std::task::{Context, Poll, ready};

use super::Streaming;

/// Takes values out of a stream as the call's writer has room, and writes them in the codec `C`.
pub(super) struct Pump<C, T> {
    /// `None` once it has ended.
    source: Option<Streaming<T>>,
    writer: StreamWriter,
    codec: PhantomData<fn(C)>,
}

impl<C: Encode<T>, T> Pump<C, T> {
    pub(super) fn new(source: Streaming<T>, writer: StreamWriter) -> Self {
        Self { source: Some(source), writer, codec: PhantomData }
    }

    /// Ready when the stream's end is written, or when nothing more can be sent.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while let Some(source) = &mut self.source {
            if ready!(self.writer.poll_ready(context)).is_err() {
                self.source = None;
                break;
            }
            let Poll::Ready(item) = source.poll(context) else {
                // It learns of the call's end wherever it waits.
                self.writer.watch(context);
                return Poll::Pending;
            };
            let failure = match item {
                Some(Ok(value)) => match EncodedBody::encode(|frame| C::encode(value, frame)) {
                    Ok(body) => {
                        self.writer.send(Encoding::plain(C::ID), body);
                        continue;
                    }
                    Err(error) => Some(Status::internal(error.to_string())),
                },
                Some(Err(status)) => Some(status),
                None => None,
            };
            self.source = None;
            self.writer.end(failure);
        }
        self.writer.poll_ended(context)
    }
}
