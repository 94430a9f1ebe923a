//! On which CPUs the packets of accepted connections arrive, over all shards of a server: what decides whether steering by
//! CPU would spread connections or pile them up.

use std::sync::atomic::{AtomicU64, Ordering};

/// Connections by the CPU of their packets. Shards write it together, once per connection and never for a call.
#[derive(Debug)]
pub(crate) struct Arrivals {
    /// By CPU: the shard that runs there. Shorter than the highest CPU of the host, maybe.
    shards: Box<[Option<u16>]>,
    /// By shard; the last is for CPUs without one.
    counts: Box<[AtomicU64]>,
}

impl Arrivals {
    /// For shards on these CPUs, in their order.
    pub(crate) fn new(cpus: &[usize]) -> Self {
        let length = cpus.iter().max().map_or(0, |highest| highest + 1);
        let mut shards = vec![None; length];
        for (shard, &cpu) in (0..).zip(cpus) {
            if let Some(entry) = shards.get_mut(cpu) {
                *entry = Some(shard);
            }
        }
        let counts = (0..=cpus.len()).map(|_| AtomicU64::new(0)).collect();
        Self { shards: shards.into(), counts }
    }

    /// A connection was accepted whose packets arrive on this CPU.
    pub(crate) fn note(&self, cpu: usize) {
        let shard = self.shards.get(cpu).copied().flatten().map(usize::from);
        let elsewhere = self.counts.len() - 1;
        if let Some(count) = self.counts.get(shard.unwrap_or(elsewhere)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counts by shard, and last those of CPUs without a shard.
    pub(crate) fn counts(&self) -> Vec<u64> {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }
}
