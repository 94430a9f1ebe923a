//! A process: its shards, and what watches over them.

pub(crate) mod client_thread;
pub(crate) mod events;
pub(crate) mod placement;
pub(crate) mod preflight;
pub(crate) mod server;
pub(crate) mod signals;
pub(crate) mod supervisor;
#[allow(unsafe_code, reason = "one call of the C library that takes no memory; proof in place")]
pub(crate) mod trim;
