//! What a shard holds for its connections, against its bounds.

use std::cell::Cell;
use std::rc::Rc;

use crate::budgets::Budgets;
use crate::io::Token;

/// Bytes of streams on one shard: they change hands where no driver is near, so all who hold some
/// share one counter.
#[derive(Clone, Debug, Default)]
pub(crate) struct StreamBytes(Rc<Cell<usize>>);

impl StreamBytes {
    /// So many bytes are held, until what this answers is dropped.
    pub(crate) fn hold(&self, bytes: usize) -> Held {
        self.0.set(self.0.get() + bytes);
        Held { account: self.clone(), bytes }
    }

    fn get(&self) -> usize {
        self.0.get()
    }
}

/// Bytes of a stream's message that lies somewhere.
#[derive(Debug)]
pub(crate) struct Held {
    account: StreamBytes,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.account.0.set(self.account.0.get().saturating_sub(self.bytes));
    }
}

/// The account of one shard. Whoever adds to it takes the same away again.
#[derive(Debug)]
pub(crate) struct Holdings {
    bytes: usize,
    calls: usize,
    streams: StreamBytes,
    bytes_max: usize,
    calls_max: usize,
    /// Connections that wait for room, in the order in which they began to.
    waiting: Vec<Token>,
    /// The most that was held when one of them found no room.
    tried_at: (usize, usize),
}

impl Holdings {
    pub(crate) fn new(budgets: &Budgets, streams: StreamBytes) -> Self {
        Self {
            bytes: 0,
            calls: 0,
            streams,
            bytes_max: budgets.shard_bytes_max,
            calls_max: budgets.shard_calls_max,
            waiting: Vec::new(),
            tried_at: (0, 0),
        }
    }

    /// Bytes held now.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.streams.get()
    }

    /// Calls that pend now.
    pub(crate) fn calls(&self) -> usize {
        self.calls
    }

    /// Whether a bound is reached.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.bytes() >= self.bytes_max || self.calls >= self.calls_max
    }

    /// Whether so many bytes more keep within the bound, or nothing is held at all.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        let held = self.bytes();
        held == 0 || held.saturating_add(bytes) <= self.bytes_max
    }

    /// A call pends that holds so many bytes.
    #[inline]
    pub(crate) fn begin_call(&mut self, bytes: usize) {
        self.calls += 1;
        self.bytes += bytes;
    }

    /// A call that pended is over.
    #[inline]
    pub(crate) fn end_call(&mut self, bytes: usize) {
        debug_assert!(self.calls > 0 && self.bytes >= bytes, "more ends than began");
        self.calls = self.calls.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// What a connection holds beside its calls has changed.
    #[inline]
    pub(crate) fn change(&mut self, from: usize, to: usize) {
        debug_assert!(self.bytes >= from, "more is given back than was taken");
        self.bytes = self.bytes.saturating_sub(from) + to;
    }

    /// Notes a connection that waits for room.
    pub(crate) fn wait(&mut self, token: Token) {
        let now = (self.bytes(), self.calls);
        // Something may have been given back since an earlier one tried, who may fit where this one does not.
        let tried = if self.waiting.is_empty() { now } else { self.tried_at };
        self.tried_at = (tried.0.max(now.0), tried.1.max(now.1));
        if !self.waiting.contains(&token) {
            self.waiting.push(token);
        }
    }

    /// Those that wait, if something was given back since; each waits anew if it still finds no room.
    #[inline]
    pub(crate) fn take_waiting(&mut self) -> Option<Vec<Token>> {
        if self.waiting.is_empty() {
            return None;
        }
        let (bytes, calls) = self.tried_at;
        let given_back = self.bytes() < bytes || self.calls < calls;
        given_back.then(|| core::mem::take(&mut self.waiting))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_who_wait_try_again_when_anything_was_given_back_since_one_of_them_tried() {
        let budgets = Budgets { shard_bytes_max: 120, ..Budgets::default() };
        let mut holdings = Holdings::new(&budgets, StreamBytes::default());
        let [first, second] = [1, 2].map(|index| Token::connection(index, 1));
        (0..4).for_each(|_| holdings.begin_call(25));
        assert!(!holdings.has_room(40));
        holdings.wait(first);
        assert_eq!(holdings.take_waiting(), None, "nothing was given back");
        holdings.end_call(25);
        // What the second finds too little may do for the first.
        assert!(!holdings.has_room(50) && holdings.has_room(40));
        holdings.wait(second);
        assert_eq!(holdings.take_waiting(), Some(vec![first, second]));
        holdings.wait(second);
        assert_eq!(holdings.take_waiting(), None, "it found nothing and nothing has changed");
    }

    #[test]
    fn bytes_of_streams_count_until_they_are_dropped() {
        let streams = StreamBytes::default();
        let budgets = Budgets { shard_bytes_max: 100, ..Budgets::default() };
        let holdings = Holdings::new(&budgets, streams.clone());
        let held = [streams.hold(60), streams.hold(40)];
        assert!(holdings.is_full());
        drop(held);
        assert_eq!((holdings.bytes(), holdings.is_full()), (0, false));
    }
}
