//! What the operator wants of a plan.

use std::collections::BTreeSet;

use clap::ValueEnum;

use corewire_placement::{self as placement, Placement};

/// What a plan may touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Topic {
    /// The number of queues.
    Queues,
    /// The size of receive rings.
    Ring,
    /// Interrupt moderation.
    Coalesce,
    /// Offloads that are off.
    Offload,
    /// Interrupt affinity.
    Irq,
    /// The ban in irqbalance's configuration.
    Irqbalance,
    /// Receive packet steering.
    Rps,
    /// Transmit packet steering.
    Xps,
    /// Single values under `/proc/sys`.
    Sysctl,
    /// The CPUs' governor.
    Power,
}

/// What the host is tuned for, where one choice helps one side and hurts the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Goal {
    /// Fast replies: small fixed interrupt delay, full clock.
    Latency,
    /// Many bytes: the driver chooses the interrupt delay.
    Throughput,
}

/// What the operator wants of a plan.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    /// How to place shards, if no placement is given.
    pub derive: placement::Options,
    /// Whether the operator named the interfaces. Without that there must be one card, or one bond.
    pub is_named: bool,
    /// The placement to reach.
    pub given: Option<Placement>,
    /// Only these topics; all if empty.
    pub only: BTreeSet<Topic>,
    /// Steps that favour one side are planned only with a goal.
    pub goal: Option<Goal>,
    /// Switch RPS on for cards with fewer queues than shards, without waiting for evidence.
    pub rps: bool,
}

impl PlanOptions {
    pub(super) fn wants(&self, topic: Topic) -> bool {
        self.only.is_empty() || self.only.contains(&topic)
    }

    pub(super) fn names(&self, topic: Topic) -> bool {
        self.only.contains(&topic)
    }
}
