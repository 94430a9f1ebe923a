//! What the checks share.

use crate::snapshot::{Rate, Snapshot};
use corewire_placement::Placement;

use super::finding::{Finding, Severity};

/// What a check sees, and where it puts what it finds.
pub(super) struct Case<'s> {
    pub(super) snapshot: &'s Snapshot,
    /// The placement to judge against.
    pub(super) placement: Option<&'s Placement>,
    /// Whether the operator gave that placement. A derived one is only a proposal, and differing from it is no fault.
    pub(super) is_given: bool,
    pub(super) rate: Option<Rate<'s>>,
    pub(super) findings: Vec<Finding>,
}

impl Case<'_> {
    /// A fault where a placement was given, advice where it is only derived.
    pub(super) fn if_given(&self) -> Severity {
        if self.is_given { Severity::Fault } else { Severity::Advice }
    }

    pub(super) fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }
}
