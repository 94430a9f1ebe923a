//! The Corewire connection as a state machine, for both sides, without I/O.
//!
//! [`ServerConnection`] and [`ClientConnection`] decide everything that the protocol decides: the
//! hello, which call ids are in flight, who may send what when, pings, timeouts, go-away. They open
//! no socket, read no clock and know no executor, so that tests, fuzzers and simulations drive the
//! code that runs in production.
//!
//! ```text
//!                 ┌────────────────────────────┐
//!  RecvBuffer ───▶│ handle_frame(recv,out,now) │───▶ one input at a time: a call, a reply, …
//!  commands ─────▶│ begin_call, park, drain …  │
//!  clock ────────▶│ handle_timeout(now, out)   │───▶ poll_timeout(): when to come back
//!                 └─────────────┬──────────────┘
//!                               ▼
//!                          SendBuffer
//! ```
//!
//! # How to drive one
//!
//! 1. Received bytes go into a [`RecvBuffer`](corewire_codec::RecvBuffer). Call `handle_frame` until
//!    it returns `NeedBytes`; each call handles one frame, so the caller decides how much work one
//!    connection may do before another has its turn.
//! 2. Whatever must go to the peer was appended to the `SendBuffer` that was passed along.
//! 3. Ask `poll_timeout` after each round, and call `handle_timeout` and then `poll_expired` (until
//!    it returns `None`) when that time has come. Early calls are harmless. Read what has arrived
//!    first: a peer is judged by what was read. If more is left unread, call `handle_unread`
//!    before.
//! 4. After `Closed`, write what is left, and drop the connection.
//!
//! Time is always an argument. It must not go backwards between calls; if it does, timers fire
//! late, and nothing else happens.
#![forbid(unsafe_code)]
#[doc(hidden)]
pub mod canary;
mod client;
mod close;
mod config;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod identity;
mod in_flight;
mod jitter;
mod keep_alive;
mod server;
mod shard_key;
mod streams;
#[cfg(test)]
mod tests;
mod transport_error;

pub use client::{CallsFailed, ClientConnection, ClientInput, Expired, NoSlot};
pub use close::CloseReason;
pub use config::{ClientConfig, ServerConfig, ServerIdentity, Timeouts};
pub use identity::{ShardId, ShardInfo};
pub use server::{
    IdleServerConnection, OneWayDropped, ServerConnection, ServerInput, is_one_way_id,
};
pub use shard_key::{ShardKey, key_hash, owner_of, owner_of_key};
pub use streams::schedule::{STREAM_QUANTUM, StreamPlace, StreamSchedule};
pub use streams::table::{MessageWriter, NotSent, StreamAccounts, StreamKind};
pub use transport_error::TransportError;
