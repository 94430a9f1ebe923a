//! What load generators for Corewire and for its peers share: when the calls of an open loop are due, what is counted of
//! them, and how a client shard sends them.
//!
//! [`pace`] and [`open_loop`] know no sockets and no clock: time is passed in, as nanoseconds since the run began. So one
//! piece of code paces `corewire bench --rate` and the clients of other frameworks, and is tested without waiting.
//! [`shard`] drives it on a Corewire client shard.
#![forbid(unsafe_code)]

pub mod open_loop;
pub mod pace;
pub mod shard;
