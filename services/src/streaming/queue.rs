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

/// What senders and their stream share: items, and with a blocking channel the call `C` that takes them.
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
    /// Senders that wait.
    waiting: Vec<Waker>,
    reader_gone: bool,
    /// No further item comes when there are none.
    senders: usize,
}

impl<T> State<T> {
    /// Whether nothing is taken any more: nobody reads, or a sender has failed the stream.
    fn is_closed(&self) -> bool {
        self.reader_gone || self.senders == 0
    }

    fn wait(&mut self, context: &Context<'_>) {
        if !self.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            self.waiting.push(context.waker().clone());
        }
    }
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
        let (item, senders) = {
            let state = &mut *self.0.state.borrow_mut();
            let Some(item) = state.items.pop_front() else {
                if state.senders == 0 {
                    return Poll::Ready(None);
                }
                state.reader = Some(context.waker().clone());
                return Poll::Pending;
            };
            (item, core::mem::take(&mut state.waiting))
        };
        wake(senders);
        Poll::Ready(Some(item))
    }
}

impl<T, C> Drop for QueueReceiver<T, C> {
    fn drop(&mut self) {
        let (items, senders) = {
            let state = &mut *self.0.state.borrow_mut();
            state.reader_gone = true;
            (core::mem::take(&mut state.items), core::mem::take(&mut state.waiting))
        };
        drop(items);
        wake(senders);
    }
}

impl<T, C: Default> Queue<T, C> {
    /// The two ends of a new queue.
    pub(super) fn ends() -> (Rc<Self>, QueueReceiver<T, C>) {
        let state = RefCell::new(State {
            items: VecDeque::new(),
            reader: None,
            waiting: Vec::new(),
            reader_gone: false,
            senders: 1,
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
            if !state.is_closed() && state.items.len() >= ITEMS_MAX {
                state.wait(context);
                return Poll::Pending;
            }
            let Some(message) = message.take() else { return Poll::Ready(Ok(())) };
            if state.is_closed() {
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
        if state.is_closed() {
            return Poll::Ready(());
        }
        state.wait(context);
        Poll::Pending
    }

    /// Whether nobody reads any more, or a sender has failed the stream.
    pub(super) fn is_closed(&self) -> bool {
        self.state.borrow().is_closed()
    }

    /// There is another sender.
    pub(super) fn add_sender(&self) {
        let state = &mut *self.state.borrow_mut();
        // None can be added to a stream that has failed.
        if state.senders > 0 {
            state.senders += 1;
        }
    }

    /// A sender is gone. The last one ends the queue; with a failure, which is the last item then, any of them does.
    pub(super) fn end(&self, failure: Option<Status>) {
        let (reader, senders) = {
            let state = &mut *self.state.borrow_mut();
            if state.senders == 0 {
                return;
            }
            state.senders = if failure.is_some() { 0 } else { state.senders - 1 };
            if state.senders > 0 {
                return;
            }
            if !state.reader_gone {
                state.items.extend(failure.map(Err));
            }
            (state.reader.take(), core::mem::take(&mut state.waiting))
        };
        wake(reader);
        wake(senders);
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

fn wake(wakers: impl IntoIterator<Item = Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}
