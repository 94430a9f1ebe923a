//! A process: its shards, and what watches over them.
//!
//! # Threads
//!
//! | name | how many | what it does |
//! |---|---|---|
//! | `corewire-0`, `corewire-1`, … | one for each shard | everything |
//! | `corewire-watch` | 1 | learns of ends and of the drain; looks at heartbeats every second |
//! | `corewire-signal` | 1, in `run` and with `drain_on_signal` | waits for SIGTERM and SIGINT |
//! | `corewire-work` | as many as slow work needs, up to `offload_threads` | blocking methods and offloaded closures (`workers/pool.rs`); end after 10 s without work |
//! | `corewire-client` | one for each `ClientThread` | drives the connections of other threads' calls |
//! | main | | makes listeners, waits |
//!
//! All but the shards and main keep to CPUs without a shard, where the placement leaves any (`shard/helpers.rs`).
//!
//! Clients have short threads for names and connects (`corewire-names`, `corewire-dial`, `corewire-connect`), and
//! tokio channels one per process for deadlines (`corewire-late`).
//!
//! Connections go from shard to shard through the mesh (`shard/handover.rs`), never while a call is in flight.
//!
//! Other threads reach a shard only through the doorbell: an eventfd in the epoll set, and a queue. A server's
//! calls never pass there; those that a client thread makes for others do.
//!
//! # When something fails
//!
//! - **A shard's thread dies** (an error of epoll, a panic in the engine). Its connections close with it. The
//!   supervisor shuts its listeners down and logs an error, and the other shards go on; `Ended::shards_lost` counts
//!   it, and the hook `on_shard_lost` is called. The shard is not started again: restart the process.
//! - **A handler or a task holds its shard** for 25 ms (`warn_held_after`): the shard itself notices when it turns again,
//!   and names it (`shard/holds.rs`).
//! - **A shard stops turning** for 5 s (`stall_after`): a handler or a task blocks the thread. One that sleeps is
//!   asked for a turn after half of that. Its listeners are taken out of service, so that new clients do not hang
//!   there, and put back when it turns again.
//!
//! # Drain
//!
//! SIGTERM, SIGINT or `Running::stop`: the server is not ready any more (`Readiness`, `shard/drain_sign.rs`), and goes on
//! for the time of its lame duck (none by default). Then clients that wait to be accepted are taken (a bounded
//! number), the listener closes, and each connection gets a go-away (see `conn.rs`). Handlers and tasks that wait for
//! the sign (`drain_begun`) are woken. What is left at the deadline (25 s) is stopped. Slow work that waits is done as long as its call
//! lives. A shard that does not end 2 s after the deadline is given up. A second signal ends the process at once.
//!
//! `running.rs` has the handle. Nothing there blocks a thread that drives connections: `wait` is refused, and a drop
//! lets the drain go on in the background.

pub(crate) mod choice;
pub(crate) mod client_thread;
pub(crate) mod events;
pub(crate) mod placement;
pub(crate) mod preflight;
pub(crate) mod running;
pub(crate) mod server;
#[cfg(feature = "serde")]
mod setting_text;
pub(crate) mod signals;
pub(crate) mod steering;
pub(crate) mod supervisor;
#[allow(unsafe_code, reason = "one call of the C library that takes no memory; proof in place")]
pub(crate) mod trim;
