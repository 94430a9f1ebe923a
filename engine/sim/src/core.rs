//! What every part of a simulation shares: the clock, the dice, the agenda of future events, the trace, and the
//! plan.

pub(crate) mod trace;

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::core::trace::{Note, Trace, Violated};
use crate::hosts::client::Wish;
use crate::hosts::runtime::Shells;
use crate::judge::patience::Absences;
use crate::plan::{Plan, SECOND};

/// Virtual time, in ns since the simulation's start.
#[derive(Debug)]
pub(crate) struct Clock {
    base: Instant,
    at: Arc<AtomicU64>,
}

impl Clock {
    fn new() -> Self {
        #[allow(
            clippy::disallowed_methods,
            reason = "an Instant can only be had from the system; only differences to it are ever seen"
        )]
        let base = Instant::now();
        Self { base, at: Arc::default() }
    }

    pub(crate) fn now(&self) -> u64 {
        self.at.load(Ordering::Relaxed)
    }

    pub(crate) fn advance_to(&self, at: u64) {
        debug_assert!(at >= self.now(), "time does not go back");
        self.at.store(at, Ordering::Relaxed);
    }

    /// The time as the engine's `Instant`.
    pub(crate) fn instant(&self) -> Instant {
        self.base + Duration::from_nanos(self.now())
    }

    /// What reads the clock where `Send` is asked for.
    pub(crate) fn reader(&self) -> impl Fn() -> Instant + Send + Sync + use<> {
        let (base, at) = (self.base, Arc::clone(&self.at));
        move || base + Duration::from_nanos(at.load(Ordering::Relaxed))
    }

    /// An `Instant` of the engine in ns since the start.
    pub(crate) fn of(&self, instant: Instant) -> u64 {
        let since = instant.saturating_duration_since(self.base);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The only source of randomness.
#[derive(Debug)]
pub(crate) struct Dice(RefCell<fastrand::Rng>);

/// Probabilities are counted in millionths.
pub(crate) const SURE: u32 = 1_000_000;

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(RefCell::new(fastrand::Rng::with_seed(seed)))
    }

    /// A number below `bound`; zero if `bound` is zero.
    pub(crate) fn below(&self, bound: usize) -> usize {
        if bound == 0 { 0 } else { self.0.borrow_mut().usize(0..bound) }
    }

    /// A number of the range, ends included.
    pub(crate) fn between(&self, least: u64, most: u64) -> u64 {
        self.0.borrow_mut().u64(least..=most.max(least))
    }

    /// The same, with each order of magnitude as likely as the others.
    pub(crate) fn spread(&self, least: u64, most: u64) -> u64 {
        let (low, high) = (least.max(1).ilog2(), most.max(1).ilog2());
        let magnitude = self.between(u64::from(low), u64::from(high));
        let from = 1 << magnitude;
        self.between(from, from * 2 - 1).clamp(least, most)
    }

    /// [`spread`](Self::spread) for sizes.
    pub(crate) fn size(&self, least: u64, most: u64) -> usize {
        usize::try_from(self.spread(least, most)).unwrap_or(usize::MAX)
    }

    pub(crate) fn chance(&self, millionths: u32) -> bool {
        millionths > 0 && self.0.borrow_mut().u32(0..SURE) < millionths
    }

    pub(crate) fn byte(&self) -> u8 {
        self.0.borrow_mut().u8(..)
    }

    pub(crate) fn word(&self) -> u64 {
        self.0.borrow_mut().u64(..)
    }
}

/// Something that will happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    /// A client's connection request reaches the address.
    Connect { wire: usize },
    /// Bytes reach an end of a wire.
    Deliver { wire: usize, to: usize },
    /// The sender learns that this many of its bytes were taken.
    Ack { wire: usize, side: usize, bytes: usize },
    /// An end of a wire learns that the other end does not know it any more.
    Reset { wire: usize, side: usize },
    /// A handler's timer fires.
    Wake { work: u64, foreign: bool },
    /// A client makes its next call.
    Call { call: u64 },
    /// A caller loses patience.
    GiveUp { call: u64 },
    /// A server host drains.
    Drain { host: usize },
    /// A server host that ended comes back.
    Restart { host: usize },
    /// A wire is cut, stalled or silenced.
    Trouble,
    /// What is on its way to an end is changed, as a written case asks.
    Tamper { wire: usize, to: usize, how: Tamper },
    /// A host does not run for a while.
    Freeze { host: usize, ns: u64 },
    /// Time jumps for everybody.
    Jump { ns: u64 },
    /// A peer that follows no protocol does something.
    Hostile { peer: usize },
    /// A server that follows no protocol does something.
    Impostor { peer: usize },
    /// A client's channel is dropped and made again.
    Renew { host: usize, channel: usize },
    /// No new faults from here on.
    Heal,
}

/// What an attacker in the middle of a wire does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Tamper {
    /// The last frame on its way names another call.
    OtherCall,
    /// This many pings follow.
    Pings(u16),
}

/// Future events, by their time; events of one time in the order in which they were planned.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    heap: RefCell<BinaryHeap<Reverse<Entry>>>,
    planned: Cell<u64>,
}

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    at: u64,
    order: u64,
    event: Event,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Agenda {
    pub(crate) fn plan(&self, at: u64, event: Event) {
        let order = self.planned.get();
        self.planned.set(order + 1);
        self.heap.borrow_mut().push(Reverse(Entry { at, order, event }));
    }

    pub(crate) fn next(&self) -> Option<u64> {
        self.heap.borrow().peek().map(|Reverse(entry)| entry.at)
    }

    pub(crate) fn pop_due(&self, now: u64) -> Option<Event> {
        if self.next()? > now {
            return None;
        }
        self.heap.borrow_mut().pop().map(|Reverse(entry)| entry.event)
    }
}

