//! Everything the tool knows about a machine at one time: read once, then judged and planned from without touching the
//! machine again.

mod card;
mod counters;
mod cpus;
mod engine;
mod irqbalance;
mod others;
mod reader;
mod sampler;
mod vectors;

use std::collections::BTreeMap;
use std::time::Duration;

pub use card::{Nic, RxQueue, TxQueue, Vector};
pub use counters::{Counters, Rate};
pub(crate) use counters::{ratio, total};
pub use cpus::Cpus;
pub use engine::{Engine, EngineThread};
pub use irqbalance::{Config, Irqbalance};
pub(crate) use irqbalance::{modules_to_ban, setting_line, words};
pub(crate) use others::BUSY_PER_SECOND;
pub use others::Other;
pub use sampler::Sampler;
pub(crate) use vectors::action;

use crate::host::{Fault, Host};
use corewire_placement::{CpuSet, Placement, QueueLimits, Topology};
use reader::Reader;

/// What to read, and for how long to watch.
#[derive(Debug, Clone)]
pub struct Scope {
    /// These interfaces; if empty, all that are up and have hardware behind them (or, if there are none, all that are
    /// up).
    pub ifaces: Vec<String>,
    /// The time between the two samples of the counters; zero for only one sample.
    pub sample: Duration,
    /// The engine's process, to check its limits and its threads.
    pub engine_pid: Option<u32>,
}

impl Default for Scope {
    fn default() -> Self {
        Self { ifaces: Vec::new(), sample: Duration::from_secs(1), engine_pid: None }
    }
}

/// A machine at one time, with its counters at two.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The kernel's release.
    pub kernel: String,
    /// The boot that this was read in; settings of an earlier boot are gone.
    pub boot_id: String,
    /// The processors.
    pub cpus: Cpus,
    /// Whether the processor reports a hypervisor.
    pub is_virtual: bool,
    /// The interfaces in question. Bonds and VLANs are followed by the cards below them.
    pub nics: Vec<Nic>,
    /// Values of single files (sysctls and the like), by path, trimmed. Absent files are absent.
    pub values: BTreeMap<String, String>,
    /// irqbalance, if it runs.
    pub irqbalance: Option<Irqbalance>,
    /// Busy interrupts of devices other than the interfaces; none without a second sample.
    pub others: Vec<Other>,
    /// `.link` files of udev that set interrupt affinity, by path.
    pub udev_irq_policies: Vec<String>,
    /// The engine's process, if it was asked for.
    pub engine: Option<Engine>,
    /// The counters at the first sample.
    pub first: Counters,
    /// The counters at the second sample, and the time between them.
    pub second: Option<(Duration, Counters)>,
    /// What could not be read, and why.
    pub unread: Vec<Fault>,
}

/// Single files that the doctor looks at, where the kernel has them.
pub(crate) const VALUES: [&str; 27] = [
    crate::host::NFTABLES_RULES,
    "/proc/modules",
    "/proc/sys/kernel/io_uring_disabled",
    "/proc/sys/kernel/io_uring_group",
    "/proc/sys/kernel/numa_balancing",
    "/proc/sys/net/core/busy_poll",
    "/proc/sys/net/core/busy_read",
    "/proc/sys/net/core/netdev_budget",
    "/proc/sys/net/core/netdev_budget_usecs",
    "/proc/sys/net/core/netdev_max_backlog",
    "/proc/sys/net/core/rps_sock_flow_entries",
    "/proc/sys/net/core/somaxconn",
    "/proc/sys/net/ipv4/tcp_max_syn_backlog",
    "/proc/sys/net/ipv4/tcp_rmem",
    "/proc/sys/net/netfilter/nf_conntrack_count",
    "/proc/sys/net/netfilter/nf_conntrack_max",
    "/proc/net/ip_tables_names",
    "/proc/net/ip6_tables_names",
    "/sys/devices/system/clocksource/clocksource0/available_clocksource",
    "/sys/devices/system/clocksource/clocksource0/current_clocksource",
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_driver",
    "/sys/devices/system/cpu/cpuidle/current_driver",
    "/sys/devices/system/cpu/isolated",
    "/sys/devices/system/cpu/nohz_full",
    "/sys/devices/system/cpu/smt/active",
    "/sys/kernel/mm/transparent_hugepage/enabled",
    "/proc/sys/kernel/osrelease",
];

