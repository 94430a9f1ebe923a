//! The verdicts of `verify` on machines in memory, and its pictures as committed (`UPDATE_EXPECTED=1` renews them).
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use common::fake::FakeHost;
use common::{Machine, classes};
use corewire_tune::host::{Archive, NicFacts};
use corewire_tune::placement::Placement;
use corewire_tune::verify::{Judgement, VerifyOptions, VerifyReport, compare, heat_strip, verify};

fn watch(archive: Archive, targets: &str, flows: u64) -> VerifyReport {
    let options = VerifyOptions {
        ifaces: Vec::new(),
        targets: Some(targets.parse().unwrap()),
        samples: 1,
        period: Duration::from_secs(1),
        skew_max: 1.5,
        flows: Some(flows),
    };
    verify(&FakeHost::new(archive), &options, &mut || true).unwrap()
}

fn committed(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/expected").join(name);
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&path, text).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap_or_default(), text, "{name}");
}

#[test]
fn all_on_one_cpu_fails_and_evenly_spread_passes() {
    let before = watch(classes::ixgbe_64(), "0-15", 2000);
    assert_eq!(before.verdict, Judgement::Fail, "{:?}", before.reasons);
    let after = watch(classes::i40e_tuned(), "0-15", 2000);
    assert_eq!(after.verdict, Judgement::Pass, "{:?}", after.reasons);
    let both = compare(&before, &after);
    assert_eq!(both.verdict, (Judgement::Fail, Judgement::Pass));
    assert!(both.max_over_mean.0 > 15.0 && both.max_over_mean.1 < 1.01);
    committed("verify-fail.txt", &heat_strip(&before));
    committed("verify-pass.txt", &heat_strip(&after));
}

#[test]
fn a_lost_packet_fails_however_even_the_spread() {
    let report = watch(classes::ice_ring_drops(), "0-23", 4000);
    assert_eq!(report.verdict, Judgement::Fail);
    assert!(
        report.reasons.iter().any(|reason| reason.contains("rx_dropped.nic grew by 802")),
        "{:?}",
        report.reasons
    );
}

#[test]
fn packets_outside_of_the_targets_fail() {
    let report = watch(classes::i40e_tuned(), "0-7", 2000);
    assert_eq!(report.verdict, Judgement::Fail);
    assert!(
        report.reasons.iter().any(|reason| reason.contains("outside of CPUs 0-7")),
        "{:?}",
        report.reasons
    );
}

#[test]
fn too_few_packets_or_flows_are_inconclusive() {
    let quiet = watch(classes::bnxt_few_queues(), "0-7", 2000);
    assert_eq!(quiet.verdict, Judgement::Inconclusive);
    let few = watch(classes::ixgbe_64(), "0-15", 3);
    assert_eq!(few.verdict, Judgement::Inconclusive);
    assert!(few.reasons[0].contains("3 flows for 16 CPUs"), "{:?}", few.reasons);
}

#[test]
fn a_counter_that_wraps_is_no_loss() {
    let mut machine = Machine::new("made by hand", 1, 2, 1, &[]);
    machine.interface("eth0", 2, 2);
    machine.archive.first.nics.insert("eth0".to_owned(), String::new());
    machine.file(
        "/proc/net/softnet_stat",
        "fffff000 ffffffff 0 0 0 0 0 0 0 0 0 0 0 0 0\nfffff000 0 0 0 0 0 0 0 0 0 0 0 1 0 0",
    );
    machine.traffic(|_| 1, |_| 0);
    machine.later_file(
        "/proc/net/softnet_stat",
        "00004000 ffffffff 0 0 0 0 0 0 0 0 0 0 0 0 0\n00004000 0 0 0 0 0 0 0 0 0 0 0 1 0 0",
    );
    let report = watch(machine.archive, "0-1", 2000);
    assert_eq!(
        (report.verdict, report.packets),
        (Judgement::Pass, 2 * 0x5000),
        "{:?}",
        report.reasons
    );
}

proptest::proptest! {
    #[test]
    fn no_text_panics_the_readers_of_our_own_files(text in "((schema|shard|kind|rss|stat\\.x|queue-irq\\.[0-9]|cpu) ?=? ?[-0-9a-z\"\\[\\] ]{0,12}\n){0,6}") {
        let _ = Placement::from_toml(&text);
        let _ = NicFacts::from_text(&text);
        let _ = corewire_tune::plan::Plan::from_json(&text);
    }
}
