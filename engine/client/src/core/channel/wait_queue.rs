//! Calls that wait for a slot, for room or for the connection, in their order.

use std::collections::VecDeque;
use std::time::Instant;

use corewire_codec::request_flags;

use super::waiter::{PendingCall, Waiter};
use crate::failure::CallFailure;

/// A call that waits, with its number among all that ever waited.
type Numbered<W> = (u64, PendingCall<W>);

/// The queue. One-way calls take no slot, so they have a part of their own: they do not wait behind calls that wait for
/// one. What it costs to keep deadlines and to forget abandoned calls is spread over many.
#[derive(Debug)]
pub(super) struct WaitQueue<W: Waiter> {
    calls: VecDeque<Numbered<W>>,
    one_way: VecDeque<Numbered<W>>,
    /// The number of the last call.
    last: u64,
    /// No deadline in the queue is earlier.
    earliest: Option<Instant>,
    /// How many may be abandoned and are still in the queue.
    abandoned: usize,
}

impl<W: Waiter> Default for WaitQueue<W> {
    fn default() -> Self {
        let (calls, one_way) = (VecDeque::new(), VecDeque::new());
        Self { calls, one_way, last: 0, earliest: None, abandoned: 0 }
    }
}

impl<W: Waiter> WaitQueue<W> {
    pub(super) fn len(&self) -> usize {
        self.calls.len() + self.one_way.len()
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.one_way.is_empty()
    }

    /// Whether one-way calls wait.
    #[inline]
    pub(super) fn has_one_way(&self) -> bool {
        !self.one_way.is_empty()
    }

    pub(super) fn push(&mut self, call: PendingCall<W>) {
        self.last += 1;
        self.put((self.last, call));
    }

    fn put(&mut self, call: Numbered<W>) {
        self.earliest = [self.deadline(), call.1.deadline].into_iter().flatten().min();
        let is_one_way = call.1.head.flags & request_flags::ONE_WAY != 0;
        let part = if is_one_way { &mut self.one_way } else { &mut self.calls };
        part.push_back(call);
    }

    /// The first that somebody still waits for; without a free slot, the first that takes none. `None` also if that
    /// one `may` not go.
    pub(super) fn pop(
        &mut self,
        has_slot: bool,
        may: impl Fn(&PendingCall<W>) -> bool,
    ) -> Option<PendingCall<W>> {
        loop {
            let is_call = has_slot
                && match (self.calls.front(), self.one_way.front()) {
                    (Some((call, _)), Some((one_way, _))) => call < one_way,
                    (call, _) => call.is_some(),
                };
            let part = if is_call { &mut self.calls } else { &mut self.one_way };
            let (_, call) =
                part.pop_front_if(|(_, call)| call.waiter.is_abandoned() || may(call))?;
            if !call.waiter.is_abandoned() {
                // What is left may be mostly abandoned now, and may stay for long.
                self.forget_abandoned();
                return Some(call);
            }
            self.abandoned = self.abandoned.saturating_sub(1);
        }
    }

    /// A lower bound on the first deadline in the queue.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.earliest.filter(|_| !self.is_empty())
    }

    /// One of them may be abandoned. When that holds for half of the queue they are taken out.
    pub(super) fn handle_cancel(&mut self) {
        self.abandoned += 1;
        self.forget_abandoned();
    }

    fn forget_abandoned(&mut self) {
        if self.abandoned * 2 > self.len() {
            self.abandoned = 0;
            self.calls.retain(|(_, call)| !call.waiter.is_abandoned());
            self.one_way.retain(|(_, call)| !call.waiter.is_abandoned());
        }
    }

    fn drain(&mut self) -> impl Iterator<Item = Numbered<W>> + use<W> {
        self.abandoned = 0;
        let (calls, one_way) =
            (core::mem::take(&mut self.calls), core::mem::take(&mut self.one_way));
        calls.into_iter().chain(one_way)
    }

    /// Ends the calls whose time is over, and takes out the abandoned ones: nobody might come to do it later, and a
    /// channel goes on to connect as long as a call waits.
    #[inline]
    pub(super) fn expire(&mut self, now: Instant) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.expire_now(now);
        }
    }

    #[cold]
    fn expire_now(&mut self, now: Instant) {
        self.earliest = None;
        for (number, call) in self.drain() {
            if call.waiter.is_abandoned() {
                continue;
            }
            if call.deadline.is_some_and(|deadline| deadline <= now) {
                let failure = CallFailure::DeadlineExceeded { sent: false };
                call.waiter.complete(Err(failure));
            } else {
                self.put((number, call));
            }
        }
    }

    /// Ends all calls.
    pub(super) fn fail(&mut self, failure: &CallFailure) {
        for (_, call) in self.drain() {
            call.waiter.complete(Err(failure.clone()));
        }
    }
}

#[cfg(all(test, feature = "remote"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::time::Duration;

    use super::*;
    use crate::remote::command::Command;
    use crate::remote::command::tests::{awaited, noted};

    /// The simulator found a channel that went on to connect for a call that was given up.
    #[test]
    fn a_call_that_is_given_up_does_not_outlive_those_that_expire() {
        let (mut queue, now) = (WaitQueue::default(), Instant::now());
        let (given_up, caller) = awaited();
        queue.push(given_up.into());
        let mut outcomes = Vec::new();
        for _ in 0..2 {
            let (command, outcome) = noted();
            let deadline = Some(now + Duration::from_secs(1));
            queue.push(Command { deadline, ..command }.into());
            outcomes.push(outcome);
        }
        drop(caller);
        queue.handle_cancel();
        assert_eq!(queue.len(), 3, "one of three is too few to look through the queue");
        queue.expire(now + Duration::from_secs(1));
        assert!(outcomes.iter().all(|outcome| outcome.len() == 1));
        assert!(queue.is_empty(), "nobody waits any more");
    }
}
