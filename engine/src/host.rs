//! A process: its shards, and who watches over them.

#[cfg(feature = "shard")]
pub(crate) mod client_thread;
pub(crate) mod error;
#[cfg(feature = "shard")]
pub(crate) mod placement;
#[cfg(feature = "shard")]
pub(crate) mod preflight;
#[cfg(feature = "shard")]
pub(crate) mod server;
#[cfg(feature = "shard")]
pub(crate) mod signals;
#[cfg(feature = "shard")]
pub(crate) mod supervisor;
#[allow(unsafe_code, reason = "one call of the C library that takes no memory; proof in place")]
#[cfg(feature = "shard")]
pub(crate) mod trim;
