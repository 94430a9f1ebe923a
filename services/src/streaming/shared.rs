//! Streams of callers on any thread, over a [`SharedChannel`].
//!
//! They are `Send` and otherwise what [`corewire::Streaming`](crate::Streaming) is on a shard. A thread that
//! has no executor waits: `stream.next().wait()`, `sender.send(message).wait()`.
//!
//! ```
//! use corewire::shared;
//!
//! let (mut sender, numbers) = shared::Streaming::channel();
//! sender.send(7).wait()?; // eight may wait until a call takes the stream
//! # let _ = numbers; // client.sum(numbers)
//! # Ok::<(), corewire::SendError<u64>>(())
//! ```

use corewire_client::{
    CallFailure, MethodName, NotSent, QueueReceiver, QueueSender, SharedChannel, SharedStreamCall,
    SharedStreamReader, SharedStreamWriter, queue,
};
use corewire_codec::{Encode, FrameWriter, RequestHead, Status};
use corewire_proto::StreamKind;
use futures_core::Stream;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::Source;
use super::end_listeners::EndListeners;
use super::pump::Pump;
use super::queue::ITEMS_MAX;
use super::send_error::SendError;
use super::transport::{AwaitedStreams, StartedCall, StartedOn, StreamParts, StreamTransport};
use super::wire::Wire;

/// A stream of messages of one call over a [`SharedChannel`], to be read on any thread, or to be sent.
/// What [`streaming::Streaming`](super::Streaming) says of items, bounds and giving up holds here, too.
///
/// Messages wait in memory until they are read, and only then is their credit granted again: a reader that
/// stalls holds its window, 256 KiB, and no other call is held up by it. A stream that is sent is polled and
/// encoded where the connection is driven, so it should not block that thread.
///
/// ```
/// # use corewire::{Status, Streaming};
/// # use futures_lite::stream;
/// # use corewire::{ClientShard, Placement, Server, block_on_shard};
/// #
/// # #[corewire::service]
/// # pub trait Numbers {
/// #     async fn double(&self, numbers: Streaming<u64>) -> Result<Streaming<u64>, Status>;
/// # }
/// #
/// # struct Doubler;
/// #
/// # impl Numbers for Doubler {
/// #     async fn double(&self, numbers: Streaming<u64>) -> Result<Streaming<u64>, Status> {
/// #         use futures_lite::StreamExt;
/// #         Ok(Streaming::from_stream(numbers.map(|number| number.map(|it| 2 * it))))
/// #     }
/// # }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = Server::builder()
/// #     .address("127.0.0.1:0")
/// #     .placement(Placement::Unpinned(1))
/// #     .service(|_| NumbersServer::new(Doubler))
/// #     .start()?;
/// # let address = server.addresses()[0].clone();
/// use corewire::{ChannelConfig, ClientThread, shared};
///
/// let thread = ClientThread::start(ClientShard::default())?;
/// let client = NumbersClient::new(thread.channel(address, ChannelConfig::default())?);
/// let (mut sender, numbers) = shared::Streaming::channel();
/// let mut doubled = client.double(numbers).wait()?; // or `.await`
/// sender.send(21).wait()?;
/// assert_eq!(doubled.next().wait(), Some(Ok(42)));
/// # Ok(())
/// # }
/// ```
pub type Streaming<T> = super::Streaming<T, SharedChannel>;

/// The sender of a [`Streaming`], which may be on another thread.
///
/// ```
/// # use corewire::{ClientShard, Placement, Server, Status, Streaming, block_on_shard};
/// # #[corewire::service]
/// # pub trait Numbers {
/// #     async fn count(&self, from: u64) -> Result<Streaming<u64>, Status>;
/// #     async fn sum(&self, numbers: Streaming<u64>) -> Result<u64, Status>;
/// # }
/// # struct Counter;
/// # impl Numbers for Counter {
/// #     async fn count(&self, from: u64) -> Result<Streaming<u64>, Status> {
/// #         Ok(Streaming::from_stream(futures_lite::stream::iter((from..from + 2).map(Ok))))
/// #     }
/// #     async fn sum(&self, mut numbers: Streaming<u64>) -> Result<u64, Status> {
/// #         let mut sum = 0;
/// #         while let Some(number) = numbers.next().await {
/// #             sum += number?;
/// #         }
/// #         Ok(sum)
/// #     }
/// # }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = Server::builder()
/// #     .address("127.0.0.1:0")
/// #     .placement(Placement::Unpinned(1))
/// #     .service(|_| NumbersServer::new(Counter))
/// #     .start()?;
/// # let address = server.addresses()[0].clone();
/// use corewire::{ChannelConfig, ClientThread, shared};
///
/// let thread = ClientThread::start(ClientShard::default())?;
/// let client = NumbersClient::new(thread.channel(address, ChannelConfig::default())?);
/// let (mut sender, numbers) = shared::Streaming::channel();
/// let sum = std::thread::spawn(move || client.sum(numbers).wait());
/// sender.send(40).wait()?;
/// sender.send(2).wait()?;
/// drop(sender); // the end of the stream
/// assert_eq!(sum.join().expect("no panic")?, 42);
/// # Ok(())
/// # }
/// ```
pub type StreamSender<T> = super::StreamSender<T, SharedChannel>;

