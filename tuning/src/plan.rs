//! From a snapshot and wishes to ordered steps. Pure: nothing is read or written here.

mod setting;
mod shell;
mod steps;
mod text;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

pub use setting::Setting;
pub use shell::script;
pub use text::plan_text;

use serde::{Deserialize, Serialize};

use crate::doctor;
use crate::placement::{self, DeriveError, Placement};
use crate::snapshot::Snapshot;

/// The version of the plan file's form.
const PLAN_VERSION: u32 = 1;

/// What a plan may touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// The number of queues.
    Queues,
    /// The size of receive rings.
    Ring,
    /// Interrupt moderation.
    Coalesce,
    /// Interrupt affinity.
    Irq,
    /// Receive packet steering.
    Rps,
    /// Transmit packet steering.
    Xps,
    /// Single values under `/proc/sys`.
    Sysctl,
    /// The CPUs' governor.
    Power,
    /// Offloads that are off.
    Offload,
    /// The ban in irqbalance's configuration.
    Irqbalance,
}

impl Topic {
    const NAMES: [(&'static str, Self); 10] = [
        ("queues", Self::Queues),
        ("ring", Self::Ring),
        ("coalesce", Self::Coalesce),
        ("irq", Self::Irq),
        ("rps", Self::Rps),
        ("xps", Self::Xps),
        ("sysctl", Self::Sysctl),
        ("power", Self::Power),
        ("offload", Self::Offload),
        ("irqbalance", Self::Irqbalance),
    ];
}

impl FromStr for Topic {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::NAMES.iter().find(|(name, _)| *name == text).map(|(_, topic)| *topic).ok_or_else(
            || {
                let names: Vec<&str> = Self::NAMES.iter().map(|(name, _)| *name).collect();
                format!("`{text}` is none of {}", names.join(", "))
            },
        )
    }
}

/// What the host is tuned for, where one choice helps one side and hurts the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Short answers: small fixed interrupt delay, full clock.
    Latency,
    /// Many bytes: the driver chooses the interrupt delay.
    Throughput,
}

impl FromStr for Goal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "latency" => Ok(Self::Latency),
            "throughput" => Ok(Self::Throughput),
            _ => Err(format!("`{text}` is neither `latency` nor `throughput`")),
        }
    }
}

/// The operator's wishes.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    /// How to place shards, where no placement is given.
    pub derive: placement::Options,
    /// Whether the operator named the interfaces. Without that there must be one card, or one bond.
    pub is_named: bool,
    /// The placement to reach.
    pub given: Option<Placement>,
    /// Only these topics; all where empty.
    pub only: BTreeSet<Topic>,
    /// Steps that favour one side are planned only with a goal.
    pub goal: Option<Goal>,
    /// Switch RPS on for cards with fewer queues than shards, without waiting for evidence.
    pub rps: bool,
}

impl PlanOptions {
    fn wants(&self, topic: Topic) -> bool {
        self.only.is_empty() || self.only.contains(&topic)
    }

    fn names(&self, topic: Topic) -> bool {
        self.only.contains(&topic)
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The finding that gives the reason.
    pub finding: String,
    /// What is changed.
    pub setting: Setting,
    /// Its value now; `None` for queues that an earlier step of the plan makes anew.
    pub old: Option<String>,
    /// Its value afterwards.
    pub new: String,
    /// Why, in a line.
    pub why: String,
    /// What it disturbs: `no`, `queue-reset` or `restart`.
    pub disturbs: String,
    /// Whether the plan goes on when the kernel refuses it, as it does for interrupts that it manages itself.
    #[serde(default)]
    pub may_refuse: bool,
}

/// A setting that a change of channels destroys, and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// What is kept.
    pub setting: Setting,
    /// Its value.
    pub old: String,
}

