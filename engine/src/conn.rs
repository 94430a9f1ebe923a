//! One connection and its turn, on either side.

pub(crate) mod client;
pub(crate) mod dial;
pub(crate) mod run_queue;
pub(crate) mod server;
pub(crate) mod turn;
