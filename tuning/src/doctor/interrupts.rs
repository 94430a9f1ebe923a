//! Where the cards' interrupts are served.

use std::collections::{BTreeMap, BTreeSet};

use crate::parse::VectorRole;
use crate::snapshot::{BUSY_PER_SECOND, Nic, Vector, total};
use corewire_placement::CpuSet;

use super::case::Case;
use super::finding::{Finding, Severity};

pub(super) fn check(case: &mut Case<'_>) {
    let cards: Vec<Nic> = case.snapshot.cards().filter(|nic| nic.has_vectors()).cloned().collect();
    for nic in &cards {
        // A given placement is the operator's choice: then only what differs from it is wrong.
        if !case.is_given {
            pile(case, nic);
            smt_peer(case, nic);
        }
        wide(case, nic);
        remote_node(case, nic);
        drift(case, nic);
        on_isolated(case, nic);
        ambiguous(case, nic);
    }
    others_on_shards(case);
    if cards.is_empty() {
        return;
    }
    irqbalance(case);
    for path in case.snapshot.udev_irq_policies.clone() {
        let severity = if case.is_given { Severity::Fault } else { Severity::Note };
        let title = "udev places the interrupts of network cards by itself";
        case.add(
            Finding::new("UDEV_IRQ_POLICY", severity, "host", title).seen(path, "sets IRQAffinity"),
        );
    }
}

fn irqbalance(case: &mut Case<'_>) {
    let fought = case.snapshot.fought();
    let (Some(irqbalance), Some(first)) = (&case.snapshot.irqbalance, fought.first()) else {
        return;
    };
    let severity = if case.is_given { Severity::Fault } else { Severity::Note };
    let names: Vec<&str> = fought.iter().map(|nic| nic.name.as_str()).collect();
    let title = format!(
        "irqbalance runs, and nothing tells it to leave the interrupts of {} alone",
        names.join(" and ")
    );
    let finding = Finding::new("IRQBALANCE_FIGHT", severity, "host", title)
        .seen(format!("/proc/{}/comm", irqbalance.pid), "irqbalance")
        .seen(
            format!("/proc/{}/cmdline, /etc/default/irqbalance, policy scripts", irqbalance.pid),
            "no ban of it",
        );
    let finding = if irqbalance.config.is_some() {
        finding.fixed_by_plan(&names.join(" --iface "), "irqbalance")
    } else {
        let address = first.address().unwrap_or("ADDRESS");
        finding.fixed_by(
            format!(
                "sed s/0000:00:00.0/{address}/ tuning/irqbalance.d/corewire-ban.sh > /etc/irqbalance.d/corewire-ban.sh && chmod 755 /etc/irqbalance.d/corewire-ban.sh && systemctl restart irqbalance # started with --policyscript=/etc/irqbalance.d"
            ),
            "rm /etc/irqbalance.d/corewire-ban.sh && systemctl restart irqbalance",
        )
    };
    case.add(finding);
}

/// The receive vectors that are served on each CPU.
fn by_cpu(nic: &Nic) -> BTreeMap<u32, Vec<&Vector>> {
    let mut map: BTreeMap<u32, Vec<&Vector>> = BTreeMap::new();
    for vector in nic.vectors.iter().filter(|vector| vector.role == VectorRole::Receive) {
        // A mask of several CPUs without an effective one says nothing; so nothing is concluded from it.
        if vector.served_on().len() == 1 {
            map.entry(vector.served_on().first().unwrap_or(0)).or_default().push(vector);
        }
    }
    map
}

