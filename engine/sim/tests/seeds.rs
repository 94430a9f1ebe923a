//! A few seeds keep the rules, and the same seed gives the same run.

use corewire_sim::{Shards, Shells};

/// Enough for a debug build; `.ci/smoke.sh` runs more in a release build.
const SEEDS: u64 = 40;

#[test]
fn a_few_seeds_hold_to_the_rules() {
    for shells in Shells::ALL {
        for seed in 0..SEEDS {
            let report = corewire_sim::run(seed, shells, Shards::Apart, None);
            assert_eq!(report.violation, None, "{shells:?} seed {seed}, last: {:#?}", report.last);
        }
    }
}

/// The same with servers whose shards have a mesh.
#[test]
fn a_few_seeds_hold_to_the_rules_with_a_mesh() {
    for shells in Shells::ALL {
        let mut forwarded = 0;
        for seed in 0..SEEDS {
            let report = corewire_sim::run(seed, shells, Shards::Meshed, None);
            assert_eq!(report.violation, None, "{shells:?} seed {seed}, last: {:#?}", report.last);
            forwarded += report.ends.get(FORWARDED).copied().unwrap_or(0);
        }
        assert!(forwarded > 0, "{shells:?}: calls are handed to the owners of their keys");
    }
}

/// What a report says of calls that changed shards.
const FORWARDED: &str = "handed to the owners of their keys";

/// What other kinds of channels are about does not change the plan of a seed, nor the run of a shard's clients.
#[test]
fn the_plan_of_a_seed_is_the_same_for_every_kind_of_channel() {
    for seed in 0..10 {
        let report = |shells| corewire_sim::run(seed, shells, Shards::Apart, None);
        let shard = report(Shells::Shard);
        for other in [Shells::Tokio, Shells::Thread, Shells::Blocking].map(report) {
            assert_eq!(shard.plan(), other.plan(), "seed {seed}");
            assert_ne!(shard.hash, other.hash, "seed {seed} is about clients");
        }
    }
}

/// Each of these once showed a bug of the engine or of the judge that its message names.
const ONCE_BROKEN: [(u64, &str); 16] = [
    (44_459_903, "a handler outlives its caller by the clock's jumps"),
    (45_037_729, "a one-way call expires unwritten, and streams have room"),
    (45_454_685, "room was counted twice over, and given back without a wake"),
    (45_582_810, "streams go through a pipe of 869 bytes, slowly"),
    (46_499_817, "a frame whose length was changed takes a later reply for its own bytes"),
    (46_516_196, "a large one-way call waits for the hello, and smaller ones behind it"),
    (
        50_233_926,
        "replies leave in the turn in which a large request found no room because of them",
    ),
    (
        50_597_998,
        "a large request for a stream finds no room, and its silent client is not noticed",
    ),
    (50_606_251, "a silent server is written to in parts, which looked like a sign of life"),
    (50_682_108, "a large request for a stream waits for room that its own calls take"),
    (50_934_750, "a changed byte of a hello lets a request pass that is too large"),
    (55_284_909, "a call that was given up stays in the queue behind one that fills the socket"),
    (55_736_254, "a call that was given up stays in the queue behind one that takes the last slot"),
    (55_949_799, "two calls that were given up stay in the queue"),
    (55_607_354, "requests that a failed write left in the buffer expire as if they were sent"),
    (57_016_376, "a server is not blamed for what a failed write left in the buffer"),
];

#[test]
fn seeds_that_were_broken_hold() {
    for (seed, what) in ONCE_BROKEN {
        let report = corewire_sim::run(seed, Shells::Shard, Shards::Apart, None);
        assert_eq!(report.violation, None, "seed {seed} ({what}), last: {:#?}", report.last);
    }
}

/// The same with a mesh.
const ONCE_BROKEN_MESHED: [(u64, &str); 11] = [
    (165, "a call comes to its key's owner when its time is over, and runs"),
    (189, "a handle sends to the server that it belonged to before, and all is lost"),
    (210, "a call by key begins too late, behind a narrow ring"),
    (264, "a handler at its key's owner is polled when its time is over"),
    (310, "what a shard drops when it leaves panics, and the others hear nothing"),
    (2_842, "the grace of a connection is over before the owner has seen its call"),
    (6_332, "a stream goes through a mesh of which one parcel is taken a turn"),
    (18_600, "an owner that is starting refuses one-way calls, and nobody counts them"),
    (61_044_680, "a shard that spins does not see that a call of another shard made room"),
    (600_016, "a drained shard still holds what it runs for another shard"),
    (110_577, "a stream's connection is cut off before the owner has seen its call"),
];

#[test]
fn seeds_that_were_broken_with_a_mesh_hold() {
    for (seed, what) in ONCE_BROKEN_MESHED {
        let report = corewire_sim::run(seed, Shells::Shard, Shards::Meshed, None);
        assert_eq!(report.violation, None, "seed {seed} ({what}), last: {:#?}", report.last);
    }
}

/// A mesh changes how many shards there are, and nothing else that a seed is about.
#[test]
fn the_plan_of_a_seed_with_a_mesh_is_the_same_but_for_its_shards() {
    let line = |line: &&str| !line.trim_start().starts_with("shards:");
    let plan = |seed, shards| {
        let plan = corewire_sim::run(seed, Shells::Shard, shards, None).plan();
        let (shared, _) = plan.split_once("mesh:").expect("the mesh comes last");
        shared.lines().filter(line).map(str::to_owned).collect::<Vec<String>>()
    };
    for seed in 0..5 {
        assert_eq!(plan(seed, Shards::Apart), plan(seed, Shards::Meshed), "seed {seed}");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let mut hashes = std::collections::BTreeSet::new();
    for seed in 1_000..1_012 {
        let shells = Shells::ALL[usize::try_from(seed).unwrap_or(0) % Shells::ALL.len()];
        let shards = Shards::ALL[usize::try_from(seed / 5).unwrap_or(0) % 2];
        let first = corewire_sim::run(seed, shells, shards, None);
        // Printing must not change what happens, nor what ran on this thread before.
        let second = corewire_sim::run(seed, shells, shards, Some(|_| {}));
        assert_eq!((first.hash, first.notes), (second.hash, second.notes), "seed {seed}");
        assert_eq!((first.ns, first.ends), (second.ns, second.ends), "seed {seed}");
        hashes.insert(first.hash);
    }
    assert_eq!(hashes.len(), 12, "different seeds are different runs");
}

/// A seed gives the same run in the tests' process and thread as in the command.
#[test]
fn another_thread_gives_the_same_run() {
    for shards in Shards::ALL {
        let here = corewire_sim::run(77, Shells::Mixed, shards, None).hash;
        let there = std::thread::scope(|scope| {
            scope.spawn(|| corewire_sim::run(77, Shells::Mixed, shards, None).hash).join()
        });
        assert_eq!(there.ok(), Some(here));
    }
}
