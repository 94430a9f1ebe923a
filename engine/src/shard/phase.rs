//! Whether a shard's server goes on, and who waits for it to drain. What handlers and tasks ask is in
//! `drain_sign.rs`.

use std::cell::{Cell, RefCell};
use std::task::Waker;

/// What a server does with new calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// It takes them.
    #[default]
    Serving,
    /// It takes them, but wants no new clients.
    LameDuck,
    /// It finishes what is in flight.
    Draining,
}

/// A shard's phase, and who waits for the drain.
#[derive(Debug, Default)]
pub(crate) struct PhaseSign {
    phase: Cell<Phase>,
    /// By the numbers of their `DrainBegun`.
    waiting: RefCell<Vec<(u64, Waker)>>,
    numbers: Cell<u64>,
}

impl PhaseSign {
    pub(crate) fn get(&self) -> Phase {
        self.phase.get()
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.set(phase.max(self.phase.get()));
        if self.phase.get() == Phase::Draining {
            // Taken out first: a wake may run code that waits again.
            let waiting = self.waiting.take();
            waiting.into_iter().for_each(|(_, waker)| waker.wake());
        }
    }

    /// Sets the waker of one that waits; returns its number.
    pub(crate) fn wait(&self, number: Option<u64>, waker: &Waker) -> u64 {
        let mut waiting = self.waiting.borrow_mut();
        if let Some(number) = number
            && let Some((_, old)) = waiting.iter_mut().find(|(it, _)| *it == number)
        {
            old.clone_from(waker);
            return number;
        }
        let number = self.numbers.replace(self.numbers.get().wrapping_add(1));
        waiting.push((number, waker.clone()));
        number
    }

    pub(crate) fn forget(&self, number: u64) {
        self.waiting.borrow_mut().retain(|(it, _)| *it != number);
    }
}
