//! A client that blocks the calling thread, on std alone, and its streams.
//!
//! Nothing moves while the thread does something else: what a stream sends goes out when it is sent; what
//! arrives is read whenever the thread waits for anything on its channel.
//!
//! ```
//! use corewire::blocking;
//!
//! let squares = blocking::Streaming::from_items((0..3_u64).map(|number| Ok(number * number)));
//! # let _ = squares; // client.sum(squares).wait()
//! ```

use corewire_client::blocking::{StreamCall, StreamReader, StreamWriter};
use corewire_client::{
    CallFailure, Closed, Message, MethodName, NotSent, Opening, Outcome, ReadMessages,
    StreamFailure, StreamHandle, WriteMessages,
};
use corewire_codec::{Encode, FrameWriter, RequestHead, Status};
use corewire_proto::StreamKind;
use futures_core::Stream;
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::Source;
use super::end_listeners::EndListeners;
use super::pump::Pump;
use super::queue::{Queue, QueueReceiver};
use super::send_error::SendError;
use super::transport::{SendStream, StartedCall, StartedOn, StreamParts, StreamTransport};
use super::wire::Wire;

/// The channel for callers on a thread that may block.
///
/// ```
/// # use corewire::{Placement, Server, echo};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = Server::builder()
/// #     .address("127.0.0.1:0")
/// #     .placement(Placement::Unpinned(1))
/// #     .service(|_| echo::EchoServer::new(echo::Echoer))
/// #     .start()?;
/// # let address = server.addresses()[0].clone();
/// use corewire::{Bytes, blocking};
///
/// let client = echo::EchoClient::new(blocking::Channel::connect(address)?);
/// assert_eq!(client.echo(Bytes::from_static(b"hi")).wait()?, "hi");
/// client.channel().close();
/// # Ok(())
/// # }
/// ```
#[doc(alias("connection pool", "synchronous", "sync"))]
pub use corewire_client::blocking::Channel;

/// A stream of messages of one call over a blocking [`Channel`]: an iterator, which blocks. What
/// [`streaming::Streaming`](super::Streaming) says of items, bounds and giving up holds here, too.
///
/// Any number of streams may be open on a channel, in addition to one call of another kind at a time.
/// Messages for a stream that is not read wait, up to its window, and hold up no other stream.
///
/// As a [`Stream`] it blocks where others would be pending.
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
/// use corewire::blocking;
///
/// let client = NumbersClient::new(blocking::Channel::connect(address)?);
/// let numbers = blocking::Streaming::from_items([Ok(1), Ok(2)]);
/// let doubled: Result<Vec<u64>, Status> = client.double(numbers).wait()?.collect();
/// assert_eq!(doubled?, [2, 4]);
/// # Ok(())
/// # }
/// ```
pub type Streaming<T> = super::Streaming<T, Channel>;

/// The sender of a [`Streaming`]. Its `send` blocks.
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
/// use corewire::blocking;
///
/// let client = NumbersClient::new(blocking::Channel::connect(address)?);
/// let (mut sender, numbers) = blocking::Streaming::channel();
/// let sum = client.sum(numbers).begin().wait()?;
/// sender.send(40)?;
/// sender.send(2)?;
/// drop(sender); // the end of the stream
/// assert_eq!(sum.wait()?, 42);
/// # Ok(())
/// # }
/// ```
pub type StreamSender<T> = super::StreamSender<T, Channel>;

/// The call that a stream was given to, once it has begun.
#[derive(Debug, Default)]
#[doc(hidden)]
pub struct GivenTo(RefCell<Option<Weak<dyn Outgoing>>>);

impl GivenTo {
    fn call(&self) -> Option<Rc<dyn Outgoing>> {
        self.0.borrow().as_ref().and_then(Weak::upgrade)
    }
}

type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>>>>;

impl StreamParts for Channel {
    type Boxed<T> = BoxStream<T>;
    type QueueSender<T> = Rc<Queue<T, GivenTo>>;
    type QueueReceiver<T> = QueueReceiver<T, GivenTo>;
    type Reader = Reader;

    fn clone_sender<T>(queue: &Self::QueueSender<T>) -> Self::QueueSender<T> {
        queue.add_sender();
        Rc::clone(queue)
    }

