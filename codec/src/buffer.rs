//! Bytes that were received, and bytes that wait to be sent.

pub(crate) mod recv;
pub(crate) mod send;
