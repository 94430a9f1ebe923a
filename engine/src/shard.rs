//! What code on a shard's thread can reach.
//!
//! `context.rs` is where handlers, channels and the driver meet; `wakes.rs` has what was woken, and `tasks.rs` the
//! shard's own tasks. `sleep.rs`, `sleepers.rs` and `timers.rs` are its timers, `clock.rs` its clock, `chance.rs` its
//! seeds, `counters.rs` what others may read, `account.rs` what the shard holds, `affinity.rs` which CPUs threads inherit,
//! `helpers.rs` where threads that are no shards run, and `arrivals.rs` on which CPUs connections arrive.
//! `polls.rs` is where polls of handlers and tasks are measured: for `holds.rs`, which knows who keeps the shard from turning, with
//! `thread_time.rs`; for `costs.rs`, the CPU time of each method; and for `class_queues.rs`, whose turn it is. `due.rs` lets long loops yield, and `offload.rs` is the way to the threads of `workers/`.
//!
//! Everything here belongs to one thread. Other threads reach it only through the doorbell (`net/doorbell.rs`).

pub(crate) mod account;
pub(crate) mod affinity;
pub(crate) mod arrivals;
pub(crate) mod chance;
pub(crate) mod class_queues;
pub(crate) mod clock;
pub(crate) mod context;
pub(crate) mod costs;
pub(crate) mod counter;
pub(crate) mod counters;
pub(crate) mod drain_sign;
pub(crate) mod due;
pub(crate) mod errand;
pub(crate) mod handover;
pub(crate) mod handovers;
pub(crate) mod helpers;
pub(crate) mod holds;
pub(crate) mod mesh;
pub(crate) mod offload;
pub(crate) mod on;
pub(crate) mod phase;
pub(crate) mod polls;
pub(crate) mod sharded;
pub(crate) mod sleep;
mod sleepers;
mod task_table;
pub(crate) mod tasks;
pub(crate) mod thread_time;
mod timed_poll;
pub(crate) mod timers;
pub(crate) mod values;
pub(crate) mod waker_place;
pub(crate) mod wakes;
