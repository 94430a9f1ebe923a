//! The processors: which there are, which may be used, and how they sit.

use std::collections::BTreeMap;

use crate::host::Fault;
use crate::placement::{CpuPlace, CpuSet, Topology};

use super::reader::Reader;

/// The processors of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cpus {
    /// Every CPU that could ever be there; the columns of `/proc/softirqs`.
    pub possible: CpuSet,
    /// The CPUs that run now.
    pub online: CpuSet,
    /// CPUs that the scheduler leaves alone (`isolcpus`).
    pub isolated: CpuSet,
    /// CPUs without a tick (`nohz_full`).
    pub nohz_full: CpuSet,
    /// The CPUs that this process may use: affinity and cpuset of the control group together.
    pub allowed: CpuSet,
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
        // The process status has the intersection of everything that confines it: affinity, cpuset v1 and v2.
        let allowed = reader
            .parsed("/proc/self/status", |text| {
                let line = text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
                line.ok_or_else(|| "no line `Cpus_allowed_list`".to_owned()).and_then(set)
            })
            .unwrap_or_else(|| online.clone());
        let nodes = read_nodes(reader);
        let mut topology = Topology::default();
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
            topology,
            governors,
            idle_states,
        })
    }

    /// The CPUs that share the physical core of this one, itself included.
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

    /// The NUMA node of a CPU, if the host says.
    #[must_use]
    pub fn node(&self, cpu: u32) -> Option<u32> {
        self.topology.place(cpu).and_then(|place| place.node)
    }
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
