//! Replays the committed corpus of each fuzz target.

use corewire_codec::fuzzing::{assert_same_set, replay};
use corewire_proto::fuzzing::TARGETS;

#[test]
fn every_seed_holds() {
    replay(env!("CARGO_MANIFEST_DIR"), &TARGETS);
}

#[test]
fn bodies_targets_and_corpora_are_the_same_set() {
    assert_same_set(env!("CARGO_MANIFEST_DIR"), &TARGETS);
}
