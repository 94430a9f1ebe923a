//! What clients do, without sockets and without a clock.

pub mod channel;
pub mod session;
