//! A client host whose channels are driven as tokio's are: each by one task, the production driver
//! (`corewire_client::testing`), over sockets with readiness and wakers.
//!
//! What the production shell has of tokio is imitated here, with what makes it hard:
//!
//! - the runtime hears of a socket late, and first runs tasks and timers that are due;
//! - it remembers readiness until a read or write finds the socket not ready, and may remember too much;
//! - a task that has done much is told that nothing is ready, and is woken again at once;
//! - only a look at the bare socket says what is so;
//! - another thread ends calls when the host was away, before it goes on.
//!
//! What is left out: that thread's own sleeps (`tokio/watch.rs`), tokio's clock, which counts in milliseconds, and connects
//! by name. Of the judge's rules nothing is left out but that the bytes before a server's hello are not told apart: a
//! request is always encoded before its driver sees it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use corewire_client::testing::{self, Bare, CoreSnapshot, Hearing, Shell, Socket, TaskDriver};
use corewire_client::{Address, ChannelConfig, SharedChannel};
use corewire_codec::SendBuffer;
use corewire_engine::Sleep;
use corewire_engine::testing::sim::{ChannelSnapshot, StreamSnapshot, Token};
use corewire_proto::CloseReason;

use crate::core::Core;
use crate::core::trace::Violated;
use crate::hosts::runtime::{Held, Runtime};
use crate::judge::patience;
use crate::net::Net;
use crate::net::endpoint::address;

/// The client's side of a wire.
const SIDE: usize = 0;

/// Bytes that the system writes at once.
const SEND_BYTES_MAX: usize = 1024 * 1024;

/// For how long a call may outlive its deadline because nobody polls the runtime (`tokio/watch.rs`).
const UNPOLLED: Duration = Duration::from_millis(50);

/// What a runtime knows of one socket.
#[derive(Debug, Default)]
struct Ready {
    readable: Cell<bool>,
    writable: Cell<bool>,
    reader: RefCell<Option<Waker>>,
    writer: RefCell<Option<Waker>>,
}

/// The runtime of one host.
struct Reactor {
    core: Rc<Core>,
    net: Net,
    set: usize,
    host: usize,
    /// Its connects go over wires that change bytes.
    mutating: bool,
    sockets: RefCell<BTreeMap<u64, Rc<Ready>>>,
    sockets_made: Cell<u64>,
    /// How often the task that is polled may still find something ready.
    budget: Cell<u32>,
}

impl Reactor {
    /// Whether the task that is polled may go on.
    fn proceed(&self, context: &Context<'_>) -> Poll<()> {
        if self.budget.get() == 0 {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    fn note_progress(&self) {
        self.budget.set(self.budget.get().saturating_sub(1));
    }

    fn send(&self, wire: usize, from: &SendBuffer) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); 32];
        let filled = from.chunks(&mut slices, SEND_BYTES_MAX);
        let sent = self.net.send(wire, SIDE, &slices[..filled]);
        if let Ok(bytes) = sent {
            self.core.note_sent(self.host, bytes);
        }
        sent
    }
}

/// A channel's driver, which lives as long as its task.
type Driving = RefCell<TaskDriver<TaskShell>>;

/// A channel that was made here.
struct Made {
    driver: Weak<Driving>,
    /// Its peer follows no protocol, or its bytes change.
    tainted: bool,
}

/// The channels of one host.
pub(crate) struct TaskRuntime {
    reactor: Rc<Reactor>,
    made: RefCell<Vec<Made>>,
}

impl TaskRuntime {
    pub(crate) fn new(core: &Rc<Core>, net: &Net, host: usize, mutating: bool) -> Self {
        let reactor = Reactor {
            core: Rc::clone(core),
            net: net.clone(),
            set: net.add_set(),
            host,
            mutating,
            sockets: RefCell::default(),
            sockets_made: Cell::new(0),
            budget: Cell::new(0),
        };
        Self { reactor: Rc::new(reactor), made: RefCell::default() }
    }
}

