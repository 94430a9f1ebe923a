//! The doctor's report and the plan for every class of host, compared with the committed texts in `tests/expected`.
//!
//! `UPDATE_EXPECTED=1 cargo test -p corewire-tune --test fixtures` writes them again; read the diff before committing
//! it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::path::PathBuf;

use common::classes;
use common::fake::FakeHost;
use corewire_tune::doctor::{diagnose, report_text};
use corewire_tune::plan::{PlanOptions, make, plan_text, script};
use corewire_tune::snapshot::{Scope, Snapshot};

fn compare(name: &str, text: &str) -> Result<(), String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/expected").join(name);
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&path, text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    if expected == text {
        Ok(())
    } else {
        Err(format!("{} differs; now it is:\n{text}", path.display()))
    }
}

#[test]
fn doctor_and_plan_of_every_class_are_as_committed() {
    let mut wrong = Vec::new();
    for (name, archive, ifaces) in classes::all() {
        let label = format!("({})\n", archive.comment.trim().replace('\n', ";\n "));
        let host = FakeHost::new(archive);
        let is_named = !ifaces.is_empty();
        // A host that cannot be read whole, or a plan that is refused, says why; that is compared as well.
        let (seen, planned) = match Snapshot::take(&host, &Scope { ifaces, ..Scope::default() }) {
            Ok(snapshot) => {
                let options = PlanOptions { is_named, ..PlanOptions::default() };
                let planned = make(&snapshot, &options)
                    .map_or_else(|why| format!("{why}\n"), |plan| plan_text(&plan));
                (report_text(&snapshot, &diagnose(&snapshot, None)), planned)
            }
            Err(fault) => (format!("{fault}\n"), format!("{fault}\n")),
        };
        wrong.extend(compare(&format!("{name}.doctor.txt"), &(label.clone() + &seen)).err());
        wrong.extend(compare(&format!("{name}.plan.txt"), &(label + &planned)).err());
        assert_eq!(host.write_count(), 0, "{name}: looking must not write");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_class_shows_what_it_was_made_for() {
    let expected: &[(&str, &[&str])] = &[
        ("firecracker-virtio", &["VM_LIMITED"]),
        ("ixgbe-64-cpus", &["IRQ_PILE", "IRQ_WIDE", "SOFTIRQ_SKEW"]),
        ("i40e-tuned", &[]),
        ("ice-ring-drops", &["RING_DROPS"]),
        ("ice-ring-at-max", &["RING_DROPS_AT_MAX"]),
        ("mlx5-two-sockets", &["IRQ_REMOTE_NODE"]),
        ("bnxt-few-queues", &["QUEUES_LT_SHARDS"]),
        ("ena-allowance", &["CLOUD_ALLOWANCE"]),
        ("vlan-over-ice", &["RSS_UNEVEN"]),
        ("isolated-cpus", &["ISOLATED_CPUS", "IRQ_PILE"]),
        ("huge-288-cpus", &["SQUEEZE"]),
        (
            "neglected",
            &[
                "IRQBALANCE_FIGHT",
                "UDEV_IRQ_POLICY",
                "RPS_REDUNDANT",
                "THREADED_NAPI",
                "LISTEN_OVERFLOW",
                "RCV_PRESSURE",
                "SOMAXCONN_LOW",
                "BUSY_POLL",
                "IO_URING_OFF",
                "NUMA_BALANCING",
                "THP_ALWAYS",
                "CLOCKSOURCE",
                "GOVERNOR",
                "DEEP_CSTATE",
                "CONNTRACK_NEAR_MAX",
                "RULES_PRESENT",
            ],
        ),
    ];
    for (name, archive, ifaces) in classes::all() {
        let Some((_, ids)) = expected.iter().find(|(known, _)| *known == name) else {
            continue;
        };
        let host = FakeHost::new(archive);
        let snapshot = Snapshot::take(&host, &Scope { ifaces, ..Scope::default() }).unwrap();
        let report = diagnose(&snapshot, None);
        for id in *ids {
            assert!(report.has(id), "{name}: {id} is missing");
        }
        assert!(
            report
                .findings
                .iter()
                .all(|finding| !finding.why.is_empty() && !finding.evidence.is_empty()),
            "{name}"
        );
    }
}

#[test]
fn a_healthy_machine_gets_no_alarm() {
    for archive in [classes::firecracker_virtio(), classes::i40e_tuned()] {
        let host = FakeHost::new(archive);
        let snapshot = Snapshot::take(&host, &Scope::default()).unwrap();
        let report = diagnose(&snapshot, None);
        assert!(!report.has_fault(), "{:?}", report.findings);
    }
}

#[test]
fn a_tuned_machine_needs_no_step() {
    let host = FakeHost::new(classes::i40e_tuned());
    let snapshot = Snapshot::take(&host, &Scope::default()).unwrap();
    assert_eq!(make(&snapshot, &PlanOptions::default()).unwrap().steps, []);
}

#[test]
fn a_script_is_committed_as_written() {
    let host = FakeHost::new(classes::bnxt_few_queues());
    let snapshot = Snapshot::take(&host, &Scope::default()).unwrap();
    let plan = make(&snapshot, &PlanOptions::default()).unwrap();
    compare("bnxt-few-queues.plan.sh", &script(&plan)).unwrap();
}
