//! Which CPUs threads may use: a shard pins its own thread, and nothing else for longer than it runs.
#![allow(clippy::unwrap_used, reason = "tests")]

use corewire::{ClientShard, allowed_cpus, block_on_shard, with_all_cpus};
use rustix::thread::{CpuSet, sched_getaffinity};

fn mask() -> CpuSet {
    sched_getaffinity(None).unwrap()
}

/// The mask of a thread that is started here.
fn inherited() -> CpuSet {
    std::thread::spawn(mask).join().unwrap()
}

/// On a machine with one CPU this shows nothing.
#[test]
fn a_thread_that_ran_a_shard_is_not_pinned_afterwards() {
    let (before, cpu) = (mask(), allowed_cpus().unwrap()[0]);
    let shard = ClientShard { cpu: Some(cpu), ..ClientShard::default() };
    let pinned = block_on_shard(shard, || async { mask() }).unwrap();
    assert!(pinned.is_set(cpu) && pinned.count() == 1, "{pinned:?}");
    assert_eq!(mask(), before);

    // A panic of the work restores it, too.
    let panics = || {
        block_on_shard(shard, move || async move { assert!(!mask().is_set(cpu), "it is pinned") })
    };
    assert!(std::panic::catch_unwind(panics).is_err());
    assert_eq!(mask(), before);
}

#[test]
fn threads_that_a_shard_starts_can_have_all_cpus() {
    let (before, cpu) = (mask(), allowed_cpus().unwrap()[0]);
    let shard = ClientShard { cpu: Some(cpu), ..ClientShard::default() };
    let (trap, free, after) = block_on_shard(shard, || async {
        let trap = inherited();
        let free = with_all_cpus(inherited);
        assert!(
            std::panic::catch_unwind(|| with_all_cpus(|| panic!("as the test wants"))).is_err()
        );
        (trap, free, mask())
    })
    .unwrap();
    assert_eq!((trap.count(), free), (1, before));
    assert_eq!(after.count(), 1, "the shard is pinned again");
    // Elsewhere it changes nothing.
    assert_eq!(with_all_cpus(inherited), before);
}
