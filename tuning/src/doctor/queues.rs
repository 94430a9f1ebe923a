//! How many queues there are, and how packets are steered to and from them.

use crate::placement::CpuSet;
use crate::snapshot::Nic;

use super::{Case, Finding, Severity};

pub(super) fn check(case: &mut Case<'_>) {
    let cards: Vec<Nic> = case.snapshot.cards().cloned().collect();
    for nic in &cards {
        queue_count(case, nic);
        hash_table(case, nic);
        rps(case, nic);
        xps(case, nic);
        if nic.threaded {
            let finding = Finding::new(
                "THREADED_NAPI",
                Severity::Advice,
                &nic.name,
                "polling runs in kernel threads that no one has pinned",
            )
            .seen(format!("/sys/class/net/{}/threaded", nic.name), "1")
            .mended_by(
                format!("echo 0 > /sys/class/net/{}/threaded", nic.name),
                format!("echo 1 > /sys/class/net/{}/threaded", nic.name),
            );
            case.add(finding);
        }
    }
}

fn queue_count(case: &mut Case<'_>, nic: &Nic) {
    let usable = case.snapshot.cpus.topology.cpus.len();
    if nic.has_vectors()
        && nic.rx.len() == 1
        && usable > 1
        && nic.channels().is_none_or(|(_, _, max)| max == 1)
    {
        let title = format!("one receive queue for {usable} CPUs, and the card offers no more");
        let finding = Finding::new("VM_LIMITED", Severity::Note, &nic.name, title)
            .seen(format!("/sys/class/net/{}/queues", nic.name), "rx-0 alone")
            .seen("hypervisor", if case.snapshot.is_virtual { "yes" } else { "not reported" });
        case.add(finding);
        return;
    }
    let (Some(placement), Some((knob, now, max))) = (case.placement, nic.channels()) else {
        return;
    };
    let wanted = placement.queues.iter().filter(|map| map.iface == nic.name).count();
    let wanted = u32::try_from(wanted).unwrap_or(u32::MAX).clamp(1, max);
    if now == wanted || !nic.has_vectors() {
        return;
    }
    let (id, title) = if now < wanted {
        ("QUEUES_LT_SHARDS", format!("{now} queues for {wanted} shards"))
    } else {
        ("QUEUES_GT_SHARDS", format!("{now} queues for {wanted} shards"))
    };
    // More queues than shards of a *derived* placement is how most drivers start: worth a note, no more.
    let severity = if now > wanted && !case.is_given { Severity::Note } else { case.if_given() };
    let finding = Finding::new(id, severity, &nic.name, title)
        .seen(format!("ethtool -l {} ({knob})", nic.name), format!("{now} of at most {max}"))
        .mended_by(knob.command(&nic.name, wanted), knob.command(&nic.name, now));
    case.add(finding);
}

fn hash_table(case: &mut Case<'_>, nic: &Nic) {
    let table = &nic.facts.rss;
    let queues = nic.rx.len();
    if table.is_empty() || queues < 2 {
        return;
    }
    let entry = |queue: usize| table.get(queue).copied().unwrap_or(0);
    let (most, least) =
        ((0..queues).map(entry).max().unwrap_or(0), (0..queues).map(entry).min().unwrap_or(0));
    // A table's length is seldom a multiple of the queues, so one entry of difference is even.
    if most <= least + 1 {
        return;
    }
    let title = format!("the hash table gives one queue {most} entries and another {least}");
    let entries: Vec<String> = table.iter().map(u32::to_string).collect();
    let finding = Finding::new("RSS_UNEVEN", Severity::Advice, &nic.name, title)
        .seen(format!("ethtool -x {}, entries for each queue", nic.name), entries.join(" "))
        .mended_by(
            format!("ethtool -X {} equal {queues}", nic.name),
            format!("ethtool -X {} weight {}", nic.name, entries.join(" ")),
        );
    case.add(finding);
}

