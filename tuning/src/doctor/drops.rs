//! Packets and connections that were lost while we watched, and CPUs that could not keep up.

use std::collections::BTreeSet;

use crate::host::Knob;
use crate::snapshot::{Nic, Rate, total};
use crate::verify::{Spread, noise_threshold};
use corewire_placement::Layout;

use super::case::Case;
use super::finding::{Finding, Severity};

/// With fewer packets than this in the sample, nothing is concluded about their spread.
const PACKETS_MIN: u64 = 10_000;

/// A softirq that takes more than this share of a CPU leaves no room: more budget or a bigger ring cannot help.
const SOFTIRQ_FULL: f64 = 0.90;

pub(super) fn check(case: &mut Case<'_>) {
    let Some(rate) = case.rate else { return };
    let cards: Vec<Nic> = case.snapshot.cards().cloned().collect();
    for nic in &cards {
        ring_drops(case, &rate, nic);
        other_card_drops(case, &rate, nic);
    }
    backlog(case, &rate);
    squeeze(case, &rate);
    skew(case, &rate);
    ksoftirqd(case, &rate);
    tcp(case, &rate);
    let steal = rate.steal_share();
    if steal > 0.05 {
        let title = format!("the hypervisor took {:.0} % of the CPU time", steal * 100.0);
        case.add(
            Finding::new("STEAL", Severity::Advice, "host", title)
                .seen("/proc/stat steal", format!("{:.1} %", steal * 100.0)),
        );
    }
}

/// Whether a counter grows when a packet finds no free descriptor. Taken from the drivers' sources; the standard
/// counters apply to all.
#[must_use]
pub(crate) fn counts_full_ring(driver: &str, counter: &str) -> bool {
    if counter == "driver.qstats.rx-hw-drop-overruns" || counter == "rx_missed_errors" {
        return true;
    }
    let Some(name) = counter.strip_prefix("driver.") else {
        return false;
    };
    match driver {
        "ixgbe" | "igb" => matches!(name, "rx_no_dma_resources" | "rx_missed_errors"),
        "i40e" => name == "port.rx_discards",
        "ice" => matches!(name, "rx_dropped.nic" | "rx_discards.nic"),
        "iavf" => name == "rx_discards",
        "mlx5_core" => name == "rx_out_of_buffer",
        "ena" => matches!(name, "rx_drops" | "rx_overruns"),
        "bnxt_en" => name == "rx_total_discard_pkts",
        "virtio_net" => name.starts_with("rx") && name.ends_with("drops"),
        "vmxnet3" => name == "pkts_rx_OOB",
        "gve" => name.starts_with("rx_queue_drop_cnt") || name.starts_with("rx_no_buffers_posted"),
        "r8169" => name == "rx_missed",
        "tg3" | "bnx2x" => name == "rx_discards",
        // The name in nearly all drivers.
        _ => {
            let name = name.to_ascii_lowercase();
            let words = [
                "no_buf",
                "nobuf",
                "no_desc",
                "nodesc",
                "no_dma",
                "no_wqe",
                "out_of_buffer",
                "oob",
                "missed",
            ];
            name.contains("rx") && words.iter().any(|word| name.contains(word))
        }
    }
}

fn ring_drops(case: &mut Case<'_>, rate: &Rate<'_>, nic: &Nic) {
    let driver = nic.driver.as_deref().unwrap_or("");
    let grown = rate.card(&nic.name);
    let lost: Vec<_> = grown.iter().filter(|(name, _)| counts_full_ring(driver, name)).collect();
    if lost.is_empty() {
        return;
    }
    let ring = nic.facts.value(Knob::RingRx);
    let max = nic.facts.max(Knob::RingRx);
    let can_grow = matches!((ring, max), (Some(ring), Some(max)) if ring < max);
    let id = if can_grow || ring.is_none() { "RING_DROPS" } else { "RING_DROPS_AT_MAX" };
    let mut finding = Finding::new(
        id,
        Severity::Fault,
        &nic.name,
        "packets found no free descriptor in the receive ring",
    );
    for (name, delta) in lost {
        finding = finding.seen(format!("{} {name}", nic.name), format!("+{delta}"));
    }
    if let (Some(ring), Some(max)) = (ring, max) {
        finding = finding
            .seen(format!("ring of {} (ethtool -g)", nic.name), format!("{ring} of at most {max}"));
    }
    let full = nic
        .vectors
        .iter()
        .flat_map(|vector| vector.served_on().iter())
        .find(|cpu| rate.softirq_share(*cpu) > SOFTIRQ_FULL);
    if let Some(cpu) = full {
        finding = finding.seen(
            format!("/proc/stat softirq of CPU {cpu}"),
            "over 90 %: a bigger ring only delays the drops; spread the work first",
        );
        finding = finding.fixed_by_plan(&nic.name, "queues,irq");
    }
    if let (true, Some(ring), Some(max)) = (can_grow, ring, max) {
        let next = ring.saturating_mul(2).min(max);
        finding = finding.fixed_by(
            format!("ethtool -G {} rx {next}", nic.name),
            format!("ethtool -G {} rx {ring}", nic.name),
        );
    }
    case.add(finding);
}

