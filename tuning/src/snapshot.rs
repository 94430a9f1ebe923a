//! Everything the tool knows of a machine at one time: read once, judged and planned from without touching the machine again.

mod card;
mod counters;
mod cpus;
mod engine;
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
pub use sampler::Sampler;
pub(crate) use vectors::action;

use crate::host::{Fault, Host};
use crate::placement::{CpuSet, Placement, QueueLimits, Topology};
use reader::Reader;

/// What to read, and for how long to watch.
#[derive(Debug, Clone)]
pub struct Scope {
    /// These interfaces; empty for all that are up and have hardware behind them (or, where there are none, all that are up).
    pub ifaces: Vec<String>,
    /// The time between the two samples of the counters; zero for one sample only.
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
    /// Whether the processor says that a hypervisor is below.
    pub is_virtual: bool,
    /// The interfaces in question. Bonds and VLANs are followed by the cards below them.
    pub nics: Vec<Nic>,
    /// Values of single files (sysctls and the like), by path, trimmed. Absent files are absent.
    pub values: BTreeMap<String, String>,
    /// The process id of irqbalance, if it runs.
    pub irqbalance: Option<u32>,
    /// What irqbalance was told to leave alone: its arguments, its configuration, and its policy script, as one text.
    pub irqbalance_bans: String,
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
    /// When something without which nothing can be judged is absent or of an unknown form: the online CPUs, `/proc/interrupts`,
    /// `/proc/net/softnet_stat`, `/proc/stat`, or an interface that was named. Everything else that cannot be read is listed in
    /// [`unread`](Self::unread).
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
            .map(|name| Nic::read(&mut reader, name, &first.interrupts, &processes))
            .collect();
        for nic in &nics {
            first.add_card(&mut reader, &nic.name, &nic.facts.stats);
        }
        first.add_ksoftirqd(&mut reader, &processes);
        let engine = scope.engine_pid.map(|pid| Engine::read(&mut reader, pid)).transpose()?;
        let irqbalance =
            processes.iter().find(|(_, name)| name == "irqbalance").map(|(pid, _)| *pid);
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
            irqbalance_bans: irqbalance
                .map(|pid| irqbalance_bans(&mut reader, pid))
                .unwrap_or_default(),
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

    /// What changed between the two samples; `None` with one sample only.
    #[must_use]
    pub fn rate(&self) -> Option<Rate<'_>> {
        let (period, second) = self.second.as_ref()?;
        Some(Rate { before: &self.first, after: second, period: *period })
    }

    /// The cards that have queues to place: hardware, and virtual pairs with queues of their own, but not bonds and VLANs, whose
    /// work is done by the cards below them.
    pub fn cards(&self) -> impl Iterator<Item = &Nic> {
        self.nics.iter().filter(|nic| nic.lowers.is_empty())
    }

    /// Whether irqbalance was told to leave a card's interrupts alone: each by number, all by the driver, or by a policy script that
    /// names the card's device.
    #[must_use]
    pub fn irqbalance_leaves(&self, nic: &Nic) -> bool {
        let (arguments, scripts) =
            self.irqbalance_bans.split_once('\n').unwrap_or((&self.irqbalance_bans, ""));
        let has = |word: String| arguments.split_whitespace().any(|other| other == word);
        let by_driver = nic.driver.as_ref().is_some_and(|driver| has(format!("--banmod={driver}")));
        let by_number = nic.has_vectors()
            && nic.vectors.iter().all(|vector| has(format!("--banirq={}", vector.irq)));
        let by_script = nic
            .address()
            .is_some_and(|address| scripts.contains(address) && scripts.contains("ban=true"));
        by_driver || by_number || by_script
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
                "it was written for other CPUs, cores or nodes (digest {}, here {digest}); write it anew with --emit-placement",
                placement.topology
            )
        })
    }

    /// What a placement needs to know of the CPUs: those that are online and allowed, without the isolated ones that nobody named.
    #[must_use]
    pub fn topology(&self) -> Topology {
        self.cpus.topology.clone()
    }

    /// What a placement needs to know of the cards.
    #[must_use]
    pub fn queue_limits(&self) -> Vec<QueueLimits> {
        let rate = self.rate();
        let traffic = |irq: u32| rate.map_or(0, |rate| rate.served(irq));
        self.cards().map(|nic| nic.queue_limits(&traffic)).collect()
    }
}

/// Everything that tells irqbalance what to leave alone. `--banirq=`, `--banmod=`, and the text of a policy script are looked for.
fn irqbalance_bans(reader: &mut Reader<'_>, pid: u32) -> String {
    let mut text = reader
        .optional_quiet(&format!("/proc/{pid}/cmdline"))
        .unwrap_or_default()
        .replace('\0', " ");
    for path in ["/etc/default/irqbalance", "/etc/sysconfig/irqbalance"] {
        for line in reader.optional_quiet(path).unwrap_or_default().lines() {
            if !line.trim_start().starts_with('#') {
                text.push_str(&format!(" {}", line.replace(['"', '\''], " ")));
            }
        }
    }
    let scripts: Vec<String> = text
        .split_whitespace()
        .filter_map(|word| {
            word.strip_prefix("--policyscript=").or_else(|| word.strip_prefix("-l="))
        })
        .map(str::to_owned)
        .collect();
    for script in scripts {
        let names = reader.list(&script);
        let files = if names.is_empty() {
            vec![script]
        } else {
            names.iter().map(|name| format!("{script}/{name}")).collect()
        };
        for file in files {
            text.push_str(&format!("\n{}", reader.optional_quiet(&file).unwrap_or_default()));
        }
    }
    text
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
