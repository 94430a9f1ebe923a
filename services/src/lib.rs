//! Corewire: a thread-per-core, shared-nothing RPC engine for latency-critical services on Linux.
//!
//! Each CPU runs one pinned executor, a *shard*, that owns its listener, its connections, its
//! handlers and their state. On a call's path nothing is shared and nothing is locked.
//!
//! # A service
//!
//! ```no_run
//! use corewire::{Server, Status};
//! use std::cell::RefCell;
//! use std::collections::HashMap;
//!
//! #[corewire::service]
//! pub trait KeyValue {
//!     async fn get(&self, key: String) -> Result<Option<String>, Status>;
//!     async fn put(&self, key: String, value: String) -> Result<(), Status>;
//! }
//!
//! #[derive(Default)]
//! struct Store(RefCell<HashMap<String, String>>);
//!
//! impl KeyValue for Store {
//!     async fn get(&self, key: String) -> Result<Option<String>, Status> {
//!         Ok(self.0.borrow().get(&key).cloned())
//!     }
//!     async fn put(&self, key: String, value: String) -> Result<(), Status> {
//!         self.0.borrow_mut().insert(key, value);
//!         Ok(())
//!     }
//! }
//!
//! # fn main() -> Result<(), corewire::StartError> {
//! Server::builder()
//!     .address("127.0.0.1:7000")
//!     .service(|_shard| KeyValueServer::new(Store::default()))
//!     .run()?;
//! # Ok(())
//! # }
//! ```
//!
//! # A caller
//!
//! ```no_run
//! # #[corewire::service]
//! # pub trait KeyValue { async fn get(&self, key: String) -> Result<Option<String>, corewire::Status>; }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let value = corewire::block_on_shard(Default::default(), || async {
//!     let store = KeyValueClient::connect("127.0.0.1:7000").await?;
//!     Ok::<_, Box<dyn std::error::Error>>(store.get("answer".into()).await?)
//! })??;
//! # let _ = value;
//! # Ok(())
//! # }
//! ```
//!
//! A failed call's [`CallError`] says whether the call may have run.
//!
//! # Where next
//!
//! `examples/` in the repository holds whole programs; [`macro@service`] explains the macro;
//! [`ServerBuilder`] lists what a server can be told.
#![forbid(unsafe_code)]

// The macro's paths begin with `::corewire`, also inside this crate.
extern crate self as corewire;

#[cfg(feature = "bench-hooks")]
#[doc(hidden)]
pub mod bench_hooks;
mod caller;
mod context;
mod description;
pub mod echo;
mod one_way;
#[cfg(feature = "shard")]
mod router;
#[cfg(feature = "shard")]
mod server;
#[cfg(feature = "shard")]
mod service;
mod streaming;

pub use bytes::Bytes;
pub use caller::{Call, CallError, Caller};
pub use context::{CallId, Context};
pub use corewire_codec::{
    CodecId, FrameWriter as BodyWriter, LimitOutOfRange, Limits, MethodId, Status, StatusCode,
};
#[cfg(any(feature = "shard", feature = "tokio"))]
pub use corewire_engine::SharedChannel;
#[cfg(feature = "blocking")]
pub use corewire_engine::blocking;
pub use corewire_engine::{
    Address, Budgets, ChannelConfig, ConnectError, IntoAddress, NotSent, Peer, Pending, ShardId,
    ShardInfo, Spin, StartError, Transport,
};
pub use corewire_engine::{ClientConfig, CloseReason, Timeouts};
pub use corewire_macros::service;
pub use description::{ArgumentDescription, CallKind, MethodDescription, ServiceDescription};
pub use streaming::{SendError, StreamSender, Streaming};

#[cfg(feature = "shard")]
pub use {
    corewire_engine::{
        Channel, ClientShard, ClientThread, Ended, Placement, Running, RunningShard, ShardCounters,
        Task, allowed_cpus, parse_cpus, run_on_shard as block_on_shard, sleep, spawn,
    },
    server::{Server, ServerBuilder},
    service::{Arguments, IncomingCall, Methods, Service},
    streaming::StreamTransport,
};

/// Payload codecs, and the limits that a hello carries.
pub mod codec {
    pub use crate::one_way::Unanswered;
    pub use corewire_codec::{
        Codec, ConnectionCredit, Decode, DecodeError, Encode, EncodeError, FrameBytes, InFlight,
        MetadataBytes, Raw, Speedy, StreamCredit,
    };
}
