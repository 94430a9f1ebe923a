//! The Corewire engine: shards, placement, listeners, and the driver that moves bytes.
//!
//! Each *shard* is a thread, pinned to a CPU, with one listener in an `SO_REUSEPORT` group, its own
//! connections, and its own instance of every service. Nothing on the path of a call takes a lock or touches memory
//! that another core writes. Its *host* ([`Host`]) is a glommio executor, or a plain thread where io_uring is forbidden
//! or locked memory is short.
//!
//! `corewire-proto` decides what the bytes mean. The layer above, which implements [`Dispatch`], decides
//! what calls do. This crate decides *when*: which connection is read, how much, which is written, when
//! to sleep.
//!
//! ```text
//!  ┌ shard 0 ─────────────────────────────┐   ┌ shard 1 …
//!  │ host: glommio, or a plain thread     │   │
//!  │  └ driver task: turn, spin, sleep    │   │
//!  │     ├ Epoll (Io): sockets, readiness │   │
//!  │     ├ ServerConn × n   proto + calls │   │
//!  │     └ ClientConn × n ◀─ Channel      │   │
//!  └──────────────────────────────────────┘   └──
//!        ▲ doorbell (eventfd + queue): drain, wakes from other threads
//! ```
//!
//! The clients that need no shard are in `corewire-client`, with what clients of every kind have in common.
//!
//! # `unsafe`
//!
//! Four blocks, each with its proof next to it. Three are in `net::epoll`: after a successful `recv` into spare
//! capacity, the buffer's length is set over the bytes that the kernel wrote; two belong to the `ioctl` that asks a
//! socket how many bytes its peer has not acknowledged. The fourth, in `host::trim`, calls `malloc_trim`. Every other
//! crate forbids `unsafe`, and so does the rest of this one. Dependencies have their own; the runtime most of all.
//!
//! # What was given up, and known limits
//!
//! - **epoll and not `io_uring` for sockets.** On the virtual machines at hand `io_uring` gained nothing; hardware may
//!   differ. The seam is `Io` (`net/io.rs`).
//! - **The kernel spreads connections, not load.** `SO_REUSEPORT` hashes addresses, and [`Steering`] follows
//!   packets. Shards with more than their share hand new
//!   connections on, and with [`Balance::Move`] idle ones, too; but one busy connection cannot use two cores, and one
//!   that always has a call in flight stays. The hello names the shard, so that a client can open another one.
//! - **Handlers are not preempted.** One that computes for 5 ms holds its shard for 5 ms. [`offload`] runs such work on
//!   threads beside the shards; a warning names a handler that holds its shard for long
//!   ([`EngineConfig::warn_held_after`]).
//! - **`speedy` has no depth limit**, and believes lengths of lists whose elements take little on the wire; see
//!   `Speedy` in `corewire-codec` for what to keep out of a service that strangers can reach.
//! - **Raw bodies keep receive buffers alive**; see `conn.rs`.
//! - **One address is one family.** A listener on `[::]` follows the system's `bindv6only`; add both addresses to be
//!   sure.
//! - **No encryption, and no authentication except what an `Authorize` layer checks.** Use it in a network that you
//!   trust.
//! - **Deadlines are found by scanning** a connection's table when the earliest passes.
#![deny(unsafe_code)]

// Each module has one purpose; docs/ARCHITECTURE.md lists them.
mod balance;
mod budgets;
mod calls;
mod channel;
mod classes;
mod conn;
mod driver;
mod error;
mod host;
mod identity;
mod net;
mod shard;
mod snapshot;
mod stream;
#[doc(hidden)]
pub mod testing;
mod workers;

pub use balance::Balance;
pub use budgets::{Budgets, QueueDelay};
pub use calls::dispatch::{Dispatch, Dispatched, Incoming, OwnedCall, PendingCall, ReplySlot};
pub use calls::extensions::Extensions;
pub use channel::{Call, Channel};
pub use classes::{ClassShares, ServiceClass};
pub use driver::executor::MadeDispatch;
pub use error::{AddressHolder, StartError};
pub use host::choice::Host;
pub use host::client_thread::ClientThread;
pub use host::events::{Ended, ShardLost, ShardLostHook};
pub use host::placement::{Placement, allowed_cpus, parse_cpus};
pub use host::running::{Ending, Readiness, Running, RunningShard, WouldBlock};
pub use host::server::{ClientShard, EngineConfig, MakeDispatch, run_on_shard, start};
pub use identity::Spin;
pub use net::doorbell::Doorbell;
pub use net::steering::Steering;
pub use shard::affinity::with_all_cpus;
pub use shard::chance::random_seed;
pub use shard::clock::now;
pub use shard::context::enter_class;
pub use shard::costs::MethodCost;
pub use shard::counter::Counter;
pub use shard::counters::{CounterKind, ShardCounters};
pub use shard::drain_sign::{DrainBegun, drain_begun, is_draining, is_ready};
pub use shard::due::{YieldIfDue, yield_if_due};
pub use shard::errand::OnShardError;
pub use shard::offload::{Offload, offload};
pub use shard::on::On;
pub use shard::sharded::Sharded;
pub use shard::sleep::{Sleep, sleep};
pub use shard::tasks::{Task, spawn};
pub use stream::{StreamCall, StreamEnds, StreamReader, StreamWriter};
pub use workers::error::OffloadError;
pub use workers::pool::OffloadCounts;
