//! What clients do, without sockets and without a clock.

#[cfg(feature = "tokio")]
pub(crate) mod channel;
pub mod session;
