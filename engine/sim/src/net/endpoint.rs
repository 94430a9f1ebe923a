//! The driver's `Io`, implemented by the simulated network.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use corewire_client::{Address, Peer};
use corewire_codec::SendBuffer;
use corewire_engine::Doorbell;
use corewire_engine::testing::sim::{Io, Readiness, Token};
use corewire_proto::CloseReason;

use crate::core::Core;
use crate::core::trace::{Note, Violated};
use crate::judge::patience;
use crate::net::Net;

/// The system's error numbers that make a shard pause accepting.
const EXHAUSTED: [i32; 4] = [24, 23, 105, 12];

/// The address with this number.
pub(crate) fn address(number: usize) -> Address {
    let port = u16::try_from(number).unwrap_or(u16::MAX);
    Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

/// What a server host reports to the simulation about its connections: ids in the order of
/// accepting, and which of them are closed.
#[derive(Debug, Default)]
pub(crate) struct Accepted {
    pub(crate) next: u64,
    pub(crate) step: u64,
    pub(crate) closed: Vec<u64>,
}

/// One end of a wire; it closes when dropped.
#[derive(Debug)]
pub(crate) struct SimSocket {
    net: Net,
    wire: usize,
    side: usize,
    accepted: Option<Rc<RefCell<Accepted>>>,
    /// Set as soon as it is watched: only from then on it is a connection.
    id: std::cell::Cell<Option<u64>>,
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        self.net.close(self.wire, self.side);
        if let (Some(accepted), Some(id)) = (&self.accepted, self.id.get()) {
            accepted.borrow_mut().closed.push(id);
        }
    }
}

/// A poll set of the simulated network.
#[derive(Debug)]
pub(crate) struct SimIo {
    pub(crate) core: Rc<Core>,
    pub(crate) net: Net,
    pub(crate) set: usize,
    pub(crate) host: usize,
    /// The host whose calls it sends.
    pub(crate) callers: usize,
    pub(crate) doorbell: Arc<Doorbell>,
    pub(crate) accepted: Rc<RefCell<Accepted>>,
    /// Its connects go over wires that change bytes.
    pub(crate) mutating: bool,
    pub(crate) scratch: Vec<u8>,
}

impl Io for SimIo {
    type Socket = SimSocket;
    type Listener = usize;

    fn now(&self) -> Instant {
        self.core.clock.instant()
    }

    fn poll(&mut self, news: &mut Vec<Readiness>, _: Duration) -> io::Result<()> {
        if corewire_engine::testing::sim::is_rung(&self.doorbell) {
            let token = Token::DOORBELL;
            news.push(Readiness {
                token,
                readable: true,
                writable: false,
                hangup: false,
                urgent: false,
            });
        }
        self.net.poll(self.set, news);
        Ok(())
    }

    fn watch_listener(&mut self, listener: &usize, token: Token) -> io::Result<()> {
        self.net.watch_listener(*listener, token);
        Ok(())
    }

    fn retire_listener(&mut self, listener: &usize) {
        self.net.retire(*listener);
    }

    fn accept(&mut self, listener: &usize) -> io::Result<(SimSocket, Peer)> {
        let core = &self.core;
        if core.fault(core.plan.rates.accept) {
            let errno = EXHAUSTED[core.dice.below(EXHAUSTED.len())];
            core.note(Note::AcceptFailed { host: self.host, errno });
            return Err(io::Error::from_raw_os_error(errno));
        }
        let wire = self.net.accept(*listener)?;
        let accepted = Some(Rc::clone(&self.accepted));
        let socket = SimSocket { net: self.net.clone(), wire, side: 1, accepted, id: None.into() };
        if core.fault(core.plan.rates.abort) {
            // The client was gone before it was accepted.
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok((socket, Peer::Unix))
    }

    fn connect(&mut self, address: &Address) -> io::Result<SimSocket> {
        let core = &self.core;
        if core.fault(core.plan.rates.connect / 4) {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let number = address.tcp().map_or(0, |address| usize::from(address.port()));
        let wire = self.net.connect(number, self.mutating);
        let net = self.net.clone();
        Ok(SimSocket { net, wire, side: 0, accepted: None, id: None.into() })
    }

    fn connected(&mut self, socket: &SimSocket) -> io::Result<()> {
        self.net.connected(socket.wire, socket.side)
    }

    fn watch(&mut self, socket: &SimSocket, token: Token) -> io::Result<()> {
        if self.core.fault(self.core.plan.rates.accept / 8) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        if socket.side == 1 {
            let mut accepted = self.accepted.borrow_mut();
            let id = accepted.next;
            accepted.next += accepted.step;
            socket.id.set(Some(id));
            let wire = socket.wire;
            self.core.note(Note::Accepted { wire, host: self.host, id });
        }
        self.net.watch(socket.wire, socket.side, self.set, token);
        Ok(())
    }

    fn recv(&mut self, socket: &SimSocket, into: &mut BytesMut, max: usize) -> io::Result<usize> {
        let room = (into.capacity() - into.len()).min(max);
        self.scratch.clear();
        let count = self.net.recv(socket.wire, socket.side, &mut self.scratch, room)?;
        into.extend_from_slice(&self.scratch);
        Ok(count)
    }

    fn send(&mut self, socket: &SimSocket, from: &SendBuffer, max: usize) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); 32];
        let filled = from.chunks(&mut slices, max);
        let sent = self.net.send(socket.wire, socket.side, &slices[..filled]);
        if let Ok(bytes) = sent {
            self.core.note_sent(self.callers, bytes);
        } else if self.net.asked_in_vain(socket.wire, socket.side) {
            self.core.violated(Violated::Livelock, || {
                format!("host {} asks for room on wire {}, which is full", self.host, socket.wire)
            });
        }
        sent
    }

    fn unacknowledged(&mut self, socket: &SimSocket) -> Option<usize> {
        Some(self.net.unacknowledged(socket.wire, socket.side))
    }

    fn shutdown_write(&mut self, socket: &SimSocket) {
        self.net.shutdown_write(socket.wire, socket.side);
    }

    fn ending(&self, socket: &SimSocket, reason: CloseReason) {
        let seen = self.net.seen(socket.wire, socket.side);
        patience::judge(&self.core, self.host, socket.wire, &seen, reason);
    }
}
