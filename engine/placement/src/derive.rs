//! The placement that follows from the facts of a host, the same for the engine and for the tool.

use std::collections::BTreeMap;
use std::fmt;

use crate::cpu_set::{CpuOrder, CpuSet};
use crate::file::{Placement, QueueMap, Shard};
use crate::layout::Layout;

/// What a placement needs to know about a host's CPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    /// The CPUs that may be used: online, and in the control group's cpuset.
    pub cpus: Vec<CpuPlace>,
    /// Every CPU that is online, also those that may not be used: what [`digest`](Self::digest) is of, so that a tool and a
    /// server in different control groups agree. If empty, `cpus` are all.
    pub machine: Vec<CpuPlace>,
    /// Those of these CPUs that are kept quiet (`isolcpus`, `nohz_full`): no shard goes there unless they are named.
    pub quiet: CpuSet,
    /// Those of these CPUs that are slower than the others: used after the others.
    pub slow: CpuSet,
}

/// Where one CPU is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuPlace {
    /// The CPU's number.
    pub cpu: u32,
    /// Its physical core, named by that core's lowest CPU. CPUs with the same core are SMT siblings.
    pub core: u32,
    /// Its NUMA node; `None` when the host does not report it.
    pub node: Option<u32>,
}

impl Topology {
    /// A topology in which every CPU is its own core, without NUMA nodes.
    #[must_use]
    pub fn flat(cpus: &CpuSet) -> Self {
        let cpus = cpus.iter().map(|cpu| CpuPlace { cpu, core: cpu, node: None }).collect();
        Self { cpus, ..Self::default() }
    }

    /// A short digest of the machine's CPUs, cores and nodes (FNV-1a, 64 bit): equal on equal machines, and stable between versions.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let machine = if self.machine.is_empty() { &self.cpus } else { &self.machine };
        for place in machine {
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

/// How many queues a card can have, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueLimits {
    /// The interface.
    pub iface: String,
    /// The NUMA node of the card; `None` when the host does not report it, which is not the same as node 0.
    pub node: Option<u32>,
    /// How many receive queues it has now; at least 1.
    pub queues: u32,
    /// The most queue pairs over which the card can spread packets; at least 1.
    pub queues_max: u32,
    /// Whether the number of queues cannot be changed.
    pub fixed: bool,
    /// Whether the card spreads packets only over a power of two of queues.
    pub power_of_two: bool,
    /// The CPU that serves each queue now, where that is one CPU. A queue that is placed correctly stays where it is.
    pub served: Vec<Option<u32>>,
    /// How much traffic each queue had while it was watched; empty or zero where that is not known.
    pub traffic: Vec<u64>,
}

/// What the operator wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// How queues and shards share CPUs.
    pub layout: Layout,
    /// Use these CPUs only, shard 0 on the first of them.
    pub cpus: Option<CpuOrder>,
    /// How many shards; by default one for each physical core on the card's node.
    pub shards: Option<u32>,
    /// Use every SMT sibling as a separate core. By default the siblings stay idle.
    pub smt: bool,
    /// How many queues; by default as many as shards (or as interrupt CPUs in the split layout).
    pub queues: Option<u32>,
}

/// Why no placement is possible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeriveError {
    /// No CPU is left after applying all options.
    NoCpu,
    /// The named CPUs are offline or not in the control group's cpuset.
    NotUsable {
        /// The CPUs named.
        named: CpuSet,
        /// CPUs that may be used.
        usable: CpuSet,
    },
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
            Self::NoCpu => f.write_str("no CPU is left to place a shard on; isolated CPUs are used only when --cpus names them"),
            Self::NotUsable { named, usable } => {
                write!(f, "CPUs {named} are offline or not in this control group's cpuset; usable are {usable}")
            }
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

