//! One connection and its turn, on either side.

#[cfg(feature = "shard")]
pub(crate) mod client;
#[cfg(feature = "shard")]
pub(crate) mod dial;
#[cfg(feature = "shard")]
pub(crate) mod run_queue;
#[cfg(feature = "shard")]
pub(crate) mod server;
#[cfg(feature = "shard")]
pub(crate) mod turn;
