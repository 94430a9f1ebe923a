//! Which CPUs a thread may use: a shard pins its thread, and threads that are started there inherit that.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::cell::Cell;

use crate::workers::pool::PoolPlan;

thread_local! {
    /// What this thread might use before its shard pinned it.
    static BEFORE: Cell<Option<CpuSet>> = const { Cell::new(None) };
}

/// Remembers which CPUs this thread may use, and restores that when it is dropped.
#[derive(Debug)]
pub(crate) struct Unpinned {
    before: Option<CpuSet>,
    former: Option<CpuSet>,
}

impl Unpinned {
    /// To be called before the thread is pinned.
    pub(crate) fn remember() -> Self {
        // Without an answer from the system, nothing is restored.
        let before = sched_getaffinity(None).ok();
        Self { before, former: BEFORE.replace(before) }
    }
}

impl Drop for Unpinned {
    fn drop(&mut self) {
        // This fails only on a thread that is ending, which needs it no more.
        let _ = BEFORE.try_with(|before| before.set(self.former));
        if let Some(before) = &self.before {
            set(before);
        }
    }
}

/// The CPUs that this thread might use before its shard pinned it, or may use now.
pub(crate) fn unpinned() -> Option<CpuSet> {
    BEFORE.try_with(Cell::get).ok().flatten().or_else(|| sched_getaffinity(None).ok())
}

/// How much offloaded work may wait, unless somebody says otherwise.
pub(crate) const QUEUE: usize = 1024;

/// The threads for offloaded work on a shard without a server.
pub(crate) fn default_plan() -> PoolPlan {
    let before = BEFORE.try_with(Cell::get).ok().flatten();
    // The CPU that this shard was pinned to, if it was.
    let taken = match (before, sched_getaffinity(None)) {
        (Some(before), Ok(now)) if now != before => list(&now),
        _ => Vec::new(),
    };
    let (cpus, left) = offload_cpus(&taken);
    let plan = PoolPlan::new(left.max(THREADS_MIN), QUEUE, cpus);
    PoolPlan { gives_way: left == 0, ..plan }
}

/// By default there are at least this many threads for offloaded work: one that blocks must not keep all others waiting.
pub(crate) const THREADS_MIN: usize = 2;

/// The CPUs for offloaded work beside shards that are pinned to `taken`, and how many of them no shard has: those that
/// are left, or if there are none, all that the process may use.
pub(crate) fn offload_cpus(taken: &[usize]) -> (Vec<usize>, usize) {
    let before = BEFORE.try_with(Cell::get).ok().flatten();
    let allowed = before.or_else(|| sched_getaffinity(None).ok());
    let allowed = allowed.map_or_else(Vec::new, |set| list(&set));
    let left = allowed.iter().copied().filter(|cpu| !taken.contains(cpu)).collect::<Vec<_>>();
    match left.len() {
        0 => (allowed, 0),
        count => (left, count),
    }
}

fn list(set: &CpuSet) -> Vec<usize> {
    (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect()
}

pub(crate) fn set(cpus: &CpuSet) {
    // It fails if a cpuset has taken the CPUs away meanwhile; the thread stays where it is then.
    let _ = sched_setaffinity(None, cpus);
}

/// Does `work` with the CPUs that this thread might use before its shard pinned it, and pins it again.
///
/// **A thread inherits the CPUs of the thread that starts it**, for ever. What a handler or a task of a shard starts
/// shares that shard's one CPU with it, and with everything else that was started there: threads, and the pools
/// of rayon, tokio and others that are made when they are first used. Start them here, or before the
/// server:
///
/// ```
/// # use corewire_engine::with_all_cpus;
/// let thread = with_all_cpus(|| std::thread::spawn(|| { /* compresses a file */ }));
/// # thread.join().unwrap();
/// ```
///
/// A pool that starts threads later, as tokio does for `spawn_blocking`, starts them from the thread that
/// asks: ask for those from one of its own tasks.
///
/// It costs three system calls on a shard that is pinned. `work` runs on this thread, maybe on another CPU for
/// a moment, and the shard stands still meanwhile. On any other thread it only does `work`.
pub fn with_all_cpus<T>(work: impl FnOnce() -> T) -> T {
    let before = BEFORE.try_with(Cell::get).ok().flatten();
    // Dropped at the end, also if `work` panics: the shard is pinned again.
    let _pinned = before.and_then(|before| {
        let pinned = sched_getaffinity(None).ok()?;
        set(&before);
        Some(Again(pinned))
    });
    work()
}

struct Again(CpuSet);

impl Drop for Again {
    fn drop(&mut self) {
        set(&self.0);
    }
}
