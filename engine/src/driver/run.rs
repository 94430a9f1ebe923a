//! When the driver turns, and how the connections that want a turn get it.

use std::time::Instant;

use super::Driver;
use crate::conn::run_queue::TurnBudget;
use crate::net::io::Io;

/// The most rounds that an ending shard runs for what its tasks left.
const LAST_ROUNDS: usize = 1024;

impl<I: Io> Driver<I> {
    /// When the driver must turn again even if nothing happens.
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        let sleep = self.local.sleepers.next();
        let drain_by = self.shared.drain_by.filter(|_| !self.drain_is_over);
        let log = self.local.log.next();
        let [relief, trim] = self.relief.next();
        let rare = [self.accept_after, drain_by, sleep, log, relief, trim];
        rare.into_iter().fold(self.shared.timers.next(), earlier)
    }

    /// Gives all connections that have little to do one turn each, and the others while the budget of
    /// the shard's turn lasts. Returns how many there were.
    pub(super) fn run_queue(&mut self) -> usize {
        let (light, heavy) = self.run.lines();
        self.begin_budget(light + heavy);
        let mut rounds = 0;
        for _ in 0..light {
            let Some((token, since)) = self.run.pop_light() else { break };
            let received = self.run_connection(token, since);
            rounds += 1;
            self.hot = (received && light + heavy == 1).then_some(token);
        }
        if heavy > 0 {
            rounds += self.run_heavy(heavy, light + heavy == 1);
        }
        self.tell_holdings();
        rounds
    }

    /// The second queue: one connection in any case, and others while the turn's budget lasts.
    fn run_heavy(&mut self, count: usize, alone: bool) -> usize {
        for round in 0..count {
            if round > 0 && self.shared.turn.is_spent() {
                return round;
            }
            let Some((token, since)) = self.run.pop_heavy() else { return round };
            let received = self.run_connection(token, since);
            self.hot = (received && alone).then_some(token);
        }
        count
    }

    /// A turn of the shard begins.
    #[inline]
    pub(super) fn begin_budget(&mut self, waiting: usize) {
        self.shared.turn = TurnBudget::new(&self.shared.config.budgets, waiting);
    }

    /// A sleep follows: whatever held the shard is found before.
    pub(crate) fn look_before_sleep(&mut self) {
        self.shared.look_before_sleep();
    }

    /// Takes what tasks and handlers have just left, and nothing else: their requests are sent
    /// without another look at the sockets.
    pub(crate) fn settle(&mut self) {
        if self.local.wakes.take_news() {
            self.take_local();
            self.run_queue();
        }
    }

    /// As [`settle`](Self::settle), when no other turn follows: sends whatever can be sent.
    pub(crate) fn settle_last(&mut self) {
        self.settle();
        for _ in 0..LAST_ROUNDS {
            if self.run.is_empty() {
                return;
            }
            self.run_queue();
        }
    }
}

#[inline]
fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, None) => one,
        (None, other) => other,
    }
}
