//! The Corewire engine: shards, placement, listeners, and the driver that moves bytes.
//!
//! Each *shard* is a thread, pinned to a CPU, with one glommio executor, one listener in an
//! `SO_REUSEPORT` group, its own connections, and its own instance of every service. Nothing on the
//! path of a call takes a lock or touches memory that another core writes.
//!
//! What the bytes mean is decided in `corewire-proto`; what calls do, in the layer above, which
//! fills [`Dispatch`]. This crate decides *when*: who is read, how much, who is written, when to
//! sleep.
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
//! `unsafe` is allowed in one place, [`epoll`], where received bytes become initialised.
#![deny(unsafe_code)]

mod address;
mod calls;
mod channel;
mod client_conn;
mod counters;
mod dispatch;
mod doorbell;
mod driver;
#[allow(
    unsafe_code,
    reason = "bytes that the kernel wrote are declared initialised; proof in place"
)]
pub mod epoll;
mod error;
mod executor;
pub mod io;
mod listener;
mod local;
mod placement;
mod preflight;
mod recv_pool;
mod rt;
mod server;
mod server_conn;
mod shard;
#[cfg(feature = "sim")]
#[doc(hidden)]
pub mod sim;
mod sleep;
mod supervisor;
mod tasks;
mod timers;

pub use address::IntoAddress;
pub use channel::{Call, CallFailure, Channel, ChannelConfig, ConnectError, NotSent, Reply};
pub use corewire_proto::{ClientConfig, CloseReason, Timeouts};
pub use counters::{Counter, ShardCounters};
pub use dispatch::{Dispatch, Dispatched, Incoming, PendingCall, ReplySlot};
pub use doorbell::Doorbell;
pub use error::StartError;
pub use placement::{Placement, allowed_cpus, parse_cpus};
pub use server::{
    ClientShard, Ended, EngineConfig, MakeDispatch, Running, RunningShard, run_on_shard, start,
};
pub use shard::{Budgets, ShardId, ShardInfo, Spin};
pub use sleep::{Sleep, sleep};
pub use tasks::{Task, spawn};