/// The shared parts, together.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) clock: Clock,
    pub(crate) dice: Dice,
    /// The dice for what concerns channels that no shard has, so that the rest of a seed does not depend on them.
    pub(crate) side: Dice,
    pub(crate) shells: Shells,
    pub(crate) agenda: Agenda,
    pub(crate) trace: Trace,
    pub(crate) plan: Plan,
    /// Calls that are given, not drawn, by their ids.
    pub(crate) wishes: RefCell<BTreeMap<u64, Wish>>,
    /// Whether faults still happen.
    pub(crate) faulty: Cell<bool>,
    /// Whether callers are patient.
    pub(crate) calm: Cell<bool>,
    /// Whether streams that are stalled on purpose may go on.
    pub(crate) released: Cell<bool>,
    /// Whether any fault has happened so far.
    pub(crate) disturbed: Cell<bool>,
    /// Whether the simulation is being taken down: nothing is checked any more.
    pub(crate) over: Cell<bool>,
    /// When the first server began to drain.
    pub(crate) drained_since: Cell<Option<u64>>,
    /// By how much the clock has jumped, in ns.
    pub(crate) jumped: Cell<u64>,
    /// When hosts did not run although they would have.
    pub(crate) absences: RefCell<Absences>,
    /// A bug that is planted while client hosts run, and only then.
    #[cfg(feature = "canary")]
    pub(crate) bug_at_clients: Cell<Option<corewire_proto::canary::Bug>>,
    /// Bytes that each host's sockets have taken.
    sent: RefCell<Vec<u64>>,
}

impl Core {
    pub(crate) fn new(seed: u64, shells: Shells, trace: Trace) -> Rc<Self> {
        let dice = Dice::new(seed);
        let plan = Plan::draw(&dice);
        Self::with(dice, Dice::new(!seed), plan, shells, trace)
    }

    /// The same with a plan that is given, not drawn.
    pub(crate) fn with(
        dice: Dice,
        side: Dice,
        plan: Plan,
        shells: Shells,
        trace: Trace,
    ) -> Rc<Self> {
        Rc::new(Self {
            clock: Clock::new(),
            dice,
            side,
            shells,
            agenda: Agenda::default(),
            trace,
            plan,
            wishes: RefCell::default(),
            faulty: Cell::new(true),
            calm: Cell::new(false),
            released: Cell::new(false),
            disturbed: Cell::new(false),
            over: Cell::new(false),
            drained_since: Cell::new(None),
            jumped: Cell::new(0),
            absences: RefCell::default(),
            #[cfg(feature = "canary")]
            bug_at_clients: Cell::new(None),
            sent: RefCell::default(),
        })
    }

    /// Notes that a socket of this host took `bytes`.
    pub(crate) fn note_sent(&self, host: usize, bytes: usize) {
        let mut sent = self.sent.borrow_mut();
        if sent.len() <= host {
            sent.resize(host + 1, 0);
        }
        sent[host] += bytes as u64;
    }

    /// How many bytes this host's sockets have taken.
    pub(crate) fn sent(&self, host: usize) -> u64 {
        self.sent.borrow().get(host).copied().unwrap_or(0)
    }

    /// Notes that a server begins to drain.
    pub(crate) fn note_drain(&self) {
        let since = self.drained_since.get().unwrap_or_else(|| self.now());
        self.drained_since.set(Some(since));
    }

    /// Whether a server may have stopped handlers by now, because its drain or the grace of a connection was over.
    pub(crate) fn may_stop_handlers(&self) -> bool {
        let drained =
            self.drained_since.get().is_some_and(|at| at + self.plan.drain_within <= self.now());
        let timeouts = &self.plan.timeouts;
        let aged = timeouts.age.is_some() && timeouts.age_grace <= Duration::from_nanos(self.now());
        drained || aged
    }

    pub(crate) fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Whether a fault of this probability happens now.
    pub(crate) fn fault(&self, millionths: u32) -> bool {
        let happens = self.faulty.get() && self.dice.chance(millionths);
        if happens {
            self.disturbed.set(true);
        }
        happens
    }

    /// How long a handler may live after its caller has gone, in ns: as long as a lost connection may go
    /// unnoticed; if nothing ever went wrong and nothing is in the way, no longer than a few turns.
    pub(crate) fn cascade_within(&self) -> u64 {
        let plan = &self.plan;
        let clear = plan.habits.large == 0
            && plan.habits.stream == 0
            && plan.pipe >= 32 * 1024
            && !plan.has_little_room();
        if clear && !self.disturbed.get() {
            return 2 * SECOND + 6 * plan.latency.1.max(plan.latency.0);
        }
        // A frozen host and a stalled wire add to that, and so do the jumps of the clock, however many.
        plan.settle_within() + 100 * SECOND + self.jumped.get()
    }

    /// Plans an event for `ns` from now.
    pub(crate) fn after(&self, ns: u64, event: Event) {
        self.agenda.plan(self.now().saturating_add(ns), event);
    }

    pub(crate) fn note(&self, note: Note) {
        self.trace.note(self.now(), note);
    }

    /// Reports that a rule was broken; the first report counts.
    pub(crate) fn violated(&self, rule: Violated, what: impl FnOnce() -> String) {
        if !self.over.get() {
            self.trace.violated(self.now(), rule, what);
        }
    }
}
