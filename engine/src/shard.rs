//! What code on a shard's thread can reach.

#[cfg(feature = "shard")]
pub(crate) mod account;
#[cfg(feature = "shard")]
pub(crate) mod context;
#[cfg(feature = "shard")]
pub(crate) mod counters;
pub(crate) mod identity;
#[cfg(feature = "shard")]
pub(crate) mod sleep;
#[cfg(feature = "shard")]
pub(crate) mod tasks;
#[cfg(feature = "shard")]
pub(crate) mod timers;
