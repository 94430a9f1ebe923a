//! A stream that a sender fills, on one shard.

use corewire_codec::Status;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Messages that may wait between a sender and its stream.
pub(super) const ITEMS_MAX: usize = 8;

/// What a sender and its stream share.
pub(super) struct Queue<T>(RefCell<State<T>>);

struct State<T> {
    items: VecDeque<Result<T, Status>>,
    reader: Option<Waker>,
    sender: Option<Waker>,
    reader_gone: bool,
    sender_gone: bool,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self(RefCell::new(State {
            items: VecDeque::new(),
            reader: None,
            sender: None,
            reader_gone: false,
            sender_gone: false,
        })))
    }

    pub(super) fn poll_next(&self, context: &Context<'_>) -> Poll<Option<Result<T, Status>>> {
        let (item, sender) = {
            let state = &mut *self.0.borrow_mut();
            let Some(item) = state.items.pop_front() else {
                if state.sender_gone {
                    return Poll::Ready(None);
                }
                state.reader = Some(context.waker().clone());
                return Poll::Pending;
            };
            (item, state.sender.take())
        };
        wake(sender);
        Poll::Ready(Some(item))
    }

    pub(super) fn drop_reader(&self) {
        let (items, sender) = {
            let state = &mut *self.0.borrow_mut();
            state.reader_gone = true;
            (core::mem::take(&mut state.items), state.sender.take())
        };
        drop(items);
        wake(sender);
    }

    /// Ends the queue, with a failure as the last item if there is one.
    fn end(&self, failure: Option<Status>) {
        let reader = {
            let state = &mut *self.0.borrow_mut();
            state.sender_gone = true;
            if !state.reader_gone {
                state.items.extend(failure.map(Err));
            }
            state.reader.take()
        };
        wake(reader);
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The sender of a [`Streaming`](crate::Streaming).
///
/// Dropping it ends the stream in the ordinary way, behind what was sent; a sender that a panic drops
/// ends it with `Internal`. [`fail`](Self::fail) ends it with a status.
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
    pub(super) fn new(queue: Rc<Queue<T>>) -> Self {
        Self { queue, failed: false }
    }

    /// Sends a message; waits while the stream cannot take it: while its credit is used up and eight
    /// messages wait.
    ///
    /// Cancel-safe in this sense: a future dropped before it is ready has sent nothing, and its message
    /// is gone.
    ///
    /// # Errors
    ///
    /// Nobody reads the stream any more; the message is given back.
    pub async fn send(&mut self, message: T) -> Result<(), SendError<T>> {
        let mut message = Some(message);
        poll_fn(|context| {
            let (sent, reader) = {
                let state = &mut *self.queue.0.borrow_mut();
                if !state.reader_gone && state.items.len() >= ITEMS_MAX {
                    state.sender = Some(context.waker().clone());
                    return Poll::Pending;
                }
                let Some(message) = message.take() else { return Poll::Ready(Ok(())) };
                if state.reader_gone {
                    (Err(SendError::Closed(message)), None)
                } else {
                    state.items.push_back(Ok(message));
                    (Ok(()), state.reader.take())
                }
            };
            wake(reader);
            Poll::Ready(sent)
        })
        .await
    }

    /// Ends the stream with a status, behind what was sent.
    pub fn fail(mut self, status: Status) {
        self.failed = true;
        self.queue.end(Some(status));
    }

    /// Whether nobody reads the stream any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.queue.0.borrow().reader_gone
    }

    /// Waits until nobody reads the stream any more. Cancel-safe.
    pub async fn closed(&mut self) {
        poll_fn(|context| {
            let state = &mut *self.queue.0.borrow_mut();
            if state.reader_gone {
                return Poll::Ready(());
            }
            state.sender = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl<T> Drop for StreamSender<T> {
    fn drop(&mut self) {
        if !self.failed {
            let panics = std::thread::panicking();
            self.queue.end(panics.then(|| Status::internal("the stream's sender panicked")));
        }
    }
}

/// Why a message was not sent. It carries the message.
///
/// ```
/// use corewire::{SendError, Status, StatusCode};
///
/// let error = SendError::Closed("a message");
/// assert_eq!(Status::from(error).code(), StatusCode::Cancelled);
/// assert_eq!(error.into_message(), "a message");
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SendError<T> {
    /// Nobody reads the stream any more.
    Closed(T),
    /// This thread would wait for itself. Only a blocking channel's sender returns this: before its stream
    /// was given to a call that has begun, when eight messages wait; and in a call that streams both ways,
    /// when credit is used up while so much of what the server sent is unread that the server may be
    /// waiting for this side to read. Read some of it and send the message again.
    Full(T),
    /// This thread must not sleep: it drives connections. Await the send instead.
    WouldBlock(T),
}

impl<T> SendError<T> {
    /// The message.
    pub fn into_message(self) -> T {
        match self {
            Self::Closed(message) | Self::Full(message) | Self::WouldBlock(message) => message,
        }
    }

    fn text(&self) -> &'static str {
        match self {
            Self::Closed(_) => "nobody reads the stream any more",
            Self::Full(_) => "the stream takes no more before this thread reads what came",
            Self::WouldBlock(_) => "wait() would block a thread that drives connections",
        }
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed(_) => "Closed(..)",
            Self::Full(_) => "Full(..)",
            Self::WouldBlock(_) => "WouldBlock(..)",
        })
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl<T> std::error::Error for SendError<T> {}

impl<T> From<SendError<T>> for Status {
    fn from(error: SendError<T>) -> Self {
        match &error {
            SendError::Closed(_) => Self::cancelled(error.text()),
            SendError::Full(_) => Self::resource_exhausted(error.text()),
            SendError::WouldBlock(_) => Self::failed_precondition(error.text()),
        }
    }
}
