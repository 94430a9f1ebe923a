//! A channel that knows the shards of its server: one connection for each, and calls with a key go to the key's owner.
//!
//! [`Table`] says which connection reaches which shard and what is to be opened or dropped; it has no I/O.
//! It is replaced as a whole when something was learnt, so calls read it without waiting for anybody. It is looked at
//! again when a call finds that a connection does not lead to the shard that was noted for it, or that the key's owner has
//! none: so a channel that is used needs no task of its own, and one that is idle costs nothing.

mod calls;
mod member;
mod table;

use arc_swap::ArcSwap;
#[cfg(feature = "shard")]
use corewire_client::NotSent;
use corewire_client::{ChannelConfig, ConnectError, IntoAddress};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use self::table::{Lane, Table};

pub use self::member::ShardMember;

/// Of as many calls that miss a connection which is being made, one has it connect again.
const CONNECT_AGAIN: u32 = 64;

/// A channel with one connection for each shard of its server. Cheap to clone; clones share the connections.
///
/// Calls of methods with a key (`#[corewire(key = "…")]`) go over the connection of the shard that owns the key, so
/// that the server need not hand them to another shard. Calls without a key, and their streams, go over the connection
/// with the fewest calls in flight. It is made of channels of one kind, which reconnect as that kind does:
/// [`Channel`](crate::Channel) for callers on a shard, [`SharedChannel`](crate::SharedChannel) for any thread.
///
/// The kernel of the server chooses the shard of each connection. So this connects again and again until it has one of
/// each, at most eight times for each shard, four at once, and closes what it does not need. Until then, and for a shard
/// that it did not reach, calls go over any other connection: the server hands them over.
/// After a connection was lost, and when the server comes back with another number of shards, it begins anew.
///
/// All connections must reach the same server process (where servers with different numbers of shards answer, it soon stops trying): an address behind which several servers stand, each with keys of
/// its own, needs one channel for each server.
///
/// ```
/// # use corewire::{ClientShard, Placement, Server, Status, block_on_shard};
/// # use std::{cell::RefCell, collections::HashMap};
/// use corewire::ShardedChannel;
///
/// #[corewire::service]
/// pub trait Counters {
///     #[corewire(key = "name")]
///     async fn add(&self, name: String, by: u64) -> Result<u64, Status>;
/// }
/// # #[derive(Default)]
/// # struct Store(RefCell<HashMap<String, u64>>);
/// # impl Counters for Store {
/// #     async fn add(&self, name: String, by: u64) -> Result<u64, Status> {
/// #         let mut counts = self.0.borrow_mut();
/// #         let count = counts.entry(name).or_default();
/// #         *count += by;
/// #         Ok(*count)
/// #     }
/// # }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = Server::builder()
/// #     .address("127.0.0.1:0")
/// #     .placement(Placement::Unpinned(2))
/// #     .service(|_| CountersServer::new(Store::default()))
/// #     .start()?;
/// # let address = server.addresses()[0].clone();
///
/// # block_on_shard(ClientShard::default(), move || async move {
/// let channel = ShardedChannel::connect(address).await?;
/// let client = CountersClient::new(channel);
/// assert_eq!(client.add("visits".into(), 2).await?, 2);
/// assert_eq!(client.channel().shards(), Some(2));
/// # client.channel().close().await;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// # })?
/// # }
/// ```
#[doc(alias("core-aware", "shard-aware", "connection pool", "partition"))]
pub struct ShardedChannel<C: ShardMember> {
    inner: Arc<Inner<C>>,
}

struct Inner<C: ShardMember> {
    opener: C::Opener,
    table: ArcSwap<Table<C>>,
    /// Somebody replaces the table; others use the one that there is.
    is_tended: AtomicBool,
    /// How often that found nothing new.
    idle_looks: AtomicU32,
    is_closed: AtomicBool,
}

impl<C: ShardMember> Clone for ShardedChannel<C> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<C: ShardMember> fmt::Debug for ShardedChannel<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardedChannel")
            .field("shards", &self.shards())
            .field("reached", &self.reached())
            .finish_non_exhaustive()
    }
}

