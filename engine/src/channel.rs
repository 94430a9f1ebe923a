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
//! without a slot, and are not encoded yet. The first calls go out right behind the client's own hello; only those
//! that are large, or have more than 1 KiB of metadata, wait for the server's.
//!
//! A one-way call takes no slot and gets no reply: its `Ok` means that the request lies in the send buffer.

mod call;
mod ending;
mod one_way;
mod pending;
pub(crate) mod remote;
mod retired;
mod send;
mod snapshot;
mod state;
mod stream;
mod wait_queue;

use corewire_codec::{FrameWriter, RequestHead};
use corewire_proto::ClientConfig;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use self::remote::RemoteConnects;
use crate::shard::chance;
use crate::shard::context::{self, ShardContext};
use crate::stream::StreamArrivals;
use corewire_client::address::{Address, IntoAddress};
use corewire_client::config::ChannelConfig;
use corewire_client::failure::{ConnectError, NotSent};
use corewire_client::reconnect::Backoff;

pub use call::Call;
pub(crate) use state::{ChannelState, Link};
use wait_queue::WaitQueue;

thread_local! {
    static CURRENT: RefCell<Option<Rc<ChannelContext>>> = const { RefCell::new(None) };
}

/// What the channels of a shard leave for its driver.
#[derive(Debug)]
pub(crate) struct ChannelContext {
    pub(crate) shard: Rc<ShardContext>,
    pub(crate) streams: Rc<StreamArrivals>,
    /// Channels that want a connection.
    connects: RefCell<Vec<Rc<ChannelCore>>>,
    /// The same of channels whose callers are on other threads.
    pub(crate) remote: Rc<RemoteConnects>,
}

impl ChannelContext {
    pub(crate) fn new(shard: Rc<ShardContext>) -> Rc<Self> {
        let streams = StreamArrivals::new(Rc::clone(&shard));
        let remote = RemoteConnects::new(Rc::clone(&shard));
        Rc::new(Self { shard, streams, connects: RefCell::default(), remote })
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
        CURRENT.try_with(|current| current.replace(context)).ok().flatten()
    }

    /// The thread's, if it is a shard's.
    pub(crate) fn current() -> Option<Rc<Self>> {
        CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
    }

    fn connect(&self, channel: Rc<ChannelCore>) {
        self.connects.borrow_mut().push(channel);
        self.shard.wakes.note_news();
    }

    pub(crate) fn take_connects(&self) -> Vec<Rc<ChannelCore>> {
        core::mem::take(&mut *self.connects.borrow_mut())
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
            (context.take_connects(), context.remote.take(), streams)
        }));
    }
}

/// What a channel and its driver share.
#[derive(Debug)]
pub(crate) struct ChannelCore {
    pub(crate) address: Address,
    pub(crate) config: ChannelConfig,
    pub(crate) connection: Arc<ClientConfig>,
    pub(crate) state: RefCell<ChannelState>,
    local: Rc<ShardContext>,
    context: Rc<ChannelContext>,
    /// No handle is left: the driver closes the connection.
    pub(crate) released: Cell<bool>,
    backoff: RefCell<Backoff>,
    /// Distinguishes the next connection from all others, of this channel and of other channels.
    next_id: Cell<u64>,
}

impl ChannelCore {
    /// The id of a new connection.
    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.replace(self.next_id.get().wrapping_add(1))
    }

    /// Above this many unsent bytes, no further call is written.
    #[inline]
    fn unsent_max(&self) -> usize {
        if corewire_proto::canary::is_planted(corewire_proto::canary::Bug::UnboundedUnsent) {
            return usize::MAX;
        }
        self.config.unsent_max
    }

    /// Whether a connection that is still being made is no longer wanted.
    pub(crate) fn is_unwanted(&self, state: &ChannelState) -> bool {
        self.released.get() || state.closed
    }
}

/// Tells the driver when the last handle is gone.
#[derive(Debug)]
struct UseSharedChannelOnOtherThreads(Rc<ChannelCore>);

impl Drop for UseSharedChannelOnOtherThreads {
    fn drop(&mut self) {
        self.0.released.set(true);
        if let Link::Up { token, .. } | Link::Connecting { token: Some(token) } =
            self.0.state.borrow().link
        {
            self.0.local.mark_dirty(token);
        }
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
        let core = ChannelCore {
            address,
            connection: Arc::new(config.connection),
            config,
            state: RefCell::new(ChannelState::new()),
            local: Rc::clone(&context.shard),
            context,
            released: Cell::new(false),
            backoff: RefCell::new(Backoff::new(seed)),
            next_id: Cell::new(seed),
        };
        Ok(Self { handle: Rc::new(UseSharedChannelOnOtherThreads(Rc::new(core))) })
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
        &self.core().address
    }

