//! What code on a shard's thread can reach.

pub(crate) mod account;
pub(crate) mod clock;
pub(crate) mod context;
pub(crate) mod counters;
pub(crate) mod sleep;
mod sleepers;
mod task_table;
pub(crate) mod tasks;
pub(crate) mod timers;
pub(crate) mod wakes;
