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
//! Structs and enums in arguments and results need two derives of the crate `speedy`; see [`codec::Speedy`].
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
//! Measured (`docs/PERFORMANCE.md`, one call at a time, 64 bytes, loopback): 64 µs on a shard, over tokio and blocking, 70 µs
//! through a client thread. With 64 calls in flight, a call through a client thread takes 2.2 times the client CPU of one on
//! a shard, and one over tokio 1.3 times.
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
//! # Tests
//!
//! The feature `testing` has contexts for handlers that a unit test calls, a server and a client in memory, and
//! simulations of many hosts in virtual time, with bad networks, partitions and crashes, each decided by a seed. See the
//! module `testing`. `#[corewire::test]` makes an async function a test, on a shard or in a simulation;
//! `#[corewire::main]` runs an async `main` on a shard.
//!
//! # Where next
//!
//! `docs/guide` in the repository explains each topic in a short chapter; `examples/` holds whole programs;
//! [`macro@service`] explains the macro; `ServerBuilder` lists the settings of a server.
#![forbid(unsafe_code)]

// The macro's paths begin with `::corewire`, also inside this crate.
extern crate self as corewire;

#[cfg(feature = "bench-hooks")]
#[doc(hidden)]
pub mod bench_hooks;
mod client;
mod clock;
mod context;
mod description;
pub mod echo;
mod encoding;
#[cfg(feature = "shard")]
#[doc(hidden)]
pub mod entry;
#[doc(hidden)]
pub mod generated;
#[cfg(doctest)]
mod guide;
pub mod layer;
pub mod message;
#[cfg(feature = "shard")]
mod server;
#[cfg(any(feature = "shard", feature = "tokio"))]
mod sharded;
pub mod streaming;
#[cfg(feature = "testing")]
pub mod testing;
pub mod transport;

