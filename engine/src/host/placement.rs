//! Which CPUs the shards run on.

use corewire_placement::{Choice, ChooseError, CpuSet, Facts, Policy, Root};
use rustix::thread::sched_getaffinity;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::StartError;

/// As many CPUs as a mask of the kernel's interface has here.
const CPUS_MAX: usize = rustix::thread::CpuSet::MAX_CPU;

/// Where a server's shards run.
///
/// As text, for flags and settings:
///
/// | text | shards |
/// |---|---|
/// | `all` | one on each CPU that the process may use |
/// | `cores` | one on each physical core |
/// | `0,2-5` | one on each CPU of the list, in its order |
/// | `split:2` | as `cores`, but 2 cores are left to interrupts and everything else |
/// | `node-of:eth0` | as `cores`, on the NUMA node of this network card |
/// | `unpinned:4` | 4, not pinned |
/// | `file:/etc/placement.toml` | where this file puts them |
///
/// `corewire placement split:2` prints what a text means on a host, CPU by CPU, and why.
///
/// The default is `all`: the affinity mask and the quota are what the operator gave to the process, and it uses that without
/// guessing. Whether the second thread of a core gains or costs depends on the service: where latency counts, measure
/// `cores` and `split`.
///
/// Threads that are no shards (the supervisor, the one for signals, client threads) keep to CPUs without a shard, if the
/// placement leaves any; on cores of their own, if it leaves those.
///
/// ```
/// # use corewire_engine as corewire;
/// use corewire::Placement;
///
/// assert_eq!("2,4-5".parse(), Ok(Placement::Cpus(vec![2, 4, 5])));
/// assert_eq!("split:2".parse(), Ok(Placement::Split(2)));
/// assert_eq!("unpinned:3".parse(), Ok(Placement::Unpinned(3)));
/// assert_eq!(Placement::default().to_string(), "all");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Placement {
    /// One shard on each CPU that the process may use: its affinity mask, and no more shards than
    /// its cgroup's CPU quota allows.
    #[default]
    AllCpus,
    /// One shard on each CPU of this list. CPUs that are isolated from the scheduler (`isolcpus`) can be named although
    /// the process started without them, if its cgroup's cpuset has them.
    Cpus(Vec<usize>),
    /// This many shards, not pinned; for tests and for machines shared with others.
    Unpinned(u16),
    /// One shard on each physical core that the process may use, and no more than the quota allows. SMT siblings stay
    /// free, CPUs of a slower kind and those without a tick (`nohz_full`) as well unless there are no others.
    PhysicalCores,
    /// As [`PhysicalCores`](Self::PhysicalCores), but this many cores, the first ones, get no shard: they are for
    /// interrupts and everything else. 1 or more.
    Split(u16),
    /// As [`PhysicalCores`](Self::PhysicalCores), on the NUMA node of this network card alone.
    NodeOf(String),
    /// Where this `placement.toml` puts them; `corewire-tune plan --emit-placement` writes one. A file of another machine,
    /// or with a CPU that the process may not use, starts nothing.
    File(PathBuf),
}

impl Placement {
    /// The CPU of each shard, and what is left to others.
    ///
    /// # Errors
    ///
    /// What the policy says cannot be done on this host, or is not allowed; no shards, or more than 65,535.
    pub(crate) fn choose(&self) -> Result<Choice, StartError> {
        let affinity = allowed_cpus()?.into_iter().filter_map(|cpu| u32::try_from(cpu).ok());
        let mut host = Root::system();
        let facts = Facts::read(&mut host, Some(&affinity.collect()))
            .map_err(|error| StartError::Config(error.to_string()))?;
        let choice = self.policy().choose(&mut host, &facts).map_err(start_error)?;
        match choice.shards.len() {
            1..=65_535 => Ok(choice),
            count => Err(StartError::ShardCount { count }),
        }
    }

    fn policy(&self) -> Policy {
        match self {
            Self::AllCpus => Policy::All,
            // A number that is none is none that is online.
            Self::Cpus(cpus) => Policy::Cpus(
                cpus.iter().map(|&cpu| u32::try_from(cpu).unwrap_or(u32::MAX)).collect(),
            ),
            Self::Unpinned(count) => Policy::Unpinned(*count),
            Self::PhysicalCores => Policy::Cores,
            Self::Split(count) => Policy::Split(*count),
            Self::NodeOf(card) => Policy::NodeOf(card.clone()),
            Self::File(path) => Policy::File(path.clone()),
        }
    }
}

