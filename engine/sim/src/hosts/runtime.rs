//! The kinds of client channels: what callers need of each, and what a host is that drives others than a shard's.
//!
//! A client host is always a shard of the engine: it has the tasks, the timers and the time of that. On a host of the
//! first kind callers use the shard's own channels. On one of another kind there is a [`Runtime`] in addition, whose channels
//! the callers use instead, and the shard is what a runtime of tokio is in production: it polls the callers' tasks and those
//! that drive the channels.
//!
//! A further kind implements [`Runtime`], and [`Calls`] if its channels are others; `lib.rs` makes it. Nothing here knows the
//! world.

use std::future::{Future, ready};
use std::time::Duration;

use corewire_client::{
    CallFailure, ChannelConfig, SharedChannel, SharedStreamCall, SharedStreamWriter, StreamHandle,
    Transport, WriteMessages,
};
use corewire_codec::{FrameWriter, RequestHead, Status};
use corewire_engine::testing::sim::{self, ChannelSnapshot};
use corewire_engine::{Channel, StreamCall, StreamWriter};
use corewire_proto::StreamKind;

/// Which kinds of channels the clients of a run use. It changes no plan: what else is drawn for a host without a shard's
/// channels comes from dice of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shells {
    /// Those of a shard.
    #[default]
    Shard,
    /// Shared channels that a task drives, as tokio's.
    Tokio,
    /// Each client host of a kind that is drawn for it.
    Mixed,
}

impl Shells {
    /// Every choice.
    pub const ALL: [Self; 3] = [Self::Shard, Self::Tokio, Self::Mixed];
}

/// What a caller needs of a channel.
pub(crate) trait Calls: Transport + Clone {
    type Call: StreamHandle;
    type Writer: WriteMessages;

    fn stream<E>(
        &self,
        kind: StreamKind,
        head: RequestHead,
        timeout: Option<Duration>,
        encode: E,
    ) -> impl Future<Output = Result<(Self::Call, Option<Self::Writer>), CallFailure>>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status>;

    /// Whether a request that is encoded now may still turn out not to be sent.
    fn is_early(&self) -> bool;
}

impl Calls for Channel {
    type Call = StreamCall;
    type Writer = StreamWriter;

    fn stream<E>(
        &self,
        kind: StreamKind,
        head: RequestHead,
        timeout: Option<Duration>,
        encode: E,
    ) -> impl Future<Output = Result<(StreamCall, Option<StreamWriter>), CallFailure>>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status>,
    {
        self.stream(kind, head, timeout, encode)
    }

    fn is_early(&self) -> bool {
        !sim::is_written(self)
    }
}

impl Calls for SharedChannel {
    type Call = SharedStreamCall;
    type Writer = SharedStreamWriter;

    fn stream<E>(
        &self,
        kind: StreamKind,
        head: RequestHead,
        timeout: Option<Duration>,
        encode: E,
    ) -> impl Future<Output = Result<(SharedStreamCall, Option<SharedStreamWriter>), CallFailure>>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status>,
    {
        ready(self.stream(kind, head, timeout, encode))
    }

    /// It is encoded before the driver sees it.
    fn is_early(&self) -> bool {
        true
    }
}

/// A channel of a client host.
#[derive(Clone, Debug)]
pub(crate) enum AnyChannel {
    Shard(Channel),
    Shared(SharedChannel),
}

/// What a channel holds, for checks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) channel: ChannelSnapshot,
    /// Received bytes that were not handled.
    pub(crate) unread: usize,
    /// What its channel's setting of that name is.
    pub(crate) unsent_max: usize,
    /// Its driver was told of something and has not looked.
    pub(crate) has_news: bool,
    /// The rules are not enforced.
    pub(crate) tainted: bool,
}

/// What drives the channels of a client host, if that is not its shard itself. Everything but checks is called as code of
/// the host's shard.
pub(crate) trait Runtime {
    /// A new channel to the server at this address. What is left to chance is drawn from `jitter`.
    fn channel(&self, server: usize, config: ChannelConfig, jitter: u64) -> SharedChannel;

    /// The poll set of its sockets.
    fn set(&self) -> usize;

    /// Hears what has become of its sockets.
    fn hear(&self);

    /// Ends the calls whose time has been over for a while, as another thread does when nobody polls the runtime.
    fn expire(&self);

    /// How many channels are driven, also those without a handle.
    fn drivers(&self) -> usize;

    /// What each connection of each of its channels holds; of a channel without one, what that holds.
    fn held(&self) -> Vec<Held>;
}
