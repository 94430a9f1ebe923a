//! Corewire's clients that need no shard, and what clients of every kind have in common.
//!
//! Who drives a connection tells the kinds apart:
//!
//! - `SharedChannel` (feature `remote`) is the handle of any thread on a connection that something else
//!   drives: a client thread of `corewire-engine`, or a task of tokio (feature `tokio`).
//! - [`blocking::Channel`] (feature `blocking`) is driven by its caller's own thread, on std alone.
//! - The channel of a shard is part of `corewire-engine`.
//!
//! All of them are a [`Transport`], have one [`ChannelConfig`], one set of failures ([`CallFailure`],
//! [`NotSent`], [`ConnectError`]), and the same ends of streams ([`ReadMessages`], [`WriteMessages`],
//! [`StreamHandle`]). What a connection does with bytes is decided in `corewire-proto`.
//!
//! Users link `corewire`, which shows what is theirs. The modules that are public here beside that are for
//! `corewire-engine`.
#![forbid(unsafe_code)]

pub mod address;
#[cfg(feature = "blocking")]
pub mod blocking;
pub mod config;
pub mod dial;
pub mod failure;
pub mod log_limit;
pub mod reconnect;
#[cfg(feature = "remote")]
pub mod remote;
pub mod resolver;
pub mod self_connect;
pub mod session;
pub mod streams;
#[cfg(feature = "tokio")]
mod tokio;
pub mod transport;
pub mod wait;
#[cfg(feature = "tokio")]
mod wait_queue;

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
