//! The sockets of such a host: wires, with the readiness that a runtime knows of.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::BytesMut;
use corewire_client::Address;
use corewire_client::testing::{Bare, Socket};
use corewire_codec::SendBuffer;
use corewire_engine::Sleep;
use corewire_engine::testing::sim::Token;
use corewire_proto::CloseReason;

use crate::core::Core;
use crate::core::trace::Violated;
use crate::judge::patience;
use crate::net::Net;

/// The client's side of a wire.
const SIDE: usize = 0;

/// Bytes that the system writes at once.
const SEND_BYTES_MAX: usize = 1024 * 1024;

/// What a runtime knows of one socket.
#[derive(Debug, Default)]
pub(super) struct Ready {
    pub(super) readable: Cell<bool>,
    pub(super) writable: Cell<bool>,
    pub(super) reader: RefCell<Option<Waker>>,
    pub(super) writer: RefCell<Option<Waker>>,
}

/// The runtime of one host.
pub(super) struct Reactor {
    pub(super) core: Rc<Core>,
    pub(super) net: Net,
    pub(super) set: usize,
    pub(super) host: usize,
    /// Its connects go over wires that change bytes.
    pub(super) mutating: bool,
    pub(super) sockets: RefCell<BTreeMap<u64, Rc<Ready>>>,
    pub(super) sockets_made: Cell<u64>,
    /// How often the task that is polled may still find something ready.
    pub(super) budget: Cell<u32>,
}

impl Reactor {
    /// Whether the task that is polled may go on.
    pub(super) fn proceed(&self, context: &Context<'_>) -> Poll<()> {
        if self.budget.get() == 0 {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    pub(super) fn note_progress(&self) {
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

/// A connect under way.
pub(super) struct Connecting {
    pub(super) socket: Option<Wired>,
    pub(super) failure: Option<io::Error>,
    pub(super) sleep: Sleep,
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
pub(super) struct Wired {
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
    pub(super) fn connect(reactor: &Rc<Reactor>, server: &Address) -> io::Result<Self> {
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
pub(super) struct BareWire {
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