// Search aliases stand at the re-exports: rustdoc drops those of an item that is shown where it is re-exported. So do
// examples that need a generated client, which the crates below do not have.
pub use bytes::Bytes;
#[doc(alias("cancel", "abort", "future"))]
pub use client::caller::Call;
#[doc(alias("headers", "deadline", "request options"))]
pub use client::options::CallOptions;
#[doc(alias("retry", "failure", "error"))]
pub use client::outcome::CallError;
#[doc(alias("headers", "trailers"))]
pub use client::response::Response;
pub use client::response::ResponseCall;
pub use context::CallId;
#[doc(alias("request"))]
pub use context::Context;
#[doc(alias("endpoint", "uri", "url", "host"))]
pub use corewire_client::Address;
#[doc(alias("reconnect", "retry", "client options"))]
pub use corewire_client::ChannelConfig;
/// The end of a channel that is being closed, to be awaited or waited for.
///
/// ```
/// # use corewire::{ClientShard, Placement, Server, block_on_shard, echo};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = Server::builder()
/// #     .address("127.0.0.1:0")
/// #     .placement(Placement::Unpinned(1))
/// #     .service(|_| echo::EchoServer::new(echo::Echoer))
/// #     .start()?;
/// # let address = server.addresses()[0].clone();
/// use corewire::{Bytes, ChannelConfig, ClientThread};
///
/// let thread = ClientThread::start(ClientShard::default())?;
/// let client = echo::EchoClient::new(thread.channel(address, ChannelConfig::default())?);
/// assert_eq!(client.echo(Bytes::from_static(b"hi")).wait()?, "hi");
/// client.channel().close().wait()?;
/// assert!(client.echo(Bytes::new()).wait().is_err());
/// # Ok(())
/// # }
/// ```
#[cfg(any(feature = "shard", feature = "tokio"))]
pub use corewire_client::Closing;
/// Why there is no channel, or no connection.
///
/// ```
/// use corewire::{ChannelConfig, ConnectError, blocking};
///
/// let refused = blocking::Channel::new("nowhere", ChannelConfig::default()).unwrap_err();
/// assert!(matches!(refused, ConnectError::Address(_)));
/// assert!(refused.to_string().contains("host:port"));
/// ```
pub use corewire_client::ConnectError;
/// Why a call was not sent: it has not run, and may be tried again.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use corewire::{Bytes, CallError, ChannelConfig, NotSent, blocking, echo::EchoClient};
///
/// let nobody = blocking::Channel::new("127.0.0.1:1", ChannelConfig::default())?;
/// let error = EchoClient::new(nobody).echo(Bytes::new()).wait().unwrap_err();
/// assert!(matches!(error, CallError::NotSent(NotSent::NoConnection(_))));
/// assert!(!error.may_have_run());
/// # Ok(())
/// # }
/// ```
#[doc(alias("retry"))]
pub use corewire_client::NotSent;
/// A call of a [`Transport`] before its outcome: awaited, waited for, or given a callback.
///
/// ```
/// use corewire::Pending;
///
/// fn finish(call: impl Pending) -> bool {
///     call.wait().is_ok()
/// }
/// ```
pub use corewire_client::Pending;
#[doc(alias("DNS", "service discovery", "lookup"))]
pub use corewire_client::Resolver;
/// The channel for callers on any thread and under any executor.
///
/// ```
/// # use corewire::{ClientShard, Placement, Server, block_on_shard, echo};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = Server::builder()
/// #     .address("127.0.0.1:0")
/// #     .placement(Placement::Unpinned(1))
/// #     .service(|_| echo::EchoServer::new(echo::Echoer))
/// #     .start()?;
/// # let address = server.addresses()[0].clone();
/// use corewire::{Bytes, ChannelConfig, SharedChannel};
///
/// let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
/// let reply = runtime.block_on(async {
///     let channel = SharedChannel::on_tokio(address, ChannelConfig::default())?;
///     let client = echo::EchoClient::new(channel); // `Send` and cheap to clone
///     let reply = client.echo(Bytes::from_static(b"hi")).await?;
///     client.channel().close().await;
///     Ok::<_, Box<dyn std::error::Error>>(reply)
/// })?;
/// assert_eq!(reply, "hi");
/// # Ok(())
/// # }
/// ```
#[doc(alias("connection pool", "pool", "thread-safe"))]
#[cfg(any(feature = "shard", feature = "tokio"))]
pub use corewire_client::SharedChannel;
/// What a client can call over: every kind of channel.
///
/// Code that is generic over it works with each of them:
///
/// ```
/// use corewire::echo::EchoClient;
/// use corewire::{Bytes, CallError, Transport};
///
/// async fn is_well<C: Transport>(client: &EchoClient<C>) -> Result<bool, CallError> {
///     Ok(client.echo(Bytes::from_static(b"well?")).await? == "well?")
/// }
/// ```
pub use corewire_client::Transport;
pub use corewire_client::{IntoAddress, MethodName, Peer};
#[doc(alias("max_frame_size", "max_message_size", "max_concurrent_streams"))]
pub use corewire_codec::Limits;
#[doc(alias("headers", "trailers"))]
pub use corewire_codec::Metadata;
#[doc(alias("headers"))]
pub use corewire_codec::MetadataBuilder;
#[doc(alias("error", "failure"))]
pub use corewire_codec::Status;
#[doc(alias("error code", "grpc"))]
pub use corewire_codec::StatusCode;
#[doc(alias("tracing", "traceparent", "opentelemetry", "span"))]
pub use corewire_codec::TraceContext;
pub use corewire_codec::{
    CodecId, Forwarded, LimitOutOfRange, MetadataEntry, MetadataError, MethodId, OutOfRange,
    TraceParentError,
};
#[doc(alias("protobuf", "schema", "serialization"))]
pub use corewire_macros::message;
pub use corewire_macros::service;
#[doc(alias("async main", "entry point", "runtime"))]
#[cfg(feature = "shard")]
pub use corewire_macros::{main, test};
#[doc(alias("disconnect"))]
pub use corewire_proto::CloseReason;
#[doc(alias("partition", "consistent hashing", "routing"))]
pub use corewire_proto::ShardKey;
#[doc(alias("keepalive", "ping", "heartbeat", "idle"))]
pub use corewire_proto::Timeouts;
pub use corewire_proto::{ClientConfig, ShardId, ShardInfo, TransportError};
pub use corewire_proto::{key_hash, owner_of, owner_of_key};
#[doc(alias("reflection", "schema"))]
pub use description::ServiceDescription;
pub use description::{ArgumentDescription, CallKind, MethodDescription};
#[cfg(any(feature = "shard", feature = "tokio"))]
pub use sharded::{ShardMember, ShardedChannel};
#[cfg(feature = "blocking")]
#[doc(inline)]
pub use streaming::blocking;
pub use streaming::call::{StreamingCall, StreamingResponse};
pub use streaming::send_error::SendError;
#[cfg(any(feature = "shard", feature = "tokio"))]
#[doc(inline)]
pub use streaming::shared;
pub use streaming::transport::{SendStream, StreamTransport};

