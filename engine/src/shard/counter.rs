//! One number that a shard writes and anybody reads.
//!
//! A counter is a relaxed load and a relaxed store: with a single writer no increment is lost, and
//! no instruction locks the bus.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only its shard changes; [`ShardCounters::KINDS`](crate::ShardCounters::KINDS) says for each whether it only grows.
///
/// ```
/// # use corewire_engine as corewire;
/// let counters = corewire::ShardCounters::default(); // a running server's: server.shards()[0].counters
/// assert_eq!(counters.calls.value(), 0);
/// ```
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds, as the owner.
    #[inline]
    pub(crate) fn add(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// Sets, as the owner.
    #[inline]
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value, as of a moment ago.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
