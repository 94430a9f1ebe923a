//! What callers send to the driver of their connection: calls and control messages.

use corewire_codec::{FrameWriter, RequestHead, Status};
use corewire_proto::CloseReason;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use crate::address::Address;
use crate::config::ChannelConfig;
use crate::core::channel::{self, ConnectionId, PendingCall, ServerSide, Waiter, WriteBody};
use crate::failure::{CallFailure, NotSent};
use crate::log_limit::{Topic, admit_here};
use crate::panics::panic_text;
use crate::remote::backlog::Body;
use crate::remote::pipe::{Event, Port};
use crate::transport::Outcome;

/// The core of a channel whose callers are on any threads.
pub type ClientCore = channel::ClientCore<Completion>;

/// One of its connections.
pub type Connection = channel::Connection<Completion>;

/// A call on its way to the driver.
#[derive(Debug)]
pub struct Command {
    /// Its channel among those of the mailbox.
    pub channel: u32,
    /// Its id, for cancelling it.
    pub id: u64,
    /// Its fields; the id and the timeout are filled in when it is written.
    pub head: RequestHead,
    /// When its caller gives up.
    pub deadline: Option<Instant>,
    /// Its encoded body.
    pub body: Body,
    /// Where its outcome goes.
    pub done: Completion,
}

pub(super) enum Sink {
    Future(oneshot::Sender<Outcome>),
    Callback(Box<dyn FnOnce(Outcome) + Send>),
    Stream(Port),
}

/// Where a call's outcome goes, exactly once: if the driver ends before the call, the drop reports that.
pub struct Completion {
    pub(super) sink: Option<Sink>,
    /// Whether the driver has begun the call: it may have run.
    pub begun: bool,
}

impl fmt::Debug for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completion").field("begun", &self.begun).finish_non_exhaustive()
    }
}

impl Completion {
    /// Whether nobody waits any more.
    pub fn is_abandoned(&self) -> bool {
        match &self.sink {
            Some(Sink::Future(sender)) => sender.is_closed(),
            Some(Sink::Stream(port)) => port.is_abandoned(),
            Some(Sink::Callback(_)) | None => false,
        }
    }

    /// The driver's end of a streaming call.
    pub fn port(&self) -> Option<&Port> {
        match &self.sink {
            Some(Sink::Stream(port)) => Some(port),
            _ => None,
        }
    }

    /// The call ended with its server's stream.
    pub fn end_stream(mut self, failure: Option<Status>) {
        if let Some(Sink::Stream(port)) = self.sink.take() {
            port.finish(Event::End(failure));
        }
    }

    /// Tells the caller how the call ended.
    pub fn complete(mut self, outcome: Outcome) {
        self.give(outcome);
    }

    fn give(&mut self, outcome: Outcome) {
        match self.sink.take() {
            // This fails if the caller is gone, which is fine.
            Some(Sink::Future(sender)) => drop(sender.send(outcome)),
            Some(Sink::Callback(callback)) => {
                // The driver has other calls; a callback's panic must not end them.
                let called = catch_unwind(AssertUnwindSafe(|| callback(outcome)));
                if let Err(panic) = called
                    && admit_here(Topic::CALLBACK_PANIC, Instant::now())
                {
                    let panic = panic_text(&*panic);
                    tracing::error!(panic, "a callback of a call panicked");
                }
            }
            Some(Sink::Stream(port)) => port.finish(Event::Outcome(outcome)),
            None => {}
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        let failure = match self.begun {
            true => CallFailure::Unknown(CloseReason::LocallyClosed),
            false => {
                let why = "what drives the channel has ended".to_owned();
                CallFailure::NotSent(NotSent::NoConnection(why))
            }
        };
        self.give(Err(failure));
    }
}

impl From<Command> for PendingCall<Completion> {
    fn from(command: Command) -> Self {
        let Command { id, head, deadline, body, done, .. } = command;
        Self { id: Some(id), head, deadline, body, waiter: done }
    }
}

impl WriteBody for Body {
    fn write_to(self, frame: &mut FrameWriter<'_>) -> Result<(), NotSent> {
        Self::write_to(self, frame);
        Ok(())
    }
}

impl Waiter for Completion {
    type Body = Body;
    type Stream = Port;
    type Hold = Hold;

    const DRIVES: bool = false;

    fn is_abandoned(&self) -> bool {
        Self::is_abandoned(self)
    }

    fn handle_begun(&mut self, _: ConnectionId, _: u32) {
        self.begun = true;
    }

    fn stream(&self) -> Option<&Port> {
        self.port()
    }

    fn end_stream(self, failure: Option<Status>) {
        Self::end_stream(self, failure);
    }

    fn complete(self, outcome: Outcome) {
        Self::complete(self, outcome);
    }
}

/// Held for each connection of a channel that is being closed. The caller that waits for the close wakes when
/// the last one is dropped.
pub type Hold = Arc<oneshot::Sender<()>>;

/// Control messages to a driver. There is at most one of a kind for each channel, call and waiting `close`, so other
/// limits bound the queue of these.
#[derive(Debug)]
pub enum Control {
    /// A channel begins; its calls follow.
    Open {
        /// Its number among those of the mailbox.
        channel: u32,
        /// Where its server is.
        address: Address,
        /// How it behaves.
        config: Box<ChannelConfig>,
        /// What is left to chance is drawn from this.
        jitter: u64,
        /// Where what the server says about itself is noted.
        server_side: Arc<ServerSide>,
    },
    /// This channel is to connect, though no call needs it yet.
    Connect(u32),
    /// Nobody waits for this call any more.
    Cancel {
        /// Its channel among those of the mailbox.
        channel: u32,
        /// Its id.
        id: u64,
    },
    /// The caller's ends of this call's streams want something. At most one for each until the driver looks.
    Stream {
        /// Its channel among those of the mailbox.
        channel: u32,
        /// Its id.
        id: u64,
    },
    /// What sends a call's stream, to run where the connection is driven; one for each streaming call.
    Spawn(Spawned),
    /// No call begins on this channel any more, except those that were made before.
    Close {
        /// Its number among those of the mailbox.
        channel: u32,
        /// To be kept until its connections are gone.
        hold: Hold,
    },
    /// No handle of this channel is left. Calls that were made before are still carried.
    Release(u32),
}

/// A future on its way to the driver of the connection.
pub struct Spawned(pub Pin<Box<dyn Future<Output = ()> + Send>>);

impl fmt::Debug for Spawned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawned").finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use corewire_codec::MethodId;

    /// A call, and what its caller waits with.
    pub(crate) fn awaited() -> (Command, oneshot::AsyncReceiver<Outcome>) {
        let (sender, outcome) = oneshot::async_channel();
        let done = Completion { sink: Some(Sink::Future(sender)), begun: false };
        (Command { done, ..noted().0 }, outcome)
    }

    /// A call, and the outcomes that it is told.
    pub(crate) fn noted() -> (Command, flume::Receiver<Outcome>) {
        let (sender, outcomes) = flume::unbounded();
        let tell = move |outcome| drop(sender.send(outcome));
        let command = Command {
            channel: 0,
            id: 1,
            head: RequestHead::new(0, MethodId(1)),
            deadline: None,
            body: Body::default(),
            done: Completion { sink: Some(Sink::Callback(Box::new(tell))), begun: false },
        };
        (command, outcomes)
    }
}
