//! A client that blocks the calling thread, on std alone, and its streams.
//!
//! Nothing moves while the thread does something else: what a stream sends goes out when it is sent; what
//! arrives is read whenever the thread waits for anything on its channel.

use corewire_client::blocking::{StreamCall, StreamReader, StreamWriter};
use corewire_client::{
    CallFailure, Closed, Message, MethodName, NotSent, Opening, Outcome, ReadMessages,
    StreamFailure, StreamHandle, WriteMessages,
};
use corewire_codec::{Decode, Encode, FrameWriter, RequestHead, Status};
use corewire_proto::StreamKind;
use futures_core::Stream;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::channel::ITEMS_MAX;
use super::pump::Pump;
use super::wire::Wire;
use super::{Begun, BegunOn, SendError, SendStream, StreamTransport, Watch};

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
/// [`corewire::Streaming`](crate::Streaming) says of items, bounds and giving up holds here, too.
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
pub struct Streaming<T> {
    source: Source<T>,
}

type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>>>>;

enum Source<T> {
    Stream(BoxStream<T>),
    Queue(Rc<Queue<T>>),
    Wire(Wire<T, Reader>),
    Over,
}

impl<T> fmt::Debug for Streaming<T> {
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
        Self { source: Source::Stream(Box::pin(stream)) }
    }

    /// A stream to send, and the sender that fills it. Give the stream to a call and begin that before more
    /// than eight messages are sent.
    #[must_use]
    pub fn channel() -> (StreamSender<T>, Self) {
        let queue = Rc::new(Queue(RefCell::new(State {
            items: VecDeque::new(),
            call: None,
            sender_gone: false,
            reader_gone: false,
        })));
        let sender = StreamSender { queue: Rc::clone(&queue), failed: false };
        (sender, Self { source: Source::Queue(queue) })
    }

    /// A stream without messages.
    #[must_use]
    pub fn empty() -> Self {
        Self { source: Source::Over }
    }

    /// Polls once, without waiting.
    fn look(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<T, Status>>> {
        let item = match &mut self.source {
            Source::Stream(stream) => stream.as_mut().poll_next(context),
            Source::Queue(queue) => queue.pop(),
            Source::Wire(wire) => wire.poll(context),
            Source::Over => return Poll::Ready(None),
        };
        // An error is the last item, whichever side made it.
        if let Poll::Ready(None | Some(Err(_))) = item {
            self.end();
        }
        item
    }

    /// Lets the connection make progress, if the stream comes over one.
    fn turn(&self) -> bool {
        match &self.source {
            Source::Wire(wire) => {
                wire.reader.reader.turn();
                true
            }
            Source::Stream(_) | Source::Queue(_) | Source::Over => false,
        }
    }

    fn end(&mut self) {
        if let Source::Queue(queue) = core::mem::replace(&mut self.source, Source::Over) {
            let state = &mut *queue.0.borrow_mut();
            state.reader_gone = true;
            state.items.clear();
        }
    }
}

impl<T> Stream for Streaming<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let item = self.look(context);
            if item.is_ready() || !self.turn() {
                return item;
            }
        }
    }
}

impl<T> Iterator for Streaming<T> {
    type Item = Result<T, Status>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut context = Context::from_waker(Waker::noop());
        loop {
            match self.look(&mut context) {
                Poll::Ready(item) => return item,
                Poll::Pending if self.turn() => {}
                Poll::Pending => {
                    let nobody =
                        "nothing brings this stream's next message while this thread waits";
                    return Some(Err(Status::failed_precondition(nobody)));
                }
            }
        }
    }
}

impl<T> Drop for Streaming<T> {
    fn drop(&mut self) {
        self.end();
    }
}

/// What sender and stream share.
struct Queue<T>(RefCell<State<T>>);

struct State<T> {
    items: VecDeque<Result<T, Status>>,
    /// The call that the stream was given to.
    call: Option<Weak<dyn Outgoing>>,
    sender_gone: bool,
    reader_gone: bool,
}

