//! Calls at a server, from dispatch to their end.
//!
//! `ParkedCalls::begin` gives a call to the dispatcher of the layer above and polls its handler once, in the
//! driver's turn. A handler that pends is *parked*: its connection keeps it in its table of calls in flight, by
//! call id. Its waker pushes the call's key onto a list of the shard (`shard/wakes.rs`); from another thread it
//! rings the doorbell. The connection's next turn polls it. Nothing is spawned.
//!
//! **No allocation in steady state.** Futures live in slots that their methods keep (up to 1,024 spare ones per
//! method and shard). One waker is always in stock: a call that is ready at once borrows it, and only one that
//! pends keeps it.
//!
//! **Panics.** A panic in a handler, while it runs or while it is dropped, is caught here. Its caller gets
//! `Internal`, and the shard goes on. A panic in the engine itself is a bug; it ends the shard's thread, and the
//! supervisor says so. Builds with `panic = "abort"` give this up.
//!
//! **One-way calls** are dispatched like others, with a `ReplySlot` that takes nothing. Up to 1,024 of a connection
//! may pend; what is dropped is counted (`one_way_dropped`).
//!
//! **Handlers are not preempted.** One that computes for 5 ms holds its shard for 5 ms.

pub(crate) mod dispatch;
pub(crate) mod extensions;
pub(crate) mod forward;
mod forward_streams;
pub(crate) mod guests;
pub(crate) mod observed;
pub(crate) mod parked;
pub(crate) mod queue_delay;
