//! What clients do, without sockets and without a clock.

#[cfg(any(feature = "tokio", feature = "sim"))]
pub(crate) mod channel;
pub mod session;
