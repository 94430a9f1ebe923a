//! When connections want to be looked at again.
//!
//! One entry per connection, pushed only when its time is earlier than the entry it already has. An
//! entry that turns out to be early is simply made again, so there is no cost per call.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use crate::net::io::Token;

/// The shard's timers: a heap of times and connections.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Token)>>,
}

impl Timers {
    /// Makes sure that `token` is due at `at` or earlier. `armed` is the connection's note of the
    /// earliest entry it has.
    #[inline]
    pub(crate) fn arm(&mut self, token: Token, at: Instant, armed: &mut Option<Instant>) {
        if armed.is_none_or(|armed| at < armed) {
            *armed = Some(at);
            self.heap.push(Reverse((at, token)));
        }
    }

    /// The earliest entry.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Forgets the entries that are not `live`.
    pub(crate) fn retain(&mut self, mut live: impl FnMut(Instant, Token) -> bool) {
        self.heap.retain(|Reverse((at, token))| live(*at, *token));
    }

    /// Takes an entry whose time has come.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<(Instant, Token)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}
