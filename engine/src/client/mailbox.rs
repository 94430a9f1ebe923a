//! The queues between the callers of shared channels and what drives the connections.

use std::sync::Arc;
#[cfg(feature = "shard")]
use std::task::Waker;

#[cfg(feature = "shard")]
use crate::client::address::Address;
#[cfg(feature = "shard")]
use crate::client::config::ChannelConfig;
use crate::client::failure::{CallFailure, NotSent};
use crate::client::remote::{Command, Spawned};

/// Calls that may lie in a queue until its driver takes them. One more fails at once with
/// [`NotSent::QueueFull`].
const CALLS_MAX: usize = 65_536;

/// Kept by whoever has a connection of a channel that is being closed. Those who wait for that hear when
/// the last of them has dropped it.
pub(crate) type Hold = Arc<oneshot::Sender<()>>;

/// What else a driver is told. At most one for each channel, call and waiting `close`, so the queue of
/// these is bounded by what others bound.
#[derive(Debug)]
pub(crate) enum Control {
    /// A channel begins; its calls follow.
    #[cfg(feature = "shard")]
    Open { channel: u32, address: Address, config: Box<ChannelConfig> },
    /// Nobody waits for this call any more.
    Cancel(u64),
    /// The caller's ends of this stream want something. At most one for each until the driver looks.
    #[cfg(feature = "tokio")]
    Stream(u64),
    /// What sends a call's stream runs beside the connection; one for each call that streams.
    Spawn(Spawned),
    /// No call begins on this channel any more, but those that were made before.
    Close {
        #[cfg(feature = "shard")]
        channel: u32,
        hold: Hold,
    },
    /// No handle of this channel is left. Calls that were made before are still carried.
    #[cfg(feature = "shard")]
    Release(u32),
}

/// How a driver hears that there is something in its queues.
#[derive(Debug)]
pub(crate) enum Bell {
    /// The waker of a task of a shard. It rings the shard's doorbell once until the task looks: one
    /// system call brings any number of calls.
    #[cfg(feature = "shard")]
    Shard(Waker),
    /// A queue of one: what is in it says that it was rung.
    #[cfg(feature = "tokio")]
    Tokio(tokio::sync::mpsc::Sender<()>),
}

impl Bell {
    fn ring(&self) {
        match self {
            #[cfg(feature = "shard")]
            Self::Shard(task) => task.wake_by_ref(),
            // Full is rung already; closed is a driver that is gone.
            #[cfg(feature = "tokio")]
            Self::Tokio(bell) => {
                if bell.try_send(()).is_ok() {
                    crate::client::tokio::watch::note_ring();
                }
            }
        }
    }
}

impl Drop for Bell {
    /// The last word of a mailbox, whose queues are closed by now: the driver looks and sees it.
    fn drop(&mut self) {
        self.ring();
    }
}

/// The callers' end. Dropping it tells the driver that nobody can call any more.
#[derive(Debug)]
pub(crate) struct Mailbox {
    calls: flume::Sender<Command>,
    control: flume::Sender<Control>,
    /// Dropped last, so that it rings when the queues are closed.
    bell: Bell,
}

/// The driver's end.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(crate) calls: flume::Receiver<Command>,
    pub(crate) control: flume::Receiver<Control>,
}

impl Mailbox {
    /// Both ends of empty queues.
    pub(crate) fn new(bell: Bell) -> (Self, Inbox) {
        let (calls, calls_out) = flume::bounded(CALLS_MAX);
        let (control, control_out) = flume::unbounded();
        (Self { calls, control, bell }, Inbox { calls: calls_out, control: control_out })
    }

    /// Hands a call over, or ends it at once.
    pub(crate) fn call(&self, command: Command) {
        match self.calls.try_send(command) {
            Ok(()) => self.bell.ring(),
            Err(flume::TrySendError::Full(command)) => {
                command.done.complete(Err(CallFailure::NotSent(NotSent::QueueFull)));
            }
            // It says itself that its driver has ended.
            Err(flume::TrySendError::Disconnected(command)) => drop(command),
        }
    }

    pub(crate) fn control(&self, control: Control) {
        // A driver that is gone has nothing to be told.
        let _ = self.control.send(control);
        self.bell.ring();
    }

    /// Whether the driver is still there.
    #[cfg(feature = "tokio")]
    pub(crate) fn is_heard(&self) -> bool {
        !self.control.is_disconnected()
    }

    /// Whether this thread may sleep until a reply comes: not if it is a shard's, and not if the
    /// connection may need this very thread.
    pub(crate) fn may_block(&self) -> bool {
        #[cfg(feature = "tokio")]
        if matches!(self.bell, Bell::Tokio(_)) && tokio::runtime::Handle::try_current().is_ok() {
            return false;
        }
        !crate::client::wait::is_shard()
    }
}

impl Mailbox {
    /// Whether each of the driver's calls is a task with a waker of its own.
    #[cfg(feature = "tokio")]
    pub(crate) fn has_tasks(&self) -> bool {
        match &self.bell {
            #[cfg(feature = "shard")]
            Bell::Shard(_) => true,
            #[cfg(feature = "tokio")]
            Bell::Tokio(_) => false,
        }
    }
}

impl Inbox {
    /// Whether something waits to be taken.
    pub(crate) fn has_news(&self) -> bool {
        !self.calls.is_empty() || !self.control.is_empty()
    }
}