impl Snapshot {
    /// Reads a machine.
    ///
    /// # Errors
    ///
    /// When something without which nothing can be judged is absent or of an unknown form: the online CPUs,
    /// `/proc/interrupts`, `/proc/net/softnet_stat`, `/proc/stat`, or an interface that was named. Everything else that
    /// cannot be read is listed in [`unread`](Self::unread).
    pub fn take(host: &dyn Host, scope: &Scope) -> Result<Self, Fault> {
        let mut reader = Reader::new(host);
        let cpus = Cpus::read(&mut reader)?;
        let mut values = BTreeMap::new();
        for path in VALUES {
            if let Some(text) = reader.optional(path) {
                values.insert(path.to_owned(), text.trim().to_owned());
            }
        }
        let is_virtual = reader.optional("/proc/cpuinfo").is_some_and(|text| {
            text.lines()
                .filter(|line| line.starts_with("flags"))
                .any(|line| line.split_whitespace().any(|flag| flag == "hypervisor"))
        });
        let names = card::select(&mut reader, &scope.ifaces)?;
        let mut first = Counters::read(&mut reader, &cpus)?;
        let processes = host.processes(&["irqbalance", "ksoftirqd/", "napi/"]).unwrap_or_default();
        let nics: Vec<Nic> = names
            .iter()
            .map(|name| {
                let mut nic = Nic::read(&mut reader, name, &processes);
                vectors::read(&mut nic, &mut reader, &first.interrupts);
                nic
            })
            .collect();
        for nic in &nics {
            first.add_card(&mut reader, &nic.name, &nic.facts.stats);
        }
        first.add_ksoftirqd(&mut reader, &processes);
        let engine = scope.engine_pid.map(|pid| Engine::read(&mut reader, pid)).transpose()?;
        let irqbalance = processes.iter().find(|(_, name)| name == "irqbalance");
        let irqbalance = irqbalance.map(|(pid, _)| Irqbalance::read(&mut reader, *pid));
        let udev_irq_policies = udev_policies(&mut reader);
        let second = if scope.sample.is_zero() {
            None
        } else {
            host.pause(scope.sample);
            let mut counters = Counters::read(&mut reader, &cpus)?;
            for nic in &nics {
                let stats = host.nic(&nic.name).map(|facts| facts.stats).unwrap_or_default();
                counters.add_card(&mut reader, &nic.name, &stats);
            }
            counters.add_ksoftirqd(&mut reader, &processes);
            Some((scope.sample, counters))
        };
        let rate =
            second.as_ref().map(|(period, after)| Rate { before: &first, after, period: *period });
        let others = rate.map(|rate| others::read(&mut reader, &nics, &rate)).unwrap_or_default();
        Ok(Self {
            kernel: values.get("/proc/sys/kernel/osrelease").cloned().unwrap_or_default(),
            boot_id: reader
                .optional("/proc/sys/kernel/random/boot_id")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            cpus,
            is_virtual,
            nics,
            values,
            others,
            irqbalance,
            udev_irq_policies,
            engine,
            first,
            second,
            unread: reader.into_unread(),
        })
    }

    /// The value of a single file.
    #[must_use]
    pub fn value(&self, path: &str) -> Option<&str> {
        self.values.get(path).map(String::as_str)
    }

    /// The value of a single file as a number.
    #[must_use]
    pub fn value_number(&self, path: &str) -> Option<u64> {
        self.value(path)
            .and_then(|text| text.split_whitespace().next())
            .and_then(|word| word.parse().ok())
    }

    /// What changed between the two samples; `None` with only one sample.
    #[must_use]
    pub fn rate(&self) -> Option<Rate<'_>> {
        let (period, second) = self.second.as_ref()?;
        Some(Rate { before: &self.first, after: second, period: *period })
    }

    /// The cards that have queues to place: hardware, and virtual pairs with their own queues, but not bonds and VLANs,
    /// whose work is done by the cards below them.
    pub fn cards(&self) -> impl Iterator<Item = &Nic> {
        self.nics.iter().filter(|nic| nic.lowers.is_empty())
    }

    /// The cards whose interrupts irqbalance would move again: it runs, and was not told to leave them alone.
    #[must_use]
    pub fn fought(&self) -> Vec<&Nic> {
        let Some(irqbalance) = &self.irqbalance else { return Vec::new() };
        self.cards().filter(|nic| nic.has_vectors() && !irqbalance.leaves(nic)).collect()
    }

    /// Why a placement cannot be used here: other CPUs, or CPUs that may not be used. `None` when it fits.
    #[must_use]
    pub fn misfit(&self, placement: &Placement) -> Option<String> {
        let usable: CpuSet = self.cpus.topology.cpus.iter().map(|place| place.cpu).collect();
        let outside = placement.all_cpus().minus(&usable);
        if !outside.is_empty() {
            return Some(format!(
                "it uses CPUs {outside}, which are offline or not in this control group's cpuset; usable are {usable}"
            ));
        }
        let digest = self.cpus.topology.digest();
        (!placement.topology.is_empty() && placement.topology != digest).then(|| {
            format!(
                "it was written for other CPUs, cores or nodes (digest {}, here {digest}); write a new one with --emit-placement",
                placement.topology
            )
        })
    }

    /// The CPUs that may serve other devices when this placement is used: those that it does not use or, if it uses
    /// all, those that it gives to interrupts. Empty if every CPU has a shard.
    #[must_use]
    pub fn cpus_outside(&self, placement: &Placement) -> CpuSet {
        let usable = self.cpus.local(None);
        let free = usable.minus(&placement.all_cpus());
        if free.is_empty() { usable.minus(&placement.shard_cpus()) } else { free }
    }

    /// What a placement needs to know about the CPUs: those that are online and allowed, without isolated ones that
    /// were not named.
    #[must_use]
    pub fn topology(&self) -> Topology {
        self.cpus.topology.clone()
    }

    /// What a placement needs to know about the cards.
    #[must_use]
    pub fn queue_limits(&self) -> Vec<QueueLimits> {
        let rate = self.rate();
        let traffic = |irq: u32| rate.map_or(0, |rate| rate.served(irq));
        self.cards().map(|nic| nic.queue_limits(&traffic)).collect()
    }
}

/// `.link` files that tell udev to move interrupts of network cards.
fn udev_policies(reader: &mut Reader<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for dir in ["/etc/systemd/network", "/run/systemd/network"] {
        for name in reader.list(dir).into_iter().filter(|name| name.ends_with(".link")) {
            let path = format!("{dir}/{name}");
            let sets_irqs = |text: String| {
                text.lines().any(|line| line.trim_start().starts_with("IRQAffinity"))
            };
            if reader.optional(&path).is_some_and(sets_irqs) {
                found.push(path);
            }
        }
    }
    found
}
