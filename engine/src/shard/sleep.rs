//! Sleeping on a shard: timers of the driver's own.

use slab::Slab;
use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::shard::context::Local;

/// How many heap entries of sleeps that are over may lie there in addition to the live ones.
const STALE_MAX: usize = 1024;

/// The sleeps of one shard: a heap of times, and which waker each one wakes.
///
/// Making and dropping one costs O(log n) of those that sleep at once. A dropped sleep leaves its heap
/// entry, which is removed when its time comes or when such entries are the majority.
#[derive(Debug, Default)]
pub(crate) struct Sleepers {
    inner: RefCell<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    heap: BinaryHeap<Reverse<(Instant, u64, usize)>>,
    wakers: Slab<(u64, Waker)>,
    made: u64,
}

impl Sleepers {
    fn insert(&self, until: Instant, waker: Waker) -> (u64, usize) {
        let inner = &mut *self.inner.borrow_mut();
        inner.made += 1;
        let number = inner.made;
        let place = inner.wakers.insert((number, waker));
        inner.heap.push(Reverse((until, number, place)));
        if inner.heap.len() > 2 * inner.wakers.len() + STALE_MAX {
            let wakers = &inner.wakers;
            let live = |number, place| wakers.get(place).is_some_and(|(own, _)| *own == number);
            inner.heap.retain(|Reverse((_, number, place))| live(*number, *place));
        }
        (number, place)
    }

    /// The earliest time at which somebody may have to be woken.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.inner.borrow().heap.peek().map(|Reverse((until, _, _))| *until)
    }

    /// Wakes every sleep whose time has come.
    pub(crate) fn wake_due(&self, now: Instant) {
        while let Some(waker) = self.pop_due(now) {
            waker.wake();
        }
    }

    fn pop_due(&self, now: Instant) -> Option<Waker> {
        let inner = &mut *self.inner.borrow_mut();
        loop {
            let Reverse((until, number, place)) = *inner.heap.peek()?;
            if until > now {
                return None;
            }
            inner.heap.pop();
            if let Some((own, waker)) = inner.wakers.get(place)
                && *own == number
            {
                return Some(waker.clone());
            }
        }
    }
}

/// Completes when its time has come. Made by [`sleep`].
#[derive(Debug)]
pub struct Sleep {
    local: Option<Rc<Local>>,
    until: Option<Instant>,
    place: Option<(u64, usize)>,
}

/// Completes after `duration`, never earlier and up to about a millisecond later: a shard that dozes
/// counts in milliseconds, and one that is busy looks at its sleeps once per turn.
///
/// # Panics
///
/// When it is awaited on a thread that is not a shard's.
pub fn sleep(duration: Duration) -> Sleep {
    // A time past what the clock can represent is never.
    Sleep { local: None, until: crate::shard::clock::clock().checked_add(duration), place: None }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(until) = self.until else { return Poll::Pending };
        if until <= crate::shard::clock::clock() {
            return Poll::Ready(());
        }
        let local = match &self.local {
            Some(local) => Rc::clone(local),
            #[allow(clippy::panic, reason = "a mistake in the program, documented")]
            None => Local::current().unwrap_or_else(|| {
                panic!(
                    "corewire::sleep works on shards; run this code with corewire::block_on_shard"
                )
            }),
        };
        local.note_known_wait();
        match self.place {
            Some((_, place)) => {
                if let Some((_, waker)) = local.sleepers.inner.borrow_mut().wakers.get_mut(place) {
                    waker.clone_from(context.waker());
                }
            }
            None => {
                self.place = Some(local.sleepers.insert(until, context.waker().clone()));
                self.local = Some(local);
            }
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let (Some(local), Some((_, place))) = (&self.local, self.place) {
            let waker = local.sleepers.inner.borrow_mut().wakers.try_remove(place);
            drop(waker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeps_wake_in_time_and_leave_nothing() {
        let sleepers = Sleepers::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let places: Vec<_> =
            [30, 10, 20].map(|ms| sleepers.insert(at(ms), Waker::noop().clone())).into();
        assert_eq!(sleepers.next(), Some(at(10)));
        sleepers.wake_due(at(9));
        assert_eq!(sleepers.next(), Some(at(10)), "nothing is due");
        sleepers.wake_due(at(20));
        assert_eq!(sleepers.next(), Some(at(30)));
        for (_, place) in places {
            sleepers.inner.borrow_mut().wakers.remove(place);
        }
        // Sleeps that are dropped early do not pile up.
        for _ in 0..10 * STALE_MAX {
            let (_, place) = sleepers.insert(at(1000), Waker::noop().clone());
            sleepers.inner.borrow_mut().wakers.remove(place);
        }
        assert!(sleepers.inner.borrow().heap.len() <= STALE_MAX + 2);
    }
}
