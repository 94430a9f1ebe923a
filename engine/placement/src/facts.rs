//! The CPUs of a host: which there are, which may be used, how they are arranged, and who says so.

use std::collections::BTreeMap;
use std::fmt;

use crate::cgroup;
use crate::cpu_set::CpuSet;
use crate::derive::{CpuPlace, Topology};
use crate::files::Files;

const CPUS: &str = "/sys/devices/system/cpu";

/// The CPUs of a host, as one process sees them.
///
/// ```
/// use corewire_placement::{Facts, Root};
///
/// let facts = Facts::read(&mut Root::system(), None)?;
/// assert!(facts.affinity.is_subset(&facts.online));
/// # Ok::<(), corewire_placement::FactsError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Every CPU that could ever be present.
    pub possible: CpuSet,
    /// The CPUs that run now.
    pub online: CpuSet,
    /// The CPUs that the scheduler leaves alone (`isolcpus`): a process starts without them in its affinity mask.
    pub isolated: CpuSet,
    /// The CPUs without a tick (`nohz_full`).
    pub nohz_full: CpuSet,
    /// The CPUs that the control group's cpuset gives. The kernel lets a process widen its mask up to these.
    pub allowed: CpuSet,
    /// The affinity mask of the thread that asks; all that are allowed, for [`read_machine`](Self::read_machine).
    pub affinity: CpuSet,
    /// How many CPUs the control group's quota is worth, rounded up; `None` without one.
    pub quota: Option<u32>,
    /// The CPUs of a slower kind than others of this host (E cores).
    pub slow: CpuSet,
    /// The CPUs that are online and allowed, with core and node.
    pub topology: Topology,
}

/// The host does not say which CPUs are online.
///
/// ```
/// use corewire_placement::{Facts, Root};
///
/// let error = Facts::read_machine(&mut Root::new("/no/such/tree")).unwrap_err();
/// assert!(error.to_string().contains("/sys/devices/system/cpu/online"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FactsError(String);

impl fmt::Display for FactsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FactsError {}

impl Facts {
    /// Reads what holds for every process of the control group; nothing about this process alone.
    ///
    /// # Errors
    ///
    /// When `/sys/devices/system/cpu/online` cannot be read or names no CPU. Everything else that is missing counts as not
    /// reported.
    pub fn read_machine(files: &mut impl Files) -> Result<Self, FactsError> {
        let online = parsed(files, &format!("{CPUS}/online")).filter(|cpus| !cpus.is_empty());
        let online = online.ok_or_else(|| {
            FactsError(format!(
                "{CPUS}/online names no CPU; mount /sys, or name a tree that has it"
            ))
        })?;
        Ok(Self::arrange(files, online))
    }

    /// Reads all of it. `affinity` is the mask of the thread that asks, as the kernel tells it: its CPUs are online, whatever a
    /// container shows in `/sys`. Without it the mask is read from `/proc/thread-self/status`.
    ///
    /// # Errors
    ///
    /// When neither `/sys/devices/system/cpu/online` nor the mask names a CPU.
    pub fn read(files: &mut impl Files, affinity: Option<&CpuSet>) -> Result<Self, FactsError> {
        let known = parsed(files, &format!("{CPUS}/online")).unwrap_or_default();
        let mut facts = match affinity {
            Some(affinity) if !affinity.is_empty() => {
                let mut facts = Self::arrange(files, known.or(affinity));
                facts.affinity = affinity.clone();
                facts
            }
            _ => {
                let mut facts = Self::read_machine(files)?;
                if let Some(mask) = read_mask(files, "/proc/thread-self/status") {
                    facts.affinity = mask.and(&facts.online);
                }
                facts
            }
        };
        facts.quota = cgroup::quota(files);
        Ok(facts)
    }

    fn arrange(files: &mut impl Files, online: CpuSet) -> Self {
        let possible = parsed(files, &format!("{CPUS}/possible")).unwrap_or_else(|| online.clone());
        let isolated = parsed(files, &format!("{CPUS}/isolated")).unwrap_or_default();
        let nohz_full = parsed(files, &format!("{CPUS}/nohz_full")).unwrap_or_default();
        let allowed = read_allowed(files, &online, &isolated);
        let slow = read_slow(files, &online);
        let nodes = read_nodes(files);
        let mut machine = Vec::new();
        for cpu in online.iter() {
            let dir = format!("{CPUS}/cpu{cpu}/topology");
            let siblings = parsed(files, &format!("{dir}/core_cpus_list"))
                .or_else(|| parsed(files, &format!("{dir}/thread_siblings_list")));
            let core = siblings.and_then(|set| set.first()).unwrap_or(cpu);
            machine.push(CpuPlace { cpu, core, node: nodes.get(&cpu).copied() });
        }
        let cpus = machine.iter().filter(|place| allowed.contains(place.cpu)).copied().collect();
        let topology =
            Topology { cpus, machine, quiet: isolated.or(&nohz_full), slow: slow.clone() };
        let affinity = allowed.and(&online);
        Self {
            possible,
            online,
            isolated,
            nohz_full,
            allowed,
            affinity,
            quota: None,
            slow,
            topology,
        }
    }

