//! A thread that runs a shard without a server and makes the calls of other threads.

mod bridge;

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Instant;

use corewire_proto::StreamKind;

use crate::channel::Channel;
use crate::error::StartError;
use crate::host::server::{ClientShard, run_on_shard};
use crate::shard::context::ShardContext;
use crate::shard::tasks::Task;
use corewire_client::address::{Address, IntoAddress};
use corewire_client::config::ChannelConfig;
use corewire_client::failure::{CallFailure, ConnectError, NotSent};
use corewire_client::remote::{SharedChannel, command::Command};
use corewire_client::remote::{
    command::{Control, Hold},
    mailbox::{Inbox, Mailbox},
};
use corewire_client::transport::Outcome;

/// How many calls are taken before the connections have their turn.
const CALLS_PER_ROUND: usize = 256;

/// A thread that drives connections for callers on other threads: a shard that serves nothing.
///
/// Cheap to clone. One thread carries any number of channels. It ends when the last clone, the last
/// channel and the last call are gone.
#[derive(Clone, Debug)]
pub struct ClientThread {
    mailbox: Arc<Mailbox>,
    channels: Arc<AtomicU32>,
}

impl ClientThread {
    /// Starts the thread; returns when it turns.
    ///
    /// # Errors
    ///
    /// Why the shard cannot start, with how to fix it.
    pub fn start(shard: ClientShard) -> Result<Self, StartError> {
        let (ready, started) = flume::bounded(1);
        let failed = ready.clone();
        let body = move || {
            if let Err(error) = run_on_shard(shard, move || Pump::run(ready)) {
                tracing::error!(%error, "a client thread has ended");
                // The caller of `start` waits for a single message.
                let _ = failed.try_send(Err(error));
            }
        };
        thread::Builder::new()
            .name("corewire-client".into())
            .spawn(body)
            .map_err(|error| StartError::Io { what: "start a client's thread", error })?;
        let gone =
            |_| StartError::Shard { shard: 0, error: io::Error::other("its thread panicked") };
        let mailbox = started.recv().map_err(gone)??;
        Ok(Self { mailbox: Arc::new(mailbox), channels: Arc::default() })
    }

    /// A channel to `address`, which connects when it is first used. Its
    /// [`waiting_max`](ChannelConfig::waiting_max) bounds the calls that wait for a slot.
    ///
    /// # Errors
    ///
    /// The address is invalid, or a setting is outside its range.
    pub fn channel(
        &self,
        address: impl IntoAddress,
        config: ChannelConfig,
    ) -> Result<SharedChannel, ConnectError> {
        config.check()?;
        let address = address.into_address().map_err(ConnectError::Address)?;
        let channel = self.channels.fetch_add(1, Ordering::Relaxed);
        let shared =
            SharedChannel::new(Arc::clone(&self.mailbox), channel, address.clone(), &config);
        let config = Box::new(config);
        self.mailbox.control(Control::Open { channel, address, config });
        Ok(shared)
    }
}

/// The calls in flight, by their ids, and the task that waits for the last of them.
#[derive(Default)]
struct Tasks {
    running: RefCell<HashMap<u64, Task<()>>>,
    pump: RefCell<Option<Waker>>,
}

impl Tasks {
    fn remove(&self, id: u64) -> Option<Task<()>> {
        self.running.borrow_mut().remove(&id)
    }

    /// A call ended by itself.
    fn handle_end(&self, id: u64) {
        if let Some(task) = self.remove(id) {
            task.detach();
        }
        if self.running.borrow().is_empty()
            && let Some(pump) = &*self.pump.borrow()
        {
            pump.wake_by_ref();
        }
    }
}

/// Takes calls out of the inbox and makes each a task of the shard.
struct Pump {
    inbox: Inbox,
    local: Rc<ShardContext>,
    channels: HashMap<u32, Channel>,
    endings: Vec<Ending>,
    /// Calls that were taken out of the queue.
    taken: u64,
    tasks: Rc<Tasks>,
}

/// A channel that ends when the calls made before have been taken.
struct Ending {
    channel: u32,
    /// How many calls of all channels the thread must have taken by then.
    after: u64,
    /// Set if the channel is being closed; otherwise its last handle was dropped.
    hold: Option<Hold>,
}

impl Pump {
    /// Hands out the mailbox, and runs until nobody can call any more and nothing is in flight. The
    /// mailbox rings through the waker of this task, which the driver serves.
    async fn run(ready: flume::Sender<Result<Mailbox, StartError>>) {
        // This is a shard's thread: its task runs.
        let Some(local) = ShardContext::current() else { return };
        let waker = poll_fn(|context| Poll::Ready(context.waker().clone())).await;
        let (mailbox, inbox) = Mailbox::new(waker.clone());
        // The caller that asked for the thread may have gone; that shows in the inbox.
        let _ = ready.send(Ok(mailbox));
        drop(ready);
        let tasks = Rc::new(Tasks::default());
        *tasks.pump.borrow_mut() = Some(waker);
        let (channels, endings) = (HashMap::new(), Vec::new());
        let mut pump = Self { inbox, local, channels, endings, taken: 0, tasks };
        poll_fn(|context| pump.poll(context)).await;
    }