    /// The index of the server shard at the other end, and how many shards the server has; `None`
    /// before the first hello.
    #[must_use]
    pub fn server_shard(&self) -> Option<(u16, u16)> {
        self.core().state.borrow().server_shard
    }

    /// The connection's id in the server's process; `None` before the first hello.
    #[must_use]
    pub fn connection_id(&self) -> Option<u64> {
        self.core().state.borrow().connection_id
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
        let mut ticket = Ticket { channel: self.clone(), id: None };
        poll_fn(|context| {
            let mut state = self.core().state.borrow_mut();
            if state.closed {
                return Poll::Ready(Err(NotSent::Closed));
            }
            if let Link::Up { proto, .. } = &state.link
                && proto.is_ready()
            {
                return Poll::Ready(Ok(()));
            }
            let now = crate::shard::clock::clock();
            match state.want_connection(self.core(), now) {
                Ok(()) => ticket.wait(&mut state, context, None).map(Err),
                Err(why) => Poll::Ready(Err(why)),
            }
        })
        .await
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
    #[inline]
    pub fn call<E, F>(&self, head: RequestHead, timeout: Option<Duration>, encode: F) -> Call<F>
    where
        E: std::fmt::Display,
        F: FnOnce(&mut FrameWriter<'_>) -> Result<(), E>,
    {
        Call::new(self.clone(), head, timeout, encode)
    }

    #[inline]
    fn core(&self) -> &Rc<ChannelCore> {
        &self.handle.0
    }
}

/// A place in one of the channel's queues; dropping it unused passes the turn on.
struct Ticket {
    channel: Channel,
    id: Option<u64>,
}

impl Ticket {
    /// Whether this waits in that queue; once woken, it does not.
    fn is_in(&self, line: &WaitQueue) -> bool {
        self.id.is_some_and(|id| line.contains(id))
    }

    #[cold]
    fn leave(&mut self) {
        let Some(id) = self.id.take() else { return };
        let state = &mut *self.channel.core().state.borrow_mut();
        if !state.waiting.remove(id) && !state.waiting_for_room.remove(id) {
            // It was woken but will not use its turn: wake the next one.
            state.wake_waiting(1);
        }
    }

    /// Enters the queue for a slot or for the connection, or stays in it; `Ready` when the queue is full.
    fn wait(
        &mut self,
        state: &mut ChannelState,
        context: &Context<'_>,
        deadline: Option<Instant>,
    ) -> Poll<NotSent> {
        self.channel.core().local.note_known_wait();
        if state.waiting.stay(self.id, context) {
            return Poll::Pending;
        }
        if state.waiting.len() >= self.channel.core().config.waiting_max {
            return Poll::Ready(NotSent::QueueFull);
        }
        let id = self.number(state);
        state.waiting_for_room.remove(id);
        state.waiting.push(id, context, deadline);
        self.tell_deadline(state, deadline);
        Poll::Pending
    }

    /// Enters the queue for room in the send buffer, or stays in it.
    #[cold]
    fn wait_for_room(
        &mut self,
        state: &mut ChannelState,
        context: &Context<'_>,
        deadline: Option<Instant>,
    ) {
        self.channel.core().local.note_known_wait();
        if state.waiting_for_room.stay(self.id, context) {
            return;
        }
        let id = self.number(state);
        state.waiting.remove(id);
        state.waiting_for_room.push(id, context, deadline);
        // The socket may stay full for longer.
        self.tell_deadline(state, deadline);
    }

    /// It has its turn, and no longer waits.
    #[inline]
    fn leave_queues(&mut self, state: &mut ChannelState) {
        if let Some(id) = self.id.take() {
            state.waiting.remove(id);
            state.waiting_for_room.remove(id);
        }
    }

    /// The id that it waits with. It keeps the id from one wait to the next.
    fn number(&mut self, state: &mut ChannelState) -> u64 {
        *self.id.get_or_insert_with(|| state.next_waiting_id())
    }

    /// The driver's timer must know the deadline.
    fn tell_deadline(&self, state: &ChannelState, deadline: Option<Instant>) {
        if let (Link::Up { token, .. } | Link::Connecting { token: Some(token) }, Some(_)) =
            (&state.link, deadline)
        {
            self.channel.core().local.mark_dirty(*token);
        }
    }
}

impl Drop for Ticket {
    #[inline]
    fn drop(&mut self) {
        if self.id.is_some() {
            self.leave();
        }
    }
}