fn other_card_drops(case: &mut Case<'_>, rate: &Rate<'_>, nic: &Nic) {
    let grown = rate.card(&nic.name);
    let with = |finding: Finding, test: &dyn Fn(&str) -> bool| {
        grown.iter().filter(|(name, _)| test(name)).fold(finding, |finding, (name, delta)| {
            finding.seen(format!("{} {name}", nic.name), format!("+{delta}"))
        })
    };
    let port = |name: &str| name == "driver.rx_discards_phy";
    if grown.keys().any(|name| port(name)) {
        let finding = Finding::new(
            "PORT_DISCARD",
            Severity::Fault,
            &nic.name,
            "the port itself dropped packets, before any ring",
        );
        case.add(with(finding, &port));
    }
    let pause = |name: &str| name.contains("pause") || name.contains("xoff");
    if grown.keys().any(|name| pause(name)) {
        let title =
            "pause frames stop the sender, or are sent to it: somebody on this link is too slow";
        let finding = Finding::new("PAUSE_FRAMES", Severity::Advice, &nic.name, title);
        let on =
            |name: &str| nic.facts.settings.get(name).map(|on| if *on == 0 { "off" } else { "on" });
        let finding = match (on("pause.rx"), on("pause.tx")) {
            (Some(rx), Some(tx)) => {
                finding.seen(format!("ethtool -a {}", nic.name), format!("rx {rx}, tx {tx}"))
            }
            _ => finding,
        };
        case.add(with(finding, &pause));
    }
    let cloud = |name: &str| name.ends_with("_allowance_exceeded");
    if grown.keys().any(|name| cloud(name)) {
        let finding = Finding::new(
            "CLOUD_ALLOWANCE",
            Severity::Advice,
            &nic.name,
            "the cloud's own limit for this machine was met",
        );
        case.add(with(finding, &cloud));
    }
}

fn backlog(case: &mut Case<'_>, rate: &Rate<'_>) {
    let dropped = rate.softnet(|row| row.dropped);
    if dropped.values().all(|delta| *delta == 0) {
        return;
    }
    let mut finding = Finding::new(
        "BACKLOG_DROP",
        Severity::Fault,
        "host",
        "a CPU's backlog was full and packets were dropped",
    );
    for (cpu, delta) in dropped.iter().filter(|(_, delta)| **delta > 0) {
        finding = finding
            .seen(format!("/proc/net/softnet_stat column 2, CPU {cpu}"), format!("+{delta}"));
    }
    if let Some(now) = case.snapshot.value_number("/proc/sys/net/core/netdev_max_backlog") {
        finding =
            finding.fixed_by_sysctl("net.core.netdev_max_backlog", now, now.saturating_mul(2));
    }
    case.add(finding);
}

