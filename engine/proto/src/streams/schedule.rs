//! The order in which the streams of one connection write: in turns, and by credit.
//!
//! A stream that has something to write is queued among the *ready*. Its turn is a quantum of bytes; with what it has
//! left it goes behind the others. A stream without credit is *blocked* until the peer grants some. So a reader that
//! stalls holds up nobody, and streams share what the socket takes (round robin, as in Nagle, "On Packet Switches
//! with Infinite Storage", RFC 970, section 7).

use std::collections::{BTreeMap, VecDeque};

/// Bytes that a stream writes before the next one has its turn.
pub const STREAM_QUANTUM: usize = 16 * 1024;

/// Bytes that all streams of a connection write before the socket has its turn.
const TURN_BYTES: usize = 256 * 1024;

/// Where a stream is. Its owner keeps that with the stream, so that it is never in two queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamPlace {
    /// In no queue.
    #[default]
    Idle,
    /// Among those that may write.
    Ready,
    /// It waits for credit.
    Blocked,
}

/// The streams of one connection that have something to write. `S` is a stream, or its name.
#[derive(Debug)]
pub struct StreamSchedule<S> {
    ready: VecDeque<S>,
    /// By call: the order must not be random, or a simulation could not be repeated.
    blocked: BTreeMap<u32, S>,
    /// Which blocked stream goes first when there is credit again: each time the next one.
    next_call: u32,
}

impl<S> Default for StreamSchedule<S> {
    fn default() -> Self {
        Self { ready: VecDeque::new(), blocked: BTreeMap::new(), next_call: 0 }
    }
}

impl<S> StreamSchedule<S> {
    /// Queues a stream that is idle, or whose turn ended with more to write.
    pub fn push(&mut self, stream: S) {
        self.ready.push_back(stream);
    }

    /// The stream of this call has more to write, and no credit.
    pub fn block(&mut self, call: u32, stream: S) {
        self.blocked.insert(call, stream);
    }

    /// The stream of this call writes nothing more.
    pub fn unblock(&mut self, call: u32) {
        self.blocked.remove(&call);
    }

    /// There is credit again: for the stream of one call, or for any. `queued` hears of each stream that goes on.
    pub fn handle_writable(&mut self, call: Option<u32>, mut queued: impl FnMut(&S)) {
        if let Some(call) = call {
            if let Some(stream) = self.blocked.remove(&call) {
                queued(&stream);
                self.ready.push_back(stream);
            }
            return;
        }
        let later = self.blocked.split_off(&self.next_call);
        let earlier = core::mem::take(&mut self.blocked);
        for (place, (call, stream)) in later.into_iter().chain(earlier).enumerate() {
            if place == 0 {
                self.next_call = call.wrapping_add(1);
            }
            queued(&stream);
            self.ready.push_back(stream);
        }
    }

    /// Whether streams could write if the send buffer took more.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The stream whose turn it is. None has one while more than `unsent_max` bytes wait for the socket, so that
    /// replies are not far behind, and when all together have written what they may in one turn of their connection,
    /// which began with `start` bytes unsent.
    pub fn next(&mut self, unsent: usize, unsent_max: usize, start: usize) -> Option<S> {
        let may_write = unsent <= unsent_max && unsent - start.min(unsent) < TURN_BYTES;
        if may_write { self.ready.pop_front() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_take_turns_until_the_bound_of_a_turn() {
        let mut schedule = StreamSchedule::default();
        for stream in ["a", "b"] {
            schedule.push(stream);
        }
        assert_eq!(schedule.next(10, 10, 0), Some("a"));
        schedule.push("a");
        assert_eq!(schedule.next(11, 10, 0), None, "too much is unsent");
        assert_eq!(schedule.next(TURN_BYTES + 5, usize::MAX, 5), None, "they wrote enough");
        assert_eq!(schedule.next(TURN_BYTES + 4, usize::MAX, 5), Some("b"));
        assert_eq!(schedule.next(0, 10, 5), Some("a"), "some was written to the socket meanwhile");
        assert!(!schedule.has_ready());
    }

    #[test]
    fn blocked_streams_go_on_by_their_own_credit_or_in_turns_by_that_of_all() {
        let mut schedule = StreamSchedule::default();
        let mut order = Vec::new();
        for call in [1, 2, 3] {
            schedule.block(call, call);
        }
        schedule.handle_writable(Some(2), |stream| order.push(*stream));
        schedule.handle_writable(Some(9), |stream| order.push(*stream));
        assert_eq!(order, [2]);
        schedule.block(2, 2);
        for first in [1, 2, 3] {
            order.clear();
            schedule.handle_writable(None, |stream| order.push(*stream));
            assert_eq!(order.first(), Some(&first), "each time another one is first");
            for call in [1, 2, 3] {
                schedule.block(call, call);
            }
        }
        schedule.unblock(1);
        order.clear();
        schedule.handle_writable(None, |stream| order.push(*stream));
        assert_eq!(order, [2, 3]);
    }
}
