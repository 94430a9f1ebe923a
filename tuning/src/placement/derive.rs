//! The placement that follows from the facts of a host, the same for the engine and for the tool.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{CpuSet, Placement, QueueMap, Shard};

/// What a placement needs to know of a host's CPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    /// The CPUs that may be used: online, and allowed to this process.
    pub cpus: Vec<CpuPlace>,
}

/// Where one CPU sits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuPlace {
    /// The CPU's number.
    pub cpu: u32,
    /// Its physical core, named by that core's lowest CPU. CPUs with the same core are SMT siblings.
    pub core: u32,
    /// Its NUMA node; `None` when the host does not say.
    pub node: Option<u32>,
}

impl Topology {
    /// A topology of CPUs that are all cores of their own, without NUMA nodes.
    #[must_use]
    pub fn flat(cpus: &CpuSet) -> Self {
        Self { cpus: cpus.iter().map(|cpu| CpuPlace { cpu, core: cpu, node: None }).collect() }
    }

    /// A short digest of everything in the topology (FNV-1a, 64 bit): equal on equal machines, and stable between versions.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for place in &self.cpus {
            for part in [place.cpu, place.core, place.node.map_or(u32::MAX, |node| node)] {
                for byte in part.to_le_bytes() {
                    hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
                }
            }
        }
        format!("{hash:016x}")
    }

    /// The place of a CPU.
    #[must_use]
    pub fn place(&self, cpu: u32) -> Option<&CpuPlace> {
        self.cpus.iter().find(|place| place.cpu == cpu)
    }
}

/// How many queues a card can have, and where it sits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueLimits {
    /// The interface.
    pub iface: String,
    /// The NUMA node of the card; `None` when the host does not say, which is not the same as node 0.
    pub node: Option<u32>,
    /// The most queue pairs the card offers; at least 1.
    pub queues_max: u32,
    /// Whether the number of queues can be changed at all. When not, `queues_max` is how many there are.
    pub fixed: bool,
}

/// How queues and shards share CPUs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Layout {
    /// Queue `i` is served on the CPU of shard `i`: the best locality; the softirq's time comes out of the shard's.
    #[default]
    Aligned,
    /// So many CPUs serve interrupts alone, and the shards have the others.
    Split(u32),
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aligned => f.write_str("aligned"),
            Self::Split(count) => write!(f, "split:{count}"),
        }
    }
}

impl FromStr for Layout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "aligned" {
            return Ok(Self::Aligned);
        }
        match text.strip_prefix("split:").map(str::parse) {
            Some(Ok(count)) if count > 0 => Ok(Self::Split(count)),
            _ => Err(format!("`{text}` is neither `aligned` nor `split:N` with N of 1 or more")),
        }
    }
}

impl Serialize for Layout {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Layout {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What the operator wishes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// How queues and shards share CPUs.
    pub layout: Layout,
    /// Use these CPUs only.
    pub cpus: Option<CpuSet>,
    /// So many shards; by default one for each physical core on the card's node.
    pub shards: Option<u32>,
    /// Use every SMT sibling as a core of its own. By default the siblings stay idle.
    pub smt: bool,
    /// So many queues, where the default would be as many as shards (or as interrupt CPUs in the split layout).
    pub queues: Option<u32>,
}

/// Why no placement follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeriveError {
    /// No CPU is left after all wishes.
    NoCpu,
    /// More shards (and interrupt CPUs) are asked for than there are CPUs.
    TooFewCpus {
        /// CPUs asked for.
        wanted: u32,
        /// CPUs that may be used.
        usable: u32,
    },
}

impl fmt::Display for DeriveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCpu => f.write_str("no CPU is left to place a shard on"),
            Self::TooFewCpus { wanted, usable } => {
                write!(
                    f,
                    "{wanted} CPUs are asked for, but only {usable} may be used (siblings count with --smt)"
                )
            }
        }
    }
}

impl std::error::Error for DeriveError {}

/// Derives the placement: shards on physical cores of the first card's node, queue `i` beside shard `i`.
///
/// Pure and deterministic: the same facts and wishes give the same placement in the engine and in the tool.
///
/// # Errors
///
/// When no CPU is left, or fewer than asked for.
pub fn derive(
    topology: &Topology,
    cards: &[QueueLimits],
    options: &Options,
) -> Result<Placement, DeriveError> {
    let usable = usable_cpus(topology, cards, options);
    if usable.is_empty() {
        return Err(DeriveError::NoCpu);
    }
    let count = |cpus: &[CpuPlace]| u32::try_from(cpus.len()).unwrap_or(u32::MAX);
    let irq_count = match options.layout {
        Layout::Aligned => 0,
        Layout::Split(irq_count) => irq_count,
    };
    let wanted = irq_count + options.shards.unwrap_or(1).max(1);
    if wanted > count(&usable) {
        return Err(DeriveError::TooFewCpus { wanted, usable: count(&usable) });
    }
    let (irq_places, rest) = usable.split_at(irq_count as usize);
    let shard_count = options.shards.map_or(rest.len(), |shards| shards as usize).max(1);
    let shards: Vec<Shard> = rest[..shard_count]
        .iter()
        .zip(0..)
        .map(|(place, id)| Shard { id, cpu: place.cpu, core: place.core, node: place.node })
        .collect();
    let servers: Vec<(u32, Option<u32>)> = match options.layout {
        Layout::Aligned => shards.iter().map(|shard| (shard.cpu, Some(shard.id))).collect(),
        Layout::Split(_) => irq_places.iter().map(|place| (place.cpu, None)).collect(),
    };
    let queues: Vec<QueueMap> =
        cards.iter().flat_map(|card| queue_maps(card, &servers, options)).collect();
    let irq_cpus = match options.layout {
        Layout::Aligned => queues.iter().map(|map| map.cpu).collect(),
        Layout::Split(_) => irq_places.iter().map(|place| place.cpu).collect(),
    };
    Ok(Placement {
        schema: Placement::schema(),
        created_by: format!("corewire-tune {}", env!("CARGO_PKG_VERSION")),
        layout: options.layout,
        irq_cpus,
        topology: topology.digest(),
        shards,
        queues,
    })
}

