//! From what the operator wants and what the host has: which CPU each shard gets, and what is left to others.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::cpu_set::CpuSet;
use crate::derive::{DeriveError, Options, QueueLimits, Topology, derive};
use crate::facts::Facts;
use crate::file::Placement;
use crate::files::Files;
use crate::layout::Layout;
use crate::policy::Policy;

/// A placement file of more bytes than this is none: 8,192 shards with as many queues take less.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Where the shards of one process run, and what is left to others.
///
/// ```
/// use corewire_placement::{Facts, Policy, Root};
///
/// let mut host = Root::system();
/// let facts = Facts::read(&mut host, None)?;
/// let choice = Policy::Cores.choose(&mut host, &facts)?;
/// assert!(choice.shard_cpus().is_subset(&facts.affinity));
/// assert!(choice.helpers.and(&choice.shard_cpus()).is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// The CPU of each shard, by its number; `None` where it is not pinned. At least one.
    pub shards: Vec<Option<u32>>,
    /// CPUs that are left to interrupts: those of `split`, or those that the file names and no shard has.
    pub interrupts: CpuSet,
    /// The CPUs for threads that are no shards: on cores without a shard, if there are any, and otherwise on the siblings of
    /// shards. Empty where every CPU of the mask has a shard, and where shards are not pinned: then they may run anywhere.
    pub helpers: CpuSet,
    /// Whether a placement file gives each shard's CPU a queue of a card, so that packets arrive spread over the shards.
    pub is_aligned: bool,
}

impl Choice {
    /// The CPUs of all shards that are pinned.
    #[must_use]
    pub fn shard_cpus(&self) -> CpuSet {
        self.shards.iter().copied().flatten().collect()
    }
}

/// Why a policy cannot be followed on a host: one sentence with the remedy.
///
/// ```
/// use corewire_placement::{Facts, Policy, Root};
///
/// let mut host = Root::system();
/// let facts = Facts::read(&mut host, None).expect("it says which CPUs are online");
/// let error = Policy::NodeOf("none0".into()).choose(&mut host, &facts).unwrap_err();
/// assert!(error.to_string().starts_with("there is no network card none0"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChooseError {
    /// There would be no shard.
    NoShard,
    /// A CPU is named twice.
    CpuTwice {
        /// The CPU.
        cpu: u32,
    },
    /// A CPU does not run, or does not exist.
    CpuOffline {
        /// The CPU.
        cpu: u32,
        /// Those that run.
        online: CpuSet,
    },
    /// A CPU runs, but this process may not use it.
    CpuNotAllowed {
        /// The CPU.
        cpu: u32,
        /// Those that may be named.
        allowed: CpuSet,
    },
    /// Too few cores for what is asked.
    TooFew {
        /// Cores that are left free.
        free: u16,
        /// Cores that may be used.
        usable: u32,
    },
    /// Every CPU that may be used is isolated.
    AllQuiet,
    /// There is no such card.
    NoCard {
        /// Its name.
        card: String,
    },
    /// The host does not report the card's node.
    NoNode {
        /// Its name.
        card: String,
    },
    /// No CPU of the card's node may be used.
    NodeWithoutCpu {
        /// The card's name.
        card: String,
        /// Its node.
        node: u32,
    },
    /// The placement file cannot be used.
    File {
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        why: String,
    },
}

