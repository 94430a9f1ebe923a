//! The only atomics of the mesh: who has news, who sleeps, and who is still there.
//!
//! A shard that leaves something for another one *posts* a bit, once for all that it left in a turn. A shard that is
//! about to sleep says so first, and then looks for news once more. Both do the two steps in this order with sequential
//! consistency, so at least one of them sees the other: the sender wakes the sleeper, or the sleeper does not sleep.
//! `engine/tests/mesh_bell.rs` runs this file under loom, which tries every interleaving.

use super::sync::{AtomicBool, AtomicU8, AtomicU64, Ordering};

/// How many senders have a bit of their own; more of them share bits.
const BITS: usize = 64;

/// What other shards tell one shard.
#[derive(Debug)]
pub(crate) struct Bell {
    /// A bit for each shard that has left something.
    news: AtomicU64,
    asleep: AtomicBool,
    /// A [`Presence`].
    presence: AtomicU8,
}

/// Whether a shard can still be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It serves.
    Here,
    /// It has no connections any more, and waits for the other shards to come that far.
    Drained,
    /// Its thread is ending or dead. What lies in its mailboxes is lost.
    Gone,
}

impl Bell {
    pub(crate) fn new() -> Self {
        Self {
            news: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            presence: AtomicU8::new(0),
        }
    }

    /// Shard `from` has left something. Returns whether the shard sleeps and the caller must wake it.
    #[inline]
    #[must_use]
    pub(crate) fn post(&self, from: usize) -> bool {
        self.news.fetch_or(1 << (from % BITS), Ordering::SeqCst);
        self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst)
    }

    /// Whether anything may have been left, for the shard itself. A hint that costs one load; [`take`](Self::take) and
    /// [`may_sleep`](Self::may_sleep) are exact.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        self.news.load(Ordering::Relaxed) != 0
    }

    /// Which shards have left something since the last time.
    pub(crate) fn take(&self) -> News {
        News(self.news.swap(0, Ordering::Acquire))
    }

    /// The shard is about to sleep: says so, and returns whether it may.
    #[must_use]
    pub(crate) fn may_sleep(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        if self.news.load(Ordering::SeqCst) == 0 {
            return true;
        }
        self.awake();
        false
    }

    /// The shard sleeps no more.
    #[inline]
    pub(crate) fn awake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    pub(crate) fn set_presence(&self, presence: Presence) {
        self.presence.store(presence as u8, Ordering::SeqCst);
    }

    pub(crate) fn presence(&self) -> Presence {
        match self.presence.load(Ordering::SeqCst) {
            0 => Presence::Here,
            1 => Presence::Drained,
            _ => Presence::Gone,
        }
    }
}

/// The shards that may have left something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct News(u64);

impl News {
    /// Whether shard `from` may be among them.
    #[inline]
    pub(crate) fn has(self, from: usize) -> bool {
        self.0 & (1 << (from % BITS)) != 0
    }
}