fn rps(case: &mut Case<'_>, nic: &Nic) {
    let steered: Vec<_> = nic.rx.iter().filter(|queue| !queue.rps.is_empty()).collect();
    let union = steered.iter().fold(CpuSet::new(), |all, queue| all.or(&queue.rps));
    let usable = case.snapshot.cpus.topology.cpus.len();
    let handed: u64 =
        case.rate.as_ref().map_or(0, |rate| rate.softnet(|row| row.received_rps).values().sum());
    if nic.rx.len() > 1 && steered.len() == nic.rx.len() && union.len() == 1 && usable > 1 {
        let cpu = union.first().unwrap_or(0);
        let packets =
            case.rate.as_ref().and_then(|rate| rate.packets().get(&cpu).copied()).unwrap_or(0);
        let severity =
            if handed > 100 || packets > 10_000 { Severity::Fault } else { Severity::Advice };
        let title = format!("RPS steers all {} receive queues to CPU {union}", nic.rx.len());
        let mut finding = Finding::new("RPS_PILE", severity, &nic.name, title);
        for queue in steered.iter().take(8) {
            let path = format!("/sys/class/net/{}/queues/rx-{}/rps_cpus", nic.name, queue.index);
            finding = finding.seen(path, queue.rps.to_mask());
        }
        finding = finding.seen(
            "/proc/net/softnet_stat column 10 (handed over by RPS), all CPUs",
            format!("+{handed}"),
        );
        case.add(finding.mended_by_plan(&nic.name, "rps"));
    } else if nic.has_vectors()
        && !steered.is_empty()
        && case.placement.is_some_and(|p| nic.rx.len() >= p.shards.len())
    {
        let title = "RPS is on although there is a queue for every shard";
        let mut finding = Finding::new("RPS_REDUNDANT", Severity::Advice, &nic.name, title);
        for queue in steered.iter().take(4) {
            let path = format!("/sys/class/net/{}/queues/rx-{}/rps_cpus", nic.name, queue.index);
            finding = finding.seen(path, queue.rps.to_mask());
        }
        case.add(finding.mended_by_plan(&nic.name, "rps"));
    } else if steered.is_empty() {
        rps_missing(case, nic);
    }
}

/// Fewer queues than shards, no RPS, and a CPU that the softirq fills.
fn rps_missing(case: &mut Case<'_>, nic: &Nic) {
    let (Some(rate), Some(placement)) = (case.rate, case.placement) else {
        return;
    };
    if nic.rx.len() >= placement.shards.len() {
        return;
    }
    let Some(cpu) = nic
        .vectors
        .iter()
        .flat_map(|vector| vector.served_on().iter())
        .find(|cpu| rate.softirq_share(*cpu) > 0.70)
    else {
        return;
    };
    let title = format!(
        "{} receive queues feed {} shards, and CPU {cpu} is filled by softirqs",
        nic.rx.len(),
        placement.shards.len()
    );
    let finding = Finding::new("RPS_MISSING", Severity::Fault, &nic.name, title)
        .seen(
            format!("/proc/stat softirq of CPU {cpu}"),
            format!("{:.0} %", rate.softirq_share(cpu) * 100.0),
        )
        .mended_by_plan(&nic.name, "rps");
    case.add(finding);
}

fn xps(case: &mut Case<'_>, nic: &Nic) {
    let (Some(placement), true) = (case.placement, case.is_given) else {
        return;
    };
    let off: Vec<_> = nic
        .tx
        .iter()
        .filter_map(|queue| {
            Some((queue, queue.xps.as_ref()?, placement.queue_cpu(&nic.name, queue.index)?))
        })
        .filter(|(_, xps, cpu)| **xps != CpuSet::single(*cpu))
        .collect();
    if off.is_empty() || nic.tx.len() < 2 {
        return;
    }
    let title = format!(
        "{} of {} transmit queues are not used by their shard's CPU alone",
        off.len(),
        nic.tx.len()
    );
    let mut finding = Finding::new("XPS_MISALIGNED", Severity::Advice, &nic.name, title);
    for (queue, xps, cpu) in off.iter().take(4) {
        let path = format!("/sys/class/net/{}/queues/tx-{}/xps_cpus", nic.name, queue.index);
        finding = finding.seen(
            path,
            format!("{}, placement says {}", xps.to_mask(), CpuSet::single(*cpu).to_mask()),
        );
    }
    case.add(finding.mended_by_plan(&nic.name, "xps"));
}
