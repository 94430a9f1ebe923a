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
#![forbid(unsafe_code)]

pub mod address;
#[cfg(feature = "blocking")]
pub mod blocking;
pub mod config;
pub mod core;
pub mod dial;
pub mod failure;
pub mod log_limit;
pub mod reconnect;
#[cfg(feature = "remote")]
pub mod remote;
pub mod resolver;
pub mod self_connect;
pub mod streams;
#[cfg(feature = "tokio")]
mod tokio;
pub mod transport;
pub mod wait;

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
    Closed, Message, Opening, ReadMessages, StreamFailure, StreamHandle, WriteMessages,
};
pub use transport::{MethodName, Outcome, Pending, Transport};
pub use wait::{block_on, is_driver};
