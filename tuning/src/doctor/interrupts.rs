//! Where the cards' interrupts are served.

use std::collections::BTreeMap;

use crate::parse::VectorRole;
use crate::placement::CpuSet;
use crate::snapshot::{Nic, Vector};

use super::{Case, Finding, Severity};

pub(super) fn check(case: &mut Case<'_>) {
    let cards: Vec<Nic> = case.snapshot.cards().filter(|nic| nic.has_vectors()).cloned().collect();
    for nic in &cards {
        pile(case, nic);
        wide(case, nic);
        remote_node(case, nic);
        smt_peer(case, nic);
        drift(case, nic);
    }
    if cards.is_empty() {
        return;
    }
    if let Some(pid) = case.snapshot.irqbalance {
        let severity = if case.is_given { Severity::Fault } else { Severity::Note };
        let finding = Finding::new("IRQBALANCE_FIGHT", severity, "host", "irqbalance runs and moves interrupts every ten seconds")
            .seen(format!("/proc/{pid}/comm"), "irqbalance")
            .mended_by(
                "install -m 755 tuning/irqbalance.d/corewire-ban.sh /etc/irqbalance.d/ && systemctl restart irqbalance # runs with --policyscript=/etc/irqbalance.d",
                "rm /etc/irqbalance.d/corewire-ban.sh && systemctl restart irqbalance",
            );
        case.add(finding);
    }
    for path in case.snapshot.udev_irq_policies.clone() {
        let severity = if case.is_given { Severity::Fault } else { Severity::Note };
        let title = "udev places the interrupts of network cards by itself";
        case.add(
            Finding::new("UDEV_IRQ_POLICY", severity, "host", title).seen(path, "sets IRQAffinity"),
        );
    }
}

/// The receive vectors that are served on each CPU.
fn by_cpu(nic: &Nic) -> BTreeMap<u32, Vec<&Vector>> {
    let mut map: BTreeMap<u32, Vec<&Vector>> = BTreeMap::new();
    for vector in nic.vectors.iter().filter(|vector| vector.role == VectorRole::Receive) {
        // A mask of several CPUs without an effective one says nothing; then nothing is concluded.
        if vector.served_on().len() == 1 {
            map.entry(vector.served_on().first().unwrap_or(0)).or_default().push(vector);
        }
    }
    map
}

/// Interrupts of a vector while we watched, or since boot where there was one sample only.
fn count(case: &Case<'_>, vector: &Vector) -> u64 {
    match &case.rate {
        Some(rate) => rate.interrupts(vector.irq).values().sum(),
        None => 0,
    }
}

/// Harm needs traffic: the same masks on an idle card are only advice.
fn severity(case: &Case<'_>, vectors: &[&Vector]) -> Severity {
    let busy = vectors.iter().filter(|vector| count(case, vector) > 100).count();
    if busy > 1 { Severity::Fault } else { Severity::Advice }
}

fn pile(case: &mut Case<'_>, nic: &Nic) {
    let map = by_cpu(nic);
    let used: CpuSet = map.keys().copied().collect();
    let local = |cpu: u32| nic.node.is_none() || case.snapshot.cpus.node(cpu) == nic.node;
    let free: CpuSet = case
        .snapshot
        .cpus
        .topology
        .cpus
        .iter()
        .map(|place| place.cpu)
        .filter(|cpu| local(*cpu) && !used.contains(*cpu))
        .collect();
    let Some((cpu, vectors)) =
        map.iter().max_by_key(|(cpu, vectors)| (vectors.len(), std::cmp::Reverse(**cpu)))
    else {
        return;
    };
    let mean = map.values().map(Vec::len).sum::<usize>().div_ceil((used.len() + free.len()).max(1));
    if vectors.len() < 2 || free.is_empty() || vectors.len() <= mean {
        return;
    }
    let title = format!(
        "{} of {} receive interrupts are served on CPU {cpu}",
        vectors.len(),
        nic.vectors.iter().filter(|v| v.role == VectorRole::Receive).count()
    );
    let mut finding = Finding::new("IRQ_PILE", severity(case, vectors), &nic.name, title);
    for vector in vectors.iter().take(4) {
        let seen = format!(
            "{} (mask {}), {} interrupts while watched",
            vector.served_on(),
            vector.affinity,
            count(case, vector)
        );
        finding = finding.seen(
            format!("/proc/irq/{}/effective_affinity_list ({})", vector.irq, vector.name),
            seen,
        );
    }
    finding = finding.seen("CPUs of the card's node without one", free.to_string());
    case.add(finding.mended_by_plan(&nic.name, "irq"));
}