fn start_error(error: ChooseError) -> StartError {
    let numbers = |cpus: CpuSet| cpus.iter().map(|cpu| cpu as usize).collect();
    match error {
        ChooseError::NoShard => StartError::ShardCount { count: 0 },
        ChooseError::CpuTwice { cpu } => StartError::CpuTwice { cpu: cpu as usize },
        ChooseError::CpuNotAllowed { cpu, allowed } => {
            StartError::CpuNotAllowed { cpu: cpu as usize, allowed: numbers(allowed) }
        }
        ChooseError::CpuOffline { cpu, online } => {
            StartError::CpuOffline { cpu: cpu as usize, online: numbers(online) }
        }
        error => StartError::Config(error.to_string()),
    }
}

/// As it is parsed.
impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.policy().fmt(f)
    }
}

impl FromStr for Placement {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text.parse()? {
            Policy::All => Self::AllCpus,
            Policy::Cores => Self::PhysicalCores,
            Policy::Cpus(cpus) => Self::Cpus(cpus.into_iter().map(|cpu| cpu as usize).collect()),
            Policy::Split(count) => Self::Split(count),
            Policy::NodeOf(card) => Self::NodeOf(card),
            Policy::Unpinned(count) => Self::Unpinned(count),
            Policy::File(path) => Self::File(path),
            other => return Err(format!("'{other}' is no placement for a server")),
        })
    }
}

/// The CPUs that the calling thread's affinity mask allows, ascending: those of the process, unless the thread
/// was pinned, as a shard's is. It includes the limits of a cgroup's cpuset.
///
/// ```
/// # use corewire_engine as corewire;
/// let cpus = corewire::allowed_cpus()?;
/// assert!(!cpus.is_empty());
/// # Ok::<(), corewire::StartError>(())
/// ```
///
/// # Errors
///
/// The operating system's error.
pub fn allowed_cpus() -> Result<Vec<usize>, StartError> {
    let set = sched_getaffinity(None).map_err(|error| StartError::Io {
        what: "read the process's CPU affinity",
        error: error.into(),
    })?;
    Ok((0..CPUS_MAX).filter(|&cpu| set.is_set(cpu)).collect())
}

/// Reads a list of CPUs such as `0,2-5`, as in `/sys/devices/system/cpu/online`.
///
/// ```
/// # use corewire_engine as corewire;
/// assert_eq!(corewire::parse_cpus("0,2-4"), Ok(vec![0, 2, 3, 4]));
/// assert!(corewire::parse_cpus("two").is_err());
/// ```
///
/// # Errors
///
/// One sentence with the part that is neither a CPU nor a range.
pub fn parse_cpus(text: &str) -> Result<Vec<usize>, String> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let bounds = part.split_once('-').unwrap_or((part, part));
        let parse = |number: &str| number.trim().parse::<usize>().ok();
        match (parse(bounds.0), parse(bounds.1)) {
            (Some(first), Some(last)) if first <= last && last < CPUS_MAX => {
                cpus.extend(first..=last);
            }
            _ => {
                return Err(format!(
                    "'{part}' is not a CPU; give numbers and ranges below {}, as in 0,2-5",
                    CPUS_MAX
                ));
            }
        }
    }
    Ok(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_are_read() {
        assert_eq!(parse_cpus("0"), Ok(vec![0]));
        assert_eq!(parse_cpus("0,2-4, 7"), Ok(vec![0, 2, 3, 4, 7]));
        for bad in ["", "a", "3-1", "1-", "-1", "0,,1", "99999"] {
            assert!(parse_cpus(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_placement_is_shown_as_it_is_parsed() {
        let placements = [
            Placement::AllCpus,
            Placement::Cpus(vec![0, 2, 3]),
            Placement::Unpinned(4),
            Placement::PhysicalCores,
            Placement::Split(2),
            Placement::NodeOf("eth0".to_owned()),
            Placement::File("a/placement.toml".into()),
        ];
        for placement in placements {
            assert_eq!(placement.to_string().parse(), Ok(placement));
        }
        for wrong in ["", "every", "unpinned", "unpinned:0", "unpinned:70000", "0-"] {
            let error = wrong.parse::<Placement>().expect_err(wrong);
            assert!(error.contains("unpinned:4"), "{error}");
        }
    }

    #[test]
    fn forbidden_and_repeated_cpus_are_refused() {
        let first = allowed_cpus().expect("Linux tells")[0];
        assert!(matches!(
            Placement::Cpus(vec![first, 1023]).choose(),
            Err(StartError::CpuOffline { cpu: 1023, .. })
        ));
        assert!(matches!(
            Placement::Cpus(vec![first, first]).choose(),
            Err(StartError::CpuTwice { .. })
        ));
        assert!(matches!(
            Placement::Cpus(vec![]).choose(),
            Err(StartError::ShardCount { count: 0 })
        ));
        assert_eq!(Placement::Unpinned(3).choose().expect("allowed").shards, vec![None; 3]);
    }
}
