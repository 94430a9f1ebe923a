//! Channels of callers that are on no shard, and what every kind of channel has in common.

pub(crate) mod address;
#[cfg(feature = "blocking")]
pub mod blocking;
pub(crate) mod config;
#[cfg(any(feature = "shard", feature = "tokio", feature = "blocking"))]
pub(crate) mod dial;
pub(crate) mod failure;
#[cfg(any(feature = "shard", feature = "tokio"))]
pub(crate) mod log_limit;
#[cfg(any(feature = "shard", feature = "tokio"))]
pub(crate) mod mailbox;
#[cfg(any(feature = "shard", feature = "tokio", feature = "blocking"))]
pub(crate) mod reconnect;
#[cfg(any(feature = "shard", feature = "tokio"))]
pub(crate) mod remote;
pub(crate) mod resolver;
#[cfg(any(feature = "shard", feature = "tokio", feature = "blocking"))]
pub(crate) mod self_connect;
#[cfg(any(feature = "tokio", feature = "blocking"))]
pub(crate) mod session;
#[cfg(feature = "tokio")]
pub(crate) mod tokio;
pub(crate) mod transport;
#[cfg(any(feature = "shard", feature = "tokio", feature = "blocking"))]
pub(crate) mod wait;
#[cfg(feature = "tokio")]
pub(crate) mod wait_queue;
