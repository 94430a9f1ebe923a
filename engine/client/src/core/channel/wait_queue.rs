//! Calls that wait for a slot or for the connection, in their order.

use std::collections::VecDeque;
use std::time::Instant;

use crate::failure::CallFailure;
use crate::remote::command::Command;

/// The queue. What it costs to keep deadlines and to forget abandoned calls is spread over many.
#[derive(Debug, Default)]
pub(crate) struct WaitQueue {
    commands: VecDeque<Command>,
    /// No deadline in the queue is earlier.
    earliest: Option<Instant>,
    /// How many may be abandoned and are still in the queue.
    abandoned: usize,
}

impl WaitQueue {
    pub(crate) fn len(&self) -> usize {
        self.commands.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    pub(crate) fn push(&mut self, command: Command) {
        self.earliest = [self.deadline(), command.deadline].into_iter().flatten().min();
        self.commands.push_back(command);
    }

    /// The first that somebody still waits for.
    pub(crate) fn pop(&mut self) -> Option<Command> {
        loop {
            let command = self.commands.pop_front()?;
            if !command.done.is_abandoned() {
                return Some(command);
            }
            self.abandoned = self.abandoned.saturating_sub(1);
        }
    }

    /// A time no later than that at which the first of them gives up.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.earliest.filter(|_| !self.commands.is_empty())
    }

    /// One of them may be abandoned. When that holds for half of the queue they are taken out.
    pub(crate) fn handle_cancel(&mut self) {
        self.abandoned += 1;
        if self.abandoned * 2 > self.commands.len() {
            self.abandoned = 0;
            self.commands.retain(|command| !command.done.is_abandoned());
        }
    }

    /// Ends the calls whose time is over, and takes out the abandoned ones: nobody might come to do it later, and a
    /// channel goes on to connect as long as a call waits.
    pub(crate) fn expire(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        self.earliest = None;
        self.abandoned = 0;
        for command in core::mem::take(&mut self.commands) {
            if command.done.is_abandoned() {
                continue;
            }
            if command.deadline.is_some_and(|deadline| deadline <= now) {
                let failure = CallFailure::DeadlineExceeded { sent: false };
                command.done.complete(Err(failure));
            } else {
                self.push(command);
            }
        }
    }

    /// Ends all calls.
    pub(crate) fn fail(&mut self, failure: &CallFailure) {
        self.abandoned = 0;
        for command in core::mem::take(&mut self.commands) {
            command.done.complete(Err(failure.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::time::Duration;

    use super::*;
    use crate::remote::command::tests::{awaited, noted};

    /// The simulator found a channel that went on to connect for a call that was given up.
    #[test]
    fn a_call_that_is_given_up_does_not_outlive_those_that_expire() {
        let (mut queue, now) = (WaitQueue::default(), Instant::now());
        let (given_up, caller) = awaited();
        queue.push(given_up);
        let mut outcomes = Vec::new();
        for _ in 0..2 {
            let (command, outcome) = noted();
            queue.push(Command { deadline: Some(now + Duration::from_secs(1)), ..command });
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
