//! Judging a snapshot: findings with evidence, the exact fix, its undo and its risk. Nothing is changed.

mod case;
mod catalogue;
mod drops;
mod finding;
mod interrupts;
mod queues;
mod system;
mod text;

pub use catalogue::{Entry, catalogue, entry};
pub(crate) use drops::counts_full_ring;
pub use finding::{Evidence, Finding, Severity};
pub use text::{card_line, report_text};

use serde::Serialize;

use crate::snapshot::Snapshot;
use case::Case;
use corewire_placement::Placement;

/// What the doctor found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The findings, faults first.
    pub findings: Vec<Finding>,
    /// What could not be read, each with its cause.
    pub not_readable: Vec<String>,
}

impl Report {
    /// Whether there is a fault, as opposed to advice and notes.
    #[must_use]
    pub fn has_fault(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Fault)
    }

    /// Whether there is a finding of this name.
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        self.findings.iter().any(|finding| finding.id == id)
    }
}

/// The version of every JSON form that this program writes, except the plan file, which has its own.
pub const JSON_VERSION: u32 = 2;

/// The report as programs read it: findings with the machine and the cards that they are about.
#[must_use]
pub fn report_json(snapshot: &Snapshot, report: &Report) -> serde_json::Value {
    let cards: Vec<serde_json::Value> = snapshot
        .nics
        .iter()
        .map(|nic| {
            serde_json::json!({
                "iface": nic.name, "kind": nic.kind, "driver": nic.driver, "node": nic.node, "megabits": nic.speed,
                "rx_queues": nic.rx.len(), "tx_queues": nic.tx.len(), "interrupts": nic.vectors.len(),
                "interrupts_found_by": nic.vector_method, "device": nic.device,
            })
        })
        .collect();
    serde_json::json!({
        "version": JSON_VERSION, "kernel": snapshot.kernel, "cpus_online": snapshot.cpus.online.to_string(),
        "cpus_usable": snapshot.cpus.local(None).to_string(),
        "seconds": snapshot.second.as_ref().map_or(0.0, |(period, _)| period.as_secs_f64()),
        "cards": cards, "findings": report.findings, "not_readable": report.not_readable,
    })
}

/// Judges a snapshot against the placement that the operator gave, or the one derived from the snapshot.
#[must_use]
pub fn diagnose(snapshot: &Snapshot, given: Option<&Placement>) -> Report {
    let derived = corewire_placement::derive(
        &snapshot.topology(),
        &snapshot.queue_limits(),
        &corewire_placement::Options::default(),
    );
    let derived = derived.ok();
    let mut case = Case {
        snapshot,
        placement: given.or(derived.as_ref()),
        is_given: given.is_some(),
        rate: snapshot.rate(),
        findings: Vec::new(),
    };
    drops::check(&mut case);
    interrupts::check(&mut case);
    queues::check(&mut case);
    system::check(&mut case);
    let mut findings = case.findings;
    let bans = snapshot.irqbalance.as_ref().is_some_and(|found| found.config.is_some())
        && !snapshot.fought().is_empty();
    for fix in findings.iter_mut().flat_map(|finding| &mut finding.fix) {
        if given.is_some() {
            // What contradicts a placement is fixed by a plan for that placement, not by one for a newly
            // derived placement.
            *fix = fix
                .replace("corewire-tune plan ", "corewire-tune plan --placement placement.toml ");
        }
        if bans {
            // Without the ban the interrupts would not stay, and `apply` would refuse to move them.
            *fix = fix
                .replace("irq --format", "irq,irqbalance --format")
                .replace("irq,rps", "irq,irqbalance,rps");
        }
    }
    findings.sort_by_key(|finding| finding.severity);
    Report { findings, not_readable: snapshot.unread.iter().map(ToString::to_string).collect() }
}