    fn poll(&mut self, context: &Context<'_>) -> Poll<()> {
        self.take();
        if self.inbox.has_news() {
            // The connections have their turn in between.
            context.waker().wake_by_ref();
        } else if self.inbox.calls.is_disconnected() && self.tasks.running.borrow().is_empty() {
            return Poll::Ready(());
        }
        // What the mailbox rings is the driver's doorbell.
        self.local.note_known_wait();
        Poll::Pending
    }

    fn take(&mut self) {
        self.take_control();
        for _ in 0..CALLS_PER_ROUND {
            match self.inbox.calls.try_recv() {
                Ok(command) => {
                    self.taken += 1;
                    // Its channel may be newer than the last look at the other queue.
                    if !self.channels.contains_key(&command.channel) {
                        self.take_control();
                    }
                    self.begin(command);
                }
                Err(_) => break,
            }
        }
        for ending in core::mem::take(&mut self.endings) {
            match ending.hold {
                _ if ending.after > self.taken => self.endings.push(ending),
                Some(hold) => self.close(ending.channel, hold),
                None => drop(self.channels.remove(&ending.channel)),
            }
        }
    }

    fn take_control(&mut self) {
        while let Ok(control) = self.inbox.control.try_recv() {
            match control {
                Control::Open { channel, address, config } => self.open(channel, address, *config),
                // A call that has not arrived yet will be seen to be abandoned.
                Control::Cancel(id) => drop(self.tasks.remove(id)),
                // A stream's ends wake its task.
                Control::Stream(_) => {}
                Control::Spawn(future) => self.local.spawn(future.0).detach(),
                Control::Close { channel, hold } => self.end(channel, Some(hold)),
                Control::Release(channel) => self.end(channel, None),
            }
        }
    }

    fn end(&mut self, channel: u32, hold: Option<Hold>) {
        let after = self.taken + self.inbox.calls.len() as u64;
        self.endings.push(Ending { channel, after, hold });
    }

    /// Closes the channel after the calls that are tasks already: they have their turn first.
    fn close(&self, channel: u32, hold: Hold) {
        let Some(channel) = self.channels.get(&channel).cloned() else { return };
        let closing = self.local.spawn(async move {
            channel.close().await;
            drop(hold);
        });
        closing.detach();
    }

    fn open(&mut self, channel: u32, address: Address, config: ChannelConfig) {
        // This is a shard, which is all that a channel needs.
        if let Ok(opened) = Channel::new(address, config) {
            self.channels.insert(channel, opened);
        }
    }

    fn begin(&self, mut command: Command) {
        if command.done.is_abandoned() {
            return;
        }
        let Some(channel) = self.channels.get(&command.channel).cloned() else { return };
        let (id, tasks) = (command.id, Rc::clone(&self.tasks));
        let task = self.local.spawn(async move {
            command.done.begun = true;
            if let Some(outcome) = carry(&channel, &mut command).await {
                command.done.complete(outcome);
            }
            tasks.handle_end(id);
        });
        self.tasks.running.borrow_mut().insert(id, task);
    }
}

/// Makes one call; returns how it ended, unless that was reported already. Time spent in the queue is
/// taken off its timeout.
async fn carry(channel: &Channel, command: &mut Command) -> Option<Outcome> {
    let body = core::mem::take(&mut command.body);
    let timeout = command.deadline.map(|by| by.saturating_duration_since(Instant::now()));
    if timeout.is_some_and(|timeout| timeout.is_zero()) {
        return Some(Err(CallFailure::DeadlineExceeded { sent: false }));
    }
    if let (Some(kind), Some(port)) =
        (StreamKind::from_request_flags(command.head.flags), command.done.take_port())
    {
        bridge::carry(channel, kind, command.head, command.deadline, body, port).await;
        return None;
    }
    let encode = |frame: &mut corewire_codec::FrameWriter<'_>| {
        body.write_to(frame);
        Ok::<_, NotSent>(())
    };
    Some(channel.call(command.head, timeout, encode).await)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::channel::ChannelContext;
    use crate::net::doorbell::Doorbell;
    use corewire_client::transport::{Pending, Transport};
    use corewire_codec::{MethodId, RequestHead};

    /// A channel that is opened, and called over, while the thread takes calls out of its queue. What a
    /// second thread does in that moment is done here by a callback that the thread itself runs then.
    #[test]
    fn a_channel_is_there_before_its_first_call() {
        let local = ShardContext::new(Arc::new(Doorbell::new().unwrap()));
        let _entered = ChannelContext::new(Rc::clone(&local)).enter();
        let (mailbox, inbox) = Mailbox::new(Waker::noop().clone());
        let mailbox = Arc::new(mailbox);
        let thread = ClientThread { mailbox: Arc::clone(&mailbox), channels: Arc::default() };
        let address = "127.0.0.1:1".into_address().unwrap();
        let head = RequestHead::new(0, MethodId(1));
        let never_opened =
            SharedChannel::new(mailbox, u32::MAX, address, &ChannelConfig::default());
        never_opened.call(head, None, |_| Ok(())).then(move |_| {
            let channel = thread.channel("127.0.0.1:1", ChannelConfig::default()).unwrap();
            channel.call(head, None, |_| Ok(())).then(|_| {});
        });
        let mut pump = Pump {
            inbox,
            local,
            channels: HashMap::new(),
            endings: Vec::new(),
            taken: 0,
            tasks: Rc::default(),
        };
        pump.take();
        let begun = pump.tasks.running.take();
        assert_eq!(begun.len(), 1, "the call over the new channel was begun");
    }
}
