//! The caller's handle on a connection, for code that runs on a shard.
//!
//! A [`Channel`] is one logical connection to one address. It connects when the first call needs it,
//! reconnects with jittered exponential back-off, and carries any number of calls at once. All its
//! clones share one socket, which the shard's driver owns; a call writes its request into the
//! channel's send buffer and the driver sends what has gathered once per turn.
//!
//! A connection whose server goes away is retired: it keeps its calls in flight until they have ended,
//! while new ones go to the next connection.
//!
//! While more than [`ChannelConfig::unsent_max`] bytes are unsent, further calls wait in the queue as they do
//! without a slot. A call that waits is encoded: it holds its request instead of its arguments. The first calls go out
//! right behind the client's own hello; only those that are large, or have more than 1 KiB of metadata, wait for the
//! server's, and the calls made after them wait with them.
//!
//! A one-way call takes no slot and gets no reply: its `Ok` means that the request lies in the send buffer.
//!
//! A connection to a server that was not seen to work (no reply, and no call counted in its go-away) is followed by a
//! back-off, in which calls fail at once as not sent (`corewire_client::reconnect`).
//!
//! What a channel does is decided in its [`ClientCore`]; this module is one of its shells.

mod begin;
mod call;
pub(crate) mod caller;
pub(crate) mod driven;
mod made;
mod pending;
mod snapshot;
mod stream;

use corewire_codec::{FrameWriter, RequestHead};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use self::caller::{Caller, Calls};
use self::driven::{Connects, DrivenChannel};
use crate::shard::chance;
use crate::shard::clock::clock;
use crate::shard::context::{self, ShardContext};
use crate::shard::mesh::{self, Mesh, MeshEnd};
use crate::stream::StreamArrivals;
use corewire_client::address::{Address, IntoAddress};
use corewire_client::config::ChannelConfig;
use corewire_client::core::channel::{ClientCore, ServerSide};
use corewire_client::failure::{ConnectError, NotSent};
use corewire_client::remote::command::Completion;

pub use call::Call;

thread_local! {
    static CURRENT: RefCell<Option<Rc<ChannelContext>>> = const { RefCell::new(None) };
}

/// What the channels of a shard leave for its driver.
#[derive(Debug)]
pub(crate) struct ChannelContext {
    pub(crate) shard: Rc<ShardContext>,
    /// The way to the other shards of the server. A shard that has none is alone in its mesh.
    pub(crate) mesh: Rc<Mesh>,
    pub(crate) streams: Rc<StreamArrivals>,
    /// Channels that want a connection.
    pub(crate) local: Rc<Connects<Caller>>,
    /// The same of channels whose callers are on other threads.
    pub(crate) remote: Rc<Connects<Completion>>,
}

impl ChannelContext {
    /// That of a shard that has no others.
    pub(crate) fn new(shard: Rc<ShardContext>) -> Rc<Self> {
        let end = mesh::alone(&shard.wakes.doorbell);
        Self::in_mesh(shard, end)
    }

    /// That of one of the shards of a server.
    pub(crate) fn in_mesh(shard: Rc<ShardContext>, end: MeshEnd) -> Rc<Self> {
        let mesh = Mesh::new(end, Rc::clone(&shard));
        let streams = StreamArrivals::new(Rc::clone(&shard));
        let local = Connects::new(Rc::clone(&shard));
        let remote = Connects::new(Rc::clone(&shard));
        Rc::new(Self { shard, mesh, streams, local, remote })
    }

    /// Makes this the thread's, and its shard with it, until the guard is dropped, which restores the previous one.
    pub(crate) fn enter(self: &Rc<Self>) -> Entered {
        let shard = self.shard.enter();
        Entered { former: Self::replace_current(Some(Rc::clone(self))), _shard: shard }
    }

    /// Makes another one the thread's, or none; returns the previous one. A simulation has the shards of many
    /// threads on one.
    pub(crate) fn swap_current(context: Option<Rc<Self>>) -> Option<Rc<Self>> {
        ShardContext::swap_current(context.as_ref().map(|context| Rc::clone(&context.shard)));
        Self::replace_current(context)
    }

    fn replace_current(context: Option<Rc<Self>>) -> Option<Rc<Self>> {
        Mesh::replace_current(context.as_ref().map(|context| Rc::clone(&context.mesh)));
        CURRENT.try_with(|current| current.replace(context)).ok().flatten()
    }

    /// The thread's, if it is a shard's.
    pub(crate) fn current() -> Option<Rc<Self>> {
        CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
    }
}

/// Leaves the context when dropped, and restores the thread's former one.
#[derive(Debug)]
pub(crate) struct Entered {
    former: Option<Rc<ChannelContext>>,
    _shard: context::Entered,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let left = ChannelContext::replace_current(self.former.take());
        // Channels that still wait to be connected hold their context, and so do streams: let go of them.
        drop(left.map(|context| {
            let mut streams = Vec::new();
            context.streams.swap(&mut streams);
            (context.local.take(), context.remote.take(), streams)
        }));
    }
}

/// What the clones of a channel share. Tells the driver when the last of them is gone.
#[derive(Debug)]
struct UseSharedChannelOnOtherThreads {
    address: Address,
    server_side: Arc<ServerSide>,
    driven: Rc<DrivenChannel<Caller>>,
    calls: Rc<Calls>,
    arrivals: Rc<StreamArrivals>,
    /// The name of the last call that streams.
    streams: Cell<u64>,
}

impl Drop for UseSharedChannelOnOtherThreads {
    fn drop(&mut self) {
        self.driven.release(None);
        self.driven.wake();
    }
}

