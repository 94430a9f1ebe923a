//! The Corewire engine: shards, placement, listeners, and the driver that moves bytes.
//!
//! Each *shard* is a thread, pinned to a CPU, with one glommio executor, one listener in an
//! `SO_REUSEPORT` group, its own connections, and its own instance of every service. Nothing on the
//! path of a call takes a lock or touches memory that another core writes.
//!
//! `corewire-proto` decides what the bytes mean. The layer above, which implements [`Dispatch`], decides
//! what calls do. This crate decides *when*: which connection is read, how much, which is written, when
//! to sleep.
//!
//! ```text
//!  ┌ shard 0 ─────────────────────────────┐   ┌ shard 1 …
//!  │ glommio executor                     │   │
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
//! `unsafe` is allowed in two places: `net::epoll`, where received bytes become initialised, and
//! `host::trim`, which calls the C library.
#![deny(unsafe_code)]

// Each module has one purpose; docs/ARCHITECTURE.md lists them.
mod budgets;
mod calls;
mod channel;
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

pub use budgets::{Budgets, QueueDelay};
pub use calls::dispatch::{Dispatch, Dispatched, Incoming, PendingCall, ReplySlot};
pub use channel::{Call, Channel};
pub use error::StartError;
pub use host::client_thread::ClientThread;
pub use host::events::Ended;
pub use host::placement::{Placement, allowed_cpus, parse_cpus};
pub use host::server::{
    ClientShard, EngineConfig, MakeDispatch, Running, RunningShard, run_on_shard, start,
};
pub use identity::Spin;
pub use net::doorbell::Doorbell;
pub use shard::counters::{Counter, ShardCounters};
pub use shard::sleep::{Sleep, sleep};
pub use shard::tasks::{Task, spawn};
pub use stream::{StreamCall, StreamEnds, StreamReader, StreamWriter};
