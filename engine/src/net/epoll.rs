//! Sockets through direct system calls, readiness through one edge-triggered epoll set per shard.
//!
//! Each stream is added to the set once, for both directions, and never changed. The kernel reports
//! writability only after a send found the socket's buffer full, so "write first, ask later" costs
//! no extra system call.
//!
//! A receive that does not fill its buffer has emptied the socket, so there is no second one only to get `EAGAIN`,
//! unless an end or a TCP urgent byte may follow.

use bytes::BytesMut;
use corewire_codec::SendBuffer;
use rustix::event::{Timespec, epoll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::ioctl::{Getter, Opcode, ioctl};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketAddrUnix,
    SocketFlags, SocketType, ipproto, sockopt,
};
use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::net::doorbell::Doorbell;
use crate::net::io::{Io, Readiness, Token};
use corewire_client::address::{Address, Peer};

/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 256;
/// Asks a socket how many bytes it has still to bring to its peer (`SIOCOUTQ`).
const TIOCOUTQ: Opcode = 0x5411;
/// Slices per gathered send.
const SLICES_MAX: usize = 32;

/// The production [`Io`].
pub(crate) struct Epoll {
    set: OwnedFd,
    events: Vec<epoll::Event>,
}

impl std::fmt::Debug for Epoll {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Epoll").field("set", &self.set).finish_non_exhaustive()
    }
}

impl Epoll {
    /// A new set that also watches the shard's doorbell.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub(crate) fn new(doorbell: &Doorbell) -> io::Result<Self> {
        let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&set, doorbell, epoll::EventData::new_u64(Token::DOORBELL.0), flags)?;
        Ok(Self { set, events: Vec::with_capacity(EVENTS_MAX) })
    }

    fn wait(&mut self, wait: &Timespec) -> rustix::io::Result<()> {
        self.events.clear();
        let events = rustix::buffer::spare_capacity(&mut self.events);
        epoll::wait(&self.set, events, Some(wait)).map(|_| ())
    }

    /// A second descriptor of the set, for waiting until something in it is ready.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub(crate) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.set.try_clone()
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor()
    }
}

impl Io for Epoll {
    type Socket = OwnedFd;
    type Listener = Arc<OwnedFd>;

    #[inline]
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn poll(&mut self, news: &mut Vec<Readiness>, wait: Duration) -> io::Result<()> {
        let wait = Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        };
        match self.wait(&wait) {
            // A process that was stopped goes on here, without news. What arrived meanwhile still counts.
            Err(rustix::io::Errno::INTR) => match self.wait(&Timespec { tv_sec: 0, tv_nsec: 0 }) {
                Ok(()) => {}
                Err(rustix::io::Errno::INTR) => return Ok(()),
                Err(error) => return Err(error.into()),
            },
            Ok(()) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &self.events {
            let (flags, data) = (event.flags, event.data);
            let hangup = epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
            news.push(Readiness {
                token: Token(data.u64()),
                readable: flags.intersects(epoll::EventFlags::IN | hangup),
                writable: flags.intersects(epoll::EventFlags::OUT | hangup),
                hangup: flags.intersects(hangup),
                urgent: flags.contains(epoll::EventFlags::PRI),
            });
        }
        Ok(())
    }

    fn watch_listener(&mut self, listener: &Self::Listener, token: Token) -> io::Result<()> {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET | epoll::EventFlags::EXCLUSIVE;
        epoll::add(&self.set, listener, epoll::EventData::new_u64(token.0), flags)?;
        Ok(())
    }

    fn retire_listener(&mut self, listener: &Self::Listener) {
        // It fails only for a descriptor that is not in the set, and then there is nothing to do.
        let _ = epoll::delete(&self.set, listener);
        crate::net::listener::stop(listener);
    }