    /// The CPUs that this process may be told to use: those of its affinity mask, and those that only `isolcpus` keeps out of
    /// it.
    #[must_use]
    pub fn nameable(&self) -> CpuSet {
        self.affinity.or(&self.isolated.and(&self.allowed)).and(&self.online)
    }

    /// The CPUs without a name that are kept quiet: isolated ones and those without a tick, unless the mask was set by hand. A
    /// mask that is not the one every process starts with names CPUs on purpose.
    #[must_use]
    pub(crate) fn quiet(&self) -> CpuSet {
        let inherited = self.allowed.and(&self.online).minus(&self.isolated);
        if self.affinity == inherited { self.topology.quiet.clone() } else { CpuSet::new() }
    }

    /// The CPUs that share the physical core of this one, including itself.
    #[must_use]
    pub fn siblings(&self, cpu: u32) -> CpuSet {
        let Some(place) = self.topology.machine.iter().find(|place| place.cpu == cpu) else {
            return CpuSet::single(cpu);
        };
        let same = self.topology.machine.iter().filter(|other| other.core == place.core);
        same.map(|other| other.cpu).collect()
    }
}

/// A file with a CPU list. A form that is not understood is noted, and counts as absent.
fn parsed(files: &mut impl Files, path: &str) -> Option<CpuSet> {
    let text = files.read(path)?;
    match text.parse() {
        Ok(cpus) => Some(cpus),
        Err(error) => {
            let error: crate::CpuSetError = error;
            files.note(path, &error.to_string());
            None
        }
    }
}

/// The affinity mask in a `status` file of a process or thread.
fn read_mask(files: &mut impl Files, path: &str) -> Option<CpuSet> {
    let text = files.read_quietly(path)?;
    text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?.parse().ok()
}

/// The CPUs of the control group's cpuset, of either version. If no file says it, the affinity of the first process of
/// the host or container; isolated CPUs are missing there because nothing is scheduled to them, not because they are
/// forbidden.
fn read_allowed(files: &mut impl Files, online: &CpuSet, isolated: &CpuSet) -> CpuSet {
    let places = cgroup::files(files, "cpuset", "cpuset.cpus.effective", "cpuset.effective_cpus");
    for group in places {
        let found = group
            .iter()
            .find_map(|file| files.read_quietly(file)?.parse::<CpuSet>().ok())
            .map(|cpus| cpus.and(online));
        if let Some(cpus) = found.filter(|cpus| !cpus.is_empty()) {
            return cpus;
        }
    }
    read_mask(files, "/proc/1/status")
        .or_else(|| read_mask(files, "/proc/self/status"))
        .map_or_else(|| online.clone(), |cpus| cpus.or(isolated))
}

/// The CPUs of the slower kind, if a machine has two: by the names of the processor's counters (x86), or by capacity
/// (arm64).
fn read_slow(files: &mut impl Files, online: &CpuSet) -> CpuSet {
    let atoms = files.read_quietly("/sys/devices/cpu_atom/cpus");
    if let Some(cpus) = atoms.and_then(|text| text.parse().ok()) {
        return online.and(&cpus);
    }
    let mut capacity = |cpu: u32| {
        let text = files.read_quietly(&format!("{CPUS}/cpu{cpu}/cpu_capacity"))?;
        text.trim().parse::<u32>().ok()
    };
    let Some(first) = online.first().and_then(&mut capacity) else { return CpuSet::new() };
    let all: Vec<(u32, u32)> =
        online.iter().map(|cpu| (cpu, capacity(cpu).unwrap_or(first))).collect();
    let most = all.iter().map(|(_, capacity)| *capacity).max().unwrap_or(first);
    all.into_iter().filter(|(_, capacity)| *capacity < most).map(|(cpu, _)| cpu).collect()
}

/// The node of every CPU.
fn read_nodes(files: &mut impl Files) -> BTreeMap<u32, u32> {
    let base = "/sys/devices/system/node";
    let mut nodes = BTreeMap::new();
    for name in files.list(base) {
        let Some(Ok(node)) = name.strip_prefix("node").map(str::parse::<u32>) else {
            continue;
        };
        let cpus = parsed(files, &format!("{base}/{name}/cpulist")).unwrap_or_default();
        nodes.extend(cpus.iter().map(|cpu| (cpu, node)));
    }
    nodes
}
