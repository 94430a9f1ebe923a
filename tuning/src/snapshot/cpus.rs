//! The processors: which there are, which may be used, and how they are arranged.

use std::collections::BTreeMap;

use crate::host::Fault;
use crate::placement::{CpuPlace, CpuSet, Topology};

use super::reader::Reader;

/// The processors of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cpus {
    /// Every CPU that could ever be present; the columns of `/proc/softirqs`.
    pub possible: CpuSet,
    /// The CPUs that run now.
    pub online: CpuSet,
    /// CPUs that the scheduler leaves alone (`isolcpus`).
    pub isolated: CpuSet,
    /// CPUs without a tick (`nohz_full`).
    pub nohz_full: CpuSet,
    /// The CPUs that the host or the container gives to programs: the cpuset of the control group. The affinity of this program
    /// itself (`taskset`) says nothing about the engine's.
    pub allowed: CpuSet,
    /// CPUs of a slower kind than others of this machine (E cores).
    pub slow: CpuSet,
    /// The usable CPUs (online and allowed) with core and node.
    pub topology: Topology,
    /// The governor of each CPU that has one.
    pub governors: BTreeMap<u32, String>,
    /// The idle states of the first CPU: (name, latency in microseconds, disabled).
    pub idle_states: Vec<(String, u64, bool)>,
}

impl Cpus {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let base = "/sys/devices/system/cpu";
        let set = |text: &str| text.parse::<CpuSet>().map_err(|error| error.to_string());
        let online = reader.needed(&format!("{base}/online"), set)?;
        if online.is_empty() {
            return Err(Fault::format(&format!("{base}/online"), "no CPU is online"));
        }
        let possible =
            reader.parsed(&format!("{base}/possible"), set).unwrap_or_else(|| online.clone());
        let isolated = reader.parsed(&format!("{base}/isolated"), set).unwrap_or_default();
        let nohz_full = reader.parsed(&format!("{base}/nohz_full"), set).unwrap_or_default();
        let allowed = read_allowed(reader, &online, &isolated);
        let slow = read_slow(reader, &online);
        let nodes = read_nodes(reader);
        let quiet = isolated.or(&nohz_full);
        let mut topology = Topology { cpus: Vec::new(), quiet, slow: slow.clone() };
        let mut governors = BTreeMap::new();
        for cpu in online.and(&allowed).iter() {
            let dir = format!("{base}/cpu{cpu}");
            let siblings = reader
                .parsed(&format!("{dir}/topology/core_cpus_list"), set)
                .or_else(|| reader.parsed(&format!("{dir}/topology/thread_siblings_list"), set));
            let core = siblings.and_then(|set| set.first()).unwrap_or(cpu);
            topology.cpus.push(CpuPlace { cpu, core, node: nodes.get(&cpu).copied() });
            if let Some(governor) = reader.optional(&format!("{dir}/cpufreq/scaling_governor")) {
                governors.insert(cpu, governor.trim().to_owned());
            }
        }
        let idle_states =
            online.first().map(|cpu| read_idle_states(reader, cpu)).unwrap_or_default();
        Ok(Self {
            possible,
            online,
            isolated,
            nohz_full,
            allowed,
            slow,
            topology,
            governors,
            idle_states,
        })
    }

    /// The CPUs that may serve the network without being asked: online, allowed and not kept quiet, on this node. Those
    /// of all nodes if the node has none, or is not known.
    #[must_use]
    pub fn local(&self, node: Option<u32>) -> CpuSet {
        let on = |wanted: Option<u32>| -> CpuSet {
            let places =
                self.topology.cpus.iter().filter(|place| wanted.is_none() || place.node == wanted);
            places.map(|place| place.cpu).collect::<CpuSet>().minus(&self.topology.quiet)
        };
        let local = on(node);
        if local.is_empty() { on(None) } else { local }
    }

    /// The CPUs that share the physical core of this one, including itself.
    #[must_use]
    pub fn siblings(&self, cpu: u32) -> CpuSet {
        let Some(place) = self.topology.place(cpu) else {
            return CpuSet::single(cpu);
        };
        self.topology
            .cpus
            .iter()
            .filter(|other| other.core == place.core)
            .map(|other| other.cpu)
            .collect()
    }

    /// The NUMA node of a CPU, if the host reports it.
    #[must_use]
    pub fn node(&self, cpu: u32) -> Option<u32> {
        self.topology.place(cpu).and_then(|place| place.node)
    }
}

