//! What channels that carry streams have in common.

use corewire_client::{CallFailure, MethodName, NotSent, ReadMessages, StreamHandle, Transport};
use corewire_codec::{Encode, FrameWriter, RequestHead, Status};
use corewire_proto::StreamKind;
use futures_core::Stream;
use std::fmt;
use std::future::Future;
use std::task::{Context, Poll};
use std::time::Duration;

use super::end_listeners::EndListeners;
use super::send_error::SendError;
use super::wire::Wire;

/// What the streams over one kind of channel are made of. The channels of this crate implement it; a channel
/// around another, as [`LayeredChannel`](crate::layer::LayeredChannel) is one, has the streams of that.
pub trait StreamParts: Sized + 'static {
    /// A boxed stream to be sent, which is `Send` if the channel is.
    type Boxed<T>: Stream<Item = Result<T, Status>> + Unpin;

    /// The sender's end of the queue to its stream.
    #[doc(hidden)]
    type QueueSender<T>;

    /// The stream's end of the queue from its sender.
    #[doc(hidden)]
    type QueueReceiver<T>: Stream<Item = Result<T, Status>> + Unpin;

    /// What messages from a connection are read from.
    #[doc(hidden)]
    type Reader: ReadMessages;

    /// Another sender for the same stream.
    #[doc(hidden)]
    fn clone_sender<T>(queue: &Self::QueueSender<T>) -> Self::QueueSender<T>;

    /// Called before a sender is dropped. The last one ends the queue; a failure, which is the last item
    /// then, ends it in any case.
    #[doc(hidden)]
    fn end_queue<T>(queue: &mut Self::QueueSender<T>, failure: Option<Status>);

    /// Whether nobody reads the stream any more.
    #[doc(hidden)]
    fn is_closed<T>(queue: &Self::QueueSender<T>) -> bool;

    /// Lets the connection make progress if it depends on this thread, which then sleeps; returns whether it
    /// does.
    #[doc(hidden)]
    #[inline]
    fn turn(_: &Self::Reader) -> bool {
        false
    }
}

/// Channels whose streams and senders are awaited. Those of a blocking channel block instead.
pub trait AwaitedStreams: StreamParts {
    /// Waits for room in a queue, and puts the message in.
    #[doc(hidden)]
    fn poll_send<T>(
        queue: &mut Self::QueueSender<T>,
        message: &mut Option<T>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), SendError<T>>>;

    /// Waits until nobody reads the stream any more.
    #[doc(hidden)]
    fn poll_closed<T>(queue: &mut Self::QueueSender<T>, context: &mut Context<'_>) -> Poll<()>;
}

/// A channel that carries streams; all channels of this crate do. Code that is generic over it can stream
/// over any of them. It cannot be implemented elsewhere: what else it takes has no public name.
///
/// What is read and what is sent is a [`streaming::Streaming<T, C>`](crate::streaming::Streaming) for each kind
/// of channel `C`: [`corewire::Streaming<T>`](crate::Streaming) on a shard, `corewire::shared::Streaming<T>` over a
/// `SharedChannel`, which can move between threads, and `corewire::blocking::Streaming<T>` over a blocking channel.
///
/// ```
/// use corewire::{SendError, SendStream, StreamTransport};
///
/// /// A stream of one number, over whatever channel `C` is.
/// async fn one<C: StreamTransport>(number: u64) -> Result<C::Streaming<u64>, SendError<u64>> {
///     let (mut sender, numbers) = C::channel();
///     sender.send(number).await?;
///     Ok(numbers)
/// }
/// ```
#[diagnostic::on_unimplemented(message = "`{Self}` is no channel that carries streams")]
pub trait StreamTransport: Transport + Clone {
    /// A stream of values, received or to be sent.
    type Streaming<T: 'static>: Stream<Item = Result<T, Status>> + Unpin + fmt::Debug + 'static;

    /// What fills a stream that is to be sent.
    type Sender<T: 'static>: SendStream<T> + Clone + 'static;

    /// A call that streams.
    #[doc(hidden)]
    type Call: StreamHandle;

    /// What a call's own stream is written to.
    #[doc(hidden)]
    type Writer: fmt::Debug + 'static;

    /// A stream to send: each item is a message, an `Err` ends it with that status.
    fn from_stream<T: 'static>(
        stream: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> Self::Streaming<T>;

    /// A stream to send, and the sender that fills it.
    fn channel<T: Send + 'static>() -> (Self::Sender<T>, Self::Streaming<T>);

    /// A stream without messages.
    fn empty<T: 'static>() -> Self::Streaming<T>;

    /// Begins a call that streams; ready when its request was written or handed over.
    #[doc(hidden)]
    fn stream<E>(
        &self,
        name: MethodName,
        kind: StreamKind,
        head: RequestHead,
        timeout: Option<Duration>,
        encode: E,
    ) -> impl Future<Output = Result<StartedOn<Self>, CallFailure>> + use<Self, E>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static;

    /// Sends a call's stream in the codec `I`, for as long as the call lives.
    #[doc(hidden)]
    fn send<I, T>(&self, stream: Self::Streaming<T>, begun: &mut StartedOn<Self>)
    where
        I: Encode<T> + 'static,
        T: 'static;

    /// What the server streams.
    #[doc(hidden)]
    fn receive<T: 'static>(
        wire: Wire<T, <Self::Call as StreamHandle>::Reader>,
    ) -> Self::Streaming<T>;

    /// Lets the connection make progress if it depends on this thread, which then sleeps; returns whether it
    /// does.
    #[doc(hidden)]
    #[inline]
    fn turn(&self) -> bool {
        false
    }

    /// Blocks this thread until a future of this channel's is ready.
    ///
    /// # Errors
    ///
    /// [`NotSent::WouldBlock`] if this thread must not block.
    #[doc(hidden)]
    fn block_on<F: Future>(&self, future: F) -> Result<F::Output, NotSent>;
}

/// A call that was begun: its handle, the writer of what the client sends, and who is told of its end.
#[derive(Debug)]
pub struct StartedCall<H, W> {
    pub(crate) handle: H,
    #[cfg_attr(
        not(any(feature = "shard", feature = "tokio", feature = "blocking")),
        expect(dead_code, reason = "without a channel nobody sends")
    )]
    pub(crate) writer: Option<W>,
    pub(crate) listeners: EndListeners,
}

/// A call that was begun on a channel.
pub type StartedOn<C> = StartedCall<<C as StreamTransport>::Call, <C as StreamTransport>::Writer>;

/// The sender of a stream, whatever the channel.
///
/// ```
/// use corewire::{SendStream, Status};
///
/// /// Sends what there is, and says why there is no more.
/// async fn fill(mut sender: impl SendStream<u64>) {
///     for number in 0..3 {
///         if sender.send(number).await.is_err() {
///             return; // nobody reads
///         }
///     }
///     sender.fail(Status::data_loss("the rest is gone"));
/// }
/// ```
pub trait SendStream<T>: fmt::Debug {
    /// Sends a message; waits while the stream cannot take it.
    ///
    /// # Errors
    ///
    /// The message was not taken, and is given back.
    fn send(&mut self, message: T) -> impl Future<Output = Result<(), SendError<T>>>;

    /// Ends the stream with a status, behind what was sent.
    fn fail(self, status: Status);

    /// Whether nobody reads the stream any more.
    #[must_use]
    fn is_closed(&self) -> bool;
}
