//! The kinds of client channels: what callers need of each, and what a host is that drives others than a shard's.
//!
//! A client host is always a shard of the engine: it has the tasks, the timers and the time of that. On a host of the
//! first kind callers use the shard's own channels. On one of another kind there is a [`Runtime`] in addition, whose channels
//! the callers use instead, and the shard is what a runtime of tokio is in production: it polls the callers' tasks.
//!
//! A further kind implements [`Runtime`], and [`Calls`] if its channels are others; `lib.rs` makes it. Nothing here knows the
//! world.

use std::cell::Cell;
use std::future::{Future, ready};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use corewire_client::testing::{ConnectionSnapshot, CoreSnapshot};
use corewire_client::{
    CallFailure, ChannelConfig, Outcome, SharedChannel, SharedStreamCall, SharedStreamWriter,
    StreamHandle, Transport, WriteMessages,
};
use corewire_codec::{FrameWriter, RequestHead, Status};
use corewire_engine::testing::sim::{self, ChannelSnapshot, SimClientThread, StreamSnapshot};
use corewire_engine::{Channel, StreamCall, StreamWriter};
use corewire_proto::StreamKind;

use crate::hosts::blocking::channel::{BlockedCall, BlockedWriter, BlockingChannel};

/// Which kinds of channels the clients of a run use. It changes no plan: what else is drawn for a host without a shard's
/// channels comes from dice of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shells {
    /// Those of a shard.
    #[default]
    Shard,
    /// Shared channels that a task drives, as tokio's.
    Tokio,
    /// Shared channels that a client thread drives.
    Thread,
    /// Blocking channels.
    Blocking,
    /// Each client host of a kind that is drawn for it.
    Mixed,
}

impl Shells {
    /// Every choice.
    pub const ALL: [Self; 5] =
        [Self::Shard, Self::Tokio, Self::Thread, Self::Blocking, Self::Mixed];

    /// The kinds that a client host can be of.
    pub(crate) const KINDS: [Self; 4] = [Self::Shard, Self::Tokio, Self::Thread, Self::Blocking];
}

/// What a runtime is made of.
pub(crate) enum Seat {
    /// Tasks of this host; whether their wires change bytes.
    Tasks { host: usize, mutating: bool },
    /// Threads of this host, each with a channel.
    Threads { host: usize, mutating: bool },
    /// A client thread.
    Thread { thread: SimClientThread, mutating: bool },
}

/// What a caller needs of a channel.
pub(crate) trait Calls: Clone + 'static {
    /// Whether a caller keeps the channel from others while it waits.
    const BLOCKS: bool = false;

    type Call: StreamHandle;
    type Writer: WriteMessages;

    fn call<E>(
        &self,
        head: RequestHead,
        timeout: Option<Duration>,
        encode: E,
    ) -> impl Future<Output = Outcome>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static;

    fn stream<E>(
        &self,
        kind: StreamKind,
        head: RequestHead,
        timeout: Option<Duration>,
        encode: E,
    ) -> impl Future<Output = Result<(Self::Call, Option<Self::Writer>), CallFailure>>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static;

    /// Waits until no other caller keeps the channel.
    fn poll_free(&self, _: &Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    /// Whether one caller keeps it for itself, at any time.
    fn is_busy(&self) -> Option<Rc<Cell<bool>>> {
        None
    }

    /// Whether a request that is encoded now may still turn out not to be sent.
    fn is_early(&self) -> bool;
}

impl Calls for Channel {
    type Call = StreamCall;
    type Writer = StreamWriter;

    fn call<E>(
        &self,
        head: RequestHead,
        timeout: Option<Duration>,
        encode: E,
    ) -> impl Future<Output = Outcome>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        Transport::call(self, head, timeout, encode)
    }

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

    fn call<E>(
        &self,
        head: RequestHead,
        timeout: Option<Duration>,
        encode: E,
    ) -> impl Future<Output = Outcome>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        Transport::call(self, head, timeout, encode)
    }

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

impl Calls for BlockingChannel {
    const BLOCKS: bool = true;

