//! The sender of a stream, over a channel of any kind.

use corewire_codec::Status;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use super::Channel;
use super::send_error::SendError;
use super::transport::{AwaitedStreams, SendStream, StreamParts};

/// The sender of a [`Streaming`](super::Streaming) over a channel of the kind `C`.
///
/// Clones send into the same stream, in the order in which their messages arrive; each may wait.
///
/// Dropping the last one ends the stream in the ordinary way, behind what was sent; a sender that a panic drops
/// ends it with `Internal` for all. [`fail`](Self::fail) ends it with a status, for all as well.
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
/// # block_on_shard(ClientShard::default(), move || async move {
/// let client = NumbersClient::connect(address).await?;
/// let (mut sender, numbers) = Streaming::channel();
/// let mut doubled = client.double(numbers).await?;
/// sender.send(21).await?; // waits while the server does not read
/// assert_eq!(doubled.next().await, Some(Ok(42)));
/// drop(sender); // the ordinary end
/// assert_eq!(doubled.next().await, None);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// # })?
/// # }
/// ```
pub struct StreamSender<T, C: StreamParts = Channel> {
    pub(super) queue: C::QueueSender<T>,
    failed: bool,
}

impl<T, C: StreamParts> fmt::Debug for StreamSender<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamSender").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}

impl<T, C: StreamParts> Clone for StreamSender<T, C> {
    fn clone(&self) -> Self {
        Self::new(C::clone_sender(&self.queue))
    }
}

impl<T, C: StreamParts> StreamSender<T, C> {
    pub(super) fn new(queue: C::QueueSender<T>) -> Self {
        Self { queue, failed: false }
    }

    /// Ends the stream with a status, behind what was sent.
    pub fn fail(mut self, status: Status) {
        self.failed = true;
        C::end_queue(&mut self.queue, Some(status));
    }

    /// Whether nobody reads the stream any more, or another sender has failed it; over a blocking channel, as far as this thread has heard.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        C::is_closed(&self.queue)
    }
}

impl<T, C: AwaitedStreams> StreamSender<T, C> {
    /// Sends a message; await it, or over a shared channel [`wait`](Sending::wait) for it. It waits while the
    /// stream cannot take the message: while its credit, or what may be on its way to the connection, is used
    /// up and eight messages wait.
    ///
    /// Cancel-safe in this sense: a future that is dropped before it is ready has sent nothing, and its
    /// message is gone.
    ///
    /// # Errors
    ///
    /// Nobody reads the stream any more, or another sender has failed it; the message is given back.
    pub fn send(&mut self, message: T) -> Sending<'_, T, C> {
        Sending { sender: self, message: Some(message) }
    }

    /// Waits until nobody reads the stream any more. Cancel-safe.
    pub async fn closed(&mut self) {
        poll_fn(|context| C::poll_closed(&mut self.queue, context)).await;
    }
}

impl<T, C: StreamParts> Drop for StreamSender<T, C> {
    fn drop(&mut self) {
        if !self.failed {
            let panics = std::thread::panicking();
            let failure = panics.then(|| Status::internal("the stream's sender panicked"));
            C::end_queue(&mut self.queue, failure);
        }
    }
}

impl<T, C: AwaitedStreams> SendStream<T> for StreamSender<T, C> {
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

/// A message on its way into a stream.
///
/// ```
/// use corewire::Streaming;
///
/// let (mut sender, mut numbers) = Streaming::channel();
/// let received = futures_lite::future::block_on(async {
///     sender.send(7).await.expect("the stream is there");
///     numbers.next().await
/// });
/// assert_eq!(received, Some(Ok(7)));
/// ```
#[must_use = "nothing is sent unless it is awaited or waited for"]
pub struct Sending<'a, T, C: StreamParts = Channel> {
    sender: &'a mut StreamSender<T, C>,
    pub(super) message: Option<T>,
}

/// The message is not pinned in it.
impl<T, C: StreamParts> Unpin for Sending<'_, T, C> {}

impl<T, C: StreamParts> fmt::Debug for Sending<'_, T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending").finish_non_exhaustive()
    }
}

impl<T, C: AwaitedStreams> Future for Sending<'_, T, C> {
    type Output = Result<(), SendError<T>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        C::poll_send(&mut this.sender.queue, &mut this.message, context)
    }
}