/// The channel for callers on a shard, and the default of generated clients.
///
/// ```
/// # use corewire::{ClientShard, Placement, Server, block_on_shard, echo};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = Server::builder()
/// #     .address("127.0.0.1:0")
/// #     .placement(Placement::Unpinned(1))
/// #     .service(|_| echo::EchoServer::new(echo::Echoer))
/// #     .start()?;
/// # let address = server.addresses()[0].clone();
/// use corewire::{Bytes, Channel, ChannelConfig};
///
/// block_on_shard(ClientShard::default(), move || async move {
///     let channel = Channel::connect_with(&address, ChannelConfig::default()).await?;
///     assert_eq!(channel.server_shard(), Some((0, 1))); // the first of one
///     let client = echo::EchoClient::new(channel.clone());
///     assert_eq!(client.echo(Bytes::from_static(b"hi")).await?, "hi");
///     channel.close().await;
///     Ok::<_, Box<dyn std::error::Error>>(())
/// })??;
/// # Ok(())
/// # }
/// ```
#[doc(alias("connection pool", "pool", "reconnect"))]
#[cfg(feature = "shard")]
pub use corewire_engine::Channel;
/// A thread of its own for the connections of callers on other threads.
///
/// ```
/// # use corewire::{ClientShard, Placement, Server, block_on_shard, echo};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = Server::builder()
/// #     .address("127.0.0.1:0")
/// #     .placement(Placement::Unpinned(1))
/// #     .service(|_| echo::EchoServer::new(echo::Echoer))
/// #     .start()?;
/// # let address = server.addresses()[0].clone();
/// use corewire::{Bytes, ChannelConfig, ClientThread};
///
/// let thread = ClientThread::start(ClientShard::default())?;
/// let client = echo::EchoClient::new(thread.channel(address, ChannelConfig::default())?);
/// let caller = {
///     let client = client.clone();
///     std::thread::spawn(move || client.echo(Bytes::from_static(b"there")).wait())
/// };
/// assert_eq!(client.echo(Bytes::from_static(b"here")).wait()?, "here");
/// assert_eq!(caller.join().expect("no panic")?, "there");
/// # Ok(())
/// # }
/// ```
#[doc(alias("background thread", "connection pool"))]
#[cfg(feature = "shard")]
pub use corewire_engine::ClientThread;
/// A running server: where it listens, what its shards count, and how to stop it.
///
/// ```
/// # use corewire::{ClientShard, Placement, Server, block_on_shard, echo};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = Server::builder()
/// #     .address("127.0.0.1:0")
/// #     .placement(Placement::Unpinned(1))
/// #     .service(|_| echo::EchoServer::new(echo::Echoer))
/// #     .start()?;
/// # let address = server.addresses()[0].clone();
/// assert_ne!(address.tcp().map(|it| it.port()), Some(0)); // the kernel chose one
/// for shard in server.shards() {
///     println!("shard {}: {} calls", shard.info.id, shard.counters.calls.value());
/// }
/// server.stop(); // returns at once
/// assert_eq!(server.wait()?.shards_lost, 0);
/// # Ok(())
/// # }
/// ```
#[doc(alias("shutdown", "handle"))]
#[cfg(feature = "shard")]
pub use corewire_engine::Running;