fn squeeze(case: &mut Case<'_>, rate: &Rate<'_>) {
    let squeezed = rate.softnet(|row| row.squeezed);
    let packets = rate.packets();
    // A few per second are normal; what counts is how many batches in ten thousand ended early, on a CPU with time
    // left.
    let hit: Vec<_> = squeezed
        .iter()
        .filter(|(cpu, delta)| {
            **delta >= 10 && **delta * 10_000 > packets.get(cpu).copied().unwrap_or(0)
        })
        .filter(|(cpu, _)| rate.softirq_share(**cpu) < 0.70)
        .collect();
    if hit.is_empty() {
        return;
    }
    let mut finding = Finding::new(
        "SQUEEZE",
        Severity::Fault,
        "host",
        "softirqs had to stop with packets left, on CPUs with time left",
    );
    for (cpu, delta) in hit {
        finding = finding.seen(
            format!("/proc/net/softnet_stat column 3, CPU {cpu}"),
            format!("+{delta} for {} packets", packets.get(cpu).copied().unwrap_or(0)),
        );
    }
    for name in ["netdev_budget", "netdev_budget_usecs"] {
        if let Some(now) = case.snapshot.value_number(&format!("/proc/sys/net/core/{name}")) {
            finding =
                finding.fixed_by_sysctl(&format!("net.core.{name}"), now, now.saturating_mul(2));
        }
    }
    case.add(finding);
}

/// The CPUs over which packets should spread: those that the placement gives to queues, or all that are not kept quiet.
fn targets(case: &Case<'_>) -> Vec<u32> {
    match case.placement {
        Some(placement) if case.is_given && placement.layout == Layout::Aligned => {
            placement.all_cpus().iter().collect()
        }
        // CPUs that only serve interrupts also take the packets up the stack, and no other CPUs do.
        Some(placement) if case.is_given => placement.irq_cpus.iter().collect(),
        _ => case.snapshot.cpus.local(None).iter().collect(),
    }
}

/// How much of a card's traffic was seen: packets, or interrupts where its driver does not count packets.
fn traffic(rate: &Rate<'_>, nic: &Nic) -> u64 {
    let packets = rate.card(&nic.name).get("rx_packets").copied().unwrap_or(0);
    let interrupts = total(nic.vectors.iter().map(|vector| rate.served(vector.irq)));
    packets.max(interrupts)
}

fn skew(case: &mut Case<'_>, rate: &Rate<'_>) {
    let packets = rate.packets();
    let cpus = targets(case);
    let mut busiest: Vec<(u32, u64)> =
        cpus.iter().map(|cpu| (*cpu, packets.get(cpu).copied().unwrap_or(0))).collect();
    busiest.sort_by_key(|(cpu, count)| (std::cmp::Reverse(*count), *cpu));
    // The counters are per CPU, not per card, so only the cards with the traffic can be meant.
    let cards: Vec<(u64, &Nic)> =
        case.snapshot.cards().map(|nic| (traffic(rate, nic), nic)).collect();
    let most = cards.iter().map(|(traffic, _)| *traffic).max().unwrap_or(0);
    let busy: Vec<&Nic> = cards
        .iter()
        .filter(|(traffic, _)| traffic.saturating_mul(10) >= most)
        .map(|(_, nic)| *nic)
        .collect();
    // Packets can spread over as many CPUs as there are queues, or over those that RPS names, but over no more. If no
    // card counts its traffic, any of them may have all of it.
    let has_rps = |nic: &Nic| nic.rx.iter().any(|queue| !queue.rps.is_empty());
    let steered: BTreeSet<u32> =
        busy.iter().flat_map(|nic| &nic.rx).flat_map(|queue| queue.rps.iter()).collect();
    let queues = busy.iter().map(|nic| nic.rx.len());
    let queues: usize = if most > 0 { queues.sum() } else { queues.min().unwrap_or(0) };
    let reach = if case.is_given { cpus.len() } else { queues.max(steered.len()).min(cpus.len()) };
    let counts: Vec<u64> = busiest.iter().take(reach).map(|(_, count)| *count).collect();
    if counts.iter().sum::<u64>() < PACKETS_MIN || reach < 2 {
        return;
    }
    let ifaces: Vec<String> = busy.iter().map(|nic| nic.name.clone()).collect();
    let spread = Spread::of(&counts);
    let flows = case.snapshot.first.tcp_sockets;
    let noise = noise_threshold(reach, flows.max(64));
    // Two CPUs can never exceed 2.0, so for them the limit is nearly all packets on one.
    let bar = (if reach == 2 { 1.8_f64 } else { 2.0 }).max(noise);
    if spread.max_over_mean <= bar {
        return;
    }
    let title = format!(
        "{:.0} % of the packets are processed by one CPU of {}",
        spread.largest_share * 100.0,
        reach
    );
    let mut finding = Finding::new("SOFTIRQ_SKEW", Severity::Fault, "host", title).seen(
        "max/mean and Jain index of packets",
        format!("{:.2} (bar {bar:.2}) and {:.3}", spread.max_over_mean, spread.jain),
    );
    let runs = rate.net_rx_runs();
    for (cpu, count) in busiest.into_iter().take(4) {
        finding = finding.seen(
            format!("/proc/net/softnet_stat column 1, CPU {cpu}"),
            format!("+{count} packets (NET_RX ran {} times)", runs.get(&cpu).copied().unwrap_or(0)),
        );
    }
    // A plan does not improve queues that are spread already: then the cause is the flows, or what the card hashes
    // them by.
    let served: BTreeSet<u32> = busy
        .iter()
        .flat_map(|nic| &nic.vectors)
        .flat_map(|vector| vector.served_on().iter())
        .collect();
    let is_spread = !busy.iter().any(|nic| has_rps(nic))
        && busy.iter().all(|nic| nic.has_vectors())
        && served.len() >= reach;
    if is_spread {
        finding = finding.seen(
            "CPUs that serve the queues' interrupts",
            format!("{}: spread already, so few flows have the traffic, or the hash leaves out the ports (ethtool -n IF rx-flow-hash tcp4)", served.len()),
        );
    } else {
        finding = finding.fixed_by_plan(&ifaces.join(" --iface "), "queues,irq,rps");
    }
    case.add(finding);
}

