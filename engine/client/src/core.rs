//! What clients do, without sockets and without a clock.

#[cfg(any(feature = "remote", feature = "blocking"))]
pub mod channel;
pub mod session;
