//! A client host whose channels are blocking ones: each on a real thread of its own (`thread.rs`), of which never more than
//! one runs, while the simulation waits for it (`worker.rs`).
//!
//! A channel makes one call at a time, and its streams are read and written in between. Its callers are tasks of the host's
//! shard that take turns on the thread, so that together they are what a program on that thread may do:
//!
//! - a caller that waits for a stream lets the channel have a turn when no other wants the thread;
//! - a turn ends early, by a signal, when one does; signals come at other times as well;
//! - a call has no caller beside it: who would give it up gives it a deadline instead.
//!
//! The system is imitated with what makes it hard: a write that returns when the socket has taken a part, or only when it has
//! taken all or its time is over; connects that cannot be stopped, and those that end while the thread is elsewhere.
//!
//! What the judge knows of this kind: the thread is away from its connection whenever it is not reading, and what lies in the
//! socket then is no news to it. What a channel holds is looked at when its thread is free. Before the balance is struck,
//! threads are told to hear what there is: nobody calls any more, so nobody would.
//!
//! What is left out: the rounding of timeouts to milliseconds, and connects by name.

pub(crate) mod channel;
mod thread;
pub(crate) mod worker;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::time::Instant;

use corewire_client::ChannelConfig;
use corewire_engine::testing::sim::Token;

use self::channel::BlockingChannel;
use self::thread::{Ask, Reply, Wait};
use self::worker::{Kernel, Worker};
use crate::core::Core;
use crate::core::trace::Violated;
use crate::hosts::runtime::{self, AnyChannel, Held, Runtime};
use crate::judge::patience;
use crate::net::Net;
use crate::net::endpoint::address;

/// The client's side of a wire.
const SIDE: usize = 0;

/// Signals that interrupt a thread for no reason, in millionths of its waits; none while the world is only looked at.
const SIGNALS: u32 = 3_000;

/// A socket, or the connect that it will come from.
#[derive(Debug)]
struct Sock {
    wire: usize,
    /// When the system gives the connect up, if it can.
    connect_by: Option<u64>,
    /// When the connect ended.
    connected_at: Cell<Option<u64>>,
}

/// What all threads of a host have in common.
struct Process {
    core: Rc<Core>,
    net: Net,
    set: usize,
    host: usize,
    /// Its wires change bytes.
    mutating: bool,
    sockets: RefCell<BTreeMap<u64, Rc<Sock>>>,
    sockets_made: Cell<u64>,
}

/// The channels of one host.
pub(crate) struct BlockingRuntime {
    process: Rc<Process>,
    made: RefCell<Vec<Made>>,
    /// Threads that are free hear what there is.
    hears_all: Cell<bool>,
}

/// A channel that was made here.
struct Made {
    worker: Rc<Worker>,
    /// Its peer follows no protocol, or its bytes change.
    tainted: bool,
}

impl BlockingRuntime {
    pub(crate) fn new(core: &Rc<Core>, net: &Net, host: usize, mutating: bool) -> Self {
        let process = Process {
            core: Rc::clone(core),
            net: net.clone(),
            set: net.add_set(),
            host,
            mutating,
            sockets: RefCell::default(),
            sockets_made: Cell::new(0),
        };
        Self { process: Rc::new(process), made: RefCell::default(), hears_all: Cell::new(false) }
    }

    fn workers(&self) -> Vec<Rc<Worker>> {
        self.made.borrow().iter().map(|made| Rc::clone(&made.worker)).collect()
    }
}

impl Runtime for BlockingRuntime {
    fn channel(&self, server: usize, config: ChannelConfig, jitter: u64) -> Option<AnyChannel> {
        let process = &self.process;
        let core = &process.core;
        let actor = core.absences.borrow_mut().add_actor(process.host);
        let kernel =
            Rc::new(Line { process: Rc::clone(process), actor, sockets: RefCell::default() });
        let clock = Box::new(core.clock.reader());
        let worker = Worker::new(kernel, address(server), config, jitter, clock);
        let worker = worker
            .inspect_err(|error| core.violated(Violated::Panic, || format!("no thread: {error}")))
            .ok()?;
        let worker = Rc::new(worker);
        let tainted = process.mutating || server >= core.plan.servers;
        let mut made = self.made.borrow_mut();
        made.retain(|made| !made.worker.is_gone());
        made.push(Made { worker: Rc::clone(&worker), tainted });
        Some(AnyChannel::Blocking(BlockingChannel::new(worker)))
    }

