//! Streams of callers on any thread, over a [`SharedChannel`].
//!
//! They are `Send` and otherwise what [`corewire::Streaming`](crate::Streaming) is on a shard. A thread that
//! has no executor waits: `stream.next().wait()`, `sender.send(message).wait()`.

use corewire_client::{
    CallFailure, MethodName, NotSent, QueueReceiver, QueueSender, SharedChannel, SharedStreamCall,
    SharedStreamReader, SharedStreamWriter, queue,
};
use corewire_codec::{Decode, Encode, FrameWriter, RequestHead, Status};
use corewire_proto::StreamKind;
use futures_core::Stream;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::channel::ITEMS_MAX;
use super::pump::Pump;
use super::wire::Wire;
use super::{Begun, BegunOn, SendError, SendStream, StreamTransport, Watch};

/// A stream of messages of one call over a [`SharedChannel`], to be read on any thread, or to be sent.
/// What [`corewire::Streaming`](crate::Streaming) says of items, bounds and giving up holds here, too.
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
pub struct Streaming<T> {
    source: Source<T>,
}

type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

enum Source<T> {
    Stream(BoxStream<T>),
    Wire(Wire<T, SharedStreamReader>),
    Over,
}

impl<T> fmt::Debug for Streaming<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match &self.source {
            Source::Stream(_) => "a stream",
            Source::Wire(_) => "a connection",
            Source::Over => "over",
        };
        f.debug_struct("Streaming").field("from", &source).finish_non_exhaustive()
    }
}

impl<T> Streaming<T> {
    /// A stream to send: each item is a message, an `Err` ends it with that status.
    pub fn from_stream(stream: impl Stream<Item = Result<T, Status>> + Send + 'static) -> Self {
        Self { source: Source::Stream(Box::pin(stream)) }
    }

    /// A stream to send, and the sender that fills it, which may be on another thread. Eight messages may
    /// wait between the two.
    #[must_use]
    pub fn channel() -> (StreamSender<T>, Self)
    where
        T: Send + 'static,
    {
        let (sender, receiver) = queue(ITEMS_MAX);
        (StreamSender { queue: Some(sender) }, Self::from_stream(Queued(receiver)))
    }

    /// A stream without messages.
    #[must_use]
    pub fn empty() -> Self {
        Self { source: Source::Over }
    }

    /// The next message, to be awaited or waited for; `None` behind the last. Cancel-safe: dropping the
    /// future loses nothing.
    #[allow(
        clippy::should_implement_trait,
        reason = "that of streams on a shard is called so, too"
    )]
    pub fn next(&mut self) -> Next<'_, T> {
        Next { stream: self }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<T, Status>>> {
        let item = match &mut self.source {
            Source::Stream(stream) => stream.as_mut().poll_next(context),
            Source::Wire(wire) => wire.poll(context),
            Source::Over => return Poll::Ready(None),
        };
        // An error is the last item, whichever side made it.
        if let Poll::Ready(None | Some(Err(_))) = item {
            self.source = Source::Over;
        }
        item
    }
}

impl<T> Stream for Streaming<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(context)
    }
}

/// The next message of a [`Streaming`].
#[derive(Debug)]
#[must_use = "nothing is read unless it is awaited or waited for"]
pub struct Next<'a, T> {
    stream: &'a mut Streaming<T>,
}

impl<T> Future for Next<'_, T> {
    type Output = Option<Result<T, Status>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.stream.poll(context)
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
            Source::Stream(_) | Source::Over => !corewire_client::is_driver(),
        };
        if !may_block {
            return Some(Err(Status::failed_precondition(NotSent::WouldBlock.to_string())));
        }
        // Without a time limit it returns when the item is there.
        corewire_client::block_on(self, None).flatten()
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

/// The sender of a [`Streaming`], which may be on another thread.
///
/// Dropping it ends the stream in the ordinary way, behind what was sent; a sender that a panic drops ends
/// it with `Internal`. [`fail`](Self::fail) ends it with a status.
pub struct StreamSender<T> {
    /// `None` once it has ended.
    queue: Option<QueueSender<Result<T, Status>>>,
}

