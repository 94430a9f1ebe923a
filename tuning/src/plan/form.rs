//! The plan file.

use std::fmt;

use serde::{Deserialize, Serialize};

use corewire_placement::{DeriveError, Placement};

use super::setting::Setting;

/// The version of the plan file's form.
pub(super) const PLAN_VERSION: u32 = 1;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The finding that gives the reason.
    pub finding: String,
    /// What is changed.
    pub setting: Setting,
    /// Its value now; `None` for queues that an earlier step of the plan makes again.
    pub old: Option<String>,
    /// Its value afterwards.
    pub new: String,
    /// Why, in one line.
    pub why: String,
    /// What it disturbs: `no`, `queue-reset` or `restart`.
    pub disturbs: String,
    /// Whether the plan goes on when the kernel refuses the step, as it does for interrupts that it manages
    /// itself.
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
    /// The boot that it was made in; in any other boot it is void.
    pub boot_id: String,
    /// The kernel's release.
    #[serde(default)]
    pub kernel: String,
    /// The cards that it is for, one per line.
    #[serde(default)]
    pub cards: Vec<String>,
    /// The steps, in the order in which they must be done.
    pub steps: Vec<Step>,
    /// What must be put back after the number of channels is put back.
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
    /// The facts and options allow no placement.
    Placement(DeriveError),
    /// The given placement does not fit this machine.
    Misfit(String),
    /// There is no card to plan for.
    NoCard,
    /// Several cards that are not parts of one bond: which one is the engine's?
    SeveralCards(Vec<String>),
    /// The text is not a plan file.
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
    /// Never for a plan made by [`make`](crate::plan::make).
    pub fn to_json(&self) -> Result<String, PlanError> {
        serde_json::to_string_pretty(self).map_err(|error| PlanError::Form(error.to_string()))
    }
}