    fn end_queue<T>(queue: &mut Self::QueueSender<T>, failure: Option<Status>) {
        queue.end(failure);
        // What cannot be sent now for lack of credit is sent when the call is waited for.
        if let Some(call) = queue.call.call() {
            call.drive();
        }
    }

    fn is_closed<T>(queue: &Self::QueueSender<T>) -> bool {
        queue.is_closed()
    }

    fn turn(reader: &Reader) -> bool {
        reader.reader.turn();
        true
    }
}

/// The items of an iterator, as a stream.
struct Items<I>(I);

/// The iterator is not pinned in it.
impl<I> Unpin for Items<I> {}

impl<I: Iterator> Stream for Items<I> {
    type Item = I::Item;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<I::Item>> {
        Poll::Ready(self.0.next())
    }
}

impl<T> Streaming<T> {
    /// A stream to send: the iterator's items, taken as there is credit, while the thread waits for the call.
    /// An `Err` ends it with that status.
    pub fn from_items<I>(items: I) -> Self
    where
        I: IntoIterator<Item = Result<T, Status>>,
        I::IntoIter: 'static,
    {
        Self::from_stream(Items(items.into_iter()))
    }

    /// A stream to send: each item is a message, an `Err` ends it with that status. Nothing wakes it: a
    /// pending stream is polled again when the server has sent something.
    pub fn from_stream(stream: impl Stream<Item = Result<T, Status>> + 'static) -> Self {
        Self { source: Source::Stream(Box::pin(stream) as BoxStream<T>) }
    }

    /// A stream to send, and the sender that fills it. Give the stream to a call and begin that before more
    /// than eight messages are sent.
    #[must_use]
    pub fn channel() -> (StreamSender<T>, Self) {
        let (sender, receiver) = Queue::ends();
        (StreamSender::new(sender), Self { source: Source::Queue(receiver) })
    }
}

impl<T> Iterator for Streaming<T> {
    type Item = Result<T, Status>;

    fn next(&mut self) -> Option<Self::Item> {
        match Pin::new(self).poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(item) => item,
            Poll::Pending => {
                let nobody = "nothing brings this stream's next message while this thread waits";
                Some(Err(Status::failed_precondition(nobody)))
            }
        }
    }
}

impl<T> StreamSender<T> {
    /// Sends a message. In a call that has begun it goes into the connection now; while credit is missing this
    /// blocks and reads what arrives. Before that, eight messages may wait.
    ///
    /// # Errors
    ///
    /// The message was not taken: nobody reads the stream any more, or this thread has to read first
    /// ([`SendError::Full`]).
    pub fn send(&mut self, message: T) -> Result<(), SendError<T>> {
        let queue = &self.queue;
        if queue.is_closed() {
            return Err(SendError::Closed(message));
        }
        if queue.call.0.borrow().is_none() && queue.is_full() {
            return Err(SendError::Full(message));
        }
        queue.push(message);
        let Some(call) = queue.call.call() else { return Ok(()) };
        loop {
            call.drive();
            if queue.is_empty() && !call.is_over() {
                return Ok(());
            }
            if call.is_over() || queue.is_closed() {
                return queue.take_back().map_or(Ok(()), |it| Err(SendError::Closed(it)));
            }
            if call.is_choked() {
                return queue.take_back().map_or(Ok(()), |it| Err(SendError::Full(it)));
            }
            call.turn();
        }
    }
}

impl<T> SendStream<T> for StreamSender<T> {
    async fn send(&mut self, message: T) -> Result<(), SendError<T>> {
        Self::send(self, message)
    }

    fn fail(self, status: Status) {
        Self::fail(self, status);
    }

    fn is_closed(&self) -> bool {
        Self::is_closed(self)
    }
}

/// A call's stream on its way out, whatever its values are.
trait Outgoing {
    /// Sends what may be sent.
    fn drive(&self);
    /// Whether nothing more can be sent.
    fn is_over(&self) -> bool;
    /// Whether the server may be waiting for this thread to read.
    fn is_choked(&self) -> bool;
    /// Lets the connection make progress.
    fn turn(&self);
}