/// The CPUs of the control group's cpuset, of either version. If no file says it, the affinity of the first process of
/// the host or container; isolated CPUs are missing there because nothing is scheduled to them, not because they are
/// forbidden.
fn read_allowed(reader: &Reader<'_>, online: &CpuSet, isolated: &CpuSet) -> CpuSet {
    let groups = reader.optional_quiet("/proc/self/cgroup").unwrap_or_default();
    let mut places = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(kinds), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, name) = match kinds {
            "" => ("/sys/fs/cgroup", "cpuset.cpus.effective"),
            kinds if kinds.split(',').any(|kind| kind == "cpuset") => {
                ("/sys/fs/cgroup/cpuset", "cpuset.effective_cpus")
            }
            _ => continue,
        };
        // A group without the file has the limits of the next group above it. Seen from within a container the path may
        // lead nowhere.
        let mut path = path.trim_end_matches('/');
        loop {
            places.push(format!("{root}{path}/{name}"));
            match path.rsplit_once('/') {
                Some((above, _)) => path = above,
                None => break,
            }
        }
        let found =
            places.drain(..).find_map(|file| reader.optional_quiet(&file)?.parse::<CpuSet>().ok());
        if let Some(cpus) = found.map(|cpus| cpus.and(online)).filter(|cpus| !cpus.is_empty()) {
            return cpus;
        }
    }
    let affinity = |reader: &Reader<'_>, path: &str| {
        let text = reader.optional_quiet(path)?;
        text.lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?
            .parse::<CpuSet>()
            .ok()
    };
    affinity(reader, "/proc/1/status")
        .or_else(|| affinity(reader, "/proc/self/status"))
        .map_or_else(|| online.clone(), |cpus| cpus.or(isolated))
}

/// The CPUs of the slower kind, if a machine has two: by the names of the processor's counters (x86), or by capacity
/// (arm64).
fn read_slow(reader: &Reader<'_>, online: &CpuSet) -> CpuSet {
    if let Some(cpus) =
        reader.optional_quiet("/sys/devices/cpu_atom/cpus").and_then(|text| text.parse().ok())
    {
        return online.and(&cpus);
    }
    let capacity = |cpu: u32| {
        let text =
            reader.optional_quiet(&format!("/sys/devices/system/cpu/cpu{cpu}/cpu_capacity"))?;
        text.trim().parse::<u32>().ok()
    };
    let Some(first) = online.first().and_then(capacity) else { return CpuSet::new() };
    let all: Vec<(u32, u32)> =
        online.iter().map(|cpu| (cpu, capacity(cpu).unwrap_or(first))).collect();
    let most = all.iter().map(|(_, capacity)| *capacity).max().unwrap_or(first);
    all.into_iter().filter(|(_, capacity)| *capacity < most).map(|(cpu, _)| cpu).collect()
}

/// The node of every CPU.
fn read_nodes(reader: &mut Reader<'_>) -> BTreeMap<u32, u32> {
    let base = "/sys/devices/system/node";
    let mut nodes = BTreeMap::new();
    for name in reader.list(base) {
        let Some(Ok(node)) = name.strip_prefix("node").map(str::parse::<u32>) else {
            continue;
        };
        let cpus = reader
            .parsed(&format!("{base}/{name}/cpulist"), str::parse::<CpuSet>)
            .unwrap_or_default();
        nodes.extend(cpus.iter().map(|cpu| (cpu, node)));
    }
    nodes
}

fn read_idle_states(reader: &mut Reader<'_>, cpu: u32) -> Vec<(String, u64, bool)> {
    let base = format!("/sys/devices/system/cpu/cpu{cpu}/cpuidle");
    let mut states = Vec::new();
    for state in reader.list(&base).into_iter().filter(|name| name.starts_with("state")) {
        let name =
            reader.optional(&format!("{base}/{state}/name")).unwrap_or_default().trim().to_owned();
        let latency = reader
            .optional(&format!("{base}/{state}/latency"))
            .and_then(|text| text.trim().parse().ok());
        let disabled = reader
            .optional(&format!("{base}/{state}/disable"))
            .is_some_and(|text| text.trim() == "1");
        if let Some(latency) = latency {
            states.push((name, latency, disabled));
        }
    }
    states
}