/// Ordered steps, and the placement that they lead to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The version of the file's form.
    pub version: u32,
    /// The boot that it was made in; in another one it is void.
    pub boot_id: String,
    /// The kernel's release.
    #[serde(default)]
    pub kernel: String,
    /// The cards that it is for, each in a line.
    #[serde(default)]
    pub cards: Vec<String>,
    /// The steps, in the order in which they must be done.
    pub steps: Vec<Step>,
    /// What must be put back after the number of channels is.
    pub kept: Vec<Kept>,
    /// What was left out, and why.
    pub left_out: Vec<String>,
    /// Whether irqbalance was told to leave all interrupts of the plan alone.
    #[serde(default)]
    pub irqbalance_is_banned: bool,
    /// The placement that the engine should use.
    pub placement: Placement,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanError {
    /// No placement follows from the facts and wishes.
    Placement(DeriveError),
    /// The given placement does not fit this machine.
    Misfit(String),
    /// No card to plan for.
    NoCard,
    /// Several cards that are no parts of one bond: which one is the engine's?
    SeveralCards(Vec<String>),
    /// A plan file that is not one.
    Form(String),
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Placement(error) => write!(f, "no placement: {error}"),
            Self::Misfit(why) => write!(f, "the placement does not fit this machine: {why}"),
            Self::NoCard => f.write_str(
                "no network card was selected, so there is nothing to plan; name one with --iface",
            ),
            Self::SeveralCards(cards) => write!(
                f,
                "several cards are up; name the engine's with --iface (it may be repeated):\n  {}",
                cards.join("\n  ")
            ),
            Self::Form(why) => write!(f, "not a plan: {why}"),
        }
    }
}

impl std::error::Error for PlanError {}

impl Plan {
    /// Reads a plan file.
    ///
    /// # Errors
    ///
    /// When it is not JSON of this form and version.
    pub fn from_json(text: &str) -> Result<Self, PlanError> {
        let plan: Self =
            serde_json::from_str(text).map_err(|error| PlanError::Form(error.to_string()))?;
        if plan.version == PLAN_VERSION {
            Ok(plan)
        } else {
            Err(PlanError::Form(format!("version {} is not {PLAN_VERSION}", plan.version)))
        }
    }

    /// Writes the plan file.
    ///
    /// # Errors
    ///
    /// Never for a plan made by [`make`].
    pub fn to_json(&self) -> Result<String, PlanError> {
        serde_json::to_string_pretty(self).map_err(|error| PlanError::Form(error.to_string()))
    }
}

/// Makes the plan.
///
/// # Errors
///
/// When no placement follows, or the given one uses CPUs that this machine does not have.
pub fn make(snapshot: &Snapshot, options: &PlanOptions) -> Result<Plan, PlanError> {
    if snapshot.cards().next().is_none() {
        return Err(PlanError::NoCard);
    }
    if !options.is_named {
        let cards: Vec<_> = snapshot.cards().collect();
        let is_one = cards
            .windows(2)
            .all(|pair| pair[0].master.is_some() && pair[0].master == pair[1].master);
        if !is_one && options.given.is_none() {
            return Err(PlanError::SeveralCards(
                cards.into_iter().map(doctor::card_line).collect(),
            ));
        }
    }
    let placement = match &options.given {
        Some(given) => {
            if let Some(why) = snapshot.misfit(given) {
                return Err(PlanError::Misfit(why));
            }
            given.clone()
        }
        None => {
            let mut limits = snapshot.queue_limits();
            if options.derive.queues.is_some() {
                // A number of queues that is asked for also holds for cards that would otherwise be left as they are.
                for (limit, nic) in limits.iter_mut().zip(snapshot.cards()) {
                    if let Some((_, _, max)) = nic.channels() {
                        limit.queues_max = max.min(nic.hash_limit().unwrap_or(max));
                        limit.fixed = false;
                    }
                }
            }
            placement::derive(&snapshot.topology(), &limits, &options.derive)
                .map_err(PlanError::Placement)?
        }
    };
    let report = doctor::diagnose(snapshot, options.given.as_ref());
    let mut builder = steps::Builder::new(snapshot, options, &placement, &report);
    builder.build();
    let steps::Builder { steps, kept, left_out, .. } = builder;
    Ok(Plan {
        version: PLAN_VERSION,
        boot_id: snapshot.boot_id.clone(),
        kernel: snapshot.kernel.clone(),
        cards: snapshot.cards().map(doctor::card_line).collect(),
        steps,
        kept,
        left_out,
        irqbalance_is_banned: snapshot.fought().is_empty(),
        placement,
    })
}
