//! What callers have of a blocking channel: the channel and the ends of its streams, whose originals are on the channel's
//! thread.

use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use corewire_client::{
    CallFailure, Closed, Message, Opening, Outcome, Pending, ReadMessages, StreamFailure,
    StreamHandle, Transport, WriteMessages,
};
use corewire_codec::{EncodedBody, Encoding, FrameWriter, RequestHead, Status};
use corewire_proto::{CloseReason, StreamKind};

use super::thread::{Actor, encode};
use super::worker::Worker;

/// Dropping the last one drops the channel.
#[derive(Debug)]
struct Handle(Rc<Worker>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.then(|actor| {
            actor.streams.clear();
            actor.channel = None;
        });
    }
}

/// A channel of the blocking kind.
#[derive(Clone, Debug)]
pub(crate) struct BlockingChannel(Rc<Handle>);

/// What is called on a thread without a channel.
fn gone<R>() -> Result<R, CallFailure> {
    Err(CallFailure::Unknown(CloseReason::LocallyClosed))
}

impl BlockingChannel {
    pub(crate) fn new(worker: Rc<Worker>) -> Self {
        Self(Rc::new(Handle(worker)))
    }

    pub(crate) fn worker(&self) -> &Worker {
        &self.0.0
    }

    pub(crate) async fn call<E>(
        &self,
        head: RequestHead,
        timeout: Option<Duration>,
        encoder: E,
    ) -> Outcome
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        let call = move |actor: &mut Actor| match &actor.channel {
            Some(channel) => channel.call(head, timeout, encode).wait(),
            None => gone(),
        };
        self.worker().run(Some(Box::new(encoder)), call).await
    }

    pub(crate) async fn stream<E>(
        &self,
        kind: StreamKind,
        head: RequestHead,
        timeout: Option<Duration>,
        encoder: E,
    ) -> Result<(BlockedCall, Option<BlockedWriter>), CallFailure>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        let name = self.worker().name();
        let open = move |actor: &mut Actor| {
            let Some(channel) = &actor.channel else { return gone() };
            let (call, writer) = channel.stream(kind, head, timeout, encode)?;
            let ends = actor.ends(name);
            (ends.call, ends.writer) = (Some(call), writer);
            Ok(ends.writer.is_some())
        };
        // They are there before the stream, for a caller who gives up when it has just begun: the call first.
        let end = || End { channel: self.clone(), name };
        let writer = BlockedWriter(end());
        let call = BlockedCall(end());
        let writes = self.worker().run(Some(Box::new(encoder)), open).await?;
        Ok((call, Some(writer).filter(|_| writes)))
    }

    /// Closes the channel, which may block. Returns the outcome of a call that is made then.
    pub(crate) async fn close(&self, head: RequestHead) -> Outcome {
        let close = move |actor: &mut Actor| {
            let Some(channel) = &actor.channel else { return gone() };
            channel.close();
            channel.call(head, None, |_: &mut FrameWriter<'_>| Ok(())).wait()
        };
        self.worker().run(None, close).await
    }
}

/// One end of a stream, by its name.
#[derive(Debug)]
struct End {
    channel: BlockingChannel,
    name: u64,
}

impl End {
    fn poll<R: Send + 'static>(
        &self,
        context: &Context<'_>,
        work: impl FnOnce(&mut super::thread::Ends, &mut Context<'_>) -> Poll<R> + Send + 'static,
    ) -> Poll<R> {
        let name = self.name;
        let work = move |actor: &mut Actor| {
            work(actor.ends(name), &mut Context::from_waker(Waker::noop()))
        };
        self.channel.worker().poll(context, work)
    }

    fn then(&self, work: impl FnOnce(&mut super::thread::Ends) + Send + 'static) {
        let name = self.name;
        self.channel.worker().then(move |actor| {
            work(actor.ends(name));
            actor.forget_unused(name);
        });
    }
}

/// A call that streams.
#[derive(Debug)]
pub(crate) struct BlockedCall(End);

impl Drop for BlockedCall {
    fn drop(&mut self) {
        self.0.then(|ends| ends.call = None);
    }
}

impl StreamHandle for BlockedCall {
    type Reader = BlockedReader;

    fn poll_opened(&mut self, context: &mut Context<'_>) -> Poll<Result<Opening, Outcome>> {
        self.0.poll(context, |ends, context| match &mut ends.call {
            Some(call) => call.poll_opened(context),
            None => Poll::Ready(Ok(None)),
        })
    }

    fn poll_outcome(&mut self, context: &mut Context<'_>) -> Poll<Outcome> {
        self.0.poll(context, |ends, context| match &mut ends.call {
            Some(call) => call.poll_outcome(context),
            None => Poll::Ready(gone()),
        })
    }

    fn into_reader(self) -> Option<BlockedReader> {
        self.0.then(|ends| ends.reader = ends.call.take().and_then(StreamHandle::into_reader));
        Some(BlockedReader(End { channel: self.0.channel.clone(), name: self.0.name }))
    }
}

/// What a stream is read from.
#[derive(Debug)]
pub(crate) struct BlockedReader(End);

impl Drop for BlockedReader {
    fn drop(&mut self) {
        self.0.then(|ends| ends.reader = None);
    }
}

impl ReadMessages for BlockedReader {
    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Message, StreamFailure>>> {
        self.0.poll(context, |ends, context| match &mut ends.reader {
            Some(reader) => reader.poll_next(context),
            None => Poll::Ready(None),
        })
    }
}

/// What a stream is written to.
#[derive(Debug)]
pub(crate) struct BlockedWriter(End);

impl Drop for BlockedWriter {
    fn drop(&mut self) {
        self.0.then(|ends| ends.writer = None);
    }
}

impl WriteMessages for BlockedWriter {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        self.0.poll(context, |ends, context| match &mut ends.writer {
            Some(writer) => writer.poll_ready(context),
            None => Poll::Ready(Err(Closed)),
        })
    }

    fn watch(&self, _: &mut Context<'_>) {}

    fn send(&mut self, encoding: Encoding, body: EncodedBody) {
        self.0.then(move |ends| {
            if let Some(writer) = &mut ends.writer {
                writer.send(encoding, body);
            }
        });
    }

    fn end(&mut self, failure: Option<Status>) {
        self.0.then(move |ends| {
            if let Some(writer) = &mut ends.writer {
                writer.end(failure);
            }
        });
    }

    fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.0.poll(context, |ends, context| match &mut ends.writer {
            Some(writer) => writer.poll_ended(context),
            None => Poll::Ready(()),
        })
    }
}
