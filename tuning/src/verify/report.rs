//! The judgement of what was watched.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::doctor::counts_full_ring;
use crate::snapshot::{Counters, Rate};
use corewire_placement::CpuSet;

use super::{Spread, VerifyOptions, noise_threshold};

/// Fewer packets than this prove nothing.
const PACKETS_MIN: u64 = 10_000;

/// With fewer flows per CPU than this, chance decides, not the machine.
const FLOWS_PER_CPU_MIN: u64 = 16;

/// More stolen time than this makes every figure doubtful.
const STEAL_MAX: f64 = 0.05;

/// The share of packets that may be processed outside of the target CPUs: other programs' traffic.
const STRAY_MAX: f64 = 0.10;

/// The verdict. Its exit codes are 0, 1 and 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Judgement {
    /// Spread as it should be, and nothing lost.
    Pass,
    /// Not spread, or packets lost.
    Fail,
    /// Too little traffic, too few flows, or too much stolen time to judge.
    Inconclusive,
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::Inconclusive => "INCONCLUSIVE",
        })
    }
}

/// One CPU's part of what was watched.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CpuFigures {
    /// The CPU.
    pub cpu: u32,
    /// Whether packets should come here.
    pub is_target: bool,
    /// Packets that it took up the stack (softnet_stat column 1).
    pub packets: u64,
    /// The same for each sample.
    pub packets_by_sample: Vec<u64>,
    /// Runs of NET_RX, shown because people look at it; the judgement does not use it.
    pub net_rx_runs: u64,
    /// Packets dropped at its backlog (column 2).
    pub dropped: u64,
    /// Softirqs that ended with packets left (column 3).
    pub squeezed: u64,
    /// Times that other CPUs handed packets over (column 10).
    pub received_rps: u64,
    /// The share of its time in softirqs, 0 to 1. Sampled by the kernel: can read 0 under load.
    pub softirq_share: f64,
}

/// Everything that was watched, and the verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// The version of this form.
    #[serde(default)]
    pub version: u32,
    /// The kernel's release.
    #[serde(default)]
    pub kernel: String,
    /// The interfaces whose drops were counted.
    #[serde(default)]
    pub ifaces: Vec<String>,
    /// The verdict.
    pub verdict: Judgement,
    /// Why.
    pub reasons: Vec<String>,
    /// Seconds watched.
    pub seconds: f64,
    /// Jain's index of packets over the target CPUs.
    pub jain: f64,
    /// max/mean of packets over the target CPUs.
    pub max_over_mean: f64,
    /// The max/mean that would have failed.
    pub max_over_mean_bar: f64,
    /// Flows that the bar was computed for.
    pub flows: u64,
    /// All packets.
    pub packets: u64,
    /// The share of time that the hypervisor took.
    pub steal_share: f64,
    /// Counters of lost packets and connections that grew.
    pub losses: BTreeMap<String, u64>,
    /// The CPUs.
    pub cpus: Vec<CpuFigures>,
}

/// Judges samples in order of time.
#[must_use]
pub fn judge(
    samples: &[Counters],
    online: &CpuSet,
    drivers: &BTreeMap<String, String>,
    options: &VerifyOptions,
) -> VerifyReport {
    let targets = options.targets.clone().unwrap_or_else(|| online.clone());
    let period = options.period;
    let pairs: Vec<Rate<'_>> =
        samples.windows(2).map(|pair| Rate { before: &pair[0], after: &pair[1], period }).collect();
    let empty = Counters::default();
    let (first, last) = (samples.first().unwrap_or(&empty), samples.last().unwrap_or(&empty));
    let whole = Rate {
        before: first,
        after: last,
        period: period * u32::try_from(pairs.len()).unwrap_or(1),
    };
    let cpus = cpu_figures(&pairs, &whole, online, &targets);
    let counts: Vec<u64> = cpus.iter().filter(|cpu| cpu.is_target).map(|cpu| cpu.packets).collect();
    let total: u64 = cpus.iter().map(|cpu| cpu.packets).sum();
    let stray = total - counts.iter().sum::<u64>();
    let spread = Spread::of(&counts);
    let flows = options.flows.unwrap_or(last.tcp_sockets);
    let bar = options.skew_max.max(noise_threshold(counts.len(), flows));
    let steal = whole.steal_share();
    let losses = losses(&whole, &cpus, drivers, options);

    let mut doubts = Vec::new();
    if options.ifaces.is_empty() {
        doubts.push("no network card was watched, so lost packets could not be counted: none is up; name one with --iface".to_owned());
    }
    if total < PACKETS_MIN {
        doubts.push(format!("{total} packets were processed, and fewer than {PACKETS_MIN} prove nothing: is the load running?"));
    }
    if steal > STEAL_MAX {
        doubts.push(format!("the hypervisor took {:.1} % of the time", steal * 100.0));
    }
    if flows < FLOWS_PER_CPU_MIN * counts.len() as u64 {
        doubts.push(format!("{flows} flows for {} CPUs are decided by chance; run more, or say --flows if they are not TCP", counts.len()));
    }
    let mut faults = Vec::new();
    if counts.len() > 1 && spread.max_over_mean > bar {
        faults.push(format!(
            "max/mean of packets is {:.2}, the bar is {bar:.2}",
            spread.max_over_mean
        ));
    }
    if crate::snapshot::ratio(stray, total) > STRAY_MAX {
        faults.push(format!("{stray} of {total} packets were processed outside of CPUs {targets}"));
    }
    faults.extend(losses.iter().map(|(name, delta)| format!("{name} grew by {delta}")));
    let (verdict, reasons) = match (doubts.is_empty(), faults.is_empty()) {
        (false, _) => (Judgement::Inconclusive, doubts),
        (true, false) => (Judgement::Fail, faults),
        (true, true) => (Judgement::Pass, Vec::new()),
    };
    VerifyReport {
        version: crate::doctor::JSON_VERSION,
        kernel: String::new(),
        ifaces: options.ifaces.clone(),
        verdict,
        reasons,
        seconds: whole.period.as_secs_f64(),
        jain: spread.jain,
        max_over_mean: spread.max_over_mean,
        max_over_mean_bar: bar,
        flows,
        packets: total,
        steal_share: steal,
        losses,
        cpus,
    }
}