fn ksoftirqd(case: &mut Case<'_>, rate: &Rate<'_>) {
    for place in &case.snapshot.cpus.topology.cpus {
        let share = rate.ksoftirqd_share(place.cpu);
        if share > 0.5 {
            let title = format!("ksoftirqd/{} ran {:.0} % of the time", place.cpu, share * 100.0);
            let finding = Finding::new(
                "KSOFTIRQD_BUSY",
                Severity::Advice,
                format!("CPU {}", place.cpu),
                title,
            )
            .seen(
                format!("/proc/PID/stat of ksoftirqd/{}", place.cpu),
                format!("{:.0} %", share * 100.0),
            );
            case.findings.push(finding);
        }
    }
}

fn tcp(case: &mut Case<'_>, rate: &Rate<'_>) {
    let somaxconn =
        case.snapshot.value("/proc/sys/net/core/somaxconn").unwrap_or("unknown").to_owned();
    let groups: [(&str, &str, &[&str]); 3] = [
        (
            "LISTEN_OVERFLOW",
            "connections were dropped because an accept queue was full",
            &["TcpExt.ListenOverflows", "TcpExt.ListenDrops"],
        ),
        (
            "SYN_DROP",
            "connection requests were dropped",
            &["TcpExt.TCPReqQFullDrop", "TcpExt.TCPReqQFullDoCookies"],
        ),
        (
            "RCV_PRESSURE",
            "receive buffers were collapsed or pruned",
            &["TcpExt.RcvPruned", "TcpExt.TCPRcvCollapsed"],
        ),
    ];
    for (id, title, names) in groups {
        if names.iter().all(|name| rate.netstat(name) == 0) {
            continue;
        }
        let mut finding = Finding::new(id, Severity::Fault, "host", title);
        for name in names {
            finding = finding
                .seen(format!("/proc/net/netstat {name}"), format!("+{}", rate.netstat(name)));
        }
        match id {
            "LISTEN_OVERFLOW" => {
                finding = finding.seen("/proc/sys/net/core/somaxconn", somaxconn.clone());
                if let Ok(now) = somaxconn.parse::<u64>() {
                    finding = finding.fixed_by(
                        format!("sysctl -w net.core.somaxconn={} # and the server's own backlog: the smaller one holds", now.saturating_mul(2)),
                        format!("sysctl -w net.core.somaxconn={now}"),
                    );
                }
            }
            "SYN_DROP" => {
                if let Some(now) =
                    case.snapshot.value_number("/proc/sys/net/ipv4/tcp_max_syn_backlog")
                {
                    finding = finding.fixed_by_sysctl(
                        "net.ipv4.tcp_max_syn_backlog",
                        now,
                        now.saturating_mul(2),
                    );
                }
            }
            _ => {}
        }
        case.add(finding);
    }
}