impl Runtime for TaskRuntime {
    fn channel(&self, server: usize, config: ChannelConfig, jitter: u64) -> SharedChannel {
        let reactor = Rc::clone(&self.reactor);
        let side = &reactor.core.side;
        let queued_max =
            if side.chance(200_000) { side.size(1, 65_536) } else { config.queued_max };
        // Tokio's is 128.
        let budget = if side.chance(200_000) { side.size(16, 128) } else { 128 };
        let budget = u32::try_from(budget).unwrap_or(128);
        let (bell, hearing) = testing::bell(reactor.core.clock.reader());
        let shell = TaskShell { reactor: Rc::clone(&reactor), hearing, sleep: None };
        let config = ChannelConfig { queued_max, ..config };
        let (channel, driver) = testing::channel(address(server), config, jitter, bell, shell);
        let driver = Rc::new(RefCell::new(driver));
        let tainted = reactor.mutating || server >= reactor.core.plan.servers;
        let mut made = self.made.borrow_mut();
        made.retain(|made| made.driver.strong_count() > 0);
        made.push(Made { driver: Rc::downgrade(&driver), tainted });
        let task = poll_fn(move |context| {
            reactor.budget.set(budget);
            driver.borrow_mut().poll(context)
        });
        corewire_engine::spawn(task).detach();
        channel
    }

    fn set(&self) -> usize {
        self.reactor.set
    }

    fn hear(&self) {
        let mut news = Vec::new();
        self.reactor.net.poll(self.reactor.set, &mut news);
        for news in news {
            let ready = self.reactor.sockets.borrow().get(&news.token.0).cloned();
            let Some(ready) = ready else { continue };
            if news.readable || news.hangup {
                ready.readable.set(true);
                ready.reader.take().into_iter().for_each(Waker::wake);
            }
            if news.writable || news.hangup {
                ready.writable.set(true);
                ready.writer.take().into_iter().for_each(Waker::wake);
            }
        }
    }

    fn expire(&self) {
        let now = self.reactor.core.clock.instant();
        for made in self.made.borrow().iter() {
            let Some(driver) = made.driver.upgrade() else { continue };
            let due = driver.borrow().first_deadline();
            if due.is_some_and(|due| due + UNPOLLED <= now) {
                driver.borrow_mut().expire(now);
            }
        }
    }

    fn drivers(&self) -> usize {
        self.made.borrow().iter().filter(|made| made.driver.strong_count() > 0).count()
    }

    fn held(&self) -> Vec<Held> {
        let mut all = Vec::new();
        for made in self.made.borrow().iter() {
            let Some(driver) = made.driver.upgrade() else { continue };
            all.extend(held(&driver.borrow().snapshot(), made.tainted));
        }
        all
    }
}

