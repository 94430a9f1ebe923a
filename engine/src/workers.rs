//! Threads for what would hold a shard: work that computes for long, or blocks.
//!
//! `pool.rs` has the threads and their queue, `error.rs` says why work was not done. What handlers and tasks
//! call is `shard/offload.rs`.
//!
//! A pool belongs to whoever runs the shards: a server has one for all of its shards, and a client's shard one of its
//! own. So its settings are those of one server, and it ends with that server; nothing is shared between two servers of
//! a process but its CPUs. No thread is started before there is work.

pub(crate) mod error;
pub(crate) mod pool;
