//! What is remembered of a poll from its beginning to its end; see `polls.rs`.

use std::cell::Cell;
use std::time::Instant;

/// The poll that is measured now.
#[derive(Debug, Default)]
pub(crate) struct TimedPoll {
    /// Whether anybody wants to know.
    pub(super) observed: Cell<bool>,
    pub(super) begun: Cell<Option<Instant>>,
}
