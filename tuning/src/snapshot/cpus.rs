//! The processors: which there are, which may be used, and how they are arranged.

use std::collections::BTreeMap;

use crate::host::Fault;
use corewire_placement::{CpuSet, Facts, Topology};

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
        let path = "/sys/devices/system/cpu/online";
        let set = |text: &str| text.parse::<CpuSet>().map_err(|error| error.to_string());
        if reader.needed(path, set)?.is_empty() {
            return Err(Fault::format(path, "no CPU is online"));
        }
        let facts =
            Facts::read_machine(reader).map_err(|error| Fault::format(path, error.to_string()))?;
        let mut governors = BTreeMap::new();
        for cpu in facts.online.and(&facts.allowed).iter() {
            let path = format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
            if let Some(governor) = reader.optional(&path) {
                governors.insert(cpu, governor.trim().to_owned());
            }
        }
        let idle_states =
            facts.online.first().map(|cpu| read_idle_states(reader, cpu)).unwrap_or_default();
        Ok(Self {
            possible: facts.possible,
            online: facts.online,
            isolated: facts.isolated,
            nohz_full: facts.nohz_full,
            allowed: facts.allowed,
            slow: facts.slow,
            topology: facts.topology,
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
