//! Bytes that were received, and bytes waiting to be sent.

pub(crate) mod extras;
pub(crate) mod received;
pub(crate) mod recv;
pub(crate) mod send;
