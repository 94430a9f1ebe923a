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
//! `unsafe` is allowed in two places: `net::epoll`, where received bytes become initialised, and
//! `host::trim`, which calls the C library.
#![deny(unsafe_code)]

// Each is a room with one idea; docs/ARCHITECTURE.md lists them.
#[cfg(feature = "shard")]
mod calls;
#[cfg(feature = "shard")]
mod channel;
mod client;
#[cfg(feature = "shard")]
mod conn;
#[cfg(feature = "shard")]
mod driver;
#[cfg(feature = "shard")]
mod host;
mod identity;
#[cfg(feature = "shard")]
mod net;
#[cfg(feature = "shard")]
mod shard;
mod stream;
#[cfg(feature = "shard")]
mod testing;

#[cfg(feature = "blocking")]
pub use client::blocking;
#[cfg(any(feature = "shard", feature = "tokio"))]
pub use client::remote::{
    Closing, QueueReceiver, QueueSender, SharedChannel, SharedStreamCall, SharedStreamReader,
    SharedStreamWriter, queue,
};
#[cfg(any(feature = "shard", feature = "tokio", feature = "blocking"))]
pub use client::wait::{block_on, is_driver};
pub use client::{
    address::{Address, IntoAddress, Peer},
    config::{ChannelConfig, Reply},
    failure::{CallFailure, ConnectError, NotSent},
    resolver::Resolver,
    transport::{MethodName, Outcome, Pending, Transport},
};
pub use corewire_proto::{ClientConfig, CloseReason, StreamKind, Timeouts, TransportError};
pub use identity::{ShardId, ShardInfo, Spin};
pub use stream::{
    Closed, Message, Opening, ReadMessages, StreamFailure, StreamHandle, WriteMessages,
};

#[cfg(feature = "bench-hooks")]
#[doc(hidden)]
pub use testing::bench_hooks;
#[cfg(feature = "sim")]
#[doc(hidden)]
pub use testing::sim;
#[cfg(feature = "shard")]
pub use {
    calls::budgets::{Budgets, QueueDelay},
    calls::dispatch::{Dispatch, Dispatched, Incoming, PendingCall, ReplySlot},
    channel::{Call, Channel},
    host::client_thread::ClientThread,
    host::error::StartError,
    host::events::Ended,
    host::placement::{Placement, allowed_cpus, parse_cpus},
    host::server::{
        ClientShard, EngineConfig, MakeDispatch, Running, RunningShard, run_on_shard, start,
    },
    net::doorbell::Doorbell,
    shard::counters::{Counter, ShardCounters},
    shard::sleep::{Sleep, sleep},
    shard::tasks::{Task, spawn},
    stream::{StreamCall, StreamEnds, StreamReader, StreamWriter},
};
