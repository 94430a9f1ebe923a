//! The queues between the callers of shared channels and what drives the connections.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::time::Instant;

use crate::failure::{CallFailure, NotSent};
use crate::remote::command::{Command, Control};

/// Calls that may wait in a queue until its driver takes them. One more fails at once with
/// [`NotSent::QueueFull`].
const CALLS_MAX: usize = 65_536;

/// How a driver learns that there is something in its queues.
pub trait Bell: fmt::Debug + Send + Sync {
    /// Makes the driver look. It costs at most one system call, and none while an earlier ring is pending.
    fn ring(&self);

    /// The time by the driver's clock, from which the deadlines of calls count.
    fn now(&self) -> Instant {
        Instant::now()
    }

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
}

/// Rings when it is dropped: the queues are closed by then, so the driver looks and sees that.
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
    orphans: Arc<Orphans>,
    /// Dropped last, so that it rings when the queues are closed.
    bell: LastRing,
}

/// The driver's end.
#[derive(Debug)]
pub struct Inbox {
    /// Calls, in their order.
    pub calls: flume::Receiver<Command>,
    /// Control messages.
    pub control: flume::Receiver<Control>,
    orphans: Arc<Orphans>,
}

/// What lies in the queues when their driver goes. A queue keeps that for as long as somebody can send, so a call in it
/// would never end; whoever sees that the driver has gone takes it out.
#[derive(Debug)]
struct Orphans {
    is_gone: AtomicBool,
    calls: flume::Receiver<Command>,
    control: flume::Receiver<Control>,
}

impl Orphans {
    fn drop_all(&self) {
        drop(self.calls.drain());
        drop(self.control.drain());
    }
}

impl Drop for Inbox {
    /// Whoever sends from now on sees the flag, behind the queue's lock; what was sent before is taken out here.
    fn drop(&mut self) {
        self.orphans.is_gone.store(true, Ordering::SeqCst);
        self.orphans.drop_all();
    }
}

impl Mailbox {
    /// Both ends of empty queues.
    pub fn new(bell: impl Bell + 'static) -> (Self, Inbox) {
        let bell = LastRing(Box::new(bell));
        let (calls, calls_out) = flume::bounded(CALLS_MAX);
        let (control, control_out) = flume::unbounded();
        let orphans = Arc::new(Orphans {
            is_gone: AtomicBool::new(false),
            calls: calls_out.clone(),
            control: control_out.clone(),
        });
        let inbox = Inbox { calls: calls_out, control: control_out, orphans: Arc::clone(&orphans) };
        (Self { calls, control, orphans, bell }, inbox)
    }

    /// Hands a call over, or ends it at once.
    pub(crate) fn call(&self, command: Command) {
        match self.calls.try_send(command) {
            Ok(()) => self.ring(),
            Err(flume::TrySendError::Full(command)) => {
                command.done.complete(Err(CallFailure::NotSent(NotSent::QueueFull)));
            }
            // Dropping it reports that its driver has ended.
            Err(flume::TrySendError::Disconnected(command)) => drop(command),
        }
    }

    /// Something was put into a queue.
    fn ring(&self) {
        if self.orphans.is_gone.load(Ordering::SeqCst) {
            return self.orphans.drop_all();
        }
        self.bell.0.ring();
    }

    /// Sends the driver a control message.
    pub fn control(&self, control: Control) {
        // The mailbox has a receiver itself, so this never fails.
        let _ = self.control.send(control);
        self.ring();
    }

    /// Whether something was sent that the driver has not taken.
    #[must_use]
    pub fn has_news(&self) -> bool {
        !self.calls.is_empty() || !self.control.is_empty()
    }

    /// Whether this thread may sleep until a reply comes: not if it runs a shard, and not if the
    /// connection may need this very thread.
    pub(crate) fn may_block(&self) -> bool {
        !crate::wait::is_shard() && self.bell.0.may_block()
    }

    /// The time by the driver's clock.
    pub(super) fn now(&self) -> Instant {
        self.bell.0.now()
    }
}

impl Inbox {
    /// Whether something waits to be taken.
    pub fn has_news(&self) -> bool {
        !self.calls.is_empty() || !self.control.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::command::tests::noted;

    /// A driver that is dropped with calls in its queue, as a runtime drops its tasks, while others make calls.
    #[test]
    fn calls_end_with_their_driver() {
        let (mailbox, inbox) = Mailbox::new(Waker::noop().clone());
        let (before, outcomes) = noted();
        mailbox.call(before);
        let (hold, closed) = oneshot::channel();
        mailbox.control(Control::Close { channel: 0, hold: Arc::new(hold) });
        assert!(outcomes.is_empty(), "it waits for the driver");
        drop(inbox);
        assert_eq!(outcomes.len(), 1);
        assert!(closed.has_message() || closed.is_closed(), "whoever waits for the end goes on");
        let (after, outcomes) = noted();
        mailbox.call(after);
        assert_eq!(outcomes.len(), 1, "nobody will take it");
    }
}
