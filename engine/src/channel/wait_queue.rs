//! Callers that wait for something of their channel, in the order in which they began to wait.

use std::collections::VecDeque;
use std::task::{Context, Waker};
use std::time::Instant;

#[derive(Debug)]
struct Waiting {
    id: u64,
    waker: Waker,
    deadline: Option<Instant>,
}

/// A queue of waiting callers. Ids ascend along it, so that a caller that was woken in vain gets its place
/// back.
#[derive(Debug, Default)]
pub(super) struct WaitQueue {
    waiting: VecDeque<Waiting>,
    /// No deadline in the queue is earlier.
    earliest: Option<Instant>,
}

impl WaitQueue {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Where the caller with this id is; `None` once it was woken.
    fn place(&self, id: u64) -> Option<usize> {
        self.waiting.binary_search_by_key(&id, |waiting| waiting.id).ok()
    }

    pub(super) fn contains(&self, id: u64) -> bool {
        self.place(id).is_some()
    }

    /// From now on wakes the caller through this context, if it is in the queue; returns whether it is.
    pub(super) fn stay(&mut self, id: Option<u64>, context: &Context<'_>) -> bool {
        let place = id.and_then(|id| self.place(id));
        let Some(waiting) = place.and_then(|place| self.waiting.get_mut(place)) else {
            return false;
        };
        waiting.waker.clone_from(context.waker());
        true
    }

    /// Puts a caller that is not in the queue into it, by its id.
    pub(super) fn push(&mut self, id: u64, context: &Context<'_>, deadline: Option<Instant>) {
        self.earliest = [self.deadline(), deadline].into_iter().flatten().min();
        let place = self.waiting.partition_point(|waiting| waiting.id < id);
        self.waiting.insert(place, Waiting { id, waker: context.waker().clone(), deadline });
    }

    /// Takes a caller out; returns whether it was there.
    pub(super) fn remove(&mut self, id: u64) -> bool {
        self.place(id).and_then(|place| self.waiting.remove(place)).is_some()
    }

    /// Lets up to `count` callers try again.
    pub(super) fn wake(&mut self, count: usize) {
        let count = count.min(self.waiting.len());
        self.waiting.drain(..count).for_each(|waiting| waiting.waker.wake());
    }

    /// A time no later than the first deadline in the queue.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.earliest.filter(|_| !self.waiting.is_empty())
    }

    /// Wakes those whose deadline has passed; they find that out themselves.
    pub(super) fn wake_expired(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        self.earliest = None;
        let earliest = &mut self.earliest;
        self.waiting.retain(|waiting| {
            let Some(deadline) = waiting.deadline else { return true };
            if deadline <= now {
                waiting.waker.wake_by_ref();
                return false;
            }
            *earliest = Some(earliest.map_or(deadline, |at| at.min(deadline)));
            true
        });
    }
}
