//! What the operator wants, as one word of text.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::cpu_set::CPU_NUMBER_MAX;

/// Which CPUs get shards.
///
/// As text:
///
/// | text | shards |
/// |---|---|
/// | `all` | one on each CPU of the affinity mask |
/// | `cores` | one on each physical core; SMT siblings stay free |
/// | `0,2-5` | one on each CPU of the list, in its order |
/// | `split:2` | as `cores`, but 2 cores are left to interrupts and everything else |
/// | `node-of:eth0` | as `cores`, on the NUMA node of this card alone |
/// | `unpinned:4` | 4, not pinned |
/// | `file:/etc/placement.toml` | where `corewire-tune plan --emit-placement` put them |
///
/// `all`, `cores`, `split` and `node-of` make no more shards than the control group's CPU quota is worth.
///
/// ```
/// use corewire_placement::Policy;
///
/// assert_eq!("split:2".parse(), Ok(Policy::Split(2)));
/// assert_eq!("node-of:eth0".parse(), Ok(Policy::NodeOf("eth0".into())));
/// assert_eq!(Policy::Cpus(vec![0, 2, 3]).to_string(), "0,2,3");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// One shard on each CPU of the affinity mask.
    #[default]
    All,
    /// One shard on each physical core.
    Cores,
    /// One shard on each of these CPUs, in this order.
    Cpus(Vec<u32>),
    /// One shard on each physical core but this many; 1 or more.
    Split(u16),
    /// One shard on each physical core of the NUMA node of this card.
    NodeOf(String),
    /// This many shards, not pinned.
    Unpinned(u16),
    /// Where this `placement.toml` puts them.
    File(PathBuf),
}

/// As it is parsed.
impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Cores => f.write_str("cores"),
            Self::Split(count) => write!(f, "split:{count}"),
            Self::NodeOf(card) => write!(f, "node-of:{card}"),
            Self::Unpinned(shards) => write!(f, "unpinned:{shards}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Cpus(cpus) => {
                for (index, cpu) in cpus.iter().enumerate() {
                    write!(f, "{}{cpu}", if index == 0 { "" } else { "," })?;
                }
                Ok(())
            }
        }
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, value) = text.split_once(':').unwrap_or((text, ""));
        match (kind, value) {
            ("all", "") => Ok(Self::All),
            ("cores", "") => Ok(Self::Cores),
            ("split", count) => match count.parse() {
                Ok(count) if count > 0 => Ok(Self::Split(count)),
                _ => Err(format!(
                    "'{count}' is no number of CPUs to leave free; give 1 or more, as in split:2"
                )),
            },
            ("unpinned", shards) => match shards.parse() {
                Ok(shards) if shards > 0 => Ok(Self::Unpinned(shards)),
                _ => Err(format!(
                    "'{shards}' is no number of shards; give 1 to 65535, as in unpinned:4"
                )),
            },
            ("node-of", card) if !card.is_empty() && !card.contains(['/', ' ']) => {
                Ok(Self::NodeOf(card.to_owned()))
            }
            ("node-of", card) => {
                Err(format!("'{card}' is no network card; name one, as in node-of:eth0"))
            }
            ("file", "") => Err("no file is named; name one, as in file:placement.toml".to_owned()),
            ("file", path) => Ok(Self::File(path.into())),
            _ => list(text).map(Self::Cpus).ok_or_else(|| {
                format!(
                    "'{text}' is no placement; give all, cores, CPUs as in 0,2-5, split:2, node-of:eth0, file:placement.toml, or \
                     unpinned:4 for 4 shards"
                )
            }),
        }
    }
}

/// CPUs and ranges in their order. One that is named twice is found when the placement is chosen.
fn list(text: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let bounds = part.split_once('-').unwrap_or((part, part));
        let first: u32 = bounds.0.trim().parse().ok()?;
        let last: u32 = bounds.1.trim().parse().ok()?;
        // Eight lists of all CPUs name some of them twice.
        if first > last || last >= CPU_NUMBER_MAX || cpus.len() > 8 * CPU_NUMBER_MAX as usize {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_policy_is_shown_as_it_is_parsed() {
        let policies = [
            Policy::All,
            Policy::Cores,
            Policy::Cpus(vec![0, 2, 3]),
            Policy::Split(2),
            Policy::NodeOf("eth0".to_owned()),
            Policy::Unpinned(4),
            Policy::File("/etc/a:b.toml".into()),
        ];
        for policy in policies {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        assert_eq!("3,0-2".parse(), Ok(Policy::Cpus(vec![3, 0, 1, 2])));
    }

    #[test]
    fn what_is_no_policy_is_told_with_what_is() {
        for (wrong, hint) in [
            ("", "unpinned:4"),
            ("every", "node-of:eth0"),
            ("unpinned", "1 to 65535"),
            ("unpinned:0", "1 to 65535"),
            ("unpinned:70000", "1 to 65535"),
            ("split:0", "split:2"),
            ("split", "split:2"),
            ("node-of:", "node-of:eth0"),
            ("node-of:../x", "node-of:eth0"),
            ("file:", "file:placement.toml"),
            ("all:3", "0,2-5"),
            ("0-", "0,2-5"),
            ("0-99999", "0,2-5"),
        ] {
            let error = wrong.parse::<Policy>().unwrap_err();
            assert!(error.contains(hint), "{wrong}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = text.parse::<Policy>();
        }
    }
}
