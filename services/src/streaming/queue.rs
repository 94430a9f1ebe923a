//! The queue between a sender and its stream, on one thread.

use corewire_codec::Status;
use futures_core::Stream;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::send_error::SendError;

/// Messages that may wait between a sender and its stream.
pub(super) const ITEMS_MAX: usize = 8;

/// What a sender and its stream share: items, and with a blocking channel the call `C` that takes them.
pub struct Queue<T, C = ()> {
    state: RefCell<State<T>>,
    #[cfg_attr(
        not(feature = "blocking"),
        expect(dead_code, reason = "only blocking senders use it")
    )]
    pub(super) call: C,
}

struct State<T> {
    items: VecDeque<Result<T, Status>>,
    reader: Option<Waker>,
    sender: Option<Waker>,
    reader_gone: bool,
    sender_gone: bool,
}

impl<T, C> fmt::Debug for Queue<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

/// The stream's end. Dropping it drops what is in the queue.
#[derive(Debug)]
pub struct QueueReceiver<T, C = ()>(pub(super) Rc<Queue<T, C>>);

impl<T, C> Stream for QueueReceiver<T, C> {
    type Item = Result<T, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let (item, sender) = {
            let state = &mut *self.0.state.borrow_mut();
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
}

impl<T, C> Drop for QueueReceiver<T, C> {
    fn drop(&mut self) {
        let (items, sender) = {
            let state = &mut *self.0.state.borrow_mut();
            state.reader_gone = true;
            (core::mem::take(&mut state.items), state.sender.take())
        };
        drop(items);
        wake(sender);
    }
}

impl<T, C: Default> Queue<T, C> {
    /// The two ends of a new queue.
    pub(super) fn ends() -> (Rc<Self>, QueueReceiver<T, C>) {
        let state = RefCell::new(State {
            items: VecDeque::new(),
            reader: None,
            sender: None,
            reader_gone: false,
            sender_gone: false,
        });
        let queue = Rc::new(Self { state, call: C::default() });
        (Rc::clone(&queue), QueueReceiver(queue))
    }
}

impl<T, C> Queue<T, C> {
    /// Waits for room, and puts the message in.
    pub(super) fn poll_send(
        &self,
        message: &mut Option<T>,
        context: &Context<'_>,
    ) -> Poll<Result<(), SendError<T>>> {
        let (sent, reader) = {
            let state = &mut *self.state.borrow_mut();
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
    }

    /// Waits until nobody reads any more.
    pub(super) fn poll_closed(&self, context: &Context<'_>) -> Poll<()> {
        let state = &mut *self.state.borrow_mut();
        if state.reader_gone {
            return Poll::Ready(());
        }
        state.sender = Some(context.waker().clone());
        Poll::Pending
    }

    /// Whether nobody reads any more.
    pub(super) fn is_closed(&self) -> bool {
        self.state.borrow().reader_gone
    }

    /// Ends the queue, with a failure as the last item if there is one.
    pub(super) fn end(&self, failure: Option<Status>) {
        let reader = {
            let state = &mut *self.state.borrow_mut();
            state.sender_gone = true;
            if !state.reader_gone {
                state.items.extend(failure.map(Err));
            }
            state.reader.take()
        };
        wake(reader);
    }
}

/// For a sender that does not wait.
#[cfg(feature = "blocking")]
impl<T, C> Queue<T, C> {
    pub(super) fn is_full(&self) -> bool {
        self.state.borrow().items.len() >= ITEMS_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state.borrow().items.is_empty()
    }

    /// Puts a message in, even when there is no room.
    pub(super) fn push(&self, message: T) {
        let reader = {
            let state = &mut *self.state.borrow_mut();
            state.items.push_back(Ok(message));
            state.reader.take()
        };
        wake(reader);
    }

    /// Takes the message out that was put in last, if nobody else has.
    pub(super) fn take_back(&self) -> Option<T> {
        self.state.borrow_mut().items.pop_back()?.ok()
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