#[doc(alias("runtime", "bridge"))]
#[cfg(feature = "tokio")]
pub use corewire_client::{OnTokio, OnTokioError, on_tokio};
#[doc(alias("rebalance", "migration", "load balancing"))]
#[cfg(feature = "shard")]
pub use corewire_engine::Balance;
#[doc(alias("backpressure", "memory limit", "flow control"))]
#[cfg(feature = "shard")]
pub use corewire_engine::Budgets;
#[doc(alias("metrics", "gauge"))]
#[cfg(feature = "shard")]
pub use corewire_engine::Counter;
#[doc(alias("io_uring", "epoll", "glommio", "executor"))]
#[cfg(feature = "shard")]
pub use corewire_engine::Host;
#[doc(alias("affinity", "pinning", "worker threads", "cores"))]
#[cfg(feature = "shard")]
pub use corewire_engine::Placement;
#[doc(alias("load shedding", "overload", "CoDel"))]
#[cfg(feature = "shard")]
pub use corewire_engine::QueueDelay;
/// Whether a server should get new clients, for a health page of another thread.
///
/// ```
/// # use corewire::{ClientShard, Placement, Server, block_on_shard, echo};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = Server::builder()
/// #     .address("127.0.0.1:0")
/// #     .placement(Placement::Unpinned(1))
/// #     .service(|_| echo::EchoServer::new(echo::Echoer))
/// #     .start()?;
/// # let address = server.addresses()[0].clone();
/// let readiness = server.readiness();
/// assert!(readiness.is_ready());
/// server.stop();
/// server.wait()?;
/// assert!(!readiness.is_ready());
/// # Ok(())
/// # }
/// ```
#[doc(alias("health", "readiness probe", "load balancer"))]
#[cfg(feature = "shard")]
pub use corewire_engine::Readiness;
#[doc(alias("metrics", "statistics", "prometheus"))]
#[cfg(feature = "shard")]
pub use corewire_engine::ShardCounters;
#[doc(alias("busy poll", "polling"))]
#[cfg(feature = "shard")]
pub use corewire_engine::Spin;
/// Why a server did not start.
///
/// ```
/// use corewire::{Server, StartError, echo};
///
/// let server = Server::builder().service(|_| echo::EchoServer::new(echo::Echoer));
/// let error = server.address("nowhere").start().unwrap_err();
/// assert!(matches!(error, StartError::Config(_)), "{error:?}");
/// assert!(error.to_string().contains("host:port"));
/// ```
#[doc(alias("bind", "listen"))]
#[cfg(feature = "shard")]
pub use corewire_engine::StartError;
#[doc(alias("SO_INCOMING_CPU", "reuseport", "locality"))]
#[cfg(feature = "shard")]
pub use corewire_engine::Steering;
#[doc(alias("JoinHandle", "cancel", "abort"))]
#[cfg(feature = "shard")]
pub use corewire_engine::Task;
#[doc(alias("affinity", "available_parallelism"))]
#[cfg(feature = "shard")]
pub use corewire_engine::allowed_cpus;
#[doc(alias("health", "readiness probe"))]
#[cfg(feature = "shard")]
pub use corewire_engine::is_ready;
#[doc(alias("Instant", "clock", "virtual time"))]
#[cfg(feature = "shard")]
pub use corewire_engine::now;
#[doc(alias("cpuset"))]
#[cfg(feature = "shard")]
pub use corewire_engine::parse_cpus;
#[doc(alias("block_on", "runtime", "executor"))]
#[cfg(feature = "shard")]
pub use corewire_engine::run_on_shard as block_on_shard;
#[doc(alias("timer", "delay", "timeout"))]
#[cfg(feature = "shard")]
pub use corewire_engine::sleep;
#[doc(alias("spawn_local", "background task"))]
#[cfg(feature = "shard")]
pub use corewire_engine::spawn;
#[doc(alias("affinity", "thread pool", "spawn_blocking"))]
#[cfg(feature = "shard")]
pub use corewire_engine::with_all_cpus;
#[doc(alias("spawn_blocking", "thread pool", "yield_now"))]
#[cfg(feature = "shard")]
pub use corewire_engine::{
    Offload, OffloadCounts, OffloadError, YieldIfDue, offload, yield_if_due,
};
#[doc(alias("shutdown", "graceful", "SIGTERM"))]
#[cfg(feature = "shard")]
pub use corewire_engine::{drain_begun, is_draining};

