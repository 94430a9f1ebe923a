//! `placement.toml`: the contract between the tool and the engine.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cpu_set::{CPU_NUMBER_MAX, CpuSet};
use crate::layout::Layout;

/// The version of the file's form. A reader refuses any other.
const SCHEMA: u32 = 1;

/// Where every shard runs, and which queues and interrupts serve it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placement {
    /// The version of the file's form; 1.
    pub schema: u32,
    /// Program and version that wrote the file.
    pub created_by: String,
    /// How queues and shards share CPUs.
    pub layout: Layout,
    /// The CPUs on which the cards' interrupts are served. In the aligned layout these are shards' own CPUs.
    pub irq_cpus: CpuSet,
    /// A short digest of CPUs, cores and nodes at the time of writing: on a machine with another digest the file is stale.
    pub topology: String,
    /// The shards in order of their number, which starts at 0 and has no holes.
    #[serde(rename = "shard")]
    pub shards: Vec<Shard>,
    /// The queues of every card.
    #[serde(rename = "queue", default, skip_serializing_if = "Vec::is_empty")]
    pub queues: Vec<QueueMap>,
}

/// One shard: one pinned executor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// The shard's number, from 0.
    pub id: u32,
    /// The CPU that the shard is pinned to.
    pub cpu: u32,
    /// The physical core of that CPU, named by its lowest CPU.
    pub core: u32,
    /// The NUMA node of that CPU; absent when the host does not report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<u32>,
}

/// One queue pair of one card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueMap {
    /// The interface.
    pub iface: String,
    /// The queue's number, the same for receive and transmit.
    pub queue: u32,
    /// The CPU that should serve its interrupt.
    pub cpu: u32,
    /// The shard on that CPU; absent in the split layout, where interrupts have their own CPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<u32>,
}

/// Why a placement file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlacementError {
    /// Not TOML, or not of this form.
    Form(String),
    /// Well-formed, but it contradicts itself.
    Content(String),
}

impl fmt::Display for PlacementError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form(why) => write!(f, "not a placement file: {why}"),
            Self::Content(why) => write!(f, "the placement contradicts itself: {why}"),
        }
    }
}

impl std::error::Error for PlacementError {}

impl Placement {
    /// Reads a placement file's text and checks it.
    ///
    /// # Errors
    ///
    /// When it is not of this form, or two shards share a CPU, shard numbers have holes, or a queue names a shard that
    /// does not exist or runs elsewhere.
    pub fn from_toml(text: &str) -> Result<Self, PlacementError> {
        let placement: Self =
            toml::from_str(text).map_err(|error| PlacementError::Form(error.to_string()))?;
        placement.check()?;
        Ok(placement)
    }

    /// Writes the placement as TOML.
    ///
    /// # Errors
    ///
    /// Never for a placement made by [`derive()`](crate::derive()); otherwise the serializer's error.
    pub fn to_toml(&self) -> Result<String, PlacementError> {
        toml::to_string(self).map_err(|error| PlacementError::Form(error.to_string()))
    }

    /// The CPUs of all shards.
    #[must_use]
    pub fn shard_cpus(&self) -> CpuSet {
        self.shards.iter().map(|shard| shard.cpu).collect()
    }

    /// Every CPU that takes part: shards and interrupts.
    #[must_use]
    pub fn all_cpus(&self) -> CpuSet {
        self.shard_cpus().or(&self.irq_cpus)
    }

    /// The CPU that serves this queue of this interface, if the placement names it.
    #[must_use]
    pub fn queue_cpu(&self, iface: &str, queue: u32) -> Option<u32> {
        self.queues.iter().find(|map| map.iface == iface && map.queue == queue).map(|map| map.cpu)
    }

    /// The shards that a card of this node should feed: those of its node, or all where the node has none or is not
    /// known.
    #[must_use]
    pub fn fed_from(&self, node: Option<u32>) -> Vec<&Shard> {
        let local: Vec<&Shard> =
            self.shards.iter().filter(|shard| node.is_some() && shard.node == node).collect();
        if local.is_empty() { self.shards.iter().collect() } else { local }
    }

    /// The CPUs that send through each transmit queue of an interface: a shard with its own queue sends through that
    /// one, the others are distributed over the queues. In the split layout all are distributed, and the CPU that
    /// serves the queue sends through it, too.
    #[must_use]
    pub fn senders(&self, iface: &str) -> BTreeMap<u32, CpuSet> {
        let maps: Vec<&QueueMap> = self.queues.iter().filter(|map| map.iface == iface).collect();
        let mut senders: BTreeMap<u32, CpuSet> =
            maps.iter().map(|map| (map.queue, CpuSet::single(map.cpu))).collect();
        let others = self.shards.iter().filter(|shard| maps.iter().all(|map| map.cpu != shard.cpu));
        for (shard, map) in others.zip(maps.iter().cycle()) {
            senders.entry(map.queue).or_default().insert(shard.cpu);
        }
        senders
    }

    /// Checks the form and the consistency.
    pub(super) fn check(&self) -> Result<(), PlacementError> {
        let fail = |why: String| Err(PlacementError::Content(why));
        if self.schema != SCHEMA {
            return fail(format!("schema {} is not {SCHEMA}", self.schema));
        }
        if self.shards.is_empty() {
            return fail("there is no shard".to_owned());
        }
        let queues = self.queues.iter().map(|map| map.cpu);
        let mut cpus = self.shards.iter().flat_map(|shard| [shard.cpu, shard.core]).chain(queues);
        if let Some(cpu) = cpus.find(|cpu| *cpu >= CPU_NUMBER_MAX) {
            return fail(format!("there is no CPU {cpu}: the numbers end before {CPU_NUMBER_MAX}"));
        }
        if self.shard_cpus().len() != self.shards.len() {
            return fail("two shards share a CPU".to_owned());
        }
        for (index, shard) in self.shards.iter().enumerate() {
            if usize::try_from(shard.id) != Ok(index) {
                return fail(format!("shard {} stands where shard {index} should", shard.id));
            }
        }
        for map in &self.queues {
            let Some(id) = map.shard else { continue };
            match self.shards.iter().find(|shard| shard.id == id) {
                None => {
                    return fail(format!(
                        "queue {} of {} names shard {id}, which does not exist",
                        map.queue, map.iface
                    ));
                }
                Some(shard) if shard.cpu != map.cpu => {
                    return fail(format!(
                        "queue {} of {} is on CPU {} but its shard {id} is on CPU {}",
                        map.queue, map.iface, map.cpu, shard.cpu
                    ));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// The version that new files carry.
    pub(super) fn schema() -> u32 {
        SCHEMA
    }
}