type OutgoingPump<I, T> = Pump<I, T, Streaming<T>, StreamWriter>;

impl<I: Encode<T>, T> Outgoing for RefCell<OutgoingPump<I, T>> {
    fn drive(&self) {
        // A stream that reads from its own call re-enters here.
        if let Ok(mut pump) = self.try_borrow_mut() {
            let _ = Pin::new(&mut *pump).poll(&mut Context::from_waker(Waker::noop()));
            pump.writer.push();
        }
    }

    fn is_over(&self) -> bool {
        let Ok(mut pump) = self.try_borrow_mut() else { return false };
        let mut context = Context::from_waker(Waker::noop());
        matches!(pump.writer.poll_ready(&mut context), Poll::Ready(Err(Closed)))
    }

    fn is_choked(&self) -> bool {
        self.try_borrow().is_ok_and(|pump| pump.writer.is_choked())
    }

    fn turn(&self) {
        if let Ok(pump) = self.try_borrow() {
            pump.writer.turn();
        }
    }
}

/// A call with what it sends: waiting for the call also drives the sending.
#[doc(hidden)]
pub struct Call {
    call: StreamCall,
    outgoing: Option<Rc<dyn Outgoing>>,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("call", &self.call).finish_non_exhaustive()
    }
}

fn drive(outgoing: Option<&Rc<dyn Outgoing>>) {
    if let Some(outgoing) = outgoing {
        outgoing.drive();
    }
}

impl StreamHandle for Call {
    type Reader = Reader;

    fn poll_opened(&mut self, context: &mut Context<'_>) -> Poll<Result<Opening, Outcome>> {
        drive(self.outgoing.as_ref());
        self.call.poll_opened(context)
    }

    fn poll_outcome(&mut self, context: &mut Context<'_>) -> Poll<Outcome> {
        drive(self.outgoing.as_ref());
        self.call.poll_outcome(context)
    }

    fn into_reader(self) -> Option<Reader> {
        let Self { call, outgoing } = self;
        call.into_reader().map(|reader| Reader { reader, outgoing })
    }
}

/// The source that a stream is read from, with what its call sends.
#[doc(hidden)]
pub struct Reader {
    reader: StreamReader,
    outgoing: Option<Rc<dyn Outgoing>>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("reader", &self.reader).finish_non_exhaustive()
    }
}

impl ReadMessages for Reader {
    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Message, StreamFailure>>> {
        drive(self.outgoing.as_ref());
        self.reader.poll_next(context)
    }
}

impl StreamTransport for Channel {
    type Streaming<T: 'static> = Streaming<T>;
    type Sender<T: 'static> = StreamSender<T>;
    type Call = Call;
    type Writer = StreamWriter;

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
            let (call, writer) = Self::stream(&channel, kind, head, timeout, encode)?;
            Ok(StartedCall {
                handle: Call { call, outgoing: None },
                writer,
                listeners: EndListeners::default(),
            })
        }
    }

    fn send<I, T>(&self, stream: Streaming<T>, begun: &mut StartedOn<Self>)
    where
        I: Encode<T> + 'static,
        T: 'static,
    {
        let Some(writer) = begun.writer.take() else { return };
        let queue = match &stream.source {
            Source::Queue(queue) => Some(Rc::clone(&queue.0)),
            Source::Stream(_) | Source::Wire(_) | Source::Over => None,
        };
        let pump: Rc<dyn Outgoing> =
            Rc::new(RefCell::new(OutgoingPump::<I, T>::new(stream, writer)));
        if let Some(queue) = queue {
            *queue.call.0.borrow_mut() = Some(Rc::downgrade(&pump));
        }
        pump.drive();
        begun.handle.outgoing = Some(pump);
    }

    fn receive<T: 'static>(wire: Wire<T, Reader>) -> Streaming<T> {
        Streaming::from_wire(wire)
    }

    fn turn(&self) -> bool {
        Self::turn(self);
        true
    }

    /// The futures of this channel block where others would be pending.
    fn block_on<F: Future>(&self, future: F) -> Result<F::Output, NotSent> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Ok(output),
            Poll::Pending => Err(NotSent::WouldBlock),
        }
    }
}
