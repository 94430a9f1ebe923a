//! Streams of messages: what a method takes or returns in place of one value.
//!
//! Each kind of channel has a `Streaming` of its own behind the same client methods: `shard.rs`, `shared.rs`,
//! `blocking.rs`; `serve.rs` is the server's side. `pump.rs` makes messages of values, `wire.rs` values of
//! messages.

#[cfg(feature = "blocking")]
pub mod blocking;
mod call;
mod channel;
#[cfg(any(feature = "shard", feature = "tokio", feature = "blocking"))]
mod pump;
#[cfg(feature = "shard")]
mod serve;
#[cfg(feature = "shard")]
mod shard;
#[cfg(any(feature = "shard", feature = "tokio"))]
pub mod shared;
mod transport;
mod watch;
#[cfg(any(feature = "shard", feature = "tokio", feature = "blocking"))]
mod wire;

use corewire_codec::Status;
#[cfg(feature = "shard")]
use corewire_engine::StreamReader;
use futures_core::Stream;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use self::channel::Queue;
#[cfg(feature = "shard")]
use self::wire::Wire;

pub use call::{Beginning, Finish, Replied, Streamed, StreamingCall, StreamingResponse};
pub use channel::{SendError, StreamSender};
pub use transport::{Begun, BegunOn, SendStream, StreamTransport};
pub use watch::{Watch, Watcher};

/// A stream of messages of one call, to be read or to be sent.
///
/// As an argument of a method it is what the client sends; in `Result<Streaming<T>, Status>` it is what the
/// server answers with. The sender makes one with [`from_stream`](Self::from_stream) or
/// [`channel`](Self::channel); the receiver reads it with [`next`](Self::next), or as a [`Stream`]. It
/// belongs to one shard; callers elsewhere have streams of the same name and with the same rules,
/// `shared::Streaming` for [`SharedChannel`](crate::SharedChannel) and `blocking::Streaming` for the
/// blocking channel.
///
/// # Items
///
/// `Ok` is a message. An `Err` is the last item: the status with which the sender ended its stream, or
/// that of a call that ended otherwise: cancelled, out of time, or lost with its connection
/// (`Unavailable`). `None` is the ordinary end. The client, too, reads a [`Status`] and not a `CallError`:
/// a call whose stream has begun has run, so there is nothing more to say.
///
/// # Costs and bounds
///
/// Each stream has credit (256 KiB unless the receiver's limits say otherwise), and so have all streams of
/// a connection together (16 MiB). A sender whose reader does not read fills that credit and then waits;
/// nothing else on the connection waits for it. Besides its credit a sender holds up to 32 KiB and one message.
/// A message costs one allocation at the sender and one at the receiver; messages of 64 KiB and more, or of
/// 16 KiB off a shard, are slices of what was received, which keep a receive buffer alive while they live.
///
/// # Giving up
///
/// Dropping a stream that is being read stops its sender: on the client the call is cancelled, and with
/// it the handler; in a handler the call goes on, and what still comes is dropped. Dropping a stream that
/// was made for sending does nothing.
///
/// # Example
///
/// ```
/// use corewire::{Status, Streaming};
/// use futures_lite::stream;
/// # use corewire::{ClientShard, Placement, Server, block_on_shard};
///
/// #[corewire::service]
/// pub trait Numbers {
///     async fn double(&self, numbers: Streaming<u64>) -> Result<Streaming<u64>, Status>;
/// }
///
/// struct Doubler;
///
/// impl Numbers for Doubler {
///     async fn double(&self, numbers: Streaming<u64>) -> Result<Streaming<u64>, Status> {
///         use futures_lite::StreamExt;
///         Ok(Streaming::from_stream(numbers.map(|number| number.map(|it| 2 * it))))
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = Server::builder()
/// #     .address("127.0.0.1:0")
/// #     .placement(Placement::Unpinned(1))
/// #     .service(|_| NumbersServer::new(Doubler))
/// #     .start()?;
/// # let address = server.addresses()[0].clone();
/// # block_on_shard(ClientShard::default(), move || async move {
/// let client = NumbersClient::connect(address).await?;
/// let numbers = Streaming::from_stream(stream::iter([Ok(1), Ok(2)]));
/// let mut doubled = client.double(numbers).await?;
/// assert_eq!(doubled.next().await, Some(Ok(2)));
/// assert_eq!(doubled.next().await, Some(Ok(4)));
/// assert_eq!(doubled.next().await, None);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// # })?
/// # }
/// ```
pub struct Streaming<T> {
    source: Source<T>,
}

type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>>>>;

enum Source<T> {
    Stream(BoxStream<T>),
    Queue(Rc<Queue<T>>),
    #[cfg(feature = "shard")]
    Wire(Wire<T, StreamReader>),
    Over,
}

impl<T> fmt::Debug for Streaming<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match &self.source {
            Source::Stream(_) => "a stream",
            Source::Queue(_) => "a channel",
            #[cfg(feature = "shard")]
            Source::Wire(_) => "a connection",
            Source::Over => "over",
        };
        f.debug_struct("Streaming").field("from", &source).finish_non_exhaustive()
    }
}

impl<T> Streaming<T> {
    /// A stream to send: each item is a message, an `Err` ends it with that status.
    pub fn from_stream(stream: impl Stream<Item = Result<T, Status>> + 'static) -> Self {
        Self { source: Source::Stream(Box::pin(stream)) }
    }

    /// A stream to send, and the sender that fills it. Eight messages may wait between the two.
    #[must_use]
    pub fn channel() -> (StreamSender<T>, Self) {
        let queue = Queue::new();
        (StreamSender::new(Rc::clone(&queue)), Self { source: Source::Queue(queue) })
    }

    /// A stream without messages.
    #[must_use]
    pub fn empty() -> Self {
        Self { source: Source::Over }
    }

    /// The next message; `None` behind the last. Cancel-safe: dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<T, Status>> {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<T, Status>>> {
        let item = match &mut self.source {
            Source::Stream(stream) => stream.as_mut().poll_next(context),
            Source::Queue(queue) => queue.poll_next(context),
            #[cfg(feature = "shard")]
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

impl<T> Drop for Streaming<T> {
    fn drop(&mut self) {
        if let Source::Queue(queue) = &self.source {
            queue.drop_reader();
        }
    }
}

#[cfg(feature = "shard")]
impl<T> Streaming<T> {
    /// Messages from a connection.
    fn from_wire(wire: Wire<T, StreamReader>) -> Self {
        Self { source: Source::Wire(wire) }
    }
}

#[cfg(test)]
mod tests;
