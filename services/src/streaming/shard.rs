//! Streams over a shard's channel. Without the feature `shard` they are only the types in a service's trait.

use corewire_codec::Status;
use futures_core::Stream;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::queue::{Queue, QueueReceiver};
use super::send_error::SendError;
use super::transport::{AwaitedStreams, StreamParts};
use super::{Channel, Source, StreamSender, Streaming};

#[cfg(feature = "shard")]
mod calls;

#[cfg(feature = "shard")]
use corewire_engine::StreamReader;

#[cfg(not(feature = "shard"))]
use super::no_shard::StreamReader;

type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>>>>;

impl StreamParts for Channel {
    type Boxed<T> = BoxStream<T>;
    type QueueSender<T> = Rc<Queue<T>>;
    type QueueReceiver<T> = QueueReceiver<T>;
    type Reader = StreamReader;

    fn clone_sender<T>(queue: &Rc<Queue<T>>) -> Rc<Queue<T>> {
        queue.add_sender();
        Rc::clone(queue)
    }

    fn end_queue<T>(queue: &mut Rc<Queue<T>>, failure: Option<Status>) {
        queue.end(failure);
    }

    fn is_closed<T>(queue: &Rc<Queue<T>>) -> bool {
        queue.is_closed()
    }
}

impl AwaitedStreams for Channel {
    fn poll_send<T>(
        queue: &mut Rc<Queue<T>>,
        message: &mut Option<T>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), SendError<T>>> {
        queue.poll_send(message, context)
    }

    fn poll_closed<T>(queue: &mut Rc<Queue<T>>, context: &mut Context<'_>) -> Poll<()> {
        queue.poll_closed(context)
    }
}

impl<T> Streaming<T, Channel> {
    /// A stream to send: each item is a message, an `Err` ends it with that status.
    pub fn from_stream(stream: impl Stream<Item = Result<T, Status>> + 'static) -> Self {
        Self { source: Source::Stream(Box::pin(stream) as BoxStream<T>) }
    }

    /// A stream to send, and the sender that fills it. Eight messages may wait between the two.
    #[must_use]
    pub fn channel() -> (StreamSender<T, Channel>, Self) {
        let (sender, receiver) = Queue::ends();
        (StreamSender::new(sender), Self { source: Source::Queue(receiver) })
    }
}
