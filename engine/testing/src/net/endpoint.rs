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
use corewire_engine::testing::sim::{Io, Readiness, Token, is_rung};
use corewire_proto::CloseReason;

use super::Net;
use super::surroundings::{NetNote, Route, Surroundings};

/// The system's error numbers that make a shard pause accepting.
const EXHAUSTED: [i32; 4] = [24, 23, 105, 12];

/// The address with this number, in a simulation whose servers have no names.
#[must_use]
pub fn address(number: usize) -> Address {
    let port = u16::try_from(number).unwrap_or(u16::MAX);
    Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

/// The number of such an address.
#[must_use]
pub fn number(address: &Address) -> usize {
    address.tcp().map_or(0, |address| usize::from(address.port()))
}

/// What a server host reports to the simulation about its connections: ids in the order of
/// accepting, and which of them are closed.
#[derive(Debug, Default)]
pub struct Accepted {
    /// The id of the next connection.
    pub next: u64,
    /// From it to the one after.
    pub step: u64,
    /// The ids of connections that were closed, until somebody takes them.
    pub closed: Vec<u64>,
}

/// One end of a wire; it closes when dropped.
#[derive(Debug)]
pub struct SimSocket<C: Surroundings> {
    net: Net<C>,
    wire: usize,
    side: usize,
    accepted: Option<Rc<RefCell<Accepted>>>,
    /// Set as soon as it is watched: only from then on it is a connection.
    id: std::cell::Cell<Option<u64>>,
}

impl<C: Surroundings> Drop for SimSocket<C> {
    fn drop(&mut self) {
        self.net.close(self.wire, self.side);
        if let (Some(accepted), Some(id)) = (&self.accepted, self.id.get()) {
            accepted.borrow_mut().closed.push(id);
        }
    }
}

/// A poll set of the simulated network.
#[derive(Debug)]
pub struct SimIo<C: Surroundings> {
    /// The simulation.
    pub core: Rc<C>,
    /// Its network.
    pub net: Net<C>,
    /// The number of the poll set.
    pub set: usize,
    /// The host that it is of.
    pub host: usize,
    /// The host whose calls it sends: another one if it is a client thread's.
    pub callers: usize,
    /// The doorbell of the host's shard.
    pub doorbell: Arc<Doorbell>,
    /// What becomes of the connections that are accepted.
    pub accepted: Rc<RefCell<Accepted>>,
    /// Its connects go over wires that change bytes.
    pub mutating: bool,
    /// Memory for what is received.
    pub scratch: Vec<u8>,
}

impl<C: Surroundings> Io for SimIo<C> {
    const CONNECTS_BY_NAME: bool = true;

    type Socket = SimSocket<C>;
    type Listener = usize;

    fn now(&self) -> Instant {
        self.core.clock().instant()
    }

    /// A wait that nothing ends at once is `WouldBlock`: the shard sleeps, and its turn has not begun.
    fn poll(&mut self, news: &mut Vec<Readiness>, wait: Duration) -> io::Result<()> {
        if is_rung(&self.doorbell) {
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
        match news.is_empty() && !wait.is_zero() {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => Ok(()),
        }
    }

    fn watch_listener(&mut self, listener: &usize, token: Token) -> io::Result<()> {
        self.net.watch_listener(*listener, token);
        Ok(())
    }

    fn retire_listener(&mut self, listener: &usize) {
        self.net.retire(*listener);
    }

    fn accept(&mut self, listener: &usize) -> io::Result<(SimSocket<C>, Peer)> {
        let core = &self.core;
        // Nobody knows yet who it is.
        let rates = core.rates(Route { from: None, to: self.host });
        if core.fault(rates.accept) {
            let errno = EXHAUSTED[core.dice().below(EXHAUSTED.len())];
            core.note(NetNote::AcceptFailed { host: self.host, errno });
            return Err(io::Error::from_raw_os_error(errno));
        }
        let wire = self.net.accept(*listener)?;
        let accepted = Some(Rc::clone(&self.accepted));
        let socket = SimSocket { net: self.net.clone(), wire, side: 1, accepted, id: None.into() };
        if core.fault(rates.abort) {
            // The client was gone before it was accepted.
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok((socket, core.peer(wire, self.net.route(wire))))
    }

    fn connect(&mut self, address: &Address) -> io::Result<SimSocket<C>> {
        let core = &self.core;
        let Some(to) = core.resolve(address) else {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("no host of the simulation has the address {address}"),
            ));
        };
        let from = Some(self.host);
        if core.fault(core.rates(Route { from, to }).connect / 4) {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let wire = self.net.connect_from(from, to, self.mutating);
        let net = self.net.clone();
        Ok(SimSocket { net, wire, side: 0, accepted: None, id: None.into() })
    }

    fn connected(&mut self, socket: &SimSocket<C>) -> io::Result<()> {
        self.net.connected(socket.wire, socket.side)
    }

    fn watch(&mut self, socket: &SimSocket<C>, token: Token) -> io::Result<()> {
        if self.core.fault(self.core.rates(self.net.route(socket.wire)).accept / 8) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        if socket.side == 1 {
            let mut accepted = self.accepted.borrow_mut();
            let id = accepted.next;
            accepted.next += accepted.step;
            socket.id.set(Some(id));
            let wire = socket.wire;
            self.core.note(NetNote::Accepted { wire, host: self.host, id });
        }
        self.net.watch(socket.wire, socket.side, self.set, token);
        Ok(())
    }

    fn recv(
        &mut self,
        socket: &SimSocket<C>,
        into: &mut BytesMut,
        max: usize,
    ) -> io::Result<usize> {
        let room = (into.capacity() - into.len()).min(max);
        self.scratch.clear();
        let count = self.net.recv(socket.wire, socket.side, &mut self.scratch, room)?;
        into.extend_from_slice(&self.scratch);
        Ok(count)
    }

    fn send(&mut self, socket: &SimSocket<C>, from: &SendBuffer, max: usize) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); 32];
        let filled = from.chunks(&mut slices, max);
        let sent = self.net.send(socket.wire, socket.side, &slices[..filled]);
        if let Ok(bytes) = sent {
            self.core.note_sent(self.callers, bytes);
        } else if self.net.asked_in_vain(socket.wire, socket.side) {
            self.core.note_asked_in_vain(self.host, socket.wire);
        }
        sent
    }

    fn unacknowledged(&mut self, socket: &SimSocket<C>) -> Option<usize> {
        Some(self.net.unacknowledged(socket.wire, socket.side))
    }

    fn shutdown_write(&mut self, socket: &SimSocket<C>) {
        self.net.shutdown_write(socket.wire, socket.side);
    }

    fn ending(&self, socket: &SimSocket<C>, reason: CloseReason) {
        let seen = self.net.seen(socket.wire, socket.side);
        self.core.ending(self.host, socket.wire, &seen, reason);
    }
}