impl<T> Queue<T> {
    fn pop(&self) -> Poll<Option<Result<T, Status>>> {
        let state = &mut *self.0.borrow_mut();
        match state.items.pop_front() {
            None if !state.sender_gone => Poll::Pending,
            item => Poll::Ready(item),
        }
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

/// The sender of a [`Streaming`].
///
/// Dropping it ends the stream in the ordinary way, behind what was sent; a sender that a panic drops ends
/// it with `Internal`. [`fail`](Self::fail) ends it with a status.
pub struct StreamSender<T> {
    queue: Rc<Queue<T>>,
    failed: bool,
}

impl<T> fmt::Debug for StreamSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamSender").field("closed", &self.is_closed()).finish_non_exhaustive()
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
        let call = {
            let state = &mut *self.queue.0.borrow_mut();
            if state.reader_gone {
                return Err(SendError::Closed(message));
            }
            if state.call.is_none() && state.items.len() >= ITEMS_MAX {
                return Err(SendError::Full(message));
            }
            state.items.push_back(Ok(message));
            state.call.as_ref().and_then(Weak::upgrade)
        };
        let Some(call) = call else { return Ok(()) };
        loop {
            call.drive();
            if self.queue.0.borrow().items.is_empty() && !call.is_over() {
                return Ok(());
            }
            let take_back = |queue: &Queue<T>| match queue.0.borrow_mut().items.pop_back() {
                Some(Ok(message)) => Some(message),
                Some(Err(_)) | None => None,
            };
            if call.is_over() || self.queue.0.borrow().reader_gone {
                return take_back(&self.queue).map_or(Ok(()), |it| Err(SendError::Closed(it)));
            }
            if call.is_choked() {
                return take_back(&self.queue).map_or(Ok(()), |it| Err(SendError::Full(it)));
            }
            call.turn();
        }
    }

    /// Ends the stream with a status, behind what was sent.
    pub fn fail(mut self, status: Status) {
        self.failed = true;
        self.end(Some(status));
    }

    /// Whether nobody reads the stream any more, as far as this thread has heard.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.queue.0.borrow().reader_gone
    }

    fn end(&self, failure: Option<Status>) {
        let call = {
            let state = &mut *self.queue.0.borrow_mut();
            state.sender_gone = true;
            if !state.reader_gone {
                state.items.extend(failure.map(Err));
            }
            state.call.as_ref().and_then(Weak::upgrade)
        };
        // What cannot be sent now for lack of credit is sent when the call is waited for.
        if let Some(call) = call {
            call.drive();
        }
    }
}

impl<T> Drop for StreamSender<T> {
    fn drop(&mut self) {
        if !self.failed {
            let panics = std::thread::panicking();
            self.end(panics.then(|| Status::internal("the stream's sender panicked")));
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
    ) -> impl Future<Output = Result<BegunOn<Self>, CallFailure>> + use<E>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        let channel = self.clone();
        async move {
            let (call, writer) = Self::stream(&channel, kind, head, timeout, encode)?;
            Ok(Begun { handle: Call { call, outgoing: None }, writer, watch: Watch::default() })
        }
    }

    fn send<I, T>(&self, stream: Streaming<T>, begun: &mut BegunOn<Self>)
    where
        I: Encode<T> + 'static,
        T: 'static,
    {
        let Some(writer) = begun.writer.take() else { return };
        let queue = match &stream.source {
            Source::Queue(queue) => Some(Rc::clone(queue)),
            _ => None,
        };
        let pump: Rc<dyn Outgoing> =
            Rc::new(RefCell::new(OutgoingPump::<I, T>::new(stream, writer)));
        if let Some(queue) = queue {
            queue.0.borrow_mut().call = Some(Rc::downgrade(&pump));
        }
        pump.drive();
        begun.handle.outgoing = Some(pump);
    }

    fn receive<D, R>(reader: Reader, watch: Watch) -> Streaming<R>
    where
        D: Decode<R>,
        R: 'static,
    {
        Streaming { source: Source::Wire(Wire::new::<D>(reader, watch)) }
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