impl<C: ShardMember> ShardedChannel<C> {
    fn of(opener: C::Opener) -> Result<Self, ConnectError> {
        let first = C::open(&opener).map_err(ConnectError::NotConnected)?;
        let inner = Inner {
            opener,
            table: ArcSwap::from_pointee(Table::new(first)),
            is_tended: AtomicBool::new(false),
            idle_looks: AtomicU32::new(0),
            is_closed: AtomicBool::new(false),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// How many shards the server has; `None` before the first hello, and of a server that does not say.
    #[must_use]
    pub fn shards(&self) -> Option<u16> {
        Some(self.inner.table.load().shards()).filter(|shards| *shards != 0)
    }

    /// How many of the server's shards have a connection of this channel, as far as it has looked.
    #[must_use]
    pub fn reached(&self) -> usize {
        self.inner.table.load().reached()
    }
}

impl<C: ShardMember> Inner<C> {
    /// Gives `use_lane` the connection for a call, and how many shards the server is thought to have.
    fn with_lane<R>(&self, key: Option<u64>, use_lane: impl FnOnce(&Lane<C>, u16) -> R) -> R {
        let table = self.table.load();
        if let Some(lane) = table.right_lane(key) {
            return use_lane(lane, table.shards());
        }
        drop(table);
        self.tend();
        let table = self.table.load();
        let lane = table.right_lane(key).unwrap_or_else(|| table.any_lane());
        use_lane(lane, table.shards())
    }

    /// Learns what the connections have heard, opens those that are missing, and drops those that are not needed.
    fn tend(&self) {
        let Some(_tending) = Tending::begin(&self.is_tended) else { return };
        // Not before: it may be closed in between, and what is opened then would stay.
        if self.is_closed.load(Ordering::Relaxed) {
            return;
        }
        let open = || {
            // Why there is none is told by the calls over those that there are.
            let channel = C::open(&self.opener).ok()?;
            channel.begin_connect();
            Some(channel)
        };
        let table = self.table.load();
        if let Some(next) = table.next(open) {
            self.table.store(Arc::new(next));
        } else if self.idle_looks.fetch_add(1, Ordering::Relaxed).is_multiple_of(CONNECT_AGAIN) {
            // A connect may have failed, and no call asks for another one.
            table.unknown().for_each(ShardMember::begin_connect);
        }
    }

    /// Tries to reach all shards once more.
    #[cfg(feature = "shard")]
    fn retry(&self) {
        if let Some(_tending) = Tending::begin(&self.is_tended) {
            let next = self.table.load().with_full_tries();
            self.table.store(Arc::new(next));
        }
    }

    /// No call begins any more; all channels.
    fn close(&self) -> Vec<C> {
        self.is_closed.store(true, Ordering::Relaxed);
        // Whoever replaces the table at this moment may open connections, which are to be closed as well; it waits for nobody.
        let _tending = loop {
            match Tending::begin(&self.is_tended) {
                Some(tending) => break tending,
                None => std::thread::yield_now(),
            }
        };
        self.table.load().channels().cloned().collect()
    }
}

/// The right to replace the table, until it is dropped.
struct Tending<'a>(&'a AtomicBool);

impl<'a> Tending<'a> {
    fn begin(is_tended: &'a AtomicBool) -> Option<Self> {
        (!is_tended.swap(true, Ordering::Acquire)).then_some(Self(is_tended))
    }
}

impl Drop for Tending<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[cfg(feature = "shard")]
impl ShardedChannel<crate::Channel> {
    /// A channel for callers on this shard, which will connect when it is first used.
    ///
    /// # Errors
    ///
    /// The address is invalid, a setting is outside its range, or the thread is not a shard's.
    pub fn new(address: impl IntoAddress, config: ChannelConfig) -> Result<Self, ConnectError> {
        config.check()?;
        let address = address.into_address().map_err(ConnectError::Address)?;
        Self::of(member::LocalOpener { address, config })
    }

    /// A channel with the default configuration, connected to each shard as far as they can be [reached](Self::reach).
    ///
    /// # Errors
    ///
    /// The address is invalid, or no connection could be made.
    pub async fn connect(address: impl IntoAddress) -> Result<Self, ConnectError> {
        Self::connect_with(address, ChannelConfig::default()).await
    }

    /// The same with another configuration.
    ///
    /// # Errors
    ///
    /// The address is invalid, a setting is outside its range, or no connection could be made.
    pub async fn connect_with(
        address: impl IntoAddress,
        config: ChannelConfig,
    ) -> Result<Self, ConnectError> {
        let channel = Self::new(address, config)?;
        channel.reach().await.map_err(ConnectError::NotConnected)?;
        Ok(channel)
    }

    /// Connects to the shards that have no connection yet, and waits until all have one or all tries are used up (eight
    /// for each shard). Returns whether all have one. Calls need not wait for it.
    ///
    /// Dropping the future stops no connect that was begun.
    ///
    /// # Errors
    ///
    /// Why there is no connection at all.
    pub async fn reach(&self) -> Result<bool, NotSent> {
        self.inner.retry();
        loop {
            self.inner.tend();
            let (unknown, has_known) = {
                let table = self.inner.table.load();
                (table.unknown().next().cloned(), table.reached() != 0)
            };
            let Some(channel) = unknown else { break };
            match channel.ready().await {
                // A server that does not say which shard it is.
                Ok(()) if channel.server_shard().is_none() => break,
                Ok(()) => {}
                Err(_) if has_known => break,
                Err(why) => return Err(why),
            }
        }
        Ok(self.inner.table.load().is_complete())
    }

    /// Closes the channel for all its clones, as [`Channel::close`](crate::Channel::close) does: all its connections.
    pub async fn close(&self) {
        for channel in self.inner.close() {
            channel.close().await;
        }
    }
}

#[cfg(any(feature = "shard", feature = "tokio"))]
impl ShardedChannel<crate::SharedChannel> {
    /// A channel for callers on any thread, whose connections this thread drives. It connects when it is first used.
    ///
    /// # Errors
    ///
    /// The address is invalid, or a setting is outside its range.
    #[cfg(feature = "shard")]
    pub fn on_thread(
        thread: &crate::ClientThread,
        address: impl IntoAddress,
        config: ChannelConfig,
    ) -> Result<Self, ConnectError> {
        config.check()?;
        let address = address.into_address().map_err(ConnectError::Address)?;
        Self::of(member::SharedOpener::Thread { thread: thread.clone(), address, config })
    }

    /// A channel for callers on any thread, whose connections are tasks of the tokio runtime that this is called in. It
    /// connects when it is first used.
    ///
    /// # Errors
    ///
    /// The address is invalid, a setting is outside its range, or there is no runtime here.
    #[cfg(feature = "tokio")]
    pub fn on_tokio(
        address: impl IntoAddress,
        config: ChannelConfig,
    ) -> Result<Self, ConnectError> {
        let opener = corewire_client::TokioOpener::here(address, config)?;
        Self::of(member::SharedOpener::Tokio(opener))
    }

    /// Closes the channel for all its clones, as [`SharedChannel::close`](crate::SharedChannel::close) does: all its
    /// connections.
    pub async fn close(&self) {
        for channel in self.inner.close() {
            channel.close().await;
        }
    }
}
