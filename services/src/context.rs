//! What a handler may know about the call it serves, and what it may add to its reply.
//!
//! A method that takes `&Context` reads metadata, attachment, priority and trace there, and adds metadata and an
//! attachment to its reply through it. Only a call that has metadata or an attachment allocates for them: the
//! metadata is copied out of the receive buffer, the attachment is a slice of it. A reply carries no more metadata
//! than the client's hello accepts, because that would end the connection (REQ-21).

use bytes::Bytes;
use corewire_client::Peer;
#[cfg(feature = "shard")]
use corewire_codec::Status;
use corewire_codec::{Extras, Metadata, MetadataBuilder, MetadataError, TraceContext};
#[cfg(feature = "shard")]
use corewire_engine::{Extensions, Incoming};
use corewire_proto::ShardId;
use std::cell::RefCell;
use std::fmt;
use std::time::{Duration, Instant};

use crate::clock;
#[cfg(feature = "shard")]
use crate::server::answer::Answered;

/// A call's name in the whole server process: connection and call.
///
/// ```
/// use corewire::CallId;
///
/// let id = CallId { connection: 0xC0DE, call: 7 };
/// assert_eq!(id.to_string(), "c0de-7");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallId {
    /// The connection's id, which the client knows from the hello.
    pub connection: u64,
    /// The call's id on that connection.
    pub call: u32,
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.connection, self.call)
    }
}

/// One call, as its handler sees it. A method gets it by taking `&Context` as its first argument.
///
/// A context without metadata and attachment owns no memory. Each of the two costs an allocation of
/// the call that has it, in the request as in the reply.
///
/// ```
/// use corewire::{CallOptions, ClientShard, Context, Placement, Server, Status, block_on_shard};
///
/// #[corewire::service]
/// pub trait Greeter {
///     async fn greet(&self, context: &Context) -> Result<String, Status>;
/// }
///
/// struct Host;
///
/// impl Greeter for Host {
///     async fn greet(&self, context: &Context) -> Result<String, Status> {
///         assert!(context.remaining().is_some()); // of the caller's time: 10 s if it said nothing
///         context.add_reply_metadata("shard", context.shard().to_string().as_bytes())?;
///         let metadata = context.metadata();
///         let name = metadata.text("name").ok_or_else(|| Status::unauthenticated("no name"))?;
///         Ok(format!("hello, {name}"))
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::builder()
///     .address("127.0.0.1:0")
///     .placement(Placement::Unpinned(1))
///     .service(|_| GreeterServer::new(Host))
///     .start()?;
/// let address = server.addresses()[0].clone();
/// block_on_shard(ClientShard::default(), move || async move {
///     let client = GreeterClient::connect(address).await?;
///     let client = client.with(CallOptions::new().metadata("name", b"Ada")?);
///     let reply = client.greet().with_response().await?;
///     assert_eq!(reply.value, "hello, Ada");
///     assert_eq!(reply.metadata().text("shard"), Some("0"));
///     Ok::<_, Box<dyn std::error::Error>>(())
/// })?
/// # }
/// ```
#[derive(Debug)]
pub struct Context {
    pub(crate) peer: Peer,
    pub(crate) shard: ShardId,
    pub(crate) deadline: Option<Instant>,
    pub(crate) id: CallId,
    pub(crate) priority: u8,
    pub(crate) trace: Option<TraceContext>,
    pub(crate) request: Option<Box<Extras>>,
    pub(crate) reply: RefCell<Option<Box<Extras>>>,
    pub(crate) reply_metadata_bytes_max: u16,
    #[cfg(feature = "shard")]
    pub(crate) extensions: Extensions,
}

impl Context {
    #[cfg(feature = "shard")]
    pub(crate) fn new(incoming: &mut Incoming<'_>, request: Option<Box<Extras>>) -> Self {
        Self {
            peer: incoming.peer,
            shard: incoming.shard,
            deadline: incoming.deadline,
            id: CallId { connection: incoming.connection_id, call: incoming.request.call },
            priority: incoming.request.priority,
            trace: incoming.request.trace,
            request,
            reply: RefCell::new(None),
            reply_metadata_bytes_max: incoming.metadata_bytes_max,
            extensions: std::mem::take(incoming.extensions),
        }
    }

