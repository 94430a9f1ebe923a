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
//! The clients that need no shard are features of their own, `tokio` and `blocking`; without the
//! default feature `shard` nothing here depends on glommio.
//!
//! `unsafe` is allowed in one place, [`epoll`], where received bytes become initialised.
#![deny(unsafe_code)]

mod address;
#[cfg(any(feature = "shard", feature = "tokio", feature = "blocking"))]
mod backoff;
#[cfg(feature = "blocking")]
pub mod blocking;
mod config;
#[cfg(any(feature = "shard", feature = "tokio", feature = "blocking"))]
mod dial;
mod error;
mod failure;
#[cfg(feature = "tokio")]
mod line;
#[cfg(any(feature = "shard", feature = "tokio"))]
mod mailbox;
mod resolver;
#[cfg(any(feature = "tokio", feature = "blocking"))]
mod session;
mod shard;
#[cfg(any(feature = "shard", feature = "tokio"))]
mod shared;
#[cfg(feature = "tokio")]
mod tokio_driver;
mod transport;
#[cfg(any(feature = "shard", feature = "tokio", feature = "blocking"))]
mod wait;

#[cfg(all(feature = "bench-hooks", feature = "shard"))]
#[doc(hidden)]
pub mod bench_hooks;

// What runs on glommio.
#[cfg(feature = "shard")]
mod budgets;
#[cfg(feature = "shard")]
mod calls;
#[cfg(feature = "shard")]
mod channel;
#[cfg(feature = "shard")]
mod client_conn;
#[cfg(feature = "shard")]
mod client_dial;
#[cfg(feature = "shard")]
mod client_thread;
#[cfg(feature = "shard")]
mod counters;
#[cfg(feature = "shard")]
mod dispatch;
#[cfg(feature = "shard")]
mod doorbell;
#[cfg(feature = "shard")]
mod driver;
#[allow(
    unsafe_code,
    reason = "bytes that the kernel wrote are declared initialised; proof in place"
)]
#[cfg(feature = "shard")]
pub mod epoll;
#[cfg(feature = "shard")]
mod executor;
#[cfg(feature = "shard")]
mod holdings;
#[cfg(feature = "shard")]
pub mod io;
#[cfg(feature = "shard")]
mod listener;
#[cfg(feature = "shard")]
mod local;
#[cfg(any(feature = "shard", feature = "tokio"))]
mod log_limit;
#[cfg(feature = "shard")]
mod placement;
#[cfg(feature = "shard")]
mod preflight;
#[cfg(feature = "shard")]
mod queue_delay;
#[cfg(feature = "shard")]
mod recv_pool;
#[cfg(feature = "shard")]
mod rt;
#[cfg(feature = "shard")]
mod run_queue;
#[cfg(any(feature = "shard", feature = "tokio", feature = "blocking"))]
mod self_connect;
#[cfg(feature = "shard")]
mod server;
#[cfg(feature = "shard")]
mod server_conn;
#[cfg(feature = "shard")]
mod signals;
#[cfg(feature = "sim")]
#[doc(hidden)]
pub mod sim;
#[cfg(feature = "shard")]
mod sleep;
#[cfg(feature = "shard")]
mod spin;
mod stream;
#[cfg(feature = "shard")]
mod supervisor;
#[cfg(feature = "shard")]
mod tasks;
#[cfg(feature = "shard")]
mod timers;
#[allow(unsafe_code, reason = "one call of the C library that takes no memory; proof in place")]
#[cfg(feature = "shard")]
mod trim;
#[cfg(feature = "shard")]
mod turn;

pub use address::{Address, IntoAddress, Peer};
#[cfg(feature = "shard")]
pub use budgets::{Budgets, QueueDelay};
pub use config::{ChannelConfig, Reply};
pub use corewire_proto::{ClientConfig, CloseReason, StreamKind, Timeouts, TransportError};
pub use error::StartError;
pub use failure::{CallFailure, ConnectError, NotSent};
pub use resolver::Resolver;
pub use shard::{ShardId, ShardInfo, Spin};
#[cfg(any(feature = "shard", feature = "tokio"))]
pub use shared::{
    Closing, QueueReceiver, QueueSender, SharedChannel, SharedStreamCall, SharedStreamReader,
    SharedStreamWriter, queue,
};
pub use stream::{
    Closed, Message, Opening, ReadMessages, StreamFailure, StreamHandle, WriteMessages,
};
pub use transport::{MethodName, Outcome, Pending, Transport};
#[cfg(any(feature = "shard", feature = "tokio", feature = "blocking"))]
pub use wait::{block_on, is_driver};

#[cfg(feature = "shard")]
pub use {
    channel::{Call, Channel},
    client_thread::ClientThread,
    counters::{Counter, ShardCounters},
    dispatch::{Dispatch, Dispatched, Incoming, PendingCall, ReplySlot},
    doorbell::Doorbell,
    placement::{Placement, allowed_cpus, parse_cpus},
    server::{
        ClientShard, Ended, EngineConfig, MakeDispatch, Running, RunningShard, run_on_shard, start,
    },
    sleep::{Sleep, sleep},
    stream::{StreamCall, StreamEnds, StreamReader, StreamWriter},
    tasks::{Task, spawn},
};
