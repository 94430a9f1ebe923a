//! Applying a plan removes the findings that asked for its steps and brings no new ones, on every class of host, idle and under
//! traffic that goes where the machine's settings lead it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeSet;

use common::classes;
use common::fake::{FakeHost, MemoryJournal};
use corewire_tune::apply::{ApplyOptions, apply};
use corewire_tune::doctor::{Report, diagnose};
use corewire_tune::host::Archive;
use corewire_tune::placement;
use corewire_tune::plan::{Plan, PlanOptions, make};
use corewire_tune::snapshot::{Scope, Snapshot};

/// Packets in a sample that fill the only CPU of a single queue.
const HEAVY: u64 = 400_000;

fn look(host: &FakeHost, ifaces: &[String]) -> Snapshot {
    Snapshot::take(host, &Scope { ifaces: ifaces.to_vec(), ..Scope::default() }).unwrap()
}

fn findings(report: &Report) -> BTreeSet<(String, String)> {
    report.findings.iter().map(|finding| (finding.id.to_owned(), finding.subject.clone())).collect()
}

fn do_plan(host: &FakeHost, plan: &Plan) {
    let options = ApplyOptions { irqbalance_is_banned: true, ..ApplyOptions::default() };
    apply(host, &mut MemoryJournal::default(), plan, &options, &mut |_| Ok(())).unwrap();
}

/// What is wrong with the plan for these interfaces of a host; empty when it cures.
fn wrong(
    name: &str,
    archive: &Archive,
    ifaces: &[String],
    packets: u64,
    options: &PlanOptions,
) -> Vec<String> {
    let host = FakeHost::new(archive.clone());
    let host = if packets > 0 { host.with_traffic(packets, ifaces) } else { host };
    let before = look(&host, ifaces);
    let Ok(plan) = make(&before, options) else { return Vec::new() };
    // A layout that was asked for is judged by the placement that comes with its plan.
    let is_split = options.derive.layout != placement::Layout::Aligned;
    let given = options.given.as_ref().or_else(|| is_split.then_some(&plan.placement));
    let report = diagnose(&before, given);
    let label = format!("{name} {ifaces:?} at {packets} packets");
    let mut wrong = Vec::new();
    let asked: BTreeSet<&str> = plan.steps.iter().map(|step| step.finding.as_str()).collect();
    for finding in &report.findings {
        let promises = finding.fix.iter().any(|fix| fix.starts_with("corewire-tune plan"));
        // Power is planned only for a goal; several cards in one finding are planned with both named.
        if promises && finding.id != "GOVERNOR" && asked.is_empty() {
            wrong.push(format!(
                "{label}: {} on {} promises a plan that has no step",
                finding.id, finding.subject
            ));
        }
    }
    do_plan(&host, &plan);
    let after = look(&host, ifaces);
    let now = findings(&diagnose(&after, given));
    let was = findings(&report);
    for (id, subject) in now.intersection(&was).filter(|(id, _)| asked.contains(id.as_str())) {
        wrong.push(format!("{label}: {id} on {subject} is still there"));
    }
    for (id, subject) in now.difference(&was) {
        wrong.push(format!("{label}: {id} on {subject} is new"));
    }
    // What is placed stays where it is.
    let again = make(&after, options).unwrap();
    wrong.extend(again.steps.iter().map(|step| {
        format!("{label}: planned again: {} -> {} for {}", step.setting, step.new, step.finding)
    }));
    wrong
}

#[test]
fn a_plan_cures_and_makes_no_new_trouble() {
    let mut all = Vec::new();
    let rps = PlanOptions { is_named: true, rps: true, ..PlanOptions::default() };
    let split = PlanOptions {
        is_named: true,
        derive: placement::Options {
            layout: placement::Layout::Split(1),
            ..placement::Options::default()
        },
        ..PlanOptions::default()
    };
    for (name, archive, ifaces) in classes::all() {
        let host = FakeHost::new(archive.clone());
        let Ok(snapshot) =
            Snapshot::take(&host, &Scope { ifaces: ifaces.clone(), ..Scope::default() })
        else {
            continue;
        };
        // Each card alone, and all of them together.
        let names: Vec<String> = snapshot.cards().map(|nic| nic.name.clone()).collect();
        let mut choices: Vec<Vec<String>> = names.iter().map(|name| vec![name.clone()]).collect();
        if names.len() > 1 {
            choices.push(names);
        }
        for ifaces in choices {
            let plain = PlanOptions { is_named: true, ..PlanOptions::default() };
            for (packets, options) in
                [(0, &plain), (HEAVY, &plain), (0, &rps), (HEAVY, &rps), (0, &split)]
            {
                all.extend(wrong(name, &archive, &ifaces, packets, options));
            }
        }
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[test]
fn a_plan_for_a_placement_cures_what_contradicts_it() {
    let mut all = Vec::new();
    for (name, archive, ifaces) in classes::all() {
        let host = FakeHost::new(archive.clone());
        let scope = Scope { ifaces, sample: std::time::Duration::ZERO, ..Scope::default() };
        let Ok(snapshot) = Snapshot::take(&host, &scope) else { continue };
        for iface in snapshot.cards().map(|nic| vec![nic.name.clone()]) {
            // The CPUs in another order than the host's own.
            let cpus: Vec<u32> = snapshot.cpus.local(None).iter().collect();
            let order = placement::CpuOrder(cpus.into_iter().rev().take(4).collect());
            let derive = placement::Options { cpus: Some(order), ..placement::Options::default() };
            let options = PlanOptions { is_named: true, derive, ..PlanOptions::default() };
            let one = Scope { ifaces: iface.clone(), ..scope.clone() };
            let placement =
                make(&Snapshot::take(&host, &one).unwrap(), &options).unwrap().placement;
            let given =
                PlanOptions { given: Some(placement), is_named: true, ..PlanOptions::default() };
            for packets in [0, HEAVY] {
                all.extend(wrong(name, &archive, &iface, packets, &given));
            }
        }
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}
