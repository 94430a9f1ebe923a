//! What clients do, without sockets and without a clock.

#[cfg(feature = "remote")]
pub mod channel;
pub mod session;