    fn blocks(&self) -> bool {
        true
    }

    fn set(&self) -> Option<usize> {
        Some(self.process.set)
    }

    fn hear(&self) {
        let Process { core, net, set, sockets, .. } = &*self.process;
        let mut news = Vec::new();
        net.poll(*set, &mut news);
        for news in news {
            let sock = sockets.borrow().get(&news.token.0).cloned();
            if let Some(sock) = sock.filter(|sock| sock.connected_at.get().is_none())
                && (news.writable || news.hangup)
            {
                sock.connected_at.set(Some(core.now()));
            }
        }
        self.workers().iter().for_each(|worker| worker.hear());
    }

    fn expire(&self) {}

    fn rest(&self) {
        let hears_all = self.hears_all.get();
        self.workers().iter().for_each(|worker| worker.rest(hears_all));
    }

    fn hear_all(&self) {
        self.hears_all.set(true);
    }

    fn is_due(&self) -> bool {
        let (now, hears_all) = (self.process.core.now(), self.hears_all.get());
        let made = self.made.borrow();
        made.iter().any(|made| made.worker.is_due(now) || made.worker.is_behind(hears_all))
    }

    fn next_timer(&self) -> Option<u64> {
        self.made.borrow().iter().filter_map(|made| made.worker.due()).min()
    }

    fn describe(&self) -> String {
        let made = self.made.borrow();
        let live = made.iter().filter(|made| !made.worker.is_gone());
        live.map(|made| format!(", {:?}", made.worker)).collect()
    }

    fn drivers(&self) -> usize {
        self.made.borrow().iter().filter(|made| !made.worker.is_gone()).count()
    }

    fn held(&self) -> Vec<Held> {
        let made = self.made.borrow();
        let of = |made: &Made| {
            let holds = made.worker.holds();
            holds.map(|holds| runtime::held(&holds, 0, made.tainted)).unwrap_or_default()
        };
        made.iter().flat_map(of).collect()
    }
}

/// The system, for one thread.
struct Line {
    process: Rc<Process>,
    /// What its absences are counted by.
    actor: usize,
    sockets: RefCell<BTreeMap<u64, Rc<Sock>>>,
}

impl Line {
    fn sock(&self, socket: u64) -> Option<Rc<Sock>> {
        self.sockets.borrow().get(&socket).cloned()
    }

    fn ns(&self, at: Option<Instant>) -> Option<u64> {
        at.map(|at| self.process.core.clock.of(at))
    }

    fn is_over(&self, until: Option<Instant>) -> bool {
        self.ns(until).is_some_and(|until| until <= self.process.core.now())
    }

    fn connect(&self, by: Option<Instant>, server: usize) -> Reply {
        let Process { core, net, .. } = &*self.process;
        if core.fault(core.plan.rates.connect / 4) {
            return Reply::Failed(io::ErrorKind::AddrNotAvailable);
        }
        let wire = net.connect(server, self.process.mutating);
        let socket = self.process.sockets_made.get();
        self.process.sockets_made.set(socket + 1);
        let can_stop = core.side.chance(800_000);
        let connect_by = self.ns(by).filter(|_| can_stop);
        let sock = Rc::new(Sock { wire, connect_by, connected_at: Cell::new(None) });
        self.process.sockets.borrow_mut().insert(socket, Rc::clone(&sock));
        self.sockets.borrow_mut().insert(socket, sock);
        net.watch(wire, SIDE, self.process.set, Token(socket));
        Reply::Socket(socket)
    }

    fn connected(&self, sock: &Sock, until: Option<Instant>) -> Option<Reply> {
        let Process { core, net, .. } = &*self.process;
        let ended = sock.connected_at.get();
        if sock.connect_by.is_some_and(|by| by <= ended.unwrap_or_else(|| core.now())) {
            return Some(Reply::Failed(io::ErrorKind::TimedOut));
        }
        match ended {
            Some(at) => Some(match net.connected(sock.wire, SIDE) {
                Ok(()) => {
                    let ago = core.now().saturating_sub(at);
                    let now = core.clock.instant();
                    Reply::Connected(now - std::time::Duration::from_nanos(ago))
                }
                Err(error) => Reply::Failed(error.kind()),
            }),
            None => self.is_over(until).then_some(Reply::Done),
        }
    }