    type Call = BlockedCall;
    type Writer = BlockedWriter;

    fn call<E>(
        &self,
        head: RequestHead,
        timeout: Option<Duration>,
        encode: E,
    ) -> impl Future<Output = Outcome>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        self.call(head, timeout, encode)
    }

    fn stream<E>(
        &self,
        kind: StreamKind,
        head: RequestHead,
        timeout: Option<Duration>,
        encode: E,
    ) -> impl Future<Output = Result<(BlockedCall, Option<BlockedWriter>), CallFailure>>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        self.stream(kind, head, timeout, encode)
    }

    fn poll_free(&self, context: &Context<'_>) -> Poll<()> {
        self.worker().poll_free(context)
    }

    fn is_busy(&self) -> Option<Rc<Cell<bool>>> {
        Some(self.worker().is_busy())
    }

    fn is_early(&self) -> bool {
        !self.worker().is_greeted()
    }
}

/// A channel of a client host.
#[derive(Clone, Debug)]
pub(crate) enum AnyChannel {
    Shard(Channel),
    Shared(SharedChannel),
    Blocking(BlockingChannel),
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

/// What a channel that a [`ClientCore`](corewire_client::core::channel::ClientCore) decides for holds, by its
/// connections.
pub(crate) fn held(snapshot: &CoreSnapshot, unsent_max: usize, tainted: bool) -> Vec<Held> {
    let of_channel = |channel, unread| Held {
        channel: ChannelSnapshot {
            connecting: snapshot.connecting,
            waiting: snapshot.waiting,
            ..channel
        },
        unread,
        unsent_max,
        has_news: snapshot.has_news,
        tainted,
    };
    let of = |connection: &ConnectionSnapshot| {
        let streams = connection.id.map(|id| StreamSnapshot {
            connection: id,
            open: connection.open_streams,
            accounts: connection.accounts,
        });
        let channel = ChannelSnapshot {
            up: true,
            ready: connection.ready,
            connecting: false,
            in_flight: connection.in_flight,
            free_slots: if connection.retired { 0 } else { connection.free_slots },
            calls: connection.calls + connection.streams,
            waiting: 0,
            unsent: connection.unsent,
            held: connection.held,
            streams,
        };
        of_channel(channel, connection.unread)
    };
    let mut all: Vec<Held> = snapshot.connections.iter().map(of).collect();
    if all.is_empty() {
        all.push(of_channel(ChannelSnapshot::default(), 0));
    }
    all
}

/// What drives the channels of a client host, if that is not its shard itself. Everything but checks is called as code of
/// the host's shard.
pub(crate) trait Runtime {
    /// A new channel to the server at this address. What is left to chance is drawn from `jitter`.
    fn channel(&self, server: usize, config: ChannelConfig, jitter: u64) -> Option<AnyChannel>;

    /// Whether another host drives them, which hears only later what callers do.
    fn is_apart(&self) -> bool {
        false
    }

    /// Whether calls block their callers: those cannot give them up.
    fn blocks(&self) -> bool {
        false
    }

    /// The poll set of its sockets, if they are not another host's.
    fn set(&self) -> Option<usize>;

    /// Hears what has become of its sockets.
    fn hear(&self);

    /// Ends the calls whose time has been over for a while, as another thread does when nobody polls the runtime.
    fn expire(&self);

    /// The callers have had their turn.
    fn rest(&self) {}

    /// Nobody calls any more: from now on what arrives is heard all the same.
    fn hear_all(&self) {}

    /// Whether it has something to do although nothing is new of its sockets.
    fn is_due(&self) -> bool {
        false
    }

    /// When it has something to do next even if nothing happens, in ns.
    fn next_timer(&self) -> Option<u64> {
        None
    }

    /// No channel is made any more.
    fn release(&self) {}

    /// What its drivers do, for reports.
    fn describe(&self) -> String {
        String::new()
    }

    /// How many channels are driven, also those without a handle.
    fn drivers(&self) -> usize;

    /// What each connection of each of its channels holds; of a channel without one, what that holds.
    fn held(&self) -> Vec<Held>;
}
