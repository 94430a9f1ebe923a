//! Threads that are no shards keep to CPUs without one, where a server's placement leaves any.
//!
//! Which CPUs have shards is known to the whole process, because a client thread belongs to no server. Each server notes
//! its own while it runs.

use rustix::thread::CpuSet;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::shard::affinity;

const CPUS: usize = CpuSet::MAX_CPU;

/// How many servers have a shard on each CPU.
static SHARDS: [AtomicU16; CPUS] = [const { AtomicU16::new(0) }; CPUS];

/// How many servers would rather have no helper on each CPU: a shard is there or on its core, or it is kept quiet.
static AVOIDED: [AtomicU16; CPUS] = [const { AtomicU16::new(0) }; CPUS];

/// The CPUs of one running server, noted until it is dropped.
#[derive(Debug)]
pub(crate) struct Noted {
    shards: Vec<usize>,
    avoided: Vec<usize>,
}

impl Noted {
    /// Notes a server's shards, and the CPUs that its helpers avoid, the shards' among them.
    pub(crate) fn new(shards: Vec<usize>, avoided: Vec<usize>) -> Self {
        add(&SHARDS, &shards);
        add(&AVOIDED, &avoided);
        Self { shards, avoided }
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        remove(&SHARDS, &self.shards);
        remove(&AVOIDED, &self.avoided);
    }
}

fn add(counts: &[AtomicU16; CPUS], cpus: &[usize]) {
    for count in cpus.iter().filter_map(|&cpu| counts.get(cpu)) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

fn remove(counts: &[AtomicU16; CPUS], cpus: &[usize]) {
    for count in cpus.iter().filter_map(|&cpu| counts.get(cpu)) {
        count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The CPUs for a thread that is no shard, of those that this thread might use before a shard pinned it: without shards on
/// their cores, or at least without shards. `None` if every CPU has a shard, or none has: such a thread runs anywhere.
///
/// To be called on the thread that starts the other one, whose first act is then [`keep_to`]:
///
/// ```text
/// let cpus = helper_cpus();
/// thread::spawn(move || { keep_to(cpus.as_ref()); … });
/// ```
pub(crate) fn helper_cpus() -> Option<CpuSet> {
    let may = affinity::unpinned()?;
    let without = |counts: &[AtomicU16; CPUS]| {
        let mut cpus = CpuSet::new();
        for (cpu, count) in counts.iter().enumerate() {
            if may.is_set(cpu) && count.load(Ordering::Relaxed) == 0 {
                cpus.set(cpu);
            }
        }
        (cpus.count() > 0).then_some(cpus)
    };
    without(&AVOIDED).or_else(|| without(&SHARDS))
}

/// Keeps this thread, and those that it starts, to these CPUs; without any it stays as it is.
pub(crate) fn keep_to(cpus: Option<&CpuSet>) {
    if let Some(cpus) = cpus {
        affinity::set(cpus);
    }
}
