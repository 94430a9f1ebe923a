//! Listening sockets: one per shard and address, all in one `SO_REUSEPORT` group.
//!
//! The main thread makes them in the order of the shards, before any shard runs, and keeps them for
//! the server's life: the kernel picks a socket by its place in the group, so the places must not
//! change.

use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::error::StartError;

/// Makes `count` listeners on one address; answers them with the address they have.
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
        // Somebody else may listen there. Without this look a second server of the same user would
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

fn failed(address: SocketAddr, error: io::Error) -> StartError {
    match error.kind() {
        io::ErrorKind::AddrInUse => StartError::AddressInUse { address },
        _ => StartError::Listen { address, error },
    }
}

/// Takes a listener out of service: connections that wait on it are reset, and no new ones reach it.
pub(crate) fn stop(listener: &OwnedFd) {
    // It fails only if the socket does not listen, which is what is wanted.
    let _ = rustix::net::shutdown(listener, rustix::net::Shutdown::Both);
}

/// Puts a stopped listener back into service, on the port it kept.
pub(crate) fn resume(listener: &OwnedFd, backlog: i32) -> io::Result<()> {
    Ok(rustix::net::listen(listener, backlog)?)
}