/// Interrupts of a vector while we watched, or since boot if there was only one sample.
fn count(case: &Case<'_>, vector: &Vector) -> u64 {
    match &case.rate {
        Some(rate) => rate.served(vector.irq),
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
    let cpus = &case.snapshot.cpus;
    // One thread of each core: a queue on the sibling of a busy thread is no relief.
    let core = |cpu: u32| cpus.topology.place(cpu).map(|place| place.core);
    let used_cores: BTreeSet<u32> = used.iter().filter_map(core).collect();
    let mut cores = used_cores.clone();
    let free: CpuSet = cpus
        .local(nic.node)
        .iter()
        .filter(|cpu| core(*cpu).is_some_and(|core| cores.insert(core)))
        .collect();
    let Some((cpu, vectors)) =
        map.iter().max_by_key(|(cpu, vectors)| (vectors.len(), std::cmp::Reverse(**cpu)))
    else {
        return;
    };
    let all: usize = map.values().map(Vec::len).sum();
    // Interrupts may be served on CPUs outside this cpuset, and all CPUs in it may be kept quiet.
    let mean = all.div_ceil((used_cores.len() + free.len()).max(1));
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
    case.add(finding.fixed_by_plan(&nic.name, "irq"));
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
    // If no CPU of the node may be used, every CPU is as good as any other.
    let cpus = &case.snapshot.cpus;
    let has_local =
        |node: u32| cpus.local(Some(node)).iter().any(|cpu| cpus.node(cpu) == Some(node));
    let is_remote = |vector: &&Vector| {
        let cpu = vector.served_on().first().filter(|_| vector.served_on().len() == 1);
        let (Some(node), Some(cpu)) = (vector.node, cpu) else { return false };
        let is_chosen = case.is_given
            && case.placement.and_then(|p| p.queue_cpu(&nic.name, vector.queue)) == Some(cpu);
        cpus.node(cpu).is_some_and(|other| other != node) && has_local(node) && !is_chosen
    };
    let remote: Vec<&Vector> = nic.vectors.iter().filter(is_remote).collect();
    let Some(first) = remote.first() else { return };
    let node = first.node.unwrap_or(0);
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
    case.add(finding.fixed_by_plan(&nic.name, "irq"));
}

fn smt_peer(case: &mut Case<'_>, nic: &Nic) {
    let map = by_cpu(nic);
    let cpus = &case.snapshot.cpus;
    let used: CpuSet = map.keys().copied().collect();
    let cores: BTreeSet<u32> =
        used.iter().filter_map(|cpu| cpus.topology.place(cpu)).map(|place| place.core).collect();
    let all: BTreeSet<u32> = cpus
        .local(nic.node)
        .iter()
        .filter_map(|cpu| cpus.topology.place(cpu))
        .map(|place| place.core)
        .collect();
    let pair = used.iter().find_map(|cpu| {
        let shared = cpus.siblings(cpu).and(&used);
        (shared.len() > 1).then_some(shared)
    });
    // With a queue for every thread, the cores are shared on purpose.
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
    case.add(finding.fixed_by_plan(&nic.name, "irq"));
}

/// Interrupts on CPUs that are kept quiet, unless the given placement puts shards there.
fn on_isolated(case: &mut Case<'_>, nic: &Nic) {
    let cpus = &case.snapshot.cpus;
    let given =
        case.placement.filter(|_| case.is_given).map(corewire_placement::Placement::all_cpus);
    let quiet = cpus.isolated.or(&cpus.nohz_full).minus(&given.unwrap_or_default());
    let on: Vec<&Vector> = nic
        .vectors
        .iter()
        .filter(|vector| !vector.served_on().is_empty() && vector.served_on().is_subset(&quiet))
        .collect();
    let Some(first) = on.first() else { return };
    // If only quiet CPUs are left, there is nowhere else to go.
    if cpus.local(None).is_empty() {
        return;
    }
    let title = format!(
        "{} of {} interrupts are served on CPUs that are kept quiet",
        on.len(),
        nic.vectors.len()
    );
    let finding = Finding::new("IRQ_ON_ISOLATED", severity(case, &on), &nic.name, title)
        .seen("/sys/devices/system/cpu/isolated", cpus.isolated.to_string())
        .seen("/sys/devices/system/cpu/nohz_full", cpus.nohz_full.to_string())
        .seen(
            format!("/proc/irq/{}/effective_affinity_list ({})", first.irq, first.name),
            format!("{} (mask {})", first.served_on(), first.affinity),
        );
    case.add(finding.fixed_by_plan(&nic.name, "irq"));
}

fn ambiguous(case: &mut Case<'_>, nic: &Nic) {
    let Some(first) = nic.vectors.iter().find(|vector| vector.is_ambiguous) else { return };
    let title = "several of its interrupts have one name, so the tool does not move them";
    let irqs: Vec<String> = nic
        .vectors
        .iter()
        .filter(|vector| vector.name == first.name)
        .map(|vector| vector.irq.to_string())
        .collect();
    let finding = Finding::new("IRQ_AMBIGUOUS", Severity::Note, &nic.name, title).seen(
        format!("/proc/interrupts, {}", first.name),
        format!("interrupts {}", irqs.join(" ")),
    );
    case.add(finding);
}

/// Interrupts of disks and other devices that are busy on the shards' CPUs of a given placement.
fn others_on_shards(case: &mut Case<'_>) {
    let (Some(placement), true, Some(rate)) = (case.placement, case.is_given, case.rate) else {
        return;
    };
    let shards = placement.shard_cpus();
    let finding = |id, title| Finding::new(id, Severity::Advice, "host", title);
    let mut movable = finding(
        "IRQ_OTHERS_ON_SHARDS",
        "other devices interrupt the shards' CPUs more than a hundred times a second",
    );
    let mut fixed = finding(
        "IRQ_MANAGED",
        "other devices interrupt the shards' CPUs, and their interrupts cannot be moved",
    );
    for other in &case.snapshot.others {
        let on_shards =
            rate.interrupts(other.irq).into_iter().filter(|(cpu, _)| shards.contains(*cpu));
        let on = total(on_shards.map(|(_, count)| count));
        if crate::snapshot::ratio(on, 1) <= BUSY_PER_SECOND * rate.period.as_secs_f64() {
            continue;
        }
        let source = format!("/proc/interrupts {} ({})", other.irq, other.name);
        match other.fixed {
            None => movable = movable.seen(source, format!("+{on}")),
            Some(why) => fixed = fixed.seen(source, format!("+{on}; {why}")),
        }
    }
    if !movable.evidence.is_empty() {
        // Without a CPU that is free of shards, there is nowhere else to go.
        if !case.snapshot.cpus_outside(placement).is_empty() {
            let cards: Vec<&str> = case.snapshot.cards().map(|nic| nic.name.as_str()).collect();
            movable = movable.fixed_by_plan(&cards.join(" --iface "), "irq");
        }
        case.add(movable);
    }
    if !fixed.evidence.is_empty() {
        case.add(fixed);
    }
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
    case.add(finding.fixed_by_plan(&nic.name, "irq"));
}