    fn accept(&mut self, listener: &Self::Listener) -> io::Result<(Self::Socket, Peer)> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (socket, address) = rustix::net::acceptfrom_with(listener, flags)?;
        let address = address.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionAborted))?;
        let Ok(address) = SocketAddr::try_from(address) else { return Ok((socket, Peer::Unix)) };
        // A socket that is gone already refuses it; that shows on the next read.
        let _ = sockopt::set_tcp_nodelay(&socket, true);
        Ok((socket, Peer::Tcp(address)))
    }

    fn packets_cpu(&self, socket: &Self::Socket) -> Option<usize> {
        // A Unix socket has none, which the kernel tells as -1.
        let cpu = sockopt::socket_incoming_cpu(socket).ok()?;
        usize::try_from(cpu.cast_signed()).ok()
    }

    fn connect(&mut self, address: &Address) -> io::Result<Self::Socket> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let stream = |family, protocol| {
            rustix::net::socket_with(family, SocketType::STREAM, flags, protocol)
        };
        let (socket, outcome) = match address {
            Address::Tcp(address) => {
                let family =
                    if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
                let socket = stream(family, Some(ipproto::TCP))?;
                sockopt::set_tcp_nodelay(&socket, true)?;
                let outcome = rustix::net::connect(&socket, address);
                (socket, outcome)
            }
            Address::Unix(path) => {
                let socket = stream(AddressFamily::UNIX, None)?;
                // It is decided at once; a full backlog is `WouldBlock`, and an error here.
                let outcome = rustix::net::connect(&socket, &SocketAddrUnix::new(&**path)?);
                (socket, outcome)
            }
            // The driver has names dialled by other threads.
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        match outcome {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket),
            Err(error) => Err(error.into()),
        }
    }

    fn adopt(&mut self, stream: TcpStream) -> io::Result<Self::Socket> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(stream.into())
    }

    fn release(&mut self, socket: Self::Socket) -> Result<OwnedFd, Self::Socket> {
        match epoll::delete(&self.set, &socket) {
            // One that was just accepted is not watched yet.
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(socket),
            Err(_) => Err(socket),
        }
    }

    fn take(&mut self, socket: OwnedFd) -> io::Result<Self::Socket> {
        Ok(socket)
    }

    fn thread_time(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::try_from(time).unwrap_or_default()
    }

    fn connected(&mut self, socket: &Self::Socket) -> io::Result<()> {
        sockopt::socket_error(socket)??;
        // Unix sockets have no address of this kind, and cannot connect to themselves.
        let own = rustix::net::getsockname(socket).ok();
        let peer = rustix::net::getpeername(socket).ok().flatten();
        let inet = |address| SocketAddr::try_from(address).ok();
        corewire_client::self_connect::refuse(own.and_then(inet), peer.and_then(inet))
    }

    fn watch(&mut self, socket: &Self::Socket, token: Token) -> io::Result<()> {
        let flags = epoll::EventFlags::IN
            | epoll::EventFlags::OUT
            | epoll::EventFlags::PRI
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::ET;
        epoll::add(&self.set, socket, epoll::EventData::new_u64(token.0), flags)?;
        Ok(())
    }

    #[inline]
    fn recv(
        &mut self,
        socket: &Self::Socket,
        into: &mut BytesMut,
        max: usize,
    ) -> io::Result<usize> {
        let room = into.spare_capacity_mut();
        let room_bytes = room.len().min(max);
        let (_, received) =
            rustix::net::recv(socket, &mut room[..room_bytes], RecvFlags::DONTWAIT)?;
        let length = into.len() + received;
        // SAFETY: `recv` succeeded without the TRUNC flag, so it has written exactly `received`
        // bytes from the start of the spare capacity, and `length` is at most the capacity. All
        // bytes below `length` are therefore initialised.
        unsafe { into.set_len(length) };
        Ok(received)
    }

    #[inline]
    fn send(&mut self, socket: &Self::Socket, from: &SendBuffer, max: usize) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        if from.is_contiguous() {
            let chunk = from.first_chunk();
            let chunk = chunk.get(..max).unwrap_or(chunk);
            return Ok(rustix::net::send(socket, chunk, flags)?);
        }
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let filled = from.chunks(&mut slices, max);
        let slices = slices.get(..filled).unwrap_or(&[]);
        Ok(rustix::net::sendmsg(socket, slices, &mut SendAncillaryBuffer::default(), flags)?)
    }

    fn unacknowledged(&mut self, socket: &Self::Socket) -> Option<usize> {
        type Queued = Getter<TIOCOUTQ, i32>;
        // SAFETY: this request writes one `int` to where it is told, and nothing else, for every kind of
        // descriptor that knows it.
        let request = unsafe { Queued::new() };
        // SAFETY: as above; for a descriptor that does not know the request it fails and writes nothing.
        let queued = unsafe { ioctl(socket, request) };
        usize::try_from(queued.ok()?).ok()
    }

    fn shutdown_write(&mut self, socket: &Self::Socket) {
        // It fails when the peer is gone already, which is what it is for.
        let _ = rustix::net::shutdown(socket, Shutdown::Write);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::net::doorbell::Doorbell;
    use rustix::net::{AddressFamily, SocketType, bind, connect, getsockname, socket};
    use std::net::SocketAddr;

    /// A client that connects to a free port of its own host may be given that very port.
    #[test]
    fn a_connection_to_itself_is_refused() {
        let own = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&own, &"127.0.0.1:0".parse::<SocketAddr>().unwrap()).unwrap();
        let address = SocketAddr::try_from(getsockname(&own).unwrap()).unwrap();
        connect(&own, &address).unwrap();
        let mut epoll = Epoll::new(&Doorbell::new().unwrap()).unwrap();
        let error = epoll.connected(&own).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
