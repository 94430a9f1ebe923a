//! Streams: which are open, and how much each may send.

pub(crate) mod credit;
pub(crate) mod schedule;
pub(crate) mod table;
