//! Calls that wait for a slot or for the connection, in their order.

use std::collections::VecDeque;
use std::time::Instant;

use super::waiter::{PendingCall, Waiter};
use crate::failure::CallFailure;

/// The queue. What it costs to keep deadlines and to forget abandoned calls is spread over many.
#[derive(Debug)]
pub(super) struct WaitQueue<W: Waiter> {
    calls: VecDeque<PendingCall<W>>,
    /// No deadline in the queue is earlier.
    earliest: Option<Instant>,
    /// How many may be abandoned and are still in the queue.
    abandoned: usize,
}

impl<W: Waiter> Default for WaitQueue<W> {
    fn default() -> Self {
        Self { calls: VecDeque::new(), earliest: None, abandoned: 0 }
    }
}

impl<W: Waiter> WaitQueue<W> {
    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    pub(super) fn push(&mut self, call: PendingCall<W>) {
        self.earliest = [self.deadline(), call.deadline].into_iter().flatten().min();
        self.calls.push_back(call);
    }

    /// The first that somebody still waits for.
    pub(super) fn pop(&mut self) -> Option<PendingCall<W>> {
        loop {
            let call = self.calls.pop_front()?;
            if !call.waiter.is_abandoned() {
                return Some(call);
            }
            self.abandoned = self.abandoned.saturating_sub(1);
        }
    }

    /// A time no later than that at which the first of them gives up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.earliest.filter(|_| !self.calls.is_empty())
    }

    /// One of them may be abandoned. When that holds for half of the queue they are taken out.
    pub(super) fn handle_cancel(&mut self) {
        self.abandoned += 1;
        if self.abandoned * 2 > self.calls.len() {
            self.abandoned = 0;
            self.calls.retain(|call| !call.waiter.is_abandoned());
        }
    }

    /// Ends the calls whose time is over, and takes out the abandoned ones: nobody might come to do it later, and a
    /// channel goes on to connect as long as a call waits.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        self.earliest = None;
        self.abandoned = 0;
        for call in core::mem::take(&mut self.calls) {
            if call.waiter.is_abandoned() {
                continue;
            }
            if call.deadline.is_some_and(|deadline| deadline <= now) {
                let failure = CallFailure::DeadlineExceeded { sent: false };
                call.waiter.complete(Err(failure));
            } else {
                self.push(call);
            }
        }
    }

    /// Ends all calls.
    pub(super) fn fail(&mut self, failure: &CallFailure) {
        self.abandoned = 0;
        for call in core::mem::take(&mut self.calls) {
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
