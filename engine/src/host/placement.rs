//! Which CPUs the shards run on.

use rustix::thread::{CpuSet, sched_getaffinity};
use std::path::Path;
use std::str::FromStr;
use std::{fmt, fs};

use crate::error::StartError;

/// Where a server's shards run.
///
/// As text, for flags and settings: `all`, a list of CPUs as [`parse_cpus`] reads it, or `unpinned:` and a number
/// of shards.
///
/// ```
/// # use corewire_engine as corewire;
/// use corewire::Placement;
///
/// assert_eq!("2,4-5".parse(), Ok(Placement::Cpus(vec![2, 4, 5])));
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
    /// One shard on each CPU of this list.
    Cpus(Vec<usize>),
    /// This many shards, not pinned; for tests and for machines shared with others.
    Unpinned(u16),
}

impl Placement {
    /// The CPU of each shard; `None` where it is not pinned.
    ///
    /// # Errors
    ///
    /// A CPU that is not allowed or named twice, an empty list, or more than 65,535 shards.
    pub(crate) fn cpus(&self) -> Result<Vec<Option<usize>>, StartError> {
        let allowed = allowed_cpus()?;
        let cpus: Vec<Option<usize>> = match self {
            Self::AllCpus => {
                let quota = cgroup_cpus().unwrap_or(usize::MAX).max(1);
                allowed.iter().take(quota).copied().map(Some).collect()
            }
            Self::Cpus(cpus) => {
                for (index, &cpu) in cpus.iter().enumerate() {
                    if !allowed.contains(&cpu) {
                        return Err(StartError::CpuNotAllowed { cpu, allowed });
                    }
                    if cpus.iter().take(index).any(|&other| other == cpu) {
                        return Err(StartError::CpuTwice { cpu });
                    }
                }
                cpus.iter().copied().map(Some).collect()
            }
            Self::Unpinned(count) => vec![None; usize::from(*count)],
        };
        if cpus.is_empty() || cpus.len() > usize::from(u16::MAX) {
            return Err(StartError::ShardCount { count: cpus.len() });
        }
        Ok(cpus)
    }
}

/// As it is parsed.
impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllCpus => f.write_str("all"),
            Self::Unpinned(shards) => write!(f, "unpinned:{shards}"),
            Self::Cpus(cpus) => {
                for (index, cpu) in cpus.iter().enumerate() {
                    write!(f, "{}{cpu}", if index == 0 { "" } else { "," })?;
                }
                Ok(())
            }
        }
    }
}

impl FromStr for Placement {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("unpinned:")) {
            ("all", _) => Ok(Self::AllCpus),
            (_, Some(shards)) => match shards.parse() {
                Ok(shards) if shards > 0 => Ok(Self::Unpinned(shards)),
                _ => Err(format!(
                    "'{shards}' is no number of shards; give 1 to 65535, as in unpinned:4"
                )),
            },
            _ => parse_cpus(text).map(Self::Cpus).map_err(|_| {
                format!(
                    "'{text}' is no placement; give all, CPUs as in 0,2-5, or unpinned:4 for 4 shards"
                )
            }),
        }
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
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect())
}

/// How many CPUs the cgroup's quota is worth, rounded up; `None` without one.
fn cgroup_cpus() -> Option<usize> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut least: Option<usize> = None;
    // A quota of any ancestor applies as well.
    let mut group = Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/'));
    while group.starts_with("/sys/fs/cgroup") {
        if let Some(cpus) =
            fs::read_to_string(group.join("cpu.max")).ok().and_then(|text| quota(&text))
        {
            least = Some(least.map_or(cpus, |least| least.min(cpus)));
        }
        if !group.pop() {
            break;
        }
    }
    least
}

/// Reads `cpu.max`: "quota period" in µs, or "max period".
fn quota(text: &str) -> Option<usize> {
    let mut words = text.split_whitespace();
    let quota: usize = words.next()?.parse().ok()?;
    let period: usize = words.next()?.parse().ok()?;
    (period > 0).then(|| quota.div_ceil(period))
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
            (Some(first), Some(last)) if first <= last && last < CpuSet::MAX_CPU => {
                cpus.extend(first..=last);
            }
            _ => {
                return Err(format!(
                    "'{part}' is not a CPU; give numbers and ranges below {}, as in 0,2-5",
                    CpuSet::MAX_CPU
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
        let placements =
            [Placement::AllCpus, Placement::Cpus(vec![0, 2, 3]), Placement::Unpinned(4)];
        for placement in placements {
            assert_eq!(placement.to_string().parse(), Ok(placement));
        }
        for wrong in ["", "every", "unpinned", "unpinned:0", "unpinned:70000", "0-"] {
            let error = wrong.parse::<Placement>().expect_err(wrong);
            assert!(error.contains("unpinned:4"), "{error}");
        }
    }

    #[test]
    fn quotas_are_rounded_up() {
        assert_eq!(quota("max 100000\n"), None);
        assert_eq!(quota("100000 100000\n"), Some(1));
        assert_eq!(quota("150000 100000\n"), Some(2));
        assert_eq!(quota("1 0"), None);
    }

    #[test]
    fn forbidden_and_repeated_cpus_are_refused() {
        let first = allowed_cpus().expect("Linux tells")[0];
        assert!(matches!(
            Placement::Cpus(vec![first, 1023]).cpus(),
            Err(StartError::CpuNotAllowed { cpu: 1023, .. })
        ));
        assert!(matches!(
            Placement::Cpus(vec![first, first]).cpus(),
            Err(StartError::CpuTwice { .. })
        ));
        assert!(matches!(Placement::Cpus(vec![]).cpus(), Err(StartError::ShardCount { count: 0 })));
        assert_eq!(Placement::Unpinned(3).cpus().expect("allowed"), vec![None; 3]);
    }
}
