//! A thread that runs a shard without a server and makes the calls of other threads.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Instant;

use crate::channel::ChannelContext;
use crate::channel::driven::DrivenChannel;
use crate::error::StartError;
use crate::host::server::{ClientShard, run_on_shard};
use crate::shard::helpers::{helper_cpus, keep_to};
use corewire_client::address::{Address, IntoAddress};
use corewire_client::config::ChannelConfig;
use corewire_client::failure::ConnectError;
use corewire_client::reconnect::random_seed;
use corewire_client::remote::SharedChannel;
use corewire_client::remote::command::{ClientCore, Completion, Control, Hold};
use corewire_client::remote::mailbox::{Bell, Inbox, Mailbox};

/// How many calls are taken before the connections have their turn.
const CALLS_PER_ROUND: usize = 256;

/// A thread that drives connections for callers on other threads: a shard that serves nothing.
///
/// Cheap to clone. One thread carries any number of channels. It ends when the last clone, the last
/// channel and the last call are gone.
#[derive(Clone, Debug)]
pub struct ClientThread {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) channels: Arc<AtomicU32>,
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
        // One that is to be pinned may go to any CPU.
        let cpus = if shard.cpu.is_none() { helper_cpus() } else { None };
        let body = move || {
            keep_to(cpus.as_ref());
            if let Err(error) = run_on_shard(shard, move || Pump::run(ready, |waker| waker)) {
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
        Ok(self.open(address, config, random_seed()))
    }

    /// The same with settings that were checked.
    pub(crate) fn open(
        &self,
        address: Address,
        config: ChannelConfig,
        jitter: u64,
    ) -> SharedChannel {
        let channel = self.channels.fetch_add(1, Ordering::Relaxed);
        let shared =
            SharedChannel::new(Arc::clone(&self.mailbox), channel, address.clone(), &config);
        let config = Box::new(config);
        let server_side = shared.server_side();
        self.mailbox.control(Control::Open { channel, address, config, jitter, server_side });
        shared
    }
}

/// A channel whose callers are on other threads.
type RemoteChannel = DrivenChannel<Completion>;

/// Takes calls out of the inbox and hands them to their channels, whose connections the shard drives.
pub(crate) struct Pump {
    inbox: Inbox,
    context: Rc<ChannelContext>,
    channels: HashMap<u32, Rc<RemoteChannel>>,
    endings: Vec<Ending>,
    /// Calls that were taken out of the queue.
    taken: u64,
    /// Channels that callers want something of since the connections had their turn.
    wanted: Vec<Rc<RemoteChannel>>,
    /// Channels without a handle whose calls have not all ended.
    released: Vec<Rc<RemoteChannel>>,
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
    fn new(inbox: Inbox, context: Rc<ChannelContext>) -> Self {
        Self {
            inbox,
            context,
            channels: HashMap::new(),
            endings: Vec::new(),
            taken: 0,
            wanted: Vec::new(),
            released: Vec::new(),
        }
    }

