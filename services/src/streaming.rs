//! Streams of messages: what a method takes or returns in place of one value.
//!
//! There is one [`Streaming`] and one [`StreamSender`], generic over the kind of channel. Their short names are
//! aliases, one for each kind: [`corewire::Streaming`](crate::Streaming) on a shard,
//! `corewire::shared::Streaming` for a `SharedChannel`, `corewire::blocking::Streaming` for a blocking channel.
//! Use those; the generic types are for code that is itself generic.
//!
//! ```
//! use corewire::Status;
//! use corewire::streaming::{AwaitedStreams, Streaming};
//!
//! /// Adds up a stream over whatever channel it came.
//! async fn sum<C: AwaitedStreams>(mut numbers: Streaming<u64, C>) -> Result<u64, Status> {
//!     let mut sum = 0;
//!     while let Some(number) = numbers.next().await {
//!         sum += number?;
//!     }
//!     Ok(sum)
//! }
//!
//! let numbers = corewire::Streaming::from_stream(futures_lite::stream::iter([Ok(40), Ok(2)]));
//! assert_eq!(futures_lite::future::block_on(sum(numbers)), Ok(42));
//! ```
//
// What is particular to a kind of channel: `shard.rs`, `shared.rs`, `blocking.rs`. `serve.rs` is the server's side.
// `pump.rs` makes messages of values, `wire.rs` values of messages. `call.rs` has calls, as clients make them.

#[cfg(feature = "blocking")]
#[doc(hidden)]
pub mod blocking;
pub(crate) mod call;
pub(crate) mod end_listeners;
#[cfg(not(feature = "shard"))]
pub(crate) mod no_shard;
#[cfg(any(feature = "shard", feature = "tokio", feature = "blocking"))]
mod pump;
pub(crate) mod queue;
pub(crate) mod send_error;
mod sender;
#[cfg(feature = "shard")]
mod serve;
mod shard;
#[cfg(any(feature = "shard", feature = "tokio"))]
#[doc(hidden)]
pub mod shared;
pub(crate) mod transport;
pub(crate) mod wire;

use corewire_codec::Status;
#[cfg(feature = "shard")]
use corewire_engine::Channel;
use futures_core::Stream;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

#[cfg(not(feature = "shard"))]
use self::no_shard::Channel;
use self::wire::Wire;

pub use self::call::{BeginCall, BeginStreaming, OneReply, ReplyStream, ResultKind};
pub use self::sender::{Sending, StreamSender};
pub use self::transport::{AwaitedStreams, StreamParts};

/// A stream of messages of one call, to be read or to be sent.
///
/// As an argument of a method it is what the client sends; in `Result<Streaming<T>, Status>` it is what the
/// server returns. The sender makes one with `from_stream` or `channel`; the receiver reads it with
/// [`next`](Self::next), or as a [`Stream`]. The kind of channel `C` says where it may be used:
///
/// - [`corewire::Streaming<T>`](crate::Streaming) belongs to one shard.
/// - `corewire::shared::Streaming<T>`, for a `SharedChannel`, is `Send`. A thread without an executor waits:
///   `stream.next().wait()`.
/// - `corewire::blocking::Streaming<T>`, for a blocking channel, is an iterator, which blocks. As a [`Stream`],
///   too, it blocks where the others would be pending.
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
/// nothing else on the connection waits for it. Beyond its credit a sender holds up to 32 KiB and one message.
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
pub struct Streaming<T, C: StreamParts = Channel> {
    source: Source<T, C>,
}

enum Source<T, C: StreamParts> {
    Stream(C::Boxed<T>),
    Queue(C::QueueReceiver<T>),
    #[cfg_attr(
        not(any(feature = "shard", feature = "tokio", feature = "blocking")),
        expect(dead_code, reason = "without a channel nothing is received")
    )]
    Wire(Wire<T, C::Reader>),
    Over,
}

impl<T, C: StreamParts> fmt::Debug for Streaming<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match &self.source {
            Source::Stream(_) => "a stream",
            Source::Queue(_) => "a channel",
            Source::Wire(_) => "a connection",
            Source::Over => "over",
        };
        f.debug_struct("Streaming").field("from", &source).finish_non_exhaustive()
    }
}

/// Nothing is pinned in it.
impl<T, C: StreamParts> Unpin for Streaming<T, C> {}

impl<T, C: StreamParts> Streaming<T, C> {
    /// A stream without messages.
    #[must_use]
    pub fn empty() -> Self {
        Self { source: Source::Over }
    }

    /// Messages from a connection.
    #[cfg(any(feature = "shard", feature = "tokio", feature = "blocking"))]
    fn from_wire(wire: Wire<T, C::Reader>) -> Self {
        Self { source: Source::Wire(wire) }
    }

    /// Polls once, without waiting.
    fn poll_once(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<T, Status>>> {
        let item = match &mut self.source {
            Source::Stream(stream) => Pin::new(stream).poll_next(context),
            Source::Queue(queue) => Pin::new(queue).poll_next(context),
            Source::Wire(wire) => wire.poll(context),
            Source::Over => return Poll::Ready(None),
        };
        // An error is the last item, whichever side made it.
        if let Poll::Ready(None | Some(Err(_))) = item {
            self.source = Source::Over;
        }
        item
    }

    /// Lets the connection make progress, if this thread drives it and the stream comes over it.
    fn turn(&self) -> bool {
        matches!(&self.source, Source::Wire(wire) if C::turn(&wire.reader))
    }
}

impl<T, C: StreamParts> Stream for Streaming<T, C> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let item = self.poll_once(context);
            if item.is_ready() || !self.turn() {
                return item;
            }
        }
    }
}

impl<T, C: AwaitedStreams> Streaming<T, C> {
    /// The next message, to be awaited, or over a shared channel to be [waited](Next::wait) for; `None` behind
    /// the last. Cancel-safe: dropping the future loses nothing.
    #[allow(clippy::should_implement_trait, reason = "the name is that of `StreamExt::next`")]
    pub fn next(&mut self) -> Next<'_, T, C> {
        Next { stream: self }
    }
}

/// The next message of a [`Streaming`].
///
/// ```
/// use corewire::{Status, Streaming};
///
/// async fn first(mut numbers: Streaming<u64>) -> Option<Result<u64, Status>> {
///     numbers.next().await
/// }
///
/// let numbers = Streaming::from_stream(futures_lite::stream::iter([Ok(7)]));
/// assert_eq!(futures_lite::future::block_on(first(numbers)), Some(Ok(7)));
/// ```
#[must_use = "nothing is read unless it is awaited or waited for"]
pub struct Next<'a, T, C: StreamParts = Channel> {
    stream: &'a mut Streaming<T, C>,
}

impl<T, C: StreamParts> fmt::Debug for Next<'_, T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").field("stream", &self.stream).finish()
    }
}

impl<T, C: AwaitedStreams> Future for Next<'_, T, C> {
    type Output = Option<Result<T, Status>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.stream.poll_once(context)
    }
}

#[cfg(test)]
mod tests;