    /// Who calls.
    #[doc(alias("remote_addr", "client address"))]
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// The shard that runs the handler.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// When the caller stops waiting; the handler is dropped then. `None` when it waits for ever.
    #[doc(alias("timeout"))]
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// How much of the caller's time is left, by a clock read now.
    #[doc(alias("timeout", "deadline"))]
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(clock::now()))
    }

    /// The call's name, for logs.
    #[must_use]
    pub fn call_id(&self) -> CallId {
        self.id
    }

    /// The caller's priority: 0 (lowest) to 7, 3 when it said nothing.
    #[must_use]
    pub fn priority(&self) -> u8 {
        self.priority
    }

    /// Whether the server drains: it takes no new calls, and drops this one if it is not finished at
    /// the drain's deadline ([`ServerBuilder::drain_within`](crate::ServerBuilder::drain_within)).
    #[cfg(feature = "shard")]
    #[must_use]
    pub fn is_draining(&self) -> bool {
        corewire_engine::is_draining()
    }

    /// Completes when the server begins to drain, at once if it drains already. A handler that streams for
    /// ever ends its stream then, so that the drain does not wait for it until its deadline.
    #[cfg(feature = "shard")]
    pub fn drain_begun(&self) -> corewire_engine::DrainBegun {
        corewire_engine::drain_begun()
    }

    /// The trace that the call belongs to, with the caller's span.
    #[doc(alias("tracing", "span"))]
    #[must_use]
    pub fn trace(&self) -> Option<TraceContext> {
        self.trace
    }

    /// The small named values that came with the request; at most as many bytes as
    /// [`Limits::metadata_bytes`](crate::Limits::metadata_bytes) says.
    #[doc(alias("headers"))]
    #[must_use]
    pub fn metadata(&self) -> Metadata<'_> {
        self.request.as_ref().map_or_else(Metadata::default, |extras| extras.metadata.view())
    }

    /// The raw bytes that came with the request's body; empty when there are none. They are a slice
    /// of the receive buffer and keep it alive: copy what is to be kept for long.
    #[must_use]
    pub fn attachment(&self) -> &Bytes {
        static NONE: Bytes = Bytes::new();
        self.request.as_ref().map_or(&NONE, |extras| &extras.attachment)
    }

    /// What a layer around the call has left for its handler by
    /// [`CallView::insert`](crate::layer::CallView::insert): who the caller is, for example.
    #[cfg(feature = "shard")]
    #[must_use]
    pub fn extension<T: 'static>(&self) -> Option<&T> {
        self.extensions.get()
    }

    /// Adds an entry to the reply's metadata. The caller reads it from
    /// [`Call::with_response`](crate::Call::with_response); it is not sent with a failure.
    ///
    /// # Errors
    ///
    /// What is wrong with the entry, or [`MetadataError::Full`] when the caller accepts no more; the
    /// metadata stays as it was. As a [`Status`], `?` makes it the call's failure.
    #[doc(alias("headers", "trailers"))]
    pub fn add_reply_metadata(&self, key: &str, value: &[u8]) -> Result<(), MetadataError> {
        let mut reply = self.reply.borrow_mut();
        self.reply_extras(&mut reply).metadata.insert(key, value)
    }

    /// Attaches raw bytes to the reply, in place of any that were there. From 4 KiB on they are not
    /// copied. A reply that is larger than the caller accepts becomes `ResourceExhausted`.
    pub fn set_reply_attachment(&self, attachment: Bytes) {
        let mut reply = self.reply.borrow_mut();
        self.reply_extras(&mut reply).attachment = attachment;
    }

    fn reply_extras<'a>(&self, reply: &'a mut Option<Box<Extras>>) -> &'a mut Extras {
        reply.get_or_insert_with(|| {
            let metadata = MetadataBuilder::bounded(self.reply_metadata_bytes_max);
            Box::new(Extras { metadata, attachment: Bytes::new() })
        })
    }

    /// A handler's outcome with what it has added to its reply. The macro's code calls it.
    #[cfg(feature = "shard")]
    #[doc(hidden)]
    #[inline]
    pub fn answer<R>(self, outcome: Result<R, Status>) -> Answered<R> {
        Answered { outcome, extras: self.reply.into_inner() }
    }
}
