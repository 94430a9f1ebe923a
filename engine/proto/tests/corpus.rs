//! Replays the committed corpus of each fuzz target: seeds, and inputs that once found a bug.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use corewire_proto::fuzzing::TARGETS;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn every_seed_holds() {
    for (target, run) in TARGETS {
        let folder = fuzz().join("corpus").join(target);
        let seeds = names(&folder);
        assert!(!seeds.is_empty(), "{target} has no seeds");
        for seed in seeds {
            let data = std::fs::read(folder.join(&seed)).unwrap();
            // A panic alone does not say which seed it was.
            let held = std::panic::catch_unwind(|| run(&data)).is_ok();
            assert!(held, "{target}/{seed}");
        }
    }
}

/// A body without a target would never be explored; a corpus without a body never be replayed.
#[test]
fn bodies_targets_and_corpora_are_the_same_set() {
    let bodies: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(bodies, names(&fuzz().join("corpus")));
    let files = names(&fuzz().join("fuzz_targets"));
    assert_eq!(files, bodies.iter().map(|name| format!("{name}.rs")).collect());
}
