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
//! # Callers that are not on a shard
//!
//! A generated client is generic over its channel, `KeyValueClient<C>`, and otherwise the same for
//! everybody. Choose the channel by where the calling code runs:
//!
//! - **On a shard**: `Channel`, the default. A call writes into the connection's buffer at once
//!   and makes no allocation in steady state. It is not `Send`.
//! - **On any thread, under any executor or none**: `SharedChannel`, made by a `ClientThread`. It is
//!   `Send`, and clones share one connection. Each call encodes into memory of its own, passes a
//!   queue to the client thread, and its reply wakes the caller: two threads are woken for a call
//!   on an idle channel, and several allocations made.
//! - **On tokio** (feature `tokio`): `SharedChannel::on_tokio`. The same handle; the connection is a
//!   task of the runtime, and there is no further thread.
//! - **On one thread that may block** (feature `blocking`): `blocking::Channel`. No thread, no
//!   queue and no executor; one call at a time in addition to its streams, and three further system calls
//!   before each.
//!
//! What these cost in time has not been measured yet.
//!
//! Without the default feature `shard` there are no servers, and nothing depends on glommio. A trait
//! under [`macro@service`] compiles all the same, so that servers and callers can share it.
//!
//! There are three ways to get a [`Call`]'s result: await it, [`wait`](Call::wait) for it, or pass a
//! callback to [`then`](Call::then).
//!
//! # Streams and one-way calls
//!
//! ```no_run
//! use corewire::{Status, Streaming};
//!
//! #[corewire::service]
//! pub trait Journal {
//!     /// The lines from this number on, those to come as well.
//!     async fn tail(&self, from: u64) -> Result<Streaming<String>, Status>;
//!     /// Adds lines as they come; returns how many there are.
//!     async fn append(&self, lines: Streaming<String>) -> Result<u64, Status>;
//!     /// Adds a line; nobody hears how that went.
//!     #[one_way]
//!     async fn note(&self, line: String);
//! }
//!
//! async fn follow(journal: JournalClient) -> Result<(), Status> {
//!     journal.note("here I am".into()).await?;
//!     let mut lines = journal.tail(0).await?;
//!     while let Some(line) = lines.next().await {
//!         println!("{}", line?);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! [`streaming::Streaming`] says what a stream costs, how it ends, and which side waits for the other. Channels of
//! every kind carry both. There is one type of stream, generic over the kind of channel, with a short name for each:
//! [`Streaming`] on a shard; `shared::Streaming`, which is `Send`, for a `SharedChannel` (`stream.next().await`, or
//! `.wait()` on a plain thread); and `blocking::Streaming`, an iterator, for a blocking channel.
//! [`StreamTransport`] is for code that is generic over them.
//!
//! # Where next
//!
//! `examples/` in the repository holds whole programs; [`macro@service`] explains the macro;
//! `ServerBuilder` lists the settings of a server.
#![forbid(unsafe_code)]

// The macro's paths begin with `::corewire`, also inside this crate.
extern crate self as corewire;

#[cfg(feature = "bench-hooks")]
#[doc(hidden)]
pub mod bench_hooks;
mod client;
mod context;
mod description;
pub mod echo;
pub mod layer;
#[cfg(feature = "shard")]
mod server;
pub mod streaming;

pub use bytes::Bytes;
pub use client::caller::{Call, Caller};
pub use client::options::CallOptions;
pub use client::outcome::CallError;
pub use client::response::{Response, ResponseCall};
pub use context::{CallId, Context};
pub use corewire_client::{
    Address, ChannelConfig, ConnectError, IntoAddress, MethodName, NotSent, Peer, Pending,
    Resolver, Transport,
};
#[cfg(any(feature = "shard", feature = "tokio"))]
pub use corewire_client::{Closing, SharedChannel};
pub use corewire_codec::{
    CodecId, FrameWriter as BodyWriter, LimitOutOfRange, Limits, Metadata, MetadataBuilder,
    MetadataEntry, MetadataError, MethodId, Status, StatusCode, TraceContext, TraceParentError,
};
pub use corewire_macros::service;
pub use corewire_proto::{ClientConfig, CloseReason, ShardId, ShardInfo, Timeouts, TransportError};
pub use description::{ArgumentDescription, CallKind, MethodDescription, ServiceDescription};
#[cfg(feature = "blocking")]
#[doc(inline)]
pub use streaming::blocking;
pub use streaming::call::{
    BeginCall, BeginStreaming, OneReply, ReplyStream, ResultKind, StreamingCall, StreamingResponse,
};
pub use streaming::send_error::SendError;
#[cfg(any(feature = "shard", feature = "tokio"))]
#[doc(inline)]
pub use streaming::shared;
pub use streaming::transport::{SendStream, StreamTransport};

#[cfg(feature = "shard")]
pub use {
    corewire_engine::{
        AddressHolder, Budgets, Channel, ClientShard, ClientThread, CounterKind, DrainBegun, Ended,
        Ending, Host, Placement, QueueDelay, Readiness, Running, RunningShard, ShardCounters,
        ShardLost, Spin, StartError, Task, WouldBlock, allowed_cpus, drain_begun, is_draining,
        is_ready, parse_cpus, run_on_shard as block_on_shard, sleep, spawn, with_all_cpus,
    },
    server::answer::{Answer, Answered},
    server::incoming::{Arguments, IncomingCall},
    server::service::Service,
    server::slot::Methods,
    server::{Server, ServerBuilder},
};

/// A stream of messages of one call, to be read or to be sent, on a shard: a
/// [`streaming::Streaming`] over a shard's channel. That page says what it costs, how it ends, and which side
/// waits for the other.
///
/// ```
/// use corewire::{Status, Streaming};
///
/// fn squares(up_to: u64) -> Streaming<u64> {
///     Streaming::from_stream(futures_lite::stream::iter((0..up_to).map(|number| Ok(number * number))))
/// }
///
/// async fn sum(mut numbers: Streaming<u64>) -> Result<u64, Status> {
///     let mut sum = 0;
///     while let Some(number) = numbers.next().await {
///         sum += number?;
///     }
///     Ok(sum)
/// }
///
/// assert_eq!(futures_lite::future::block_on(sum(squares(4))), Ok(14));
/// ```
pub type Streaming<T> = streaming::Streaming<T>;

/// The sender of a [`Streaming`]: a [`streaming::StreamSender`] on a shard.
pub type StreamSender<T> = streaming::StreamSender<T>;

/// Payload codecs, and the limits that a hello carries.
pub mod codec {
    pub use crate::client::one_way::Unanswered;
    #[doc(hidden)]
    pub use crate::client::request::{Listed, Values, WriteValues, no_values, raw_value};
    #[cfg(feature = "shard")]
    #[doc(hidden)]
    pub use crate::server::slot::{Handler, MakeSlot, Room};
    #[cfg(not(feature = "shard"))]
    #[doc(hidden)]
    pub use crate::streaming::no_shard::{Channel, StreamReader};
    #[doc(hidden)]
    pub use crate::streaming::{
        call::{OneReply, ReplyStream},
        end_listeners::{EndListener, EndListeners},
        queue::{Queue, QueueReceiver},
        transport::{StartedCall, StartedOn},
        wire::Wire,
    };
    pub use corewire_codec::{
        Codec, ConnectionCredit, Decode, DecodeError, Encode, EncodeError, FrameBytes, InFlight,
        MetadataBytes, Raw, Speedy, StreamCredit,
    };
}