fn cpu_figures(
    pairs: &[Rate<'_>],
    whole: &Rate<'_>,
    online: &CpuSet,
    targets: &CpuSet,
) -> Vec<CpuFigures> {
    let by_sample: Vec<BTreeMap<u32, u64>> = pairs.iter().map(Rate::packets).collect();
    let (packets, runs) = (whole.packets(), whole.net_rx_runs());
    let dropped = whole.softnet(|row| row.dropped);
    let squeezed = whole.softnet(|row| row.squeezed);
    let received_rps = whole.softnet(|row| row.received_rps);
    let read = |map: &BTreeMap<u32, u64>, cpu: u32| map.get(&cpu).copied().unwrap_or(0);
    online
        .or(targets)
        .iter()
        .map(|cpu| CpuFigures {
            cpu,
            is_target: targets.contains(cpu),
            packets: read(&packets, cpu),
            packets_by_sample: by_sample.iter().map(|map| read(map, cpu)).collect(),
            net_rx_runs: read(&runs, cpu),
            dropped: read(&dropped, cpu),
            squeezed: read(&squeezed, cpu),
            received_rps: read(&received_rps, cpu),
            softirq_share: whole.softirq_share(cpu),
        })
        .collect()
}

/// Counters of lost packets and connections that grew.
fn losses(
    whole: &Rate<'_>,
    cpus: &[CpuFigures],
    drivers: &BTreeMap<String, String>,
    options: &VerifyOptions,
) -> BTreeMap<String, u64> {
    let mut losses = BTreeMap::new();
    for cpu in cpus.iter().filter(|cpu| cpu.dropped > 0) {
        losses.insert(format!("softnet_stat dropped of CPU {}", cpu.cpu), cpu.dropped);
    }
    for iface in &options.ifaces {
        let driver = drivers.get(iface).map_or("", String::as_str);
        for (name, delta) in
            whole.card(iface).into_iter().filter(|(name, _)| counts_full_ring(driver, name))
        {
            losses.insert(format!("{iface} {name}"), delta);
        }
    }
    for name in ["TcpExt.ListenOverflows", "TcpExt.ListenDrops"] {
        let delta = whole.netstat(name);
        if delta > 0 {
            losses.insert(name.to_owned(), delta);
        }
    }
    losses
}

/// Two reports compared: the only claim that a document may make about a change.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Jain's index before and after.
    pub jain: (f64, f64),
    /// max/mean before and after.
    pub max_over_mean: (f64, f64),
    /// Packets per second before and after.
    pub packets_per_second: (f64, f64),
    /// Lost packets and connections before and after.
    pub losses: (u64, u64),
    /// The verdicts.
    pub verdict: (Judgement, Judgement),
}

/// Compares two reports.
#[must_use]
pub fn compare(before: &VerifyReport, after: &VerifyReport) -> Comparison {
    let pps = |report: &VerifyReport| {
        crate::snapshot::ratio(report.packets, 1) / report.seconds.max(0.001)
    };
    let lost = |report: &VerifyReport| crate::snapshot::total(report.losses.values().copied());
    Comparison {
        jain: (before.jain, after.jain),
        max_over_mean: (before.max_over_mean, after.max_over_mean),
        packets_per_second: (pps(before), pps(after)),
        losses: (lost(before), lost(after)),
        verdict: (before.verdict, after.verdict),
    }
}
