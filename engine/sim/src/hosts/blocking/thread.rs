//! The thread that a blocking channel lives on: a real one, because what blocks needs a stack of its own.
//!
//! It runs only while the simulation waits for it, and asks the simulation for whatever a socket or an encoder is to
//! do: exactly one of the two runs at any time. So a seed decides everything here, too.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use corewire_client::blocking::{Channel, StreamCall, StreamReader, StreamWriter};
use corewire_client::testing::CoreSnapshot;
use corewire_client::testing::blocking::{self, Connect, Connected, Socket, System};
use corewire_client::{Address, ChannelConfig, Resolver};
use corewire_codec::{EncodedBody, FrameWriter, Status};
use corewire_proto::CloseReason;

/// What the thread wants of the simulation, and waits for.
#[derive(Debug)]
pub(crate) enum Ask {
    /// Begin a connect, which may end by itself at this time.
    Connect { by: Option<Instant>, server: usize },
    /// Wait for its end.
    Connected { socket: u64, until: Option<Instant> },
    /// Receive; `None` is not to wait at all.
    Read { socket: u64, room: usize, wait: Option<Wait> },
    /// Send; what was taken already is counted in `taken`.
    Write { socket: u64, bytes: Vec<u8>, taken: usize, wait: Option<Wait> },
    /// Encode the request that is being written.
    Encode,
    /// The connection ends.
    Ending { socket: u64, reason: CloseReason },
    /// Drop a socket or a connect.
    Close { socket: u64 },
}

/// How long to wait: until this time, or for ever.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait(pub(crate) Option<Instant>);

/// What the simulation says to that.
#[derive(Debug)]
pub(crate) enum Reply {
    /// It is done.
    Done,
    Socket(u64),
    /// Connected at this time.
    Connected(Instant),
    Bytes(Vec<u8>),
    Taken(usize),
    Failed(io::ErrorKind),
    Encoded(Result<EncodedBody, Status>),
    /// The encoder panics, as planned.
    Panics,
}

/// What the thread is to do while the simulation waits.
pub(crate) type Work = Box<dyn FnOnce(&mut Actor) + Send>;

pub(crate) enum Order {
    Do(Work),
    Reply(Reply),
}

pub(crate) enum Report {
    Ask(Ask),
    /// What it was told to do is done, or has panicked; what the channel holds now.
    Done {
        holds: Option<Box<CoreSnapshot>>,
    },
}

/// Tells the thread the time.
pub(crate) type Clock = Box<dyn Fn() -> Instant + Send>;

/// What the thread begins with.
pub(crate) struct Start {
    pub(crate) server: Address,
    pub(crate) config: ChannelConfig,
    pub(crate) jitter: u64,
    pub(crate) clock: Clock,
    pub(crate) orders: Receiver<Order>,
    pub(crate) reports: Sender<Report>,
    #[cfg(feature = "canary")]
    pub(crate) bug: Receiver<Option<corewire_proto::canary::Bug>>,
}

/// What is on the thread.
pub(crate) struct Actor {
    /// `None` once it was dropped.
    pub(crate) channel: Option<Channel>,
    pub(crate) streams: BTreeMap<u64, Ends>,
}

/// The ends of one stream.
#[derive(Default)]
pub(crate) struct Ends {
    pub(crate) call: Option<StreamCall>,
    pub(crate) reader: Option<StreamReader>,
    pub(crate) writer: Option<StreamWriter>,
}

impl Actor {
    pub(crate) fn ends(&mut self, name: u64) -> &mut Ends {
        self.streams.entry(name).or_default()
    }

    /// Forgets a stream of which no end is left.
    pub(crate) fn forget_unused(&mut self, name: u64) {
        let is_used =
            |ends: &Ends| ends.call.is_some() || ends.reader.is_some() || ends.writer.is_some();
        if !self.streams.get(&name).is_some_and(is_used) {
            self.streams.remove(&name);
        }
    }

    /// Waits for whatever comes.
    pub(crate) fn turn(&mut self) {
        if let Some(channel) = &self.channel {
            channel.turn();
        }
    }
}

/// Runs the thread until the simulation has no more orders.
pub(crate) fn run(start: Start) {
    let Start { server, config, jitter, clock, orders, reports, .. } = start;
    let desk = Rc::new(Desk {
        orders,
        reports,
        clock,
        is_over: Cell::new(false),
        #[cfg(feature = "canary")]
        bug: start.bug,
    });
    DESK.set(Some(Rc::clone(&desk)));
    let system = Box::new(Simulated { desk: Rc::clone(&desk), jitter });
    let channel = Some(blocking::channel(system, server, config));
    let mut actor = Actor { channel, streams: BTreeMap::new() };
    while let Ok(order) = desk.orders.recv() {
        let Order::Do(work) = order else { continue };
        desk.take_bug();
        let _ = catch_unwind(AssertUnwindSafe(|| work(&mut actor)));
        let holds = actor.channel.as_ref().and_then(blocking::snapshot).map(Box::new);
        if desk.reports.send(Report::Done { holds }).is_err() {
            break;
        }
    }
    desk.is_over.set(true);
}

/// Where the thread asks.
struct Desk {
    orders: Receiver<Order>,
    reports: Sender<Report>,
    clock: Clock,
    /// The simulation is gone.
    is_over: Cell<bool>,
    #[cfg(feature = "canary")]
    bug: Receiver<Option<corewire_proto::canary::Bug>>,
}