/// Derives the placement: shards on physical cores of the cards' nodes, each card's queues on the shards of its own node.
///
/// Pure and deterministic: the same facts and options give the same placement.
///
/// # Errors
///
/// When no CPU is left, fewer than asked for, or a named CPU may not be used.
pub fn derive(
    topology: &Topology,
    cards: &[QueueLimits],
    options: &Options,
) -> Result<Placement, DeriveError> {
    // Named CPUs keep their order, wherever the cards are.
    let nodes = if options.cpus.is_some() { Vec::new() } else { card_nodes(topology, cards) };
    let mut usable = usable_cpus(topology, &nodes, options)?;
    let irq_count = match options.layout {
        Layout::Aligned => 0,
        Layout::Split(irq_count) => irq_count,
    };
    let wanted = wanted_cpus(options);
    if wanted > usable.len() {
        return Err(if usable.is_empty() {
            DeriveError::NoCpu
        } else {
            let count = |cpus: usize| u32::try_from(cpus).unwrap_or(u32::MAX);
            DeriveError::TooFewCpus { wanted: count(wanted), usable: count(usable.len()) }
        });
    }
    let irq_places = take_evenly(&mut usable, irq_count as usize, &nodes);
    let shard_count = options.shards.map_or(usable.len(), |shards| shards as usize).max(1);
    let mut places = take_evenly(&mut usable, shard_count, &nodes);
    if options.cpus.is_none() {
        places.sort_by_key(|place| place.cpu);
    }
    let shards: Vec<Shard> = places
        .iter()
        .zip(0..)
        .map(|(place, id)| Shard { id, cpu: place.cpu, core: place.core, node: place.node })
        .collect();
    let servers: Vec<(CpuPlace, Option<u32>)> = match options.layout {
        Layout::Aligned => places.iter().copied().zip((0..).map(Some)).collect(),
        Layout::Split(_) => irq_places.iter().map(|place| (*place, None)).collect(),
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

/// The nodes of the cards that have a usable CPU, without repetition, in the order of the cards.
fn card_nodes(topology: &Topology, cards: &[QueueLimits]) -> Vec<u32> {
    let mut nodes = Vec::new();
    for node in cards.iter().filter_map(|card| card.node) {
        let has_cpu = topology
            .cpus
            .iter()
            .any(|place| place.node == Some(node) && !topology.quiet.contains(place.cpu));
        if has_cpu && !nodes.contains(&node) {
            nodes.push(node);
        }
    }
    nodes
}

/// How many CPUs the options need at least.
fn wanted_cpus(options: &Options) -> usize {
    let irqs = match options.layout {
        Layout::Aligned => 0,
        Layout::Split(count) => count,
    };
    irqs.saturating_add(options.shards.unwrap_or(1).max(1)) as usize
}

/// Takes `count` CPUs out, in order, and in turn from each node if the cards are on several nodes.
fn take_evenly(usable: &mut Vec<CpuPlace>, count: usize, nodes: &[u32]) -> Vec<CpuPlace> {
    (0..count.min(usable.len()))
        .map(|turn| {
            let node = nodes.get(turn % nodes.len().max(1)).copied();
            let at = usable.iter().position(|place| nodes.len() < 2 || place.node == node);
            usable.remove(at.unwrap_or(0))
        })
        .collect()
}

/// The queues of one card, distributed over the CPUs that serve interrupts, those of the card's own node if there
/// are any.
fn queue_maps(
    card: &QueueLimits,
    servers: &[(CpuPlace, Option<u32>)],
    options: &Options,
) -> Vec<QueueMap> {
    let local: Vec<_> =
        servers.iter().filter(|(place, _)| place.node == card.node).copied().collect();
    let servers = if local.is_empty() || options.cpus.is_some() { servers } else { &local };
    let count = u32::try_from(servers.len()).unwrap_or(u32::MAX);
    let most = card.queues_max.max(1);
    let is_split = options.layout != Layout::Aligned;
    let queue_count = match options.queues {
        // Queues that cannot be removed still need a CPU each, so they are dealt in turn.
        _ if card.fixed => card.queues,
        Some(wished) => wished.clamp(1, most),
        // Removing queues stops the card for a moment; having more queues than shards is not worth that.
        None if card.queues >= count && !is_split => card.queues,
        None => count.clamp(1, most),
    };
    let queue_count = if card.power_of_two && !card.fixed && queue_count != card.queues {
        1 << queue_count.ilog2()
    } else {
        queue_count
    };
    // If CPUs are named in an order, they are taken in that order; otherwise a queue that has one of them to
    // itself keeps it.
    let known = if options.cpus.is_some() {
        Known { served: &[], traffic: &[] }
    } else {
        Known { served: &card.served, traffic: &card.traffic }
    };
    deal(queue_count as usize, servers, &known)
        .into_iter()
        .zip(0..)
        .map(|((place, shard), queue)| QueueMap {
            iface: card.iface.clone(),
            queue,
            cpu: place.cpu,
            shard,
        })
        .collect()
}

/// One server for each queue. Queues stay where they are while each of them is on a server, no server has more than its
/// share of them, and their traffic is spread about as well as it could be. Otherwise they are dealt again, the busiest
/// first, each to the server with the least to do, and among equals to the one where it is.
fn deal(
    queues: usize,
    servers: &[(CpuPlace, Option<u32>)],
    card: &Known<'_>,
) -> Vec<(CpuPlace, Option<u32>)> {
    let share = queues.div_ceil(servers.len().max(1));
    let weight = |queue: usize| card.traffic.get(queue).copied().unwrap_or(0);
    let now = |queue: usize| {
        let cpu = card.served.get(queue).copied().flatten();
        servers.iter().position(|(place, _)| Some(place.cpu) == cpu)
    };
    let mut order: Vec<usize> = (0..queues).collect();
    order.sort_by_key(|queue| std::cmp::Reverse(weight(*queue)));
    let mut load = vec![(0_u64, 0_usize); servers.len()];
    let mut dealt = vec![None; queues];
    for queue in order {
        let best = (0..servers.len())
            .filter(|at| load[*at].1 < share)
            .min_by_key(|at| (load[*at], now(queue) != Some(*at)));
        if let Some(at) = best {
            load[at] = (load[at].0.saturating_add(weight(queue)), load[at].1 + 1);
            dealt[queue] = Some(at);
        }
    }
    let kept: Option<Vec<usize>> = (0..queues).map(now).collect();
    if let Some(kept) = kept {
        let mut load_now = vec![(0_u64, 0_usize); servers.len()];
        for (queue, at) in kept.iter().enumerate() {
            load_now[*at] = (load_now[*at].0.saturating_add(weight(queue)), load_now[*at].1 + 1);
        }
        let most =
            |load: &[(u64, usize)]| load.iter().map(|(weight, _)| *weight).max().unwrap_or(0);
        let is_fair = load_now.iter().all(|(_, count)| *count <= share);
        if is_fair && most(&load_now) / 5 <= most(&load) / 4 {
            return kept.into_iter().map(|at| servers[at]).collect();
        }
    }
    dealt.into_iter().flatten().map(|at| servers[at]).collect()
}

/// What is known about a card's queues now.
struct Known<'c> {
    served: &'c [Option<u32>],
    traffic: &'c [u64],
}

/// The CPUs to place on: as named, or on the cards' nodes, one of each physical core, the fast ones.
fn usable_cpus(
    topology: &Topology,
    nodes: &[u32],
    options: &Options,
) -> Result<Vec<CpuPlace>, DeriveError> {
    if let Some(named) = &options.cpus {
        // CPUs named by hand are taken as they are: node, SMT siblings and isolation do not change that choice.
        let all: CpuSet = topology.cpus.iter().map(|place| place.cpu).collect();
        let foreign = named.set().minus(&all);
        if !foreign.is_empty() {
            return Err(DeriveError::NotUsable { named: foreign, usable: all });
        }
        return Ok(named.0.iter().filter_map(|cpu| topology.place(*cpu)).copied().collect());
    }
    let mut usable: Vec<CpuPlace> =
        topology.cpus.iter().filter(|place| !topology.quiet.contains(place.cpu)).copied().collect();
    if !options.smt {
        let mut first_of_core = BTreeMap::new();
        for place in &usable {
            first_of_core.entry(place.core).or_insert(place.cpu);
        }
        usable.retain(|place| first_of_core.get(&place.core) == Some(&place.cpu));
    }
    let wanted = wanted_cpus(options);
    let is_slow = |place: &CpuPlace| topology.slow.contains(place.cpu);
    let is_remote = |place: &CpuPlace| {
        !nodes.is_empty() && place.node.is_none_or(|node| !nodes.contains(&node))
    };
    // Narrow the choice only where enough CPUs are left; otherwise the worse ones come last, and the first shards get
    // the better CPUs.
    for is_worse in [&is_remote as &dyn Fn(&CpuPlace) -> bool, &is_slow] {
        let better: Vec<CpuPlace> =
            usable.iter().filter(|place| !is_worse(place)).copied().collect();
        if better.len() >= wanted {
            usable = better;
        } else {
            usable.sort_by_key(|place| is_worse(place));
        }
    }
    Ok(usable)
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
            ..Topology::default()
        }
    }

    fn card(node: Option<u32>, queues_max: u32) -> QueueLimits {
        QueueLimits {
            iface: format!("eth{}", node.unwrap_or(9)),
            node,
            queues: 1,
            queues_max,
            fixed: false,
            power_of_two: false,
            served: Vec::new(),
            traffic: Vec::new(),
        }
    }

    fn cpus(placement: &Placement) -> Vec<u32> {
        placement.shards.iter().map(|shard| shard.cpu).collect()
    }

    #[test]
    fn shards_take_the_cores_of_the_card_s_node_without_siblings() {
        let placement = derive(&two_nodes(), &[card(Some(1), 63)], &Options::default()).unwrap();
        assert_eq!(placement.shard_cpus().to_string(), "4-7");
        assert_eq!(placement.queue_cpu("eth1", 2), Some(6));
        assert_eq!(placement.queue_cpu("eth1", 4), None);
    }

    #[test]
    fn each_card_is_served_on_its_own_node() {
        let cards = [card(Some(0), 8), card(Some(1), 8)];
        let placement = derive(&two_nodes(), &cards, &Options::default()).unwrap();
        assert_eq!(placement.shard_cpus().to_string(), "0-7");
        assert_eq!(placement.queue_cpu("eth1", 0), Some(4));
        // Fewer shards than cores are taken from both nodes.
        let options = Options { shards: Some(4), ..Options::default() };
        assert_eq!(cpus(&derive(&two_nodes(), &cards, &options).unwrap()), [0, 1, 4, 5]);
        let options = Options { layout: Layout::Split(2), ..Options::default() };
        let placement = derive(&two_nodes(), &cards, &options).unwrap();
        assert_eq!(
            (placement.irq_cpus.to_string().as_str(), placement.queue_cpu("eth1", 0)),
            ("0,4", Some(4))
        );
    }

    #[test]
    fn a_node_without_usable_cpus_is_no_node_to_place_on() {
        let mut topology = two_nodes();
        topology.cpus.retain(|place| place.node == Some(1));
        let placement = derive(&topology, &[card(Some(0), 8)], &Options::default()).unwrap();
        assert_eq!(placement.shard_cpus().to_string(), "4-7");
    }

    #[test]
    fn isolated_and_slow_cpus_are_for_those_who_name_them() {
        let mut topology = two_nodes();
        topology.quiet = "0-1,8-9".parse().unwrap();
        topology.slow = "2,10".parse().unwrap();
        let placement = derive(&topology, &[card(Some(0), 8)], &Options::default()).unwrap();
        assert_eq!(placement.shard_cpus().to_string(), "3");
        let options = Options { shards: Some(2), ..Options::default() };
        assert_eq!(
            derive(&topology, &[card(Some(0), 8)], &options).unwrap().shard_cpus().to_string(),
            "2-3"
        );
        let named =
            |cpus: &str| Options { cpus: Some(cpus.parse().unwrap()), ..Options::default() };
        let placement = derive(&topology, &[card(Some(0), 8)], &named("9,0-1")).unwrap();
        assert_eq!(cpus(&placement), [9, 0, 1]);
        assert_eq!(placement.queue_cpu("eth0", 0), Some(9));
        let error = derive(&topology, &[], &named("3,99")).unwrap_err();
        assert!(error.to_string().contains("CPUs 99 are offline"), "{error}");
    }

    #[test]
    fn siblings_are_left_out_before_they_are_counted() {
        for shards in 1..=8 {
            let options = Options { shards: Some(shards), ..Options::default() };
            let placement = derive(&two_nodes(), &[card(Some(1), 63)], &options).unwrap();
            assert_eq!(placement.shards.len(), shards as usize);
            assert!(placement.shards.iter().all(|shard| shard.cpu < 8), "{shards}: a sibling");
        }
    }

    #[test]
    fn queues_that_are_rightly_placed_stay() {
        let mut card = card(Some(1), 63);
        (card.queues, card.served) = (4, vec![Some(7), Some(6), Some(6), Some(0)]);
        let placement = derive(&two_nodes(), &[card.clone()], &Options::default()).unwrap();
        let queues: Vec<u32> = placement.queues.iter().map(|map| map.cpu).collect();
        assert_eq!(queues, [7, 6, 4, 5]);
        // Two busy queues on one CPU are separated although each CPU has its share of queues; then they stay
        // separated.
        (card.queues, card.queues_max) = (8, 8);
        card.served = [4, 4, 5, 5, 6, 6, 7, 7].map(Some).to_vec();
        card.traffic = vec![900, 900, 1, 1, 1, 1, 1, 1];
        let cpu = |placement: &Placement, queue| placement.queue_cpu("eth1", queue);
        let placement = derive(&two_nodes(), &[card.clone()], &Options::default()).unwrap();
        assert_ne!(cpu(&placement, 0), cpu(&placement, 1));
        card.served = placement.queues.iter().map(|map| Some(map.cpu)).collect();
        assert_eq!(derive(&two_nodes(), &[card.clone()], &Options::default()).unwrap(), placement);
        (card.queues, card.queues_max) = (4, 63);
        card.traffic.clear();
        // More queues than shards are dealt in turn, and no queue is removed.
        card.queues = 6;
        let placement = derive(&two_nodes(), &[card], &Options::default()).unwrap();
        assert_eq!(placement.queues.len(), 6);
    }

    #[test]
    fn a_card_that_spreads_over_powers_of_two_gets_one() {
        let mut card = card(None, 63);
        (card.queues, card.power_of_two) = (2, true);
        let options = Options { shards: Some(7), ..Options::default() };
        assert_eq!(derive(&two_nodes(), &[card], &options).unwrap().queues.len(), 4);
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
        for number in ["8192", "4294967295"] {
            let far = text.replacen("cpu = 3", &format!("cpu = {number}"), 2);
            let error = Placement::from_toml(&far).unwrap_err().to_string();
            assert!(error.contains(&format!("there is no CPU {number}")), "{error}");
        }
        assert!(Placement::from_toml(&text.replacen("schema = 1", "schema = 9", 1)).is_err());
        assert!(Placement::from_toml("shard = 3").is_err());
    }
}