fn wide(case: &mut Case<'_>, nic: &Nic) {
    let wide: Vec<&Vector> = nic
        .vectors
        .iter()
        .filter(|vector| {
            vector.affinity.len() > 1 && vector.effective.as_ref().is_some_and(|set| set.len() == 1)
        })
        .collect();
    if wide.len() < 2 {
        return;
    }
    let title = format!(
        "{} interrupts have a wide mask, and each is served on one CPU all the same",
        wide.len()
    );
    let first = wide[0];
    let finding = Finding::new("IRQ_WIDE", Severity::Note, &nic.name, title)
        .seen(format!("/proc/irq/{}/smp_affinity_list", first.irq), first.affinity.to_string())
        .seen(
            format!("/proc/irq/{}/effective_affinity_list", first.irq),
            first.served_on().to_string(),
        );
    case.add(finding);
}

fn remote_node(case: &mut Case<'_>, nic: &Nic) {
    let Some(node) = nic.node else { return };
    let remote: Vec<&Vector> = nic
        .vectors
        .iter()
        .filter(|vector| {
            let cpus = vector.served_on();
            cpus.len() == 1
                && cpus
                    .iter()
                    .all(|cpu| case.snapshot.cpus.node(cpu).is_some_and(|other| other != node))
        })
        .collect();
    let Some(first) = remote.first() else { return };
    let title = format!(
        "{} of {} interrupts are served on another NUMA node than the card's",
        remote.len(),
        nic.vectors.len()
    );
    let finding = Finding::new("IRQ_REMOTE_NODE", severity(case, &remote), &nic.name, title)
        .seen(format!("numa_node of {}", nic.name), node.to_string())
        .seen(
            format!("/proc/irq/{}/effective_affinity_list ({})", first.irq, first.name),
            first.served_on().to_string(),
        );
    case.add(finding.mended_by_plan(&nic.name, "irq"));
}

fn smt_peer(case: &mut Case<'_>, nic: &Nic) {
    let map = by_cpu(nic);
    let cpus = &case.snapshot.cpus;
    let used: CpuSet = map.keys().copied().collect();
    let cores: std::collections::BTreeSet<u32> =
        used.iter().filter_map(|cpu| cpus.topology.place(cpu)).map(|place| place.core).collect();
    let all: std::collections::BTreeSet<u32> = cpus
        .topology
        .cpus
        .iter()
        .filter(|place| nic.node.is_none() || place.node == nic.node)
        .map(|place| place.core)
        .collect();
    let pair = used.iter().find_map(|cpu| {
        let shared = cpus.siblings(cpu).and(&used);
        (shared.len() > 1).then_some(shared)
    });
    // With a queue for every thread the cores are shared on purpose.
    let (Some(pair), true) = (pair, cores.len() < all.len()) else {
        return;
    };
    let finding = Finding::new(
        "IRQ_ON_SMT_PEER",
        Severity::Advice,
        &nic.name,
        "two receive interrupts share a physical core while others are free",
    )
    .seen("effective CPUs on one core", pair.to_string())
    .seen(
        "cores of the card's node with a receive interrupt",
        format!("{} of {}", cores.len(), all.len()),
    );
    case.add(finding.mended_by_plan(&nic.name, "irq"));
}

fn drift(case: &mut Case<'_>, nic: &Nic) {
    let (Some(placement), true) = (case.placement, case.is_given) else {
        return;
    };
    let off: Vec<(&Vector, u32)> = nic
        .vectors
        .iter()
        .filter_map(|vector| Some((vector, placement.queue_cpu(&nic.name, vector.queue)?)))
        .filter(|(vector, cpu)| *vector.served_on() != CpuSet::single(*cpu))
        .collect();
    if off.is_empty() {
        return;
    }
    let title = format!(
        "{} of {} interrupts are not where placement.toml puts them",
        off.len(),
        nic.vectors.len()
    );
    let mut finding = Finding::new("IRQ_DRIFT", Severity::Fault, &nic.name, title);
    for (vector, cpu) in off.iter().take(4) {
        let path = format!("/proc/irq/{}/effective_affinity_list ({})", vector.irq, vector.name);
        finding = finding.seen(path, format!("{}, placement says {cpu}", vector.served_on()));
    }
    case.add(finding.mended_by_plan(&nic.name, "irq"));
}
