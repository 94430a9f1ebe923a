//! A process: its shards, and what watches over them.
//!
//! # Threads
//!
//! | name | how many | what it does |
//! |---|---|---|
//! | `corewire-0`, `corewire-1`, … | one for each shard | everything |
//! | `corewire-watch` | 1 | learns of ends and of the drain; looks at heartbeats every second |
//! | `corewire-signal` | 1, in `run` and with `drain_on_signal` | waits for SIGTERM and SIGINT |
//! | `corewire-client` | one for each `ClientThread` | drives the connections of other threads' calls |
//! | main | | makes listeners, waits |
//!
//! Clients have short threads for names and connects (`corewire-names`, `corewire-dial`, `corewire-connect`), and
//! tokio channels one per process for deadlines (`corewire-late`).
//!
//! Other threads reach a shard only through the doorbell: an eventfd in the epoll set, and a queue. A server's
//! calls never pass there; those that a client thread makes for others do.
//!
//! # When something fails
//!
//! - **A shard's thread dies** (an error of epoll, a panic in the engine). Its connections close with it. The
//!   supervisor shuts its listeners down and logs an error, and the other shards go on; `Ended::shards_lost` counts
//!   it. The shard is not started again: restart the process.
//! - **A shard stops turning** for 5 s (`stall_after`): a handler or a task blocks the thread. One that sleeps is
//!   asked for a turn after half of that. Its listeners are taken out of service, so that new clients do not hang
//!   there, and put back when it turns again.
//!
//! # Drain
//!
//! SIGTERM, SIGINT or `Running::stop`: clients that wait to be accepted are taken (a bounded number), the listener
//! closes, and each connection gets a go-away (see `conn.rs`). What is left at the deadline (30 s) is stopped. A
//! shard that does not end 2 s after the deadline is given up. A second signal ends the process at once.

pub(crate) mod choice;
pub(crate) mod client_thread;
pub(crate) mod events;
pub(crate) mod placement;
pub(crate) mod preflight;
pub(crate) mod server;
pub(crate) mod signals;
pub(crate) mod supervisor;
#[allow(unsafe_code, reason = "one call of the C library that takes no memory; proof in place")]
pub(crate) mod trim;
