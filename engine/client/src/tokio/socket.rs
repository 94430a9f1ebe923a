//! The sockets of tokio channels, and how they connect.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::AsFd;
use std::task::{Context, Poll};
use std::time::Duration;

use corewire_codec::SendBuffer;
use tokio::net::{TcpStream, UnixStream};

use crate::address::Address;
use crate::core::session::{SEND_BYTES_MAX, SLICES_MAX};
use crate::remote::dial;
use crate::resolver::Resolver;
use crate::self_connect::refuse;
use crate::task::shell;

/// A socket of either family.
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Connects within this time.
    pub(super) async fn connect(
        address: Address,
        resolver: Resolver,
        within: Duration,
    ) -> io::Result<Self> {
        let connect = Self::connect_untimed(address, resolver, within);
        let elapsed = |_| io::Error::from(io::ErrorKind::TimedOut);
        tokio::time::timeout(within, connect).await.map_err(elapsed)?
    }

    async fn connect_untimed(
        address: Address,
        resolver: Resolver,
        within: Duration,
    ) -> io::Result<Self> {
        match address {
            Address::Name { host, port } => {
                let dialing = dial(&resolver, &host, port, within)?;
                // The sender is gone without a word only if a resolver panicked.
                let lost = |_| io::Error::other("the lookup of the server's name panicked");
                let stream = dialing.await.map_err(lost)??;
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                TcpStream::from_std(stream).map(Self::Tcp)
            }
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                refuse(stream.local_addr().ok(), stream.peer_addr().ok())?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
            Address::Unix(path) => UnixStream::connect(path).await.map(Self::Unix),
        }
    }
}

impl shell::Socket for Socket {
    type Bare = Bare;

    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(context),
            Self::Unix(stream) => stream.poll_read_ready(context),
        }
    }

    fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_write_ready(context),
            Self::Unix(stream) => stream.poll_write_ready(context),
        }
    }

    fn try_read(&self, into: &mut bytes::BytesMut) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read_buf(into),
            Self::Unix(stream) => stream.try_read_buf(into),
        }
    }

    fn try_write(&self, from: &SendBuffer) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let filled = from.chunks(&mut slices, SEND_BYTES_MAX);
        let slices = slices.get(..filled).unwrap_or(&[]);
        match self {
            Self::Tcp(stream) => stream.try_write_vectored(slices),
            Self::Unix(stream) => stream.try_write_vectored(slices),
        }
    }

    fn bare(&self) -> io::Result<Bare> {
        Ok(match self {
            Self::Tcp(stream) => Bare::Tcp(stream.as_fd().try_clone_to_owned()?.into()),
            Self::Unix(stream) => Bare::Unix(stream.as_fd().try_clone_to_owned()?.into()),
        })
    }
}

/// The same socket, without the runtime.
pub(super) enum Bare {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl shell::Bare for Bare {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(into),
            Self::Unix(stream) => stream.read(into),
        }
    }

    fn write(&mut self, from: &SendBuffer) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let filled = from.chunks(&mut slices, SEND_BYTES_MAX);
        let slices = slices.get(..filled).unwrap_or(&[]);
        match self {
            Self::Tcp(stream) => stream.write_vectored(slices),
            Self::Unix(stream) => stream.write_vectored(slices),
        }
    }
}
