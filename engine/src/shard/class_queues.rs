//! Parked calls that were woken, by class, until it is their turn.
//!
//! They are here only on a shard that serves methods of more classes than one. In each of its turns the driver first does what
//! came in on its sockets; then it [releases](ClassQueues::release) what may run, by the classes' shares, and for about
//! as long as [`ROUND_NS`]. How long polls take is known only afterwards, so as many are released as would fit if they took as
//! long as the usual ones of their class. Those that turn out longer count with what they took.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use crate::classes::fair_shares::FairShares;
use crate::classes::{CLASSES, ClassShares, ServiceClass};

/// For how long handlers are polled before the shard looks at its sockets again: as long as a loop runs that asks
/// `yield_if_due`.
pub(crate) const ROUND_NS: u64 = 500_000;

/// The most that are released in one round.
const ROUND_MAX: usize = 1024;

/// What waits, and what the classes have run.
#[derive(Debug)]
pub(crate) struct ClassQueues {
    in_use: Cell<bool>,
    /// The class of the call that begins.
    current: Cell<ServiceClass>,
    /// What polls took since the round began.
    polled_ns: Cell<u64>,
    waiting: Cell<usize>,
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    fair: FairShares,
    queues: [VecDeque<u32>; CLASSES],
    /// For each key, a bit for each queue that it is in: a key may be that of another call by the time that its turn comes, and
    /// stands in no queue twice.
    queued: Vec<u8>,
    /// How long a poll of each class usually takes.
    usual_ns: [u64; CLASSES],
}

impl Default for ClassQueues {
    fn default() -> Self {
        Self {
            in_use: Cell::new(false),
            current: Cell::default(),
            polled_ns: Cell::new(0),
            waiting: Cell::new(0),
            state: RefCell::new(State {
                fair: FairShares::new(ClassShares::default()),
                queues: Default::default(),
                queued: Vec::new(),
                // The first of each comes alone.
                usual_ns: [ROUND_NS; CLASSES],
            }),
        }
    }
}

impl ClassQueues {
    /// There are methods of several classes, with these shares.
    pub(crate) fn start(&self, shares: ClassShares) {
        self.state.borrow_mut().fair = FairShares::new(shares);
        self.in_use.set(true);
    }

    /// Whether there are methods of several classes.
    #[inline]
    pub(crate) fn in_use(&self) -> bool {
        self.in_use.get()
    }

    /// The class of the call that begins.
    pub(crate) fn set_current(&self, class: ServiceClass) {
        self.current.set(class);
    }

    pub(crate) fn current(&self) -> ServiceClass {
        self.current.get()
    }

    /// Whether anything waits for its turn.
    #[inline]
    pub(crate) fn has_waiting(&self) -> bool {
        self.waiting.get() > 0
    }

    /// A call of this class was woken.
    pub(crate) fn push(&self, class: ServiceClass, key: u32) {
        let state = &mut *self.state.borrow_mut();
        let (place, bit) = (key as usize, 1 << class.index());
        if state.queued.len() <= place {
            state.queued.resize(place + 1, 0);
        }
        if let (Some(bits), Some(queue)) =
            (state.queued.get_mut(place), state.queues.get_mut(class.index()))
            && *bits & bit == 0
        {
            *bits |= bit;
            queue.push_back(key);
            self.waiting.set(self.waiting.get() + 1);
        }
    }

    /// Something of this class ran for so long; `again` says that it had waited here before.
    pub(crate) fn charge(&self, class: ServiceClass, ns: u64, again: bool) {
        let state = &mut *self.state.borrow_mut();
        state.fair.charge(class, ns);
        if again {
            self.polled_ns.set(self.polled_ns.get().saturating_add(ns));
            if let Some(usual) = state.usual_ns.get_mut(class.index()) {
                // One long poll makes the next round short; many short ones make it long again.
                *usual = if ns > *usual { ns } else { *usual - (*usual - ns) / 8 };
            }
        }
    }

    /// A turn of the shard begins.
    #[inline]
    pub(crate) fn begin_turn(&self) {
        self.polled_ns.set(0);
    }

    /// Whether enough was polled in this turn: what else was released waits for the next one.
    #[inline]
    pub(crate) fn is_spent(&self) -> bool {
        self.polled_ns.get() >= ROUND_NS
    }

    /// Puts the keys of those calls into `keys` that may be polled in this turn. There is none when a class that is
    /// behind has just run calls as they came: then the sockets come first.
    pub(crate) fn release(&self, keys: &mut Vec<u32>) {
        let State { fair, queues, queued, usual_ns } = &mut *self.state.borrow_mut();
        for (class, queue) in ServiceClass::ALL.into_iter().zip(&*queues) {
            if !queue.is_empty() {
                fair.join(class);
            }
        }
        fair.rebase();
        // A plan by what is usual; the clocks themselves go by what polls will have taken.
        let mut plan = *fair;
        fair.end_round();
        let mut left = ROUND_NS.saturating_sub(self.polled_ns.get());
        while left > 0 && keys.len() < ROUND_MAX {
            let Some(class) = plan.next() else { break };
            let Some(key) = queues.get_mut(class.index()).and_then(VecDeque::pop_front) else {
                break;
            };
            self.waiting.set(self.waiting.get() - 1);
            if let Some(bits) = queued.get_mut(key as usize) {
                *bits &= !(1 << class.index());
            }
            keys.push(key);
            let usual = usual_ns.get(class.index()).copied().unwrap_or(ROUND_NS).max(1);
            plan.charge(class, usual);
            left = left.saturating_sub(usual);
        }
    }
}
