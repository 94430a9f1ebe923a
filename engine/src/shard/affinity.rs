//! Which CPUs a thread may use: a shard pins its thread, and threads that are started there inherit that.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::cell::Cell;

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