/// Who has the address that a server was to get.
///
/// ```
/// # use corewire::{ClientShard, Placement, Server, block_on_shard, echo};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = Server::builder()
/// #     .address("127.0.0.1:0")
/// #     .placement(Placement::Unpinned(1))
/// #     .service(|_| echo::EchoServer::new(echo::Echoer))
/// #     .start()?;
/// # let address = server.addresses()[0].clone();
/// use corewire::{AddressHolder, StartError};
///
/// let second = Server::builder()
///     .address(address)
///     .placement(Placement::Unpinned(1))
///     .service(|_| echo::EchoServer::new(echo::Echoer))
///     .start();
/// let Err(StartError::AddressInUse { holder, .. }) = second else { panic!("it is taken") };
/// assert!(matches!(holder, AddressHolder::ThisProcess));
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "shard")]
pub use corewire_engine::AddressHolder;
/// How a server ended.
///
/// ```
/// # use corewire::{ClientShard, Placement, Server, block_on_shard, echo};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = Server::builder()
/// #     .address("127.0.0.1:0")
/// #     .placement(Placement::Unpinned(1))
/// #     .service(|_| echo::EchoServer::new(echo::Echoer))
/// #     .start()?;
/// # let address = server.addresses()[0].clone();
/// server.stop();
/// assert_eq!(server.wait()?.shards_lost, 0);
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "shard")]
pub use corewire_engine::Ended;
/// A server's end, to be awaited where its thread may not block.
///
/// ```
/// # use corewire::{ClientShard, Placement, Server, block_on_shard, echo};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = Server::builder()
/// #     .address("127.0.0.1:0")
/// #     .placement(Placement::Unpinned(1))
/// #     .service(|_| echo::EchoServer::new(echo::Echoer))
/// #     .start()?;
/// # let address = server.addresses()[0].clone();
/// server.stop();
/// let ended = futures_lite::future::block_on(server.ended());
/// assert_eq!(ended.shards_lost, 0);
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "shard")]
pub use corewire_engine::Ending;
/// One shard of a running server, with its counters.
///
/// ```
/// # use corewire::{ClientShard, Placement, Server, block_on_shard, echo};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = Server::builder()
/// #     .address("127.0.0.1:0")
/// #     .placement(Placement::Unpinned(1))
/// #     .service(|_| echo::EchoServer::new(echo::Echoer))
/// #     .start()?;
/// # let address = server.addresses()[0].clone();
/// for shard in server.shards() {
///     println!("shard {}: {} connections", shard.info.id, shard.counters.connections_open.value());
/// }
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "shard")]
pub use corewire_engine::RunningShard;
/// A shard that died or did not end in time, as `ServerBuilder::on_shard_lost` is told.
///
/// ```
/// use corewire::{Server, ShardLost};
///
/// let builder = Server::builder().on_shard_lost(|lost: &ShardLost| {
///     eprintln!("shard {} is lost: {}", lost.shard.id, lost.reason);
/// });
/// # let _ = builder;
/// ```
#[cfg(feature = "shard")]
pub use corewire_engine::ShardLost;
/// `wait` was called where it would block connections; it gives the server back.
///
/// ```
/// # use corewire::{ClientShard, Placement, Server, block_on_shard, echo};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = Server::builder()
/// #     .address("127.0.0.1:0")
/// #     .placement(Placement::Unpinned(1))
/// #     .service(|_| echo::EchoServer::new(echo::Echoer))
/// #     .start()?;
/// # let address = server.addresses()[0].clone();
/// let ended = block_on_shard(ClientShard::default(), move || async move {
///     server.stop();
///     let server = server.wait().unwrap_err().into_running(); // this thread drives connections
///     server.ended().await
/// })?;
/// assert_eq!(ended.shards_lost, 0);
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "shard")]
pub use corewire_engine::WouldBlock;

#[cfg(feature = "shard")]
pub use {
    corewire_engine::{
        ClassShares, ClientShard, CounterKind, DrainBegun, MethodCost, On, OnShardError,
        ServiceClass, Sharded, Sleep,
    },
    server::service::{InClass, Service},
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
#[doc(alias("stream", "flow control", "backpressure", "server streaming", "bidirectional"))]
pub type Streaming<T> = streaming::Streaming<T>;

/// The sender of a [`Streaming`]: a [`streaming::StreamSender`] on a shard.
///
/// ```
/// use corewire::{StreamSender, Streaming};
///
/// let (sender, numbers): (StreamSender<u64>, Streaming<u64>) = Streaming::channel();
/// assert!(!sender.is_closed());
/// drop(numbers);
/// assert!(sender.is_closed());
/// ```
#[doc(alias("backpressure", "flow control", "Sink", "half-close"))]
pub type StreamSender<T> = streaming::StreamSender<T>;

/// Payload codecs, the limits that a hello carries, and what a peer can do wrong.
///
/// ```
/// use corewire::codec::{FrameBytes, InFlight};
/// use corewire::{Limits, Server};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let limits = Limits {
///     frame_bytes: FrameBytes::new(1024 * 1024)?,
///     in_flight: InFlight::new(256)?,
///     ..Limits::default()
/// };
/// let builder = Server::builder().limits(limits);
/// # let _ = builder;
/// # Ok(())
/// # }
/// ```
pub mod codec {
    pub use crate::client::one_way::NoReply;
    #[doc(alias("serde", "derive", "serialize", "serialization"))]
    pub use corewire_codec::Speedy;
    pub use corewire_codec::{
        Codec, ConnectionCredit, Decode, DecodeError, Encode, EncodeError, Foreign, FrameBytes,
        FrameTooLarge, FrameWriter as BodyWriter, InFlight, MetadataBytes, Raw, Rule, StreamCredit,
    };
}
