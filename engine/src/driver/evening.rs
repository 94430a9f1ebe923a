//! What a shard remembers of its load, and of the connections that come and go because of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::balance::Balance;
use crate::balance::decide::{Balancer, ShardLoad};
use crate::net::io::Token;
use crate::shard::counters::ShardCounters;

/// The load of a shard, and what it does about it.
#[derive(Debug)]
pub(super) struct Evening {
    /// When to look again; `None` if this is no shard of a server.
    pub(super) look_at: Option<Instant>,
    pub(super) looked: Instant,
    pub(super) setting: Balance,
    pub(super) balancer: Balancer,
    pub(super) members: Arc<[Arc<ShardCounters>]>,
    /// The turns of each when it was last looked at, to tell those that stall.
    pub(super) turns: Vec<u64>,
    /// CPU time at the last look, and what was spun since.
    pub(super) cpu: Duration,
    pub(super) spun: Duration,
    /// Whether each connection's turn is told here.
    pub(super) watches: bool,
    pub(super) weighs: bool,
    /// What each connection's turns took, by its place in the table.
    pub(super) weights: Vec<Option<(Token, Duration)>>,
    /// Connections that are to go, where, and how many looks they have left.
    pub(super) leaving: Vec<(Token, usize, u32)>,
    /// Connections that came, and until when they stay.
    pub(super) staying: Vec<(Token, Instant)>,
    /// How many were given and not answered for.
    pub(super) away: usize,
    pub(super) said: Option<Instant>,
}

impl Evening {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            look_at: None,
            looked: now,
            setting: Balance::Off,
            balancer: Balancer::new(0),
            members: Arc::new([]),
            turns: Vec::new(),
            cpu: Duration::ZERO,
            spun: Duration::ZERO,
            watches: false,
            weighs: false,
            weights: Vec::new(),
            leaving: Vec::new(),
            staying: Vec::new(),
            away: 0,
            said: None,
        }
    }

    /// Whether connections are watched in their turns.
    #[inline]
    pub(super) fn watches(&self) -> bool {
        self.watches
    }

    #[inline]
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.look_at.is_some_and(|at| at <= now)
    }

    /// Whether connections that this shard gave may come back.
    pub(super) fn awaits_answers(&self) -> bool {
        self.away > 0
    }

    /// The shard has spun for this long and found nothing.
    #[inline]
    pub(super) fn note_spun(&mut self, spun: Duration) {
        self.spun += spun;
    }

    /// The share of the time since the last look that the shard was at work, which is published.
    pub(super) fn measure(&mut self, cpu: Duration, now: Instant, own: &ShardCounters) {
        let time = now.saturating_duration_since(core::mem::replace(&mut self.looked, now));
        let worked = cpu.saturating_sub(core::mem::replace(&mut self.cpu, cpu));
        let worked = worked.saturating_sub(core::mem::take(&mut self.spun));
        own.busy_us.add(u64::try_from(worked.as_micros()).unwrap_or(u64::MAX));
        let share = worked.as_micros() * 1000 / time.as_micros().max(1);
        own.busy_permille.set(u64::try_from(share.min(1000)).unwrap_or(1000));
    }

    pub(super) fn loads(&mut self, is_gone: impl Fn(usize) -> bool) -> Vec<ShardLoad> {
        let members = Arc::clone(&self.members);
        self.turns.resize(members.len(), 0);
        let one = |(index, (counters, seen)): (usize, (&Arc<ShardCounters>, &mut u64))| {
            let turns = counters.turns.value();
            let turned = core::mem::replace(seen, turns) != turns;
            let sleeps = !turned && counters.parked.value() == 1;
            let permille = u32::try_from(counters.busy_permille.value()).unwrap_or(u32::MAX);
            // One that sleeps has not measured since. One that neither sleeps nor turns is held up.
            let busy = if sleeps { 0.0 } else { f64::from(permille) / 1000.0 };
            let takes = counters.takes.value() == 1 && (turned || sleeps) && !is_gone(index);
            ShardLoad { busy, takes, stuck: counters.uneven.value() == 1 }
        };
        members.iter().zip(&mut self.turns).enumerate().map(one).collect()
    }
}
