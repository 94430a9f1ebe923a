//! The kinds of channels that a sharded channel can be made of.

#[cfg(feature = "shard")]
use corewire_client::{Address, ChannelConfig};
use corewire_client::{NotSent, Transport};

/// A kind of channel that a [`ShardedChannel`](super::ShardedChannel) can be made of:
/// [`Channel`](crate::Channel) and [`SharedChannel`](crate::SharedChannel).
///
/// ```
/// use corewire::{ShardMember, ShardedChannel};
///
/// /// Whether all shards of the server have a connection.
/// fn is_complete<C: ShardMember>(channel: &ShardedChannel<C>) -> bool {
///     channel.shards().is_some_and(|shards| channel.reached() == usize::from(shards))
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "a `ShardedChannel` cannot be made of `{Self}`",
    note = "it can be made of `corewire::Channel` and of `corewire::SharedChannel`"
)]
pub trait ShardMember: Transport {
    /// What is needed to make another one to the same server.
    #[doc(hidden)]
    type Opener: 'static;

    /// Another one.
    ///
    /// # Errors
    ///
    /// Why there can be none here.
    #[doc(hidden)]
    fn open(opener: &Self::Opener) -> Result<Self, NotSent>;

    /// Connects if there is no connection, and does not wait for it.
    #[doc(hidden)]
    fn begin_connect(&self);

    /// The shard at the other end, and how many there are.
    #[doc(hidden)]
    fn server_shard(&self) -> Option<(u16, u16)>;
}

#[cfg(feature = "shard")]
#[doc(hidden)]
#[derive(Debug)]
#[allow(unnameable_types, reason = "it is nobody's to name")]
pub struct LocalOpener {
    pub(super) address: Address,
    pub(super) config: ChannelConfig,
}

#[cfg(feature = "shard")]
impl ShardMember for crate::Channel {
    type Opener = LocalOpener;

    fn open(opener: &LocalOpener) -> Result<Self, NotSent> {
        use corewire_client::ConnectError;

        Self::new(&opener.address, opener.config.clone()).map_err(|error| match error {
            ConnectError::NotConnected(why) => why,
            // Both were checked when the first one was made.
            other => NotSent::NoConnection(other.to_string()),
        })
    }

    fn begin_connect(&self) {
        Self::begin_connect(self);
    }

    fn server_shard(&self) -> Option<(u16, u16)> {
        Self::server_shard(self)
    }
}

#[cfg(any(feature = "shard", feature = "tokio"))]
#[doc(hidden)]
#[derive(Debug)]
#[allow(unnameable_types, reason = "it is nobody's to name")]
pub enum SharedOpener {
    #[cfg(feature = "shard")]
    Thread { thread: crate::ClientThread, address: Address, config: ChannelConfig },
    #[cfg(feature = "tokio")]
    Tokio(corewire_client::TokioOpener),
}

#[cfg(any(feature = "shard", feature = "tokio"))]
impl ShardMember for crate::SharedChannel {
    type Opener = SharedOpener;

    fn open(opener: &SharedOpener) -> Result<Self, NotSent> {
        match opener {
            #[cfg(feature = "shard")]
            SharedOpener::Thread { thread, address, config } => thread
                .channel(address, config.clone())
                // Both were checked when the first one was made.
                .map_err(|error| NotSent::NoConnection(error.to_string())),
            #[cfg(feature = "tokio")]
            SharedOpener::Tokio(opener) => Ok(opener.open()),
        }
    }

    fn begin_connect(&self) {
        Self::begin_connect(self);
    }

    fn server_shard(&self) -> Option<(u16, u16)> {
        Self::server_shard(self)
    }
}