/// One logical connection to one server. Cheap to clone; clones share the connection.
///
/// It belongs to the shard it was made on.
#[derive(Clone, Debug)]
pub struct Channel {
    handle: Rc<UseSharedChannelOnOtherThreads>,
}

impl Channel {
    /// A channel that will connect when it is first used.
    ///
    /// # Errors
    ///
    /// The address is invalid, a setting is outside its range, or the thread is not a shard's
    /// ([`NotSent::NotOnShard`]).
    pub fn new(address: impl IntoAddress, config: ChannelConfig) -> Result<Self, ConnectError> {
        config.check()?;
        let address = address.into_address().map_err(ConnectError::Address)?;
        Self::with_jitter(address, config, chance::seed()).map_err(ConnectError::NotConnected)
    }

    /// The same, with the seed for its back-off and for its connections' jitter.
    pub(crate) fn with_jitter(
        address: Address,
        config: ChannelConfig,
        seed: u64,
    ) -> Result<Self, NotSent> {
        let context = ChannelContext::current().ok_or(NotSent::NotOnShard)?;
        let server_side = Arc::<ServerSide>::default();
        let core = ClientCore::with_jitter(address.clone(), config, seed)
            .telling(Arc::clone(&server_side));
        let handle = UseSharedChannelOnOtherThreads {
            address,
            server_side,
            driven: DrivenChannel::new(core, &context.local),
            calls: Rc::default(),
            arrivals: Rc::clone(&context.streams),
            streams: Cell::new(0),
        };
        Ok(Self { handle: Rc::new(handle) })
    }

    /// A channel with the default configuration, connected.
    ///
    /// # Errors
    ///
    /// The address is invalid, or no connection could be made.
    pub async fn connect(address: impl IntoAddress) -> Result<Self, ConnectError> {
        Self::connect_with(address, ChannelConfig::default()).await
    }

    /// A connected channel.
    ///
    /// # Errors
    ///
    /// The address is invalid, a setting is outside its range, or no connection could be made.
    pub async fn connect_with(
        address: impl IntoAddress,
        config: ChannelConfig,
    ) -> Result<Self, ConnectError> {
        let channel = Self::new(address, config)?;
        channel.ready().await.map_err(ConnectError::NotConnected)?;
        Ok(channel)
    }

    /// The server's address.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.handle.address
    }

    /// The index of the server shard at the other end, and how many shards the server has; `None`
    /// before the first hello.
    #[must_use]
    pub fn server_shard(&self) -> Option<(u16, u16)> {
        self.handle.server_side.shard()
    }

    /// The connection's id in the server's process; `None` before the first hello.
    #[must_use]
    pub fn connection_id(&self) -> Option<u64> {
        self.handle.server_side.connection_id()
    }

    /// Connects now, if there is no connection, and waits for the server's hello.
    ///
    /// Dropping the future does not stop the connect.
    ///
    /// # Errors
    ///
    /// Why there is no connection.
    #[doc(alias("connect", "health"))]
    pub async fn ready(&self) -> Result<(), NotSent> {
        poll_fn(|context| self.driven().poll_ready(context, clock())).await
    }

    /// Connects now, if there is no connection and none is being made, and does not wait for it. Nobody is told of a
    /// failure; the next call is.
    pub fn begin_connect(&self) {
        self.driven().want_connection(clock());
        self.driven().wake();
    }

    /// Closes the channel, for all its clones: tells the server that no more calls come, lets calls in
    /// flight finish, and waits until they have and the connection is gone.
    ///
    /// Calls that have not been sent, and calls made from now on, fail with [`NotSent::Closed`].
    /// Dropping the future does not stop the closing. A call without a deadline may keep it waiting for
    /// ever; a caller that cannot wait puts a timeout on this future and drops the calls. Closing a
    /// channel again is no error, and waits for the same.
    ///
    /// It costs one frame, sent after what is unsent; a channel that has no connection is closed at once.
    ///
    /// Dropping a channel's last handle tells the server the same and does not wait.
    #[doc(alias("shutdown", "graceful", "disconnect"))]
    pub async fn close(&self) {
        self.driven().close((), clock());
        self.driven().wake();
        poll_fn(|context| self.driven().poll_gone(context)).await;
    }

    /// Makes a call. `head.call` and `head.timeout_us` are filled in here; `encode` writes the body,
    /// once, when the request is put into the send buffer.
    ///
    /// Waits for the connection, and for a slot when as many calls are in flight as the server
    /// accepts. Dropping the future cancels the call on the server.
    ///
    /// # Errors
    ///
    /// Why there is no reply; a reply with any status is not an error here.
    #[doc(hidden)]
    #[inline]
    pub fn call<E, F>(&self, head: RequestHead, timeout: Option<Duration>, encode: F) -> Call<F>
    where
        E: std::fmt::Display,
        F: FnOnce(&mut FrameWriter<'_>) -> Result<(), E>,
    {
        Call::new(self.clone(), head, timeout, encode)
    }

    #[inline]
    fn driven(&self) -> &Rc<DrivenChannel<Caller>> {
        &self.handle.driven
    }

    #[inline]
    fn calls(&self) -> &Rc<Calls> {
        &self.handle.calls
    }

    fn arrivals(&self) -> &Rc<StreamArrivals> {
        &self.handle.arrivals
    }

    /// The name of another call that streams.
    fn next_stream(&self) -> u64 {
        self.handle.streams.set(self.handle.streams.get() + 1);
        self.handle.streams.get()
    }
}