    /// Hands out the mailbox, and runs until nobody can call any more and nothing is in flight. The
    /// mailbox rings through the waker of this task, which the driver serves; `bell` makes its bell of that.
    pub(crate) async fn run<B: Bell + 'static>(
        ready: flume::Sender<Result<Mailbox, StartError>>,
        bell: impl FnOnce(Waker) -> B,
    ) {
        // This is a shard's thread: its task runs.
        let Some(context) = ChannelContext::current() else { return };
        let waker = poll_fn(|context| Poll::Ready(context.waker().clone())).await;
        let (mailbox, inbox) = Mailbox::new(bell(waker));
        // The caller that asked for the thread may have gone; that shows in the inbox.
        let _ = ready.send(Ok(mailbox));
        drop(ready);
        let mut pump = Self::new(inbox, context);
        poll_fn(|context| pump.poll(context)).await;
    }

    fn poll(&mut self, context: &Context<'_>) -> Poll<()> {
        self.take(context);
        if self.inbox.has_news() {
            // The connections have their turn in between.
            context.waker().wake_by_ref();
        } else if self.inbox.calls.is_disconnected() && self.is_idle() {
            return Poll::Ready(());
        }
        // What the mailbox rings is the driver's doorbell.
        self.context.shard.note_known_wait();
        Poll::Pending
    }

    /// Whether no call waits and none is in flight. With the last handle every channel was released.
    fn is_idle(&self) -> bool {
        self.channels.is_empty() && self.released.is_empty()
    }

    /// Takes what callers want, up to a bound, and gives the connections concerned a turn.
    fn take(&mut self, context: &Context<'_>) {
        self.take_control();
        let now = self.context.shard.now();
        for _ in 0..CALLS_PER_ROUND {
            match self.inbox.calls.try_recv() {
                Ok(command) => {
                    self.taken += 1;
                    // Its channel may be newer than the last look at the other queue.
                    if !self.channels.contains_key(&command.channel) {
                        self.take_control();
                    }
                    // One that was released has no calls any more.
                    self.tell(command.channel, |channel| channel.begin(command, now));
                }
                Err(_) => break,
            }
        }
        if !self.endings.is_empty() {
            self.take_endings(context, now);
        }
        for channel in self.wanted.drain(..) {
            channel.wake();
        }
        if !self.released.is_empty() {
            self.released.retain(|channel| !channel.is_idle());
        }
    }

    /// Tells a channel what its callers want. `tell` returns whether the channel is to be woken.
    fn tell(&mut self, channel: u32, tell: impl FnOnce(&RemoteChannel) -> bool) {
        if let Some(channel) = self.channels.get(&channel)
            && tell(channel)
        {
            self.wanted.push(Rc::clone(channel));
        }
    }

    fn take_control(&mut self) {
        let now = self.context.shard.now();
        while let Ok(control) = self.inbox.control.try_recv() {
            match control {
                Control::Open { channel, address, config, jitter, server_side } => {
                    let core =
                        ClientCore::with_jitter(address, *config, jitter).telling(server_side);
                    let opened = DrivenChannel::new(core, &self.context.remote);
                    self.channels.insert(channel, opened);
                }
                Control::Connect(channel) => self.tell(channel, |it| it.want_connection(now)),
                // A call that has not arrived yet will be seen to be abandoned.
                Control::Cancel { channel, id } => self.tell(channel, |it| it.cancel(id)),
                Control::Stream { channel, id } => self.tell(channel, |it| it.settle_stream(id)),
                Control::Spawn(future) => self.context.shard.spawn(future.0).detach(),
                Control::Close { channel, hold } => self.end(channel, Some(hold)),
                Control::Release(channel) => self.end(channel, None),
            }
        }
    }

    fn end(&mut self, channel: u32, hold: Option<Hold>) {
        let after = self.taken + self.inbox.calls.len() as u64;
        self.endings.push(Ending { channel, after, hold });
    }

    /// Ends channels after the calls that were made before.
    #[cold]
    fn take_endings(&mut self, context: &Context<'_>, now: Instant) {
        for ending in core::mem::take(&mut self.endings) {
            match ending.hold {
                _ if ending.after > self.taken => self.endings.push(ending),
                Some(hold) => self.tell(ending.channel, |it| it.close(hold, now)),
                None => {
                    self.tell(ending.channel, |it| it.release(Some(context.waker().clone())));
                    self.released.extend(self.channels.remove(&ending.channel));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::net::doorbell::Doorbell;
    use crate::shard::context::ShardContext;
    use corewire_client::StreamHandle;
    use corewire_client::failure::CallFailure;
    use corewire_client::transport::Outcome;
    use corewire_client::transport::{Pending, Transport};
    use corewire_codec::{
        Head, Hello, HelloRecords, InFlight, Limits, MethodId, RecvBuffer, RequestHead, Role,
        SendBuffer, VERSION,
    };
    use corewire_proto::StreamKind;
    use std::future::Future;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::pin::{Pin, pin};
    use std::sync::mpsc;
    use std::time::Duration;

    /// A channel that is opened, and called over, while the thread takes calls out of its queue. What a
    /// second thread does in that moment is done here by a callback that the thread itself runs then.
    #[test]
    fn a_channel_is_there_before_its_first_call() {
        let local = ShardContext::new(Arc::new(Doorbell::new().unwrap()));
        let context = ChannelContext::new(local);
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
        let mut pump = Pump::new(inbox, context);
        pump.take(&Context::from_waker(Waker::noop()));
        // Its handle was dropped with the callback.
        let channels = pump.channels.values().chain(&pump.released);
        let begun = channels.filter(|channel| !channel.is_idle()).count();
        assert_eq!(begun, 1, "the call over the new channel was begun");
    }

    /// A server that takes 16 calls of a connection and answers none. Returns its address, and what tells when it has
    /// read a request.
    fn hanging_server() -> (std::net::SocketAddr, mpsc::Receiver<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, requests) = mpsc::channel();
        thread::spawn(move || {
            let mut socket = listener.accept().unwrap().0;
            let limits = Limits { in_flight: InFlight::MIN, ..Limits::default() };
            let records = HelloRecords { limits, ..HelloRecords::default() };
            let mut out = SendBuffer::new();
            out.hello(&Hello { version: VERSION, role: Role::Server, records });
            socket.write_all(out.first_chunk()).unwrap();
            let mut recv = RecvBuffer::new();
            let (mut bytes, mut greeted) = ([0; 1024], false);
            while let Ok(count @ 1..) = socket.read(&mut bytes) {
                recv.extend_from_slice(&bytes[..count]);
                greeted = greeted || recv.next_hello().unwrap().is_some();
                while greeted && let Some(frame) = recv.next_frame(1 << 20).unwrap() {
                    if let Head::Request(_) = frame.head {
                        tell.send(()).unwrap();
                    }
                }
            }
        });
        (address, requests)
    }

    /// The shard ends with calls in flight, calls that wait for a slot, and calls that wait for a connect: each of
    /// them ends, and says whether it may have run.
    #[test]
    fn calls_end_with_their_shard() {
        const PATIENCE: Duration = Duration::from_secs(20);
        let (hanging, requests) = hanging_server();
        let (ready, started) = flume::bounded(1);
        let (stop, stopped) = flume::bounded::<()>(1);
        let shard = thread::spawn(move || {
            run_on_shard(ClientShard::default(), move || async move {
                let (mut pump, mut stopped) =
                    (pin!(Pump::run(ready, |waker| waker)), stopped.into_recv_async());
                poll_fn(|context| match pump.as_mut().poll(context) {
                    Poll::Ready(()) => Poll::Ready(()),
                    Poll::Pending => Pin::new(&mut stopped).poll(context).map(|_| ()),
                })
                .await;
            })
        });
        let mailbox = Arc::new(started.recv().unwrap().unwrap());
        let thread = ClientThread { mailbox, channels: Arc::default() };
        let channel = thread.channel(hanging, ChannelConfig::default()).unwrap();
        // Nobody accepts there, so the server says no hello.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let early = thread.channel(silent.local_addr().unwrap(), ChannelConfig::default()).unwrap();
        let head = RequestHead::new(0, MethodId(1));
        let (tell, outcomes) = mpsc::channel();
        let call = |name: &'static str, channel: &SharedChannel| {
            let tell = tell.clone();
            let done = move |outcome: Outcome| tell.send((name, outcome.unwrap_err())).unwrap();
            channel.call(head, None, |_| Ok(())).then(done);
        };
        for _ in 0..InFlight::MIN.get() {
            call("in flight", &channel);
            requests.recv_timeout(PATIENCE).unwrap();
        }
        call("waits for a slot", &channel);
        call("waits for a hello", &early);
        let (mut stream, _writer) =
            early.stream(StreamKind::Bidirectional, head, None, |_| Ok(())).unwrap();
        stop.send(()).unwrap();
        shard.join().unwrap().unwrap();
        for _ in 0..InFlight::MIN.get() + 2 {
            let (name, failure) = outcomes.recv_timeout(PATIENCE).unwrap();
            let may_have_run = matches!(failure, CallFailure::Unknown(_));
            assert_eq!(may_have_run, name == "in flight", "{name}: {failure:?}");
        }
        let opened =
            corewire_client::block_on(poll_fn(|context| stream.poll_opened(context)), None);
        assert!(matches!(opened, Some(Err(Err(_)))), "the stream ends, too: {opened:?}");
        call("made afterwards", &channel);
        let (_, failure) = outcomes.recv_timeout(PATIENCE).unwrap();
        assert!(matches!(failure, CallFailure::NotSent(_)), "{failure:?}");
    }
}
