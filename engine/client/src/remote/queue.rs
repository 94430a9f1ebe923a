//! A short queue from any number of threads to one. Either side may wait for the other.

use atomic_waker::AtomicWaker;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

/// Where a sender waits.
#[derive(Debug, Default)]
struct Place {
    waker: AtomicWaker,
    /// Whether the receiver will find it among those that wait.
    is_listed: AtomicBool,
}

/// A sending end; its clones send into the same queue. Dropping the last ends the queue: the receiver still gets what
/// is in it.
#[derive(Debug)]
pub struct QueueSender<T> {
    /// `None` only while it is dropped.
    items: Option<flume::Sender<T>>,
    max: usize,
    place: Arc<Place>,
    waiting: flume::Sender<Arc<Place>>,
    receiver: Arc<AtomicWaker>,
}

/// The receiving end. Dropping it drops what is in the queue.
#[derive(Debug)]
pub struct QueueReceiver<T> {
    /// `None` only while it is dropped.
    items: Option<flume::Receiver<T>>,
    /// Senders that wait.
    waiting: flume::Receiver<Arc<Place>>,
    waker: Arc<AtomicWaker>,
}

/// A queue in which `max` items may wait, and one more for each further sender.
#[must_use]
pub fn queue<T>(max: usize) -> (QueueSender<T>, QueueReceiver<T>) {
    let (sender, receiver) = flume::unbounded();
    let (wait, waiting) = flume::unbounded();
    let waker = Arc::<AtomicWaker>::default();
    let receiver = QueueReceiver { items: Some(receiver), waiting, waker: Arc::clone(&waker) };
    let place = Arc::default();
    (QueueSender { items: Some(sender), max, place, waiting: wait, receiver: waker }, receiver)
}

impl<T> Clone for QueueSender<T> {
    fn clone(&self) -> Self {
        Self {
            items: self.items.clone(),
            max: self.max,
            place: Arc::default(),
            waiting: self.waiting.clone(),
            receiver: Arc::clone(&self.receiver),
        }
    }
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
        self.receiver.wake();
        Ok(())
    }

    /// Has this task woken when the receiver takes an item or is dropped. What is waited for must be looked at again
    /// after it.
    fn wait(&self, context: &Context<'_>) {
        self.place.waker.register(context.waker());
        if !self.place.is_listed.swap(true, Ordering::AcqRel) {
            // If the receiver is gone there is nothing to wait for, as the second look tells.
            let _ = self.waiting.send(Arc::clone(&self.place));
        }
    }

    /// Waits for room, or until the receiver is gone.
    pub fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let is_ready = |items: &flume::Sender<T>| items.len() < self.max || items.is_disconnected();
        let Some(items) = self.items.as_ref().filter(|&items| !is_ready(items)) else {
            return Poll::Ready(());
        };
        self.wait(context);
        if is_ready(items) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Waits until the receiver is gone.
    pub fn poll_closed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.wait(context);
        if self.is_closed() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl<T> Drop for QueueSender<T> {
    fn drop(&mut self) {
        self.items = None;
        self.receiver.wake();
    }
}

impl<T> QueueReceiver<T> {
    /// The next item; `None` after the last item of a sender that is gone.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<T>> {
        let Some(items) = &self.items else { return Poll::Ready(None) };
        let item = match items.try_recv() {
            Err(flume::TryRecvError::Empty) => {
                self.waker.register(context.waker());
                items.try_recv()
            }
            item => item,
        };
        match item {
            Ok(item) => {
                self.wake_senders();
                Poll::Ready(Some(item))
            }
            Err(flume::TryRecvError::Empty) => Poll::Pending,
            Err(flume::TryRecvError::Disconnected) => Poll::Ready(None),
        }
    }

    fn wake_senders(&self) {
        for place in self.waiting.try_iter() {
            // Before the wake: who is woken may list himself again.
            place.is_listed.store(false, Ordering::Release);
            place.waker.wake();
        }
    }
}

impl<T> Drop for QueueReceiver<T> {
    fn drop(&mut self) {
        if let Some(items) = self.items.take() {
            drop(items.drain());
        }
        self.wake_senders();
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Wake, Waker};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    impl Woken {
        fn take(&self) -> bool {
            self.0.swap(false, Ordering::SeqCst)
        }
    }

    #[test]
    fn every_sender_that_waits_is_woken_and_the_last_one_ends_the_queue() {
        let (mut one, mut receiver) = queue(1);
        let mut two = one.clone();
        assert_eq!(one.push(1), Ok(()));
        let woken = [Arc::new(Woken::default()), Arc::new(Woken::default())];
        let wakers = woken.clone().map(Waker::from);
        let mut contexts = wakers.each_ref().map(Context::from_waker);
        let [first, second] = &mut contexts;
        for _ in 0..3 {
            assert!(one.poll_ready(first).is_pending());
        }
        assert!(two.poll_closed(second).is_pending());
        assert_eq!(receiver.waiting.len(), 2, "each waits in one place");
        let mut idle = Context::from_waker(Waker::noop());
        assert_eq!(receiver.poll_next(&mut idle), Poll::Ready(Some(1)));
        assert!(woken[0].take() && woken[1].take());
        assert!(one.poll_ready(first).is_ready());
        drop(one);
        assert!(receiver.poll_next(&mut idle).is_pending(), "there is another sender");
        assert_eq!(two.push(2), Ok(()));
        assert!(two.poll_closed(second).is_pending());
        drop(receiver);
        assert!(woken[1].take() && two.is_closed());
        assert_eq!(two.push(3), Err(3));
    }
}