impl fmt::Display for ChooseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoShard => f.write_str("the placement has no shard; name at least one CPU"),
            Self::CpuTwice { cpu } => {
                write!(f, "CPU {cpu} is named twice; name each CPU once, for a shard owns its CPU")
            }
            Self::CpuOffline { cpu, online } => {
                write!(f, "CPU {cpu} is not online; choose from {online}, or bring it online")
            }
            Self::CpuNotAllowed { cpu, allowed } => write!(
                f,
                "CPU {cpu} is not among the CPUs this process may use, which are {allowed}; choose from these, or widen the \
                 process's affinity or cpuset"
            ),
            Self::TooFew { free, usable } => write!(
                f,
                "split:{free} leaves no core for a shard, because this process may use {usable}; leave fewer free, or place on \
                 all"
            ),
            Self::AllQuiet => f.write_str(
                "every CPU that this process may use is isolated or without a tick; name the CPUs, as in 2-5",
            ),
            Self::NoCard { card } => write!(
                f,
                "there is no network card {card} here; name one of /sys/class/net, or use cores"
            ),
            Self::NoNode { card } => write!(
                f,
                "the host does not say which NUMA node the card {card} is on, as on virtual cards and hosts with one node; use \
                 cores, or name the CPUs"
            ),
            Self::NodeWithoutCpu { card, node } => write!(
                f,
                "the card {card} is on node {node}, of which this process may use no CPU; use cores, or widen the process's \
                 affinity or cpuset"
            ),
            Self::File { path, why } => write!(f, "the placement {}: {why}", path.display()),
        }
    }
}

impl std::error::Error for ChooseError {}

impl Policy {
    /// Finds the CPU of each shard. A list or a file is followed as it is or not at all.
    ///
    /// # Errors
    ///
    /// When the host does not have what the policy names, or nothing is left for a shard.
    pub fn choose(&self, files: &mut impl Files, facts: &Facts) -> Result<Choice, ChooseError> {
        let all = |cpus: Vec<u32>| cpus.into_iter().map(Some).collect();
        let mut choice = Choice::default();
        choice.shards = match self {
            Self::All => all(within(facts.affinity.iter().collect(), facts)),
            Self::Cores => all(on_cores(facts, &Options::default(), &[])?.0),
            Self::Split(free) => {
                let options =
                    Options { layout: Layout::Split(u32::from(*free)), ..Options::default() };
                let (shards, interrupts) = on_cores(facts, &options, &[])?;
                choice.interrupts = interrupts;
                all(shards)
            }
            Self::NodeOf(card) => {
                let node = card_node(files, card)?;
                let on_node = |place: &&crate::CpuPlace| {
                    place.node == Some(node) && facts.affinity.contains(place.cpu)
                };
                if facts.topology.cpus.iter().find(on_node).is_none() {
                    return Err(ChooseError::NodeWithoutCpu { card: card.clone(), node });
                }
                all(on_cores(facts, &Options::default(), &[at_node(card, node)])?.0)
            }
            Self::Cpus(cpus) => {
                check_cpus(cpus, facts)?;
                all(cpus.clone())
            }
            Self::Unpinned(count) => vec![None; usize::from(*count)],
            Self::File(path) => {
                let placement = read_file(path, facts)?;
                let cpus = placement.shard_cpus();
                choice.interrupts = placement.irq_cpus.minus(&cpus);
                let fed = placement.queues.iter().map(|map| map.cpu).collect();
                choice.is_aligned = placement.layout == Layout::Aligned && cpus.is_subset(&fed);
                placement.shards.iter().map(|shard| Some(shard.cpu)).collect()
            }
        };
        if choice.shards.is_empty() {
            return Err(ChooseError::NoShard);
        }
        choice.helpers = helpers(&choice, facts);
        Ok(choice)
    }
}

/// No more CPUs than the quota is worth: more shards would be stopped together when it is used up.
fn within(mut cpus: Vec<u32>, facts: &Facts) -> Vec<u32> {
    cpus.truncate(facts.quota.map_or(usize::MAX, |quota| quota.max(1) as usize));
    cpus
}

/// One CPU of each physical core of the mask, by the rule of [`derive()`]: shards, and CPUs for interrupts.
fn on_cores(
    facts: &Facts,
    options: &Options,
    cards: &[QueueLimits],
) -> Result<(Vec<u32>, CpuSet), ChooseError> {
    let cpus: Vec<_> = facts
        .topology
        .cpus
        .iter()
        .filter(|place| facts.affinity.contains(place.cpu))
        .copied()
        .collect();
    let topology = Topology { cpus, quiet: facts.quiet(), ..facts.topology.clone() };
    let placement = derive(&topology, cards, options).map_err(|error| match error {
        DeriveError::TooFewCpus { usable, wanted } => {
            let free = u16::try_from(wanted.saturating_sub(1)).unwrap_or(u16::MAX);
            ChooseError::TooFew { free, usable }
        }
        DeriveError::NoCpu | DeriveError::NotUsable { .. } => ChooseError::AllQuiet,
    })?;
    let interrupts = match options.layout {
        Layout::Split(_) => placement.irq_cpus.clone(),
        Layout::Aligned => CpuSet::new(),
    };
    let shards = placement.shards.iter().map(|shard| shard.cpu).collect();
    Ok((within(shards, facts), interrupts))
}

