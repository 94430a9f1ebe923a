//! The only atomics of the mesh: who has news, who sleeps, and who is still there.
//!
//! A shard that leaves something for another one *posts* a bit into that shard's word, once for all that it left in a turn. A
//! shard that is about to sleep puts a bit of its own into the same word, which it can do only while there is no news. All
//! changes of one word have one order, so a post comes either before that, and the shard does not sleep, or behind it,
//! and the sender sees that it has to wake the shard.
//!
//! `engine/tests/mesh_bell.rs` runs this file under loom, which tries every interleaving.

use super::sync::{AtomicU8, AtomicU64, Ordering};

/// Set while the shard sleeps, or is about to.
const ASLEEP: u64 = 1 << 63;

/// The bit of threads outside the server.
const OUTSIDE: u64 = 1 << 62;

/// How many senders have a bit of their own; more of them share bits.
const SENDERS: usize = 62;

/// What other shards tell one shard.
#[derive(Debug)]
pub(crate) struct Bell {
    /// A bit for each shard that has left something, [`OUTSIDE`], and [`ASLEEP`].
    word: AtomicU64,
    /// A [`Presence`].
    presence: AtomicU8,
}

/// Who has left something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    Shard(usize),
    Outside,
}

impl Sender {
    #[inline]
    fn bit(self) -> u64 {
        match self {
            Self::Shard(number) => 1 << (number % SENDERS),
            Self::Outside => OUTSIDE,
        }
    }
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
        Self { word: AtomicU64::new(0), presence: AtomicU8::new(0) }
    }

    /// Somebody has left something. Returns whether the shard sleeps and the caller must wake it: one of those that find it
    /// asleep is told so.
    #[inline]
    #[must_use]
    pub(crate) fn post(&self, from: Sender) -> bool {
        let before = self.word.fetch_or(from.bit(), Ordering::AcqRel);
        before & ASLEEP != 0 && self.word.fetch_and(!ASLEEP, Ordering::AcqRel) & ASLEEP != 0
    }

    /// Whether anything may have been left, for the shard itself. A hint that costs one load; [`take`](Self::take) and
    /// [`may_sleep`](Self::may_sleep) are exact.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        self.word.load(Ordering::Relaxed) & !ASLEEP != 0
    }

    /// Who has left something since the last time. The shard is awake.
    pub(crate) fn take(&self) -> News {
        News(self.word.swap(0, Ordering::AcqRel))
    }

    /// Whether others than those may have left anything.
    pub(crate) fn has_news_but(&self, those: News) -> bool {
        self.word.load(Ordering::Relaxed) & !(ASLEEP | those.0) != 0
    }

    /// Who has left something since the last time, but for those, whose news stays.
    pub(crate) fn take_but(&self, those: News) -> News {
        News(self.word.fetch_and(those.0, Ordering::AcqRel) & !(ASLEEP | those.0))
    }

    /// The shard is about to sleep: says so, and returns whether it may. Until [`awake`](Self::awake) it is asleep for others.
    #[must_use]
    pub(crate) fn may_sleep(&self) -> bool {
        self.word.compare_exchange(0, ASLEEP, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// The shard sleeps no more.
    pub(crate) fn awake(&self) {
        self.word.fetch_and(!ASLEEP, Ordering::AcqRel);
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

/// Those who may have left something.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct News(u64);

impl News {
    /// Those shards whose number modulo 62 is that of a bit here.
    pub(crate) const fn of_shards(bits: u64) -> Self {
        Self(bits & !(ASLEEP | OUTSIDE))
    }

    #[inline]
    pub(crate) fn has(self, from: Sender) -> bool {
        self.0 & from.bit() != 0
    }
}
