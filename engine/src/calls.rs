//! Calls at a server, from the router's door to their end.

#[cfg(feature = "shard")]
pub(crate) mod budgets;
#[cfg(feature = "shard")]
pub(crate) mod dispatch;
#[cfg(feature = "shard")]
pub(crate) mod parked;
#[cfg(feature = "shard")]
pub(crate) mod queue_delay;
