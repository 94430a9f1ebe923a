//! How many queues there are, and how packets are steered to and from them.

use crate::snapshot::Nic;
use corewire_placement::CpuSet;

use super::case::Case;
use super::finding::{Finding, Severity};

pub(super) fn check(case: &mut Case<'_>) {
    let cards: Vec<Nic> = case.snapshot.cards().cloned().collect();
    for nic in &cards {
        queue_count(case, nic);
        hash_table(case, nic);
        rps(case, nic);
        xps(case, nic);
        pcie(case, nic);
        offloads(case, nic);
        let is_pinned = !nic.napi_threads.is_empty()
            && nic.napi_threads.iter().all(|(_, cpus)| cpus.len() == 1);
        if nic.threaded && !is_pinned {
            let free: Vec<&str> = nic
                .napi_threads
                .iter()
                .filter(|(_, cpus)| cpus.len() != 1)
                .map(|(name, _)| name.as_str())
                .collect();
            let finding = Finding::new(
                "THREADED_NAPI",
                Severity::Advice,
                &nic.name,
                "polling runs in kernel threads, and not each of them is pinned to one CPU",
            )
            .seen(format!("/sys/class/net/{}/threaded", nic.name), "1")
            .seen(
                "threads without a CPU of their own",
                if free.is_empty() { "not seen".to_owned() } else { free.join(" ") },
            )
            .fixed_by_echo(&format!("/sys/class/net/{}/threaded", nic.name), "1", "0");
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
    let maps: Vec<u32> =
        placement.queues.iter().filter(|map| map.iface == nic.name).map(|map| map.cpu).collect();
    // A derived placement keeps queues beyond the shards; it is still worth a note if there are more of them than
    // CPUs.
    let cpus: CpuSet = maps.iter().copied().collect();
    let count = u32::try_from(maps.len()).unwrap_or(u32::MAX);
    let wanted = if case.is_given || now < count {
        count
    } else {
        u32::try_from(cpus.len()).unwrap_or(u32::MAX)
    };
    let wanted = wanted.clamp(1, max);
    if let Some(limit) = nic
        .hash_limit()
        .filter(|limit| *limit < max && placement.fed_from(nic.node).len() > *limit as usize)
    {
        let title = format!(
            "packets spread over {limit} queues at most, whatever number of channels the card offers"
        );
        let finding = Finding::new("RSS_LIMITED", Severity::Note, &nic.name, title)
            .seen(format!("driver of {}", nic.name), nic.driver.clone().unwrap_or_default())
            .seen(format!("ethtool -l {} ({knob})", nic.name), format!("{now} of at most {max}"));
        case.add(finding);
    }
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
    let mut finding = Finding::new(id, severity, &nic.name, title)
        .seen(format!("ethtool -l {} ({knob})", nic.name), format!("{now} of at most {max}"));
    if severity != Severity::Note {
        finding = finding.fixed_by(knob.command(&nic.name, wanted), knob.command(&nic.name, now));
    }
    case.add(finding);
}

/// A PCIe link that runs below what the card could: the wrong slot, or a bad contact.
fn pcie(case: &mut Case<'_>, nic: &Nic) {
    let is_less = |(now, most): &&(String, String)| {
        let number =
            |text: &str| text.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
        matches!((number(now), number(most)), (Some(now), Some(most)) if now > 0.0 && now < most)
    };
    let less: Vec<_> = nic.pcie.iter().filter(is_less).collect();
    if less.is_empty() || case.snapshot.is_virtual {
        return;
    }
    let title = "its PCIe link is narrower or slower than the card";
    let mut finding = Finding::new("PCIE_BELOW_CARD", Severity::Advice, &nic.name, title);
    for (now, most) in less {
        finding = finding
            .seen(format!("current_link and max_link of {}", nic.name), format!("{now} of {most}"));
    }
    case.add(finding);
}

/// Offloads that are off although the card has them. A virtual pair is left alone: GRO there changes how it polls.
fn offloads(case: &mut Case<'_>, nic: &Nic) {
    let off = nic.offloads_off();
    if off.is_empty() {
        return;
    }
    let title = "the card can merge or split packets, and is told not to";
    let mut finding = Finding::new("OFFLOAD_OFF", Severity::Advice, &nic.name, title);
    for knob in off {
        finding = finding.seen(format!("ethtool -k {} ({knob})", nic.name), "off");
    }
    case.add(finding.fixed_by_plan(&nic.name, "offload"));
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
    // A table's length is seldom a multiple of the queues, so a difference of one entry counts as even.
    if most <= least + 1 {
        return;
    }
    let title = format!("the hash table gives one queue {most} entries and another {least}");
    let entries: Vec<String> = table.iter().map(u32::to_string).collect();
    let finding = Finding::new("RSS_UNEVEN", Severity::Advice, &nic.name, title)
        .seen(format!("ethtool -x {}, entries for each queue", nic.name), entries.join(" "))
        .fixed_by(
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
    if !nic.rx.is_empty() && steered.len() == nic.rx.len() && union.len() == 1 && usable > 1 {
        // Harm needs packets that were handed over; a mask alone may be meant for another time.
        let severity = if handed > 100 { Severity::Fault } else { Severity::Advice };
        let title = match nic.rx.len() {
            1 => format!("RPS steers the only receive queue to CPU {union} alone"),
            queues => format!("RPS steers all {queues} receive queues to CPU {union}"),
        };
        let mut finding = Finding::new("RPS_PILE", severity, &nic.name, title);
        for queue in steered.iter().take(8) {
            let path = format!("/sys/class/net/{}/queues/rx-{}/rps_cpus", nic.name, queue.index);
            finding = finding.seen(path, queue.rps.to_mask());
        }
        if handed > 0 {
            let source = "/proc/net/softnet_stat column 10 (handed over by RPS), all CPUs";
            finding = finding.seen(source, format!("+{handed}"));
        }
        case.add(finding.fixed_by_plan(&nic.name, "rps"));
    } else if nic.has_vectors()
        && !steered.is_empty()
        && case.placement.is_some_and(|p| nic.rx.len() >= p.fed_from(nic.node).len())
    {
        let title = "RPS is on although there is a queue for every shard";
        let mut finding = Finding::new("RPS_REDUNDANT", Severity::Advice, &nic.name, title);
        for queue in steered.iter().take(4) {
            let path = format!("/sys/class/net/{}/queues/rx-{}/rps_cpus", nic.name, queue.index);
            finding = finding.seen(path, queue.rps.to_mask());
        }
        case.add(finding.fixed_by_plan(&nic.name, "rps"));
    } else if steered.is_empty() {
        rps_missing(case, nic);
    }
}

/// Fewer queues than shards, no RPS, and a CPU that softirqs fill.
fn rps_missing(case: &mut Case<'_>, nic: &Nic) {
    let (Some(rate), Some(placement)) = (case.rate, case.placement) else {
        return;
    };
    let shards = placement.fed_from(nic.node).len();
    if nic.rx.len() >= shards {
        return;
    }
    let is_full = |cpu: &u32| rate.softirq_share(*cpu) > 0.70;
    let packets = rate.packets();
    let all: u64 = packets.values().sum();
    // A card without its own interrupts has its packets where most packets are.
    let is_most = |cpu: &u32| packets.get(cpu).is_some_and(|count| count * 2 > all);
    let cpu = if nic.has_vectors() {
        nic.vectors.iter().flat_map(|vector| vector.served_on().iter()).find(is_full)
    } else {
        packets.keys().copied().find(|cpu| is_full(cpu) && is_most(cpu))
    };
    let Some(cpu) = cpu else { return };
    let title = format!(
        "{} receive queues feed {shards} shards, and CPU {cpu} is filled by softirqs",
        nic.rx.len()
    );
    let finding = Finding::new("RPS_MISSING", Severity::Fault, &nic.name, title)
        .seen(
            format!("/proc/stat softirq of CPU {cpu}"),
            format!("{:.0} %", rate.softirq_share(cpu) * 100.0),
        )
        .fixed_by_plan(&nic.name, "rps");
    case.add(finding);
}

fn xps(case: &mut Case<'_>, nic: &Nic) {
    let (Some(placement), true) = (case.placement, case.is_given) else {
        return;
    };
    let senders = placement.senders(&nic.name);
    let off: Vec<_> = nic
        .tx
        .iter()
        .filter_map(|queue| Some((queue, queue.xps.as_ref()?, senders.get(&queue.index)?)))
        .filter(|(_, xps, cpus)| xps != cpus)
        .collect();
    if off.is_empty() || nic.tx.len() < 2 {
        return;
    }
    let title = format!(
        "{} of {} transmit queues are not used by their shards' CPUs alone",
        off.len(),
        nic.tx.len()
    );
    let mut finding = Finding::new("XPS_MISALIGNED", Severity::Advice, &nic.name, title);
    for (queue, xps, cpus) in off.iter().take(4) {
        let path = format!("/sys/class/net/{}/queues/tx-{}/xps_cpus", nic.name, queue.index);
        finding =
            finding.seen(path, format!("{}, placement says {}", xps.to_mask(), cpus.to_mask()));
    }
    case.add(finding.fixed_by_plan(&nic.name, "xps"));
}
