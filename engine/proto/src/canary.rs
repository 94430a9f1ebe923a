//! Bugs to plant, one at a time, so that a checker can show that it finds them.
//!
//! They exist only in builds with the feature `canary`, and even there none is planted until
//! [`plant`] is called, on the thread that is to have it.

use std::cell::Cell;

/// A bug that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The last request that a go-away counts as taken is taken for one that will not run.
    GoAwayByOne,
    /// A call whose deadline passed gives its slot back before the server has answered.
    EarlySlot,
    /// A parked call with a sooner deadline than those before it is not timed.
    LateDeadline,
    /// A caller that is dropped between its wake and its turn keeps the turn to itself.
    LostTurn,
}

impl Bug {
    /// Every bug.
    pub const ALL: [Self; 4] =
        [Self::GoAwayByOne, Self::EarlySlot, Self::LateDeadline, Self::LostTurn];
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Plants a bug on this thread, in place of the one that was there.
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether this bug is planted on this thread.
#[must_use]
pub fn is_planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}
