//! Listening sockets: one per shard and TCP address, all in one `SO_REUSEPORT` group; one per Unix
//! address, which all shards watch, because those sockets have no groups.
//!
//! The main thread makes them in the order of the shards, before any shard runs, and keeps them for
//! the server's life: the kernel picks a socket by its place in the group. A stalled shard's listener leaves the group and comes
//! back at its end; what depends on places then follows (`host/steering.rs`).
//!
//! A Unix listener is watched with `EPOLLEXCLUSIVE`: a shard that is awake takes the next client, and no balance is
//! promised. A shard that stalls takes none, and the listener stays. The socket's file is removed when the server
//! has ended, unless another server has put its own there; a file that nobody listens on is replaced when a server
//! starts.
//!
//! A server that is told to listen on a name looks it up when it starts, and listens on the first address.

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, ipproto, sockopt};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::StartError;
use crate::net::holder;
use corewire_client::address::Address;

/// A listener that can be taken out of service by a thread other than the one that accepts.
pub(crate) type SharedListener = Arc<OwnedFd>;

/// Makes `count` listeners on one address; returns them with the address they have.
pub(crate) fn listen(
    address: SocketAddr,
    count: usize,
    backlog: i32,
) -> Result<(SocketAddr, Vec<Arc<OwnedFd>>), StartError> {
    let (bound, _holds_the_port) = reserve(address).map_err(|error| failed(address, error))?;
    let mut listeners = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = socket(bound, true).map_err(|error| failed(address, error))?;
        rustix::net::listen(&socket, backlog).map_err(|error| failed(address, error.into()))?;
        listeners.push(Arc::new(socket));
    }
    Ok((bound, listeners))
}

/// Lets the system choose the port, if none is given, and keeps it until all listeners are bound to
/// it by number: a socket that was bound to port 0 loses its port when it is taken out of service.
fn reserve(address: SocketAddr) -> io::Result<(SocketAddr, Option<OwnedFd>)> {
    if address.port() != 0 {
        // Somebody else may listen there. Without this check a second server of the same user would
        // join the first one's group and take half of its connections.
        socket(address, false)?;
        return Ok((address, None));
    }
    let socket = socket(address, true)?;
    let bound = SocketAddr::try_from(rustix::net::getsockname(&socket)?)?;
    Ok((bound, Some(socket)))
}

fn socket(address: SocketAddr, share: bool) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if share {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    Ok(socket)
}

/// Makes the one listener of a Unix socket, and the guard that removes its file.
pub(crate) fn listen_unix(
    path: &Path,
    backlog: i32,
) -> Result<(Arc<OwnedFd>, SocketFile), StartError> {
    let failed = |error| failed(Address::Unix(path.to_owned()), error);
    bind_unix(path, backlog).map_err(failed)
}

fn bind_unix(path: &Path, backlog: i32) -> io::Result<(Arc<OwnedFd>, SocketFile)> {
    let name = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match rustix::net::bind(&socket, &name) {
        Err(Errno::ADDRINUSE) => {
            remove_stale(path)?;
            rustix::net::bind(&socket, &name)?;
        }
        other => other?,
    }
    let file = SocketFile::of(path)?;
    rustix::net::listen(&socket, backlog)?;
    Ok((Arc::new(socket), file))
}

/// Removes the file of a socket on which nobody listens any more: a killed server leaves one.
/// Anything else at the path stays.
fn remove_stale(path: &Path) -> io::Result<()> {
    if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::other("a file that is no socket is there already"));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// The file of a Unix socket that this server made. Dropping it removes the file, unless another
/// server has put its own there meanwhile.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: Self::identity(path)? })
    }

    fn identity(path: &Path) -> io::Result<(u64, u64)> {
        let metadata = std::fs::symlink_metadata(path)?;
        Ok((metadata.dev(), metadata.ino()))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if Self::identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // If it cannot be removed, the next server finds that nobody listens there.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn failed(address: impl Into<Address>, error: io::Error) -> StartError {
    let address = address.into();
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            let holder = holder::of(&address);
            StartError::AddressInUse { address, holder }
        }
        _ => StartError::Listen { address, error },
    }
}

/// Takes a listener out of service: connections that wait on it are reset, and no new ones reach it.
pub(crate) fn stop(listener: &OwnedFd) {
    // It fails only if the socket does not listen, which is the wanted state.
    let _ = rustix::net::shutdown(listener, rustix::net::Shutdown::Both);
}

/// Puts a stopped listener back into service, on the port it kept.
pub(crate) fn resume(listener: &OwnedFd, backlog: i32) -> io::Result<()> {
    Ok(rustix::net::listen(listener, backlog)?)
}
