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

#[cfg(test)]
mod tests {
    use super::*;
    use ServiceClass::{Batch, Latency, Normal};
    use proptest::prelude::*;

    const SHARES: ClassShares = ClassShares { latency: 1000, normal: 500, batch: 100 };

    fn queues() -> ClassQueues {
        let queues = ClassQueues::default();
        queues.start(SHARES);
        queues
    }

    /// A shard in virtual time: calls by key, each with its class and the length of its polls.
    struct Shard {
        queues: ClassQueues,
        calls: Vec<(ServiceClass, u64)>,
        now_ns: u64,
        ran: [u64; CLASSES],
        polls: Vec<u64>,
    }

    impl Shard {
        fn new(calls: Vec<(ServiceClass, u64)>) -> Self {
            let polls = vec![0; calls.len()];
            Self { queues: queues(), calls, now_ns: 0, ran: [0; CLASSES], polls }
        }

        /// A turn; `inline` is what calls take that run as they come. Every call that is polled is woken again at once. Returns
        /// what polls took in it, by class.
        fn turn(&mut self, inline: Option<(ServiceClass, u64)>) -> [u64; CLASSES] {
            let before = self.ran;
            self.queues.begin_turn();
            if let Some((class, ns)) = inline {
                self.queues.charge(class, ns, false);
                self.run(class, ns);
            }
            let mut keys = Vec::new();
            self.queues.release(&mut keys);
            for key in keys {
                let (class, ns) = self.calls[key as usize];
                self.queues.charge(class, ns, true);
                self.run(class, ns);
                self.polls[key as usize] += 1;
                self.queues.push(class, key);
            }
            std::array::from_fn(|class| self.ran[class] - before[class])
        }

        fn run(&mut self, class: ServiceClass, ns: u64) {
            self.ran[class.index()] += ns;
            self.now_ns += ns;
        }

        fn wake_all(&self) {
            for (key, (class, _)) in (0..).zip(&self.calls) {
                self.queues.push(*class, key);
            }
        }
    }

    /// Whether its calls are woken or run as they come: latency with 1,000 shares gets ten times what batch gets with 100.
    #[test]
    fn a_busy_class_gets_its_shares() {
        let batch = [(Batch, 500_000); 16];
        let mut woken = Shard::new(batch.into_iter().chain([(Latency, 20_000); 8]).collect());
        woken.wake_all();
        let mut inline = Shard::new(batch.to_vec());
        inline.wake_all();
        while woken.now_ns < 5_000_000_000 {
            woken.turn(None);
        }
        while inline.now_ns < 5_000_000_000 {
            inline.turn(Some((Latency, 100_000)));
        }
        for shard in [&woken, &inline] {
            let ratio = shard.ran[0] as f64 / shard.ran[2] as f64;
            assert!((9.5..10.5).contains(&ratio), "{ratio}");
        }
        // Within a class all have the same number of turns.
        for of_class in [&woken.polls[..16], &woken.polls[16..], &inline.polls[..]] {
            let (least, most) = (of_class.iter().min(), of_class.iter().max());
            assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1), "{of_class:?}");
        }
    }

    /// What a class does not want, the others get, at once.
    #[test]
    fn a_class_alone_gets_everything() {
        let mut shard = Shard::new(vec![(Batch, 500_000); 4]);
        shard.wake_all();
        shard.turn(Some((Latency, 1_000)));
        for turn in 0..100 {
            assert_eq!(shard.turn(None)[2], 500_000, "nothing ran in turn {turn}");
        }
    }

    #[test]
    fn a_call_stands_in_a_queue_once() {
        let queues = queues();
        (0..1000).for_each(|_| queues.push(Batch, 7));
        // Its key became that of another call, which was woken, too.
        queues.push(Latency, 7);
        let mut keys = Vec::new();
        for _ in 0..10 {
            queues.begin_turn();
            queues.release(&mut keys);
        }
        assert_eq!(keys, [7, 7]);
        assert!(!queues.has_waiting());
    }

    /// Polls that turn out long end the round.
    #[test]
    fn a_round_ends_when_its_time_is_over() {
        let queues = queues();
        queues.charge(Normal, 100, true);
        (0..200).for_each(|_| queues.charge(Normal, 100, true));
        queues.begin_turn();
        (0..100).for_each(|key| queues.push(Normal, key));
        let mut keys = Vec::new();
        queues.release(&mut keys);
        assert_eq!(keys.len(), 100, "short ones go together");
        queues.charge(Normal, ROUND_NS, true);
        assert!(queues.is_spent());
        (0..100).for_each(|key| queues.push(Normal, key));
        queues.begin_turn();
        let mut keys = Vec::new();
        queues.release(&mut keys);
        assert_eq!(keys.len(), 1, "after a long one they go one by one");
    }

    proptest! {
        /// However long polls are, a turn polls for about a round: no longer than a round and the longest poll of each class
        /// that was not known to be that long.
        #[test]
        fn a_turn_is_bounded(lengths in prop::collection::vec((0usize..3, 1_000u64..2_000_000), 1..40)) {
            let calls: Vec<_> =
                lengths.iter().map(|(class, ns)| (ServiceClass::ALL[*class], *ns)).collect();
            let longest = calls.iter().map(|(_, ns)| *ns).max().unwrap_or(0);
            let shard = Shard::new(calls);
            shard.wake_all();
            for _ in 0..300 {
                shard.queues.begin_turn();
                let mut keys = Vec::new();
                shard.queues.release(&mut keys);
                prop_assert!(!keys.is_empty(), "something waits, and nothing is released");
                let mut polled = 0;
                // As connections do: what is left when the time is over comes first in the next turn.
                for key in keys {
                    let (class, ns) = shard.calls[key as usize];
                    if !shard.queues.is_spent() {
                        shard.queues.charge(class, ns, true);
                        polled += ns;
                    }
                    shard.queues.push(class, key);
                }
                prop_assert!(polled < ROUND_NS + longest, "{polled} ns");
            }
        }
    }
}