impl<T> fmt::Debug for StreamSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamSender").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}

impl<T> StreamSender<T> {
    /// Sends a message, when it is awaited or waited for; that waits while the stream cannot take it: while
    /// its credit is used up, 32 KiB are on their way to the connection and eight messages wait.
    ///
    /// Cancel-safe in this sense: a future that is dropped before it is ready has sent nothing, and its
    /// message is gone.
    pub fn send(&mut self, message: T) -> Sending<'_, T> {
        Sending { sender: self, message: Some(message) }
    }

    /// Ends the stream with a status, behind what was sent.
    pub fn fail(mut self, status: Status) {
        if let Some(mut queue) = self.queue.take() {
            // A reader that has stopped reading need not know.
            let _ = queue.push(Err(status));
        }
    }

    /// Whether nobody reads the stream any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.queue.as_ref().is_none_or(QueueSender::is_closed)
    }

    /// Waits until nobody reads the stream any more. Cancel-safe.
    pub async fn closed(&mut self) {
        poll_fn(|context| match &mut self.queue {
            Some(queue) => queue.poll_closed(context),
            None => Poll::Ready(()),
        })
        .await;
    }
}

impl<T> Drop for StreamSender<T> {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(queue) = &mut self.queue
        {
            let _ = queue.push(Err(Status::internal("the stream's sender panicked")));
        }
    }
}

/// A message on its way into a stream.
#[must_use = "nothing is sent unless it is awaited or waited for"]
pub struct Sending<'a, T> {
    sender: &'a mut StreamSender<T>,
    message: Option<T>,
}

/// The message is not pinned in it.
impl<T> Unpin for Sending<'_, T> {}

impl<T> fmt::Debug for Sending<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending").finish_non_exhaustive()
    }
}

impl<T> Future for Sending<'_, T> {
    type Output = Result<(), SendError<T>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(queue) = &mut this.sender.queue
            && queue.poll_ready(context).is_pending()
        {
            return Poll::Pending;
        }
        let Some(message) = this.message.take() else { return Poll::Ready(Ok(())) };
        Poll::Ready(match &mut this.sender.queue {
            None => Err(SendError::Closed(message)),
            Some(queue) => match queue.push(Ok(message)) {
                Err(Ok(message)) => Err(SendError::Closed(message)),
                Ok(()) | Err(Err(_)) => Ok(()),
            },
        })
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

impl<T> SendStream<T> for StreamSender<T> {
    fn send(&mut self, message: T) -> impl Future<Output = Result<(), SendError<T>>> {
        Self::send(self, message)
    }

    fn fail(self, status: Status) {
        Self::fail(self, status);
    }

    fn is_closed(&self) -> bool {
        Self::is_closed(self)
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
    ) -> impl Future<Output = Result<BegunOn<Self>, CallFailure>> + use<E>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        let channel = self.clone();
        async move {
            let (handle, writer) = Self::stream(&channel, kind, head, timeout, encode)?;
            Ok(Begun { handle, writer, watch: Watch::default() })
        }
    }

    /// Where the connection is driven, as a task that ends with the call.
    fn send<I, T>(&self, stream: Streaming<T>, begun: &mut BegunOn<Self>)
    where
        I: Encode<T> + 'static,
        T: 'static,
    {
        if let Some(writer) = begun.writer.take() {
            self.spawn(Pump::<I, T, _, _>::new(stream, writer));
        }
    }

    fn receive<D, R>(reader: SharedStreamReader, watch: Watch) -> Streaming<R>
    where
        D: Decode<R>,
        R: 'static,
    {
        Streaming { source: Source::Wire(Wire::new::<D>(reader, watch)) }
    }

    fn block_on<F: Future>(&self, future: F) -> Result<F::Output, NotSent> {
        Self::block_on(self, future)
    }
}