/// The queues of one card, dealt over the CPUs that serve interrupts.
fn queue_maps(
    card: &QueueLimits,
    servers: &[(u32, Option<u32>)],
    options: &Options,
) -> Vec<QueueMap> {
    let most = card.queues_max.max(1);
    let wanted = options.queues.unwrap_or_else(|| u32::try_from(servers.len()).unwrap_or(u32::MAX));
    // Queues that cannot be taken away still need a CPU each, so they are dealt round.
    let queue_count = if card.fixed { most } else { wanted.clamp(1, most) };
    (0..queue_count)
        .map(|queue| {
            let (cpu, shard) = servers[queue as usize % servers.len()];
            QueueMap { iface: card.iface.clone(), queue, cpu, shard }
        })
        .collect()
}

/// The CPUs to place on: as wished, on the card's node, one of each physical core.
fn usable_cpus(topology: &Topology, cards: &[QueueLimits], options: &Options) -> Vec<CpuPlace> {
    let mut usable: Vec<CpuPlace> = topology.cpus.clone();
    if let Some(wished) = &options.cpus {
        // CPUs named by hand are taken as they are: neither the node nor SMT siblings are second-guessed.
        usable.retain(|place| wished.contains(place.cpu));
        return usable;
    }
    if let Some(node) = cards.iter().find_map(|card| card.node) {
        let local: Vec<CpuPlace> =
            usable.iter().copied().filter(|place| place.node == Some(node)).collect();
        let enough = options.shards.is_none_or(|shards| shards as usize <= local.len());
        if !local.is_empty() && enough {
            usable = local;
        } else {
            // The card's node first, then the others: the first shards get the local CPUs.
            usable.sort_by_key(|place| (place.node != Some(node), place.cpu));
        }
    }
    if !options.smt {
        let mut first_of_core = BTreeMap::new();
        for place in &usable {
            first_of_core.entry(place.core).or_insert(place.cpu);
        }
        usable.retain(|place| first_of_core.get(&place.core) == Some(&place.cpu));
    }
    usable
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// Two nodes of four cores with two threads each; siblings are `n` and `n + 8`.
    fn two_nodes() -> Topology {
        Topology {
            cpus: (0..16)
                .map(|cpu| CpuPlace { cpu, core: cpu % 8, node: Some((cpu % 8) / 4) })
                .collect(),
        }
    }

    fn card(node: Option<u32>, queues_max: u32) -> QueueLimits {
        QueueLimits { iface: "eth0".to_owned(), node, queues_max, fixed: false }
    }

    #[test]
    fn shards_take_the_cores_of_the_card_s_node_without_siblings() {
        let placement = derive(&two_nodes(), &[card(Some(1), 63)], &Options::default()).unwrap();
        assert_eq!(placement.shard_cpus().to_string(), "4-7");
        assert_eq!(placement.queue_cpu("eth0", 2), Some(6));
        assert_eq!(placement.queue_cpu("eth0", 4), None);
    }

    #[test]
    fn an_unknown_node_is_not_node_zero() {
        let placement = derive(&two_nodes(), &[card(None, 63)], &Options::default()).unwrap();
        assert_eq!(placement.shard_cpus().to_string(), "0-7");
    }

    #[test]
    fn split_gives_interrupts_cpus_of_their_own() {
        let options = Options { layout: Layout::Split(2), smt: true, ..Options::default() };
        let placement = derive(&two_nodes(), &[card(Some(0), 63)], &options).unwrap();
        assert_eq!(placement.irq_cpus.to_string(), "0-1");
        assert_eq!(placement.shard_cpus().to_string(), "2-3,8-11");
        assert_eq!(placement.queues.len(), 2);
        assert_eq!(placement.queues[0].shard, None);
    }

    #[test]
    fn fewer_queues_than_shards_and_more_shards_than_cpus() {
        let placement = derive(&two_nodes(), &[card(Some(0), 1)], &Options::default()).unwrap();
        assert_eq!((placement.shards.len(), placement.queues.len()), (4, 1));
        let options = Options { shards: Some(17), ..Options::default() };
        assert_eq!(
            derive(&two_nodes(), &[], &options),
            Err(DeriveError::TooFewCpus { wanted: 17, usable: 8 })
        );
        assert_eq!(derive(&Topology::default(), &[], &Options::default()), Err(DeriveError::NoCpu));
    }

    #[test]
    fn the_file_round_trips_and_is_checked() {
        let placement = derive(&two_nodes(), &[card(Some(0), 8)], &Options::default()).unwrap();
        let text = placement.to_toml().unwrap();
        assert_eq!(Placement::from_toml(&text).unwrap(), placement);
        let twice = text.replacen("cpu = 1", "cpu = 0", 1);
        assert!(
            Placement::from_toml(&twice)
                .unwrap_err()
                .to_string()
                .contains("two shards share a CPU")
        );
        assert!(Placement::from_toml(&text.replacen("schema = 1", "schema = 9", 1)).is_err());
        assert!(Placement::from_toml("shard = 3").is_err());
    }
}