/// A card of which only the place matters.
fn at_node(card: &str, node: u32) -> QueueLimits {
    QueueLimits {
        iface: card.to_owned(),
        node: Some(node),
        queues: 1,
        queues_max: 1,
        fixed: true,
        power_of_two: false,
        served: Vec::new(),
        traffic: Vec::new(),
    }
}

/// The NUMA node of a card: its device's, or that of the device's parent, as virtio has it. `-1` means that the host does
/// not report it.
fn card_node(files: &mut impl Files, card: &str) -> Result<u32, ChooseError> {
    if files.list(&format!("/sys/class/net/{card}")).is_empty() {
        return Err(ChooseError::NoCard { card: card.to_owned() });
    }
    let device = format!("/sys/class/net/{card}/device");
    let text = files
        .read_quietly(&format!("{device}/numa_node"))
        .or_else(|| files.read_quietly(&format!("{device}/../numa_node")));
    text.and_then(|text| text.trim().parse().ok())
        .ok_or_else(|| ChooseError::NoNode { card: card.to_owned() })
}

fn check_cpus(cpus: &[u32], facts: &Facts) -> Result<(), ChooseError> {
    let allowed = facts.nameable();
    let mut seen = CpuSet::new();
    for &cpu in cpus {
        if !facts.online.contains(cpu) {
            return Err(ChooseError::CpuOffline { cpu, online: facts.online.clone() });
        }
        if !allowed.contains(cpu) {
            return Err(ChooseError::CpuNotAllowed { cpu, allowed });
        }
        if seen.contains(cpu) {
            return Err(ChooseError::CpuTwice { cpu });
        }
        seen.insert(cpu);
    }
    Ok(())
}

/// A placement file that fits this host.
fn read_file(path: &Path, facts: &Facts) -> Result<Placement, ChooseError> {
    let fail = |why: String| ChooseError::File { path: path.to_owned(), why };
    let metadata = fs::metadata(path).map_err(|error| {
        fail(format!("{error}; write it with corewire-tune plan --emit-placement"))
    })?;
    if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
        return Err(fail("it is not a file of at most 4 MiB; name a placement.toml".to_owned()));
    }
    let text = fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
    let placement = Placement::from_toml(&text).map_err(|error| {
        fail(format!(
            "{}; write a new one with corewire-tune plan --emit-placement",
            one_line(&error)
        ))
    })?;
    let cpus: Vec<u32> = placement.shards.iter().map(|shard| shard.cpu).collect();
    check_cpus(&cpus, facts).map_err(|error| fail(error.to_string()))?;
    let digest = facts.topology.digest();
    if placement.topology != digest {
        return Err(fail(format!(
            "it was written for other CPUs, cores or nodes (digest {}, here {digest}); write a new one on this machine with \
             corewire-tune plan --emit-placement",
            if placement.topology.is_empty() { "none" } else { &placement.topology }
        )));
    }
    Ok(placement)
}

/// The parser shows the place in several lines.
fn one_line(error: &impl fmt::Display) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn helpers(choice: &Choice, facts: &Facts) -> CpuSet {
    let shards = choice.shard_cpus();
    if shards.is_empty() {
        return CpuSet::new();
    }
    let mut free = facts.affinity.minus(&shards);
    let taken: CpuSet =
        shards.iter().flat_map(|cpu| facts.siblings(cpu).iter().collect::<Vec<_>>()).collect();
    for worse in [facts.quiet(), taken] {
        let better = free.minus(&worse);
        if !better.is_empty() {
            free = better;
        }
    }
    free
}
