//! A thread that runs a shard without a server and makes the calls of other threads.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::Poll;
use std::thread;
use std::time::Instant;

use corewire_codec::Limits;

use crate::address::{Address, IntoAddress};
use crate::channel::Channel;
use crate::config::ChannelConfig;
use crate::doorbell::Doorbell;
use crate::error::StartError;
use crate::failure::{CallFailure, ConnectError, NotSent};
use crate::local::Local;
use crate::mailbox::{Bell, Control, Inbox, Mailbox};
use crate::rt::{self, Task};
use crate::server::{ClientShard, run_on_shard_with};
use crate::shared::{Command, SharedChannel};
use crate::transport::Outcome;

/// Calls that are taken before the connections have their turn.
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
    /// Starts the thread; answers when it turns.
    ///
    /// # Errors
    ///
    /// Why the shard cannot start, with the remedy.
    pub fn start(shard: ClientShard) -> Result<Self, StartError> {
        let failed = |what| move |error| StartError::Io { what, error };
        let doorbell = Arc::new(Doorbell::new().map_err(failed("make a shard's eventfd"))?);
        let rung = Arc::new(AtomicBool::new(false));
        let bell = Bell::Shard { doorbell: Arc::clone(&doorbell), rung: Arc::clone(&rung) };
        let (mailbox, inbox) = Mailbox::new(bell);
        let (ready, started) = flume::bounded(2);
        let body = move || {
            let turns = ready.clone();
            let main = || async move {
                // Whoever asked for the thread may have gone; that shows in the inbox.
                let _ = turns.send(Ok(()));
                drop(turns);
                Pump::new(inbox, rung).run().await;
            };
            if let Err(error) = run_on_shard_with(shard, doorbell, main) {
                tracing::error!(%error, "a client thread has ended");
                let _ = ready.send(Err(error));
            }
        };
        thread::Builder::new()
            .name("corewire-client".into())
            .spawn(body)
            .map_err(failed("start a client's thread"))?;
        let gone = || StartError::Shard { shard: 0, reason: "its thread panicked".to_owned() };
        started.recv().map_err(|_| gone())??;
        Ok(Self { mailbox: Arc::new(mailbox), channels: Arc::default() })
    }

    /// A channel to `address`, which connects when it is first used. Its
    /// [`waiting_max`](ChannelConfig::waiting_max) bounds the calls that wait for a slot.
    ///
    /// # Errors
    ///
    /// The address is none.
    pub fn channel(
        &self,
        address: impl IntoAddress,
        config: ChannelConfig,
    ) -> Result<SharedChannel, ConnectError> {
        let address = address.into_address().map_err(ConnectError::Address)?;
        let channel = self.channels.fetch_add(1, Ordering::Relaxed);
        let config = Box::new(config);
        self.mailbox.control(Control::Open { channel, address: address.clone(), config });
        Ok(SharedChannel::new(Arc::clone(&self.mailbox), channel, address))
    }
}

type Tasks = Rc<RefCell<HashMap<u64, Task<()>>>>;

/// Takes calls out of the inbox and makes each a task of the shard.
struct Pump {
    inbox: Inbox,
    rung: Arc<AtomicBool>,
    channels: HashMap<u32, Channel>,
    closing: Vec<u32>,
    /// The calls in flight, by their names.
    tasks: Tasks,
}

impl Pump {
    fn new(inbox: Inbox, rung: Arc<AtomicBool>) -> Self {
        Self { inbox, rung, channels: HashMap::new(), closing: Vec::new(), tasks: Tasks::default() }
    }

    async fn run(mut self) {
        let Some(local) = Local::current() else { return };
        loop {
            let closed = poll_fn(|context| {
                local.set_inbox(context.waker().clone());
                // Rung from here on, it rings again.
                self.rung.store(false, Ordering::SeqCst);
                match self.inbox.has_news() {
                    true => Poll::Ready(false),
                    false if self.is_over() => Poll::Ready(true),
                    false => Poll::Pending,
                }
            })
            .await;
            if closed {
                return;
            }
            self.take();
            rt::yield_now().await;
        }
    }

    /// Whether nobody can call any more and nothing is in flight.
    fn is_over(&self) -> bool {
        self.inbox.calls.is_disconnected() && self.tasks.borrow().is_empty()
    }

    fn take(&mut self) {
        while let Ok(control) = self.inbox.control.try_recv() {
            match control {
                Control::Open { channel, address, config } => self.open(channel, address, *config),
                // A call that is not here yet will be seen to be abandoned.
                Control::Cancel(id) => drop(self.tasks.borrow_mut().remove(&id)),
                Control::Close(channel) => self.closing.push(channel),
            }
        }
        for _ in 0..CALLS_PER_ROUND {
            match self.inbox.calls.try_recv() {
                Ok(command) => self.begin(command),
                Err(_) => break,
            }
        }
        if self.inbox.calls.is_empty() {
            for channel in self.closing.drain(..) {
                self.channels.remove(&channel);
            }
        }
    }

    fn open(&mut self, channel: u32, address: Address, config: ChannelConfig) {
        // This is a shard, which is all that a channel asks for.
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
        let task = rt::spawn(async move {
            command.done.begun = true;
            let outcome = carry(&channel, &mut command).await;
            command.done.complete(outcome);
            if let Some(task) = tasks.borrow_mut().remove(&id) {
                task.detach();
            }
            if tasks.borrow().is_empty()
                && let Some(local) = Local::current()
            {
                // The pump may wait for the last one.
                local.wake_inbox();
            }
        });
        self.tasks.borrow_mut().insert(id, task);
    }
}

/// Makes one call. What the queue took is no longer its time.
async fn carry(channel: &Channel, command: &mut Command) -> Outcome {
    let body = core::mem::take(&mut command.body);
    if body.len() >= Limits::EARLY.frame_bytes.get() as usize {
        // Only the server's hello says whether it takes as much.
        channel.ready().await.map_err(CallFailure::NotSent)?;
    }
    let timeout = command.deadline.map(|by| by.saturating_duration_since(Instant::now()));
    if timeout.is_some_and(|timeout| timeout.is_zero()) {
        return Err(CallFailure::DeadlineExceeded { sent: false });
    }
    let encode = |frame: &mut corewire_codec::FrameWriter<'_>| {
        body.write_to(frame);
        Ok::<_, NotSent>(())
    };
    channel.call(command.head, timeout, encode).await
}