/// What a channel holds, by its connections.
fn held(snapshot: &CoreSnapshot, tainted: bool) -> Vec<Held> {
    let of_channel = |channel, unread| Held {
        channel: ChannelSnapshot {
            connecting: snapshot.connecting,
            waiting: snapshot.waiting,
            ..channel
        },
        unread,
        has_news: snapshot.has_news,
        tainted,
    };
    let of = |connection: &testing::ConnectionSnapshot| {
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
            room: 0,
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

/// What the driver of one channel has of its host.
struct TaskShell {
    reactor: Rc<Reactor>,
    hearing: Hearing,
    /// The wait that goes on, and its end.
    sleep: Option<(Instant, Sleep)>,
}

impl Shell for TaskShell {
    type Socket = Wired;
    type Connecting = Connecting;

    fn now(&self) -> Instant {
        self.reactor.core.clock.instant()
    }

    fn poll_bell(&mut self, context: &mut Context<'_>) -> Poll<Option<()>> {
        ready!(self.reactor.proceed(context));
        let heard = ready!(self.hearing.poll(context));
        self.reactor.note_progress();
        Poll::Ready(heard)
    }

    fn connect(&mut self, server: &Address, config: &ChannelConfig) -> Connecting {
        let sleep = corewire_engine::sleep(config.connect_timeout);
        let (socket, failure) = match Wired::connect(&self.reactor, server) {
            Ok(socket) => (Some(socket), None),
            Err(error) => (None, Some(error)),
        };
        Connecting { socket, failure, sleep }
    }

    fn poll_sleep(&mut self, until: Option<Instant>, context: &mut Context<'_>) -> Poll<()> {
        let Some(until) = until else {
            self.sleep = None;
            return Poll::Pending;
        };
        ready!(self.reactor.proceed(context));
        let left = until.saturating_duration_since(self.now());
        let is_other = self.sleep.as_ref().is_none_or(|(former, _)| *former != until);
        if is_other {
            self.sleep = Some((until, corewire_engine::sleep(left)));
        }
        let Some((_, sleep)) = &mut self.sleep else { return Poll::Pending };
        ready!(Pin::new(sleep).poll(context));
        self.sleep = None;
        Poll::Ready(())
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        corewire_engine::spawn(future).detach();
    }
}

/// A connect under way.
struct Connecting {
    socket: Option<Wired>,
    failure: Option<io::Error>,
    sleep: Sleep,
}

impl Future for Connecting {
    type Output = io::Result<Wired>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<Wired>> {
        let this = &mut *self;
        if let Some(error) = this.failure.take() {
            return Poll::Ready(Err(error));
        }
        let Some(socket) = &this.socket else { return Poll::Pending };
        if socket.poll_write_ready(context).is_ready() {
            let connected = socket.reactor.net.connected(socket.wire, SIDE);
            let socket = this.socket.take();
            return match (connected, socket) {
                (Ok(()), Some(socket)) => Poll::Ready(Ok(socket)),
                (Ok(()), None) => Poll::Pending,
                (Err(error), _) => Poll::Ready(Err(error)),
            };
        }
        ready!(Pin::new(&mut this.sleep).poll(context));
        this.socket = None;
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

/// The client's end of a wire.
struct Wired {
    reactor: Rc<Reactor>,
    wire: usize,
    token: u64,
    ready: Rc<Ready>,
}

impl Drop for Wired {
    fn drop(&mut self) {
        self.reactor.sockets.borrow_mut().remove(&self.token);
        self.reactor.net.close(self.wire, SIDE);
    }
}

impl Wired {
    fn connect(reactor: &Rc<Reactor>, server: &Address) -> io::Result<Self> {
        let core = &reactor.core;
        if core.fault(core.plan.rates.connect / 4) {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let number = server.tcp().map_or(0, |address| usize::from(address.port()));
        let wire = reactor.net.connect(number, reactor.mutating);
        let token = reactor.sockets_made.get();
        reactor.sockets_made.set(token + 1);
        let ready = Rc::<Ready>::default();
        reactor.sockets.borrow_mut().insert(token, Rc::clone(&ready));
        let socket = Self { reactor: Rc::clone(reactor), wire, token, ready };
        if core.fault(core.plan.rates.accept / 8) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        reactor.net.watch(wire, SIDE, reactor.set, Token(token));
        Ok(socket)
    }

    fn poll_ready(
        &self,
        is_ready: &Cell<bool>,
        waker: &RefCell<Option<Waker>>,
        context: &Context<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.reactor.proceed(context));
        if is_ready.get() {
            self.reactor.note_progress();
            return Poll::Ready(Ok(()));
        }
        *waker.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }

    /// Asks the socket if it is known to be ready, and forgets that if it is not so.
    fn ask(is_ready: &Cell<bool>, ask: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
        if !is_ready.get() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let asked = ask();
        if asked.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            is_ready.set(false);
        }
        asked
    }
}

impl Socket for Wired {
    type Bare = BareWire;

    const HEARS_ENDINGS: bool = true;

    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_ready(&self.ready.readable, &self.ready.reader, context)
    }

    fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_ready(&self.ready.writable, &self.ready.writer, context)
    }

    fn try_read(&self, into: &mut BytesMut) -> io::Result<usize> {
        Self::ask(&self.ready.readable, || {
            let mut bytes = Vec::new();
            let room = into.capacity() - into.len();
            let count = self.reactor.net.recv(self.wire, SIDE, &mut bytes, room)?;
            into.extend_from_slice(&bytes);
            Ok(count)
        })
    }

    fn try_write(&self, from: &SendBuffer) -> io::Result<usize> {
        Self::ask(&self.ready.writable, || {
            let sent = self.reactor.send(self.wire, from);
            if sent.is_err() && self.reactor.net.asked_in_vain(self.wire, SIDE) {
                let (host, wire) = (self.reactor.host, self.wire);
                self.reactor.core.violated(Violated::Livelock, || {
                    format!("host {host} asks for room on wire {wire}, which is full")
                });
            }
            sent
        })
    }

    fn bare(&self) -> io::Result<BareWire> {
        Ok(BareWire { reactor: Rc::clone(&self.reactor), wire: self.wire })
    }

    fn ending(&self, reason: CloseReason) {
        let (core, host) = (&self.reactor.core, self.reactor.host);
        let seen = self.reactor.net.seen(self.wire, SIDE);
        patience::judge(core, host, self.wire, &seen, reason);
    }
}

/// The wire itself.
struct BareWire {
    reactor: Rc<Reactor>,
    wire: usize,
}

impl Bare for BareWire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut bytes = Vec::new();
        let count = self.reactor.net.recv(self.wire, SIDE, &mut bytes, into.len())?;
        into[..count].copy_from_slice(&bytes);
        Ok(count)
    }

    /// It may ask in vain: that is what it is for.
    fn write(&mut self, from: &SendBuffer) -> io::Result<usize> {
        self.reactor.net.send_late(self.wire, SIDE, || self.reactor.send(self.wire, from))
    }
}
