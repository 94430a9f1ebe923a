//! Who sleeps on a shard, and until when.

use slab::Slab;
use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::task::Waker;
use std::time::Instant;

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
    pub(crate) fn insert(&self, until: Instant, waker: Waker) -> (u64, usize) {
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

    /// Has another waker woken from now on.
    pub(crate) fn set_waker(&self, place: usize, waker: &Waker) {
        if let Some((_, known)) = self.inner.borrow_mut().wakers.get_mut(place) {
            known.clone_from(waker);
        }
    }

    /// Nobody sleeps here any more.
    pub(crate) fn remove(&self, place: usize) {
        let waker = self.inner.borrow_mut().wakers.try_remove(place);
        drop(waker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

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