/// The next message of a [`Streaming`].
///
/// ```
/// # use corewire::{ClientShard, Placement, Server, Status, Streaming, block_on_shard};
/// # #[corewire::service]
/// # pub trait Numbers {
/// #     async fn count(&self, from: u64) -> Result<Streaming<u64>, Status>;
/// #     async fn sum(&self, numbers: Streaming<u64>) -> Result<u64, Status>;
/// # }
/// # struct Counter;
/// # impl Numbers for Counter {
/// #     async fn count(&self, from: u64) -> Result<Streaming<u64>, Status> {
/// #         Ok(Streaming::from_stream(futures_lite::stream::iter((from..from + 2).map(Ok))))
/// #     }
/// #     async fn sum(&self, mut numbers: Streaming<u64>) -> Result<u64, Status> {
/// #         let mut sum = 0;
/// #         while let Some(number) = numbers.next().await {
/// #             sum += number?;
/// #         }
/// #         Ok(sum)
/// #     }
/// # }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = Server::builder()
/// #     .address("127.0.0.1:0")
/// #     .placement(Placement::Unpinned(1))
/// #     .service(|_| NumbersServer::new(Counter))
/// #     .start()?;
/// # let address = server.addresses()[0].clone();
/// use corewire::{ChannelConfig, ClientThread};
///
/// let thread = ClientThread::start(ClientShard::default())?;
/// let client = NumbersClient::new(thread.channel(address, ChannelConfig::default())?);
/// let mut numbers = client.count(7).wait()?;
/// assert_eq!(numbers.next().wait(), Some(Ok(7))); // or `.await`
/// # Ok(())
/// # }
/// ```
pub type Next<'a, T> = super::Next<'a, T, SharedChannel>;

/// A message on its way into a stream.
///
/// ```
/// use corewire::{SendError, shared};
///
/// /// Sends from a plain thread; elsewhere the message is awaited.
/// fn push(sender: &mut shared::StreamSender<u64>, number: u64) -> Result<(), SendError<u64>> {
///     sender.send(number).wait()
/// }
/// ```
pub type Sending<'a, T> = super::Sending<'a, T, SharedChannel>;

/// Boxed, a stream is `Send` whatever its values are.
type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl StreamParts for SharedChannel {
    type Boxed<T> = BoxStream<T>;
    type QueueSender<T> = QueueSender<Result<T, Status>>;
    type QueueReceiver<T> = BoxStream<T>;
    type Reader = SharedStreamReader;

    fn clone_sender<T>(queue: &Self::QueueSender<T>) -> Self::QueueSender<T> {
        queue.clone()
    }

    fn end_queue<T>(queue: &mut Self::QueueSender<T>, failure: Option<Status>) {
        if let Some(status) = failure {
            // A reader that has stopped reading need not know.
            let _ = queue.push(Err(status));
        }
    }

    fn is_closed<T>(queue: &Self::QueueSender<T>) -> bool {
        queue.is_closed()
    }
}

impl AwaitedStreams for SharedChannel {
    fn poll_send<T>(
        queue: &mut Self::QueueSender<T>,
        message: &mut Option<T>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), SendError<T>>> {
        if queue.poll_ready(context).is_pending() {
            return Poll::Pending;
        }
        let Some(message) = message.take() else { return Poll::Ready(Ok(())) };
        Poll::Ready(match queue.push(Ok(message)) {
            Err(Ok(message)) => Err(SendError::Closed(message)),
            Ok(()) | Err(Err(_)) => Ok(()),
        })
    }

