//! The queues between the callers of shared channels and what drives the connections.

use std::fmt;
use std::task::Waker;

use crate::failure::{CallFailure, NotSent};
use crate::remote::command::{Command, Control};

/// Calls that may lie in a queue until its driver takes them. One more fails at once with
/// [`NotSent::QueueFull`].
const CALLS_MAX: usize = 65_536;

/// How a driver hears that there is something in its queues.
pub trait Bell: fmt::Debug + Send + Sync {
    /// Has the driver look. It costs a system call at most, and none while an earlier ring is unheard.
    fn ring(&self);

    /// Whether each of the driver's calls is a task with a waker of its own.
    fn has_tasks(&self) -> bool;

    /// Whether the driver goes on while this thread sleeps.
    fn may_block(&self) -> bool {
        true
    }
}

/// The waker of a task of a shard. It rings the shard's doorbell once until the task looks: one system call
/// brings any number of calls.
impl Bell for Waker {
    fn ring(&self) {
        self.wake_by_ref();
    }

    fn has_tasks(&self) -> bool {
        true
    }
}

/// Rings when it is dropped: the queues are closed by then, and the driver looks and sees it.
#[derive(Debug)]
struct LastRing(Box<dyn Bell>);

impl Drop for LastRing {
    fn drop(&mut self) {
        self.0.ring();
    }
}

/// The callers' end. Dropping it tells the driver that nobody can call any more.
#[derive(Debug)]
pub struct Mailbox {
    calls: flume::Sender<Command>,
    control: flume::Sender<Control>,
    /// Dropped last, so that it rings when the queues are closed.
    bell: LastRing,
}

/// The driver's end.
#[derive(Debug)]
pub struct Inbox {
    /// Calls, in their order.
    pub calls: flume::Receiver<Command>,
    /// Whatever else there is to hear.
    pub control: flume::Receiver<Control>,
}

impl Mailbox {
    /// Both ends of empty queues.
    pub fn new(bell: impl Bell + 'static) -> (Self, Inbox) {
        let bell = LastRing(Box::new(bell));
        let (calls, calls_out) = flume::bounded(CALLS_MAX);
        let (control, control_out) = flume::unbounded();
        (Self { calls, control, bell }, Inbox { calls: calls_out, control: control_out })
    }

    /// Hands a call over, or ends it at once.
    pub(crate) fn call(&self, command: Command) {
        match self.calls.try_send(command) {
            Ok(()) => self.bell.0.ring(),
            Err(flume::TrySendError::Full(command)) => {
                command.done.complete(Err(CallFailure::NotSent(NotSent::QueueFull)));
            }
            // It says itself that its driver has ended.
            Err(flume::TrySendError::Disconnected(command)) => drop(command),
        }
    }

    /// Tells the driver something that is no call.
    pub fn control(&self, control: Control) {
        // A driver that is gone has nothing to be told.
        let _ = self.control.send(control);
        self.bell.0.ring();
    }

    /// Whether the driver is still there.
    pub fn is_heard(&self) -> bool {
        !self.control.is_disconnected()
    }

    /// Whether this thread may sleep until a reply comes: not if it is a shard's, and not if the
    /// connection may need this very thread.
    pub(crate) fn may_block(&self) -> bool {
        !crate::wait::is_shard() && self.bell.0.may_block()
    }

    /// Whether each of the driver's calls is a task with a waker of its own.
    pub(crate) fn has_tasks(&self) -> bool {
        self.bell.0.has_tasks()
    }
}

impl Inbox {
    /// Whether something waits to be taken.
    pub fn has_news(&self) -> bool {
        !self.calls.is_empty() || !self.control.is_empty()
    }
}