impl Desk {
    fn ask(&self, ask: Ask) -> Reply {
        if self.is_over.get() || self.reports.send(Report::Ask(ask)).is_err() {
            return self.end();
        }
        let reply = match self.orders.recv() {
            Ok(Order::Reply(reply)) => reply,
            Ok(Order::Do(_)) | Err(_) => self.end(),
        };
        self.take_bug();
        reply
    }

    /// Nobody will ever reply: every socket fails.
    fn end(&self) -> Reply {
        self.is_over.set(true);
        Reply::Failed(io::ErrorKind::NotConnected)
    }

    /// Plants what the simulation has planted on its own thread.
    #[cfg(feature = "canary")]
    fn take_bug(&self) {
        while let Ok(bug) = self.bug.try_recv() {
            corewire_proto::canary::plant(bug);
        }
    }

    #[cfg(not(feature = "canary"))]
    #[allow(clippy::unused_self, reason = "no bug is planted in this build")]
    fn take_bug(&self) {}

    fn until(&self, within: Duration) -> Option<Instant> {
        (self.clock)().checked_add(within)
    }
}

thread_local! {
    static DESK: Cell<Option<Rc<Desk>>> = const { Cell::new(None) };
}

/// Writes the request that is being made on this thread, which the simulation encodes.
pub(crate) fn encode(frame: &mut FrameWriter<'_>) -> Result<(), Status> {
    let Some(desk) = DESK.take() else { return Err(Status::aborted("no simulation is there")) };
    let reply = desk.ask(Ask::Encode);
    DESK.set(Some(desk));
    match reply {
        Reply::Encoded(Ok(body)) => {
            body.write_to(frame);
            Ok(())
        }
        Reply::Encoded(Err(status)) => Err(status),
        Reply::Panics => resume_unwind(Box::new("planned")),
        _ => Err(Status::aborted("the simulation is over")),
    }
}

struct Simulated {
    desk: Rc<Desk>,
    jitter: u64,
}

impl std::fmt::Debug for Simulated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulated").finish_non_exhaustive()
    }
}

impl System for Simulated {
    fn now(&self) -> Instant {
        (self.desk.clock)()
    }

    fn jitter(&self) -> u64 {
        self.jitter
    }

    fn connect(
        &self,
        address: &Address,
        _: &Resolver,
        within: Duration,
    ) -> io::Result<Box<dyn Connect>> {
        let server = address.tcp().map_or(0, |address| usize::from(address.port()));
        match self.desk.ask(Ask::Connect { by: self.desk.until(within), server }) {
            Reply::Socket(socket) => {
                let wire = Wire { desk: Rc::clone(&self.desk), socket, waits: true };
                Ok(Box::new(Attempt(Some(wire))))
            }
            reply => Err(failure(&reply)),
        }
    }
}

/// A connect: the socket that it will give.
#[derive(Debug)]
struct Attempt(Option<Wire>);

impl Connect for Attempt {
    fn wait(&mut self, until: Option<Instant>) -> Option<Connected> {
        let wire = self.0.take()?;
        match wire.desk.ask(Ask::Connected { socket: wire.socket, until }) {
            Reply::Connected(at) => Some(Ok((Box::new(wire), at))),
            Reply::Done => {
                self.0 = Some(wire);
                None
            }
            reply => Some(Err(failure(&reply))),
        }
    }
}

/// A socket.
struct Wire {
    desk: Rc<Desk>,
    socket: u64,
    /// Whether reads and writes wait.
    waits: bool,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.desk.ask(Ask::Close { socket: self.socket });
    }
}

fn failure(reply: &Reply) -> io::Error {
    match reply {
        Reply::Failed(kind) => (*kind).into(),
        _ => io::ErrorKind::Other.into(),
    }
}

impl Wire {
    fn wait(&self, within: Option<Duration>) -> Option<Wait> {
        self.waits.then(|| Wait(within.and_then(|within| self.desk.until(within))))
    }
}

impl Socket for Wire {
    fn set_nonblocking(&mut self, on: bool) -> io::Result<()> {
        self.waits = !on;
        Ok(())
    }

    fn read(&mut self, into: &mut [u8], within: Option<Duration>) -> io::Result<usize> {
        let ask = Ask::Read { socket: self.socket, room: into.len(), wait: self.wait(within) };
        match self.desk.ask(ask) {
            Reply::Bytes(bytes) => {
                let room = into.get_mut(..bytes.len()).ok_or(io::ErrorKind::Other)?;
                room.copy_from_slice(&bytes);
                Ok(bytes.len())
            }
            reply => Err(failure(&reply)),
        }
    }

    fn write(&mut self, from: &[IoSlice<'_>], within: Duration) -> io::Result<usize> {
        let bytes = from.iter().flat_map(|slice| slice.iter().copied()).collect();
        let wait = self.wait(Some(within));
        match self.desk.ask(Ask::Write { socket: self.socket, bytes, taken: 0, wait }) {
            Reply::Taken(taken) => Ok(taken),
            reply => Err(failure(&reply)),
        }
    }

    fn ending(&mut self, reason: CloseReason) {
        self.desk.ask(Ask::Ending { socket: self.socket, reason });
    }
}
