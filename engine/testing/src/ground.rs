//! What every simulation stands on: virtual time, the dice, and the agenda of future events.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A millisecond, in ns.
pub const MS: u64 = 1_000_000;
/// A second, in ns.
pub const SECOND: u64 = 1_000 * MS;

/// Virtual time, in ns since the simulation's start.
#[derive(Debug)]
pub struct Clock {
    base: Instant,
    at: Arc<AtomicU64>,
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// A clock at zero.
    #[must_use]
    pub fn new() -> Self {
        #[allow(
            clippy::disallowed_methods,
            reason = "an Instant can only be had from the system; only differences to it are ever seen"
        )]
        let base = Instant::now();
        Self { base, at: Arc::default() }
    }

    /// The time, in ns.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.at.load(Ordering::Relaxed)
    }

    /// Moves the clock forward.
    pub fn advance_to(&self, at: u64) {
        debug_assert!(at >= self.now(), "time does not go back");
        self.at.store(at, Ordering::Relaxed);
    }

    /// The time as the engine's `Instant`.
    #[must_use]
    pub fn instant(&self) -> Instant {
        self.base + Duration::from_nanos(self.now())
    }

    /// What reads the clock where `Send` is asked for.
    pub fn reader(&self) -> impl Fn() -> Instant + Send + Sync + use<> {
        let (base, at) = (self.base, Arc::clone(&self.at));
        move || base + Duration::from_nanos(at.load(Ordering::Relaxed))
    }

    /// An `Instant` of the engine in ns since the start.
    #[must_use]
    pub fn of(&self, instant: Instant) -> u64 {
        let since = instant.saturating_duration_since(self.base);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The only source of randomness.
#[derive(Debug)]
pub struct Dice(RefCell<fastrand::Rng>);

/// Probabilities are counted in millionths.
pub const SURE: u32 = 1_000_000;

impl Dice {
    /// The dice of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(RefCell::new(fastrand::Rng::with_seed(seed)))
    }

    /// A number below `bound`; zero if `bound` is zero.
    #[must_use]
    pub fn below(&self, bound: usize) -> usize {
        if bound == 0 { 0 } else { self.0.borrow_mut().usize(0..bound) }
    }

    /// A number of the range, ends included.
    #[must_use]
    pub fn between(&self, least: u64, most: u64) -> u64 {
        self.0.borrow_mut().u64(least..=most.max(least))
    }

    /// The same, with each order of magnitude as likely as the others.
    #[must_use]
    pub fn spread(&self, least: u64, most: u64) -> u64 {
        let (low, high) = (least.max(1).ilog2(), most.max(1).ilog2());
        let magnitude = self.between(u64::from(low), u64::from(high));
        let from = 1 << magnitude;
        self.between(from, from * 2 - 1).clamp(least, most)
    }

    /// [`spread`](Self::spread) for sizes.
    #[must_use]
    pub fn size(&self, least: u64, most: u64) -> usize {
        usize::try_from(self.spread(least, most)).unwrap_or(usize::MAX)
    }

    /// Whether something of this probability happens, in millionths.
    #[must_use]
    pub fn chance(&self, millionths: u32) -> bool {
        millionths > 0 && self.0.borrow_mut().u32(0..SURE) < millionths
    }

    /// Any byte.
    #[must_use]
    pub fn byte(&self) -> u8 {
        self.0.borrow_mut().u8(..)
    }

    /// Any number.
    #[must_use]
    pub fn word(&self) -> u64 {
        self.0.borrow_mut().u64(..)
    }
}

/// Future events, by their time; events of one time in the order in which they were planned.
#[derive(Debug)]
pub struct Agenda<E> {
    heap: RefCell<BinaryHeap<Reverse<Entry<E>>>>,
    planned: Cell<u64>,
}

impl<E> Default for Agenda<E> {
    fn default() -> Self {
        Self { heap: RefCell::default(), planned: Cell::new(0) }
    }
}

#[derive(Debug)]
struct Entry<E> {
    at: u64,
    order: u64,
    event: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl<E> Eq for Entry<E> {}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Agenda<E> {
    /// Plans an event for this time, in ns.
    pub fn plan(&self, at: u64, event: E) {
        let order = self.planned.get();
        self.planned.set(order + 1);
        self.heap.borrow_mut().push(Reverse(Entry { at, order, event }));
    }

    /// When the next event is, in ns.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        self.heap.borrow().peek().map(|Reverse(entry)| entry.at)
    }

    /// The next event, if its time has come.
    #[must_use]
    pub fn pop_due(&self, now: u64) -> Option<E> {
        if self.next()? > now {
            return None;
        }
        self.heap.borrow_mut().pop().map(|Reverse(entry)| entry.event)
    }
}