    fn read(&self, sock: &Sock, room: usize, wait: Option<Wait>) -> Option<Reply> {
        let Process { core, net, .. } = &*self.process;
        core.absences.borrow_mut().end(self.actor, core.now());
        let mut bytes = Vec::new();
        match net.recv(sock.wire, SIDE, &mut bytes, room) {
            Ok(_) => Some(Reply::Bytes(bytes)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(wait),
            Err(error) => Some(Reply::Failed(error.kind())),
        }
    }

    fn write(
        &self,
        sock: &Sock,
        bytes: &[u8],
        taken: &mut usize,
        wait: Option<Wait>,
    ) -> Option<Reply> {
        let Process { core, net, host, .. } = &*self.process;
        loop {
            let left = bytes.get(*taken..).unwrap_or(&[]);
            match net.send(sock.wire, SIDE, &[IoSlice::new(left)]) {
                Ok(sent) => {
                    core.note_sent(*host, sent);
                    *taken += sent;
                    let is_all = *taken == bytes.len();
                    if is_all || wait.is_none() || core.side.chance(500_000) {
                        return Some(Reply::Taken(*taken));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return match self.wait(wait)? {
                        _ if *taken > 0 => Some(Reply::Taken(*taken)),
                        reply => Some(reply),
                    };
                }
                // What follows shows again with the next write.
                Err(_) if *taken > 0 => return Some(Reply::Taken(*taken)),
                Err(error) => return Some(Reply::Failed(error.kind())),
            }
        }
    }

    /// Nothing is there: what that is for one who waits.
    fn wait(&self, wait: Option<Wait>) -> Option<Reply> {
        let core = &self.process.core;
        match wait {
            Some(Wait(until)) if !self.is_over(until) => {
                (core.faulty.get() && !core.calm.get() && core.side.chance(SIGNALS))
                    .then_some(Reply::Failed(io::ErrorKind::Interrupted))
            }
            _ => Some(Reply::Failed(io::ErrorKind::WouldBlock)),
        }
    }

    fn close(&self, socket: u64) {
        self.process.sockets.borrow_mut().remove(&socket);
        if let Some(sock) = self.sockets.borrow_mut().remove(&socket) {
            self.process.net.close(sock.wire, SIDE);
        }
    }
}

impl Kernel for Line {
    fn serve(&self, ask: &mut Ask) -> Option<Reply> {
        let socket = match ask {
            Ask::Connect { by, server } => return Some(self.connect(*by, *server)),
            Ask::Connected { socket, .. }
            | Ask::Read { socket, .. }
            | Ask::Write { socket, .. }
            | Ask::Ending { socket, .. }
            | Ask::Close { socket } => *socket,
            Ask::Encode => return None,
        };
        let Some(sock) = self.sock(socket) else {
            return Some(Reply::Failed(io::ErrorKind::NotConnected));
        };
        match ask {
            Ask::Connected { until, .. } => return self.connected(&sock, *until),
            Ask::Read { room, wait, .. } => return self.read(&sock, *room, *wait),
            Ask::Write { bytes, taken, wait, .. } => return self.write(&sock, bytes, taken, *wait),
            Ask::Ending { reason, .. } => {
                let Process { core, net, .. } = &*self.process;
                let seen = net.seen(sock.wire, SIDE);
                patience::judge(core, self.actor, sock.wire, &seen, *reason);
            }
            Ask::Close { .. } => self.close(socket),
            Ask::Connect { .. } | Ask::Encode => {}
        }
        Some(Reply::Done)
    }

    fn due(&self, ask: &Ask) -> Option<u64> {
        match ask {
            Ask::Connected { socket, until } => {
                let by = self.sock(*socket).and_then(|sock| sock.connect_by);
                [self.ns(*until), by].into_iter().flatten().min()
            }
            Ask::Read { wait, .. } | Ask::Write { wait, .. } => {
                wait.and_then(|Wait(until)| self.ns(until))
            }
            _ => None,
        }
    }

    fn turn_away(&self) {
        let core = &self.process.core;
        core.absences.borrow_mut().begin(self.actor, core.now(), u64::MAX);
    }

    fn is_greeted(&self) -> bool {
        let net = &self.process.net;
        self.sockets.borrow().values().any(|sock| net.seen(sock.wire, SIDE).frames > 0)
    }

    fn has_unread(&self) -> bool {
        let net = &self.process.net;
        self.sockets.borrow().values().any(|sock| net.seen(sock.wire, SIDE).unread > 0)
    }

    fn accuse(&self, what: &str) {
        let host = self.process.host;
        self.process.core.violated(Violated::Livelock, || format!("host {host}: {what}"));
    }
}
