//! From a stream of values to messages of a call.

use corewire_client::WriteMessages;
use corewire_codec::{Encode, EncodedBody, Encoding, Status};
use futures_core::Stream;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Takes values out of a stream as the call's writer has room, and writes them in the codec `C`: a task
/// alongside the call, or polled together with the call.
pub(super) struct Pump<C, T, S, W> {
    /// `None` once it has ended.
    source: Option<S>,
    pub(super) writer: W,
    codec: PhantomData<fn(C) -> T>,
}

/// Neither the stream nor the writer is pinned in it.
impl<C, T, S, W> Unpin for Pump<C, T, S, W> {}

impl<C, T, S, W> Pump<C, T, S, W> {
    pub(super) fn new(source: S, writer: W) -> Self {
        Self { source: Some(source), writer, codec: PhantomData }
    }
}

/// Ready when the stream's end is written, or when nothing more can be sent.
impl<C, T, S, W> Future for Pump<C, T, S, W>
where
    C: Encode<T>,
    S: Stream<Item = Result<T, Status>> + Unpin,
    W: WriteMessages,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        while let Some(source) = &mut this.source {
            if ready!(this.writer.poll_ready(context)).is_err() {
                this.source = None;
                break;
            }
            let Poll::Ready(item) = Pin::new(source).poll_next(context) else {
                // The pump must learn of the call's end even while the source is pending.
                this.writer.watch(context);
                return Poll::Pending;
            };
            let failure = match item {
                Some(Ok(value)) => match EncodedBody::encode(|frame| C::encode(value, frame)) {
                    Ok(body) => {
                        this.writer.send(Encoding::plain(C::ID), body);
                        continue;
                    }
                    Err(error) => Some(Status::internal(error.to_string())),
                },
                Some(Err(status)) => Some(status),
                None => None,
            };
            this.source = None;
            this.writer.end(failure);
        }
        this.writer.poll_ended(context)
    }
}
