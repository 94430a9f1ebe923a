//! A short queue between two threads. Either side may wait for the other.

use atomic_waker::AtomicWaker;
use std::sync::Arc;
use std::task::{Context, Poll};

#[derive(Debug, Default)]
struct Wakers {
    sender: AtomicWaker,
    receiver: AtomicWaker,
}

/// The sending end. Dropping it ends the queue: the receiver still gets what is in it.
#[derive(Debug)]
pub struct QueueSender<T> {
    /// `None` only while it is dropped.
    items: Option<flume::Sender<T>>,
    max: usize,
    wakers: Arc<Wakers>,
}

/// The receiving end. Dropping it drops what is in the queue.
#[derive(Debug)]
pub struct QueueReceiver<T> {
    /// `None` only while it is dropped.
    items: Option<flume::Receiver<T>>,
    wakers: Arc<Wakers>,
}

/// A queue in which `max` items may wait.
#[must_use]
pub fn queue<T>(max: usize) -> (QueueSender<T>, QueueReceiver<T>) {
    let (sender, receiver) = flume::unbounded();
    let wakers = Arc::<Wakers>::default();
    let receiver = QueueReceiver { items: Some(receiver), wakers: Arc::clone(&wakers) };
    (QueueSender { items: Some(sender), max, wakers }, receiver)
}

impl<T> QueueSender<T> {
    /// Whether the receiver is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.items.as_ref().is_none_or(flume::Sender::is_disconnected)
    }

    /// Puts an item in, even when there is no room.
    ///
    /// # Errors
    ///
    /// The receiver is gone.
    pub fn push(&mut self, item: T) -> Result<(), T> {
        let Some(items) = &self.items else { return Err(item) };
        items.send(item).map_err(|flume::SendError(item)| item)?;
        self.wakers.receiver.wake();
        Ok(())
    }

    /// Waits for room, or until the receiver is gone.
    pub fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // There is only one sender, so room that is found stays.
        let is_ready = |items: &flume::Sender<T>| items.len() < self.max || items.is_disconnected();
        let Some(items) = self.items.as_ref().filter(|&items| !is_ready(items)) else {
            return Poll::Ready(());
        };
        self.wakers.sender.register(context.waker());
        if is_ready(items) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Waits until the receiver is gone.
    pub fn poll_closed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.wakers.sender.register(context.waker());
        if self.is_closed() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl<T> Drop for QueueSender<T> {
    fn drop(&mut self) {
        self.items = None;
        self.wakers.receiver.wake();
    }
}

impl<T> QueueReceiver<T> {
    /// The next item; `None` after the last item of a sender that is gone.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<T>> {
        let Some(items) = &self.items else { return Poll::Ready(None) };
        let item = match items.try_recv() {
            Err(flume::TryRecvError::Empty) => {
                self.wakers.receiver.register(context.waker());
                items.try_recv()
            }
            item => item,
        };
        match item {
            Ok(item) => {
                self.wakers.sender.wake();
                Poll::Ready(Some(item))
            }
            Err(flume::TryRecvError::Empty) => Poll::Pending,
            Err(flume::TryRecvError::Disconnected) => Poll::Ready(None),
        }
    }
}

impl<T> Drop for QueueReceiver<T> {
    fn drop(&mut self) {
        if let Some(items) = self.items.take() {
            drop(items.drain());
        }
        self.wakers.sender.wake();
    }
}