    fn poll_closed<T>(queue: &mut Self::QueueSender<T>, context: &mut Context<'_>) -> Poll<()> {
        queue.poll_closed(context)
    }
}

impl<T> Streaming<T> {
    /// A stream to send: each item is a message, an `Err` ends it with that status.
    pub fn from_stream(stream: impl Stream<Item = Result<T, Status>> + Send + 'static) -> Self {
        Self { source: Source::Stream(Box::pin(stream) as BoxStream<T>) }
    }

    /// A stream to send, and the sender that fills it, which may be on another thread. Eight messages may
    /// wait between the two.
    #[must_use]
    pub fn channel() -> (StreamSender<T>, Self)
    where
        T: Send + 'static,
    {
        let (sender, receiver) = queue(ITEMS_MAX);
        let receiver: BoxStream<T> = Box::pin(Queued(receiver));
        (StreamSender::new(sender), Self { source: Source::Queue(receiver) })
    }
}

/// What a sender has put into the queue.
struct Queued<T>(QueueReceiver<Result<T, Status>>);

impl<T> Stream for Queued<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next(context)
    }
}

impl<T> Next<'_, T> {
    /// Blocks this thread until the message comes.
    ///
    /// A thread that drives connections must not sleep: there the item is `FailedPrecondition`, and the
    /// stream stays as it is.
    pub fn wait(self) -> Option<Result<T, Status>> {
        let may_block = match &self.stream.source {
            Source::Wire(wire) => wire.reader.may_block(),
            Source::Stream(_) | Source::Queue(_) | Source::Over => !corewire_client::is_driver(),
        };
        if !may_block {
            return Some(Err(Status::failed_precondition(NotSent::WouldBlock.to_string())));
        }
        // Without a time limit it returns when the item is there.
        corewire_client::block_on(self, None).flatten()
    }
}

impl<T> Sending<'_, T> {
    /// Blocks this thread until the message is on its way.
    ///
    /// # Errors
    ///
    /// The message was not taken: nobody reads the stream any more, or this thread must not sleep because it
    /// is a shard's or belongs to a tokio runtime ([`SendError::WouldBlock`]).
    pub fn wait(mut self) -> Result<(), SendError<T>> {
        if corewire_client::is_driver() {
            return self.message.take().map_or(Ok(()), |it| Err(SendError::WouldBlock(it)));
        }
        // Without a time limit it returns when the message is taken.
        corewire_client::block_on(self, None).unwrap_or(Ok(()))
    }
}

impl StreamTransport for SharedChannel {
    type Streaming<T: 'static> = Streaming<T>;
    type Sender<T: 'static> = StreamSender<T>;
    type Call = SharedStreamCall;
    type Writer = SharedStreamWriter;

    fn from_stream<T: 'static>(
        stream: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> Streaming<T> {
        Streaming::from_stream(stream)
    }

    fn channel<T: Send + 'static>() -> (StreamSender<T>, Streaming<T>) {
        Streaming::channel()
    }

    fn empty<T: 'static>() -> Streaming<T> {
        Streaming::empty()
    }

    fn stream<E>(
        &self,
        _: MethodName,
        kind: StreamKind,
        head: RequestHead,
        timeout: Option<Duration>,
        encode: E,
    ) -> impl Future<Output = Result<StartedOn<Self>, CallFailure>> + use<E>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        let channel = self.clone();
        async move {
            let (handle, writer) = Self::stream(&channel, kind, head, timeout, encode)?;
            Ok(StartedCall { handle, writer, listeners: EndListeners::default() })
        }
    }

    /// Where the connection is driven, as a task that ends with the call.
    fn send<I, T>(&self, stream: Streaming<T>, begun: &mut StartedOn<Self>)
    where
        I: Encode<T> + 'static,
        T: 'static,
    {
        if let Some(writer) = begun.writer.take() {
            self.spawn(Pump::<I, T, _, _>::new(stream, writer));
        }
    }

    fn receive<T: 'static>(wire: Wire<T, SharedStreamReader>) -> Streaming<T> {
        Streaming::from_wire(wire)
    }

    fn block_on<F: Future>(&self, future: F) -> Result<F::Output, NotSent> {
        Self::block_on(self, future)
    }
}
