//! Corewire's clients that need no shard, and what clients of every kind have in common.
//!
//! The kinds differ in what drives the connection:
//!
//! - `SharedChannel` (feature `remote`) is a handle, for any thread, on a connection that something else
//!   drives: a client thread of `corewire-engine`, or a task of tokio (feature `tokio`).
//! - [`blocking::Channel`] (feature `blocking`) is driven by its caller's own thread, on std alone.
//! - The channel of a shard is part of `corewire-engine`.
//!
//! All of them implement [`Transport`]. They share [`ChannelConfig`], the failures ([`CallFailure`],
//! [`NotSent`], [`ConnectError`]), and the traits for the ends of streams ([`ReadMessages`],
//! [`WriteMessages`], [`StreamHandle`]). `corewire-proto` decides what a connection does with bytes.
//!
//! Users link `corewire`, which re-exports what they need. The other modules are public for
//! `corewire-engine`.
//!
//! ```text
//!                         KeyValueClient<C>           services/src/client/caller.rs
//!         ┌───────────────────────┼──────────────────────────┐
//!      Channel              SharedChannel             blocking::Channel
//!  engine/src/channel.rs       remote/                   blocking/
//!   on its shard       any thread, any executor        on its thread
//!         │             │ bounded queue, bell                │
//!         │   client thread       │ tokio/, task/driver.rs   │
//!         │     a shard's driver  │ one task of tokio        │
//!         └─────────────┴─────────┴──────────────────────────┘
//!                         ClientCore         core/channel.rs
//!                         ClientConnection   corewire-proto
//! ```
//!
//! # What holds for all of them
//!
//! - **One-way calls** take no slot, and do not wait for one.
//! - **Unsent bytes.** While more than [`ChannelConfig::unsent_max`] of a connection is unsent, further calls of any
//!   kind wait in the queue. A stalled server costs its clients that much, one request, and what their own calls hold.
//!   When the socket goes on after a stall, the time left that each request states is updated.
//! - **Taken back.** A call that is given up, or whose time is over, before a byte of its request was written is taken
//!   out of the send buffer: the server never hears of it, its slot is free at once, and its caller is told that it was
//!   not sent. One that was written in part is written to its end, followed by its cancel.
//! - **Metadata.** A client sends no more of it than the server's hello accepts, because that would end the connection.
//! - **Last frames.** A write may fail while the server's last frames lie unread in the socket. They are read before
//!   the connection is given up: the go-away says which calls were not run.
//! - **A server that goes away.** Callers of what it refused learn that it was not run. Calls in flight are finished.
//!   What a kind of channel does meanwhile is in its own page.
//! - **Closing.** `close` sends a go-away, fails what was not sent as [`NotSent::Closed`], and ends when the calls in
//!   flight have. Dropping the last handle tells the server the same and waits for nobody. A server counts neither as
//!   a fault.
//! - **No retries.** A channel does not make a refused call again: the code that writes a request runs once, so a retry
//!   would need a copy of every request, kept until its reply.
//!
//! What a caller is told when a call fails: `failure.rs`.
#![forbid(unsafe_code)]

pub mod address;
#[cfg(feature = "blocking")]
pub mod blocking;
pub mod config;
pub mod core;
pub mod dial;
pub mod failure;
pub mod log_limit;
pub mod panics;
pub mod reconnect;
#[cfg(feature = "remote")]
pub mod remote;
pub mod resolver;
pub mod self_connect;
pub mod streams;
#[cfg(any(feature = "tokio", feature = "sim"))]
mod task;
#[cfg(feature = "sim")]
#[doc(hidden)]
pub mod testing;
#[cfg(feature = "tokio")]
mod tokio;
pub mod transport;
pub mod wait;

#[cfg(feature = "tokio")]
#[doc(hidden)]
pub use self::tokio::TokioOpener;
pub use address::{Address, IntoAddress, Peer};
pub use config::{ChannelConfig, Reply};
pub use failure::{CallFailure, ConnectError, NotSent};
#[cfg(feature = "remote")]
pub use remote::{
    Closing, QueueReceiver, QueueSender, SharedChannel, SharedStreamCall, SharedStreamReader,
    SharedStreamWriter, queue,
};
pub use resolver::Resolver;
pub use streams::{
    Closed, Message, Opened, Opening, ReadMessages, StreamFailure, StreamHandle, WriteMessages,
};
#[cfg(feature = "tokio")]
pub use tokio::bridge::{OnTokio, OnTokioError, on_tokio};
pub use transport::{MethodName, Outcome, Pending, Transport};
pub use wait::{block_on, is_driver};
