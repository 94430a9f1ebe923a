//! A TCP connection that came back to itself.
//!
//! A client that connects to a port of its own host on which nobody listens may get that very port as its
//! own. The kernel then connects the socket to itself, and it receives what it sends. Every kind of channel
//! treats that as what it is: nobody listens there.

use std::io;
use std::net::SocketAddr;

/// Refuses a connection whose two ends are the same.
///
/// # Errors
///
/// `ConnectionRefused`, as for any port on which nobody listens.
pub fn refuse(own: Option<SocketAddr>, peer: Option<SocketAddr>) -> io::Result<()> {
    match (own, peer) {
        (Some(own), Some(peer)) if own == peer => Err(io::Error::new(
            io::ErrorKind::ConnectionRefused,
            format!("nobody listens at {peer}: the connection came back to itself"),
        )),
        // A connection that has ended meanwhile has no peer; its user will find that out.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use rustix::net::{AddressFamily, SocketType, bind, connect, getsockname, socket};
    use std::net::{TcpListener, TcpStream};

    /// A socket that is connected to itself.
    fn joined() -> TcpStream {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&socket, &"127.0.0.1:0".parse::<SocketAddr>().unwrap()).unwrap();
        let own = SocketAddr::try_from(getsockname(&socket).unwrap()).unwrap();
        connect(&socket, &own).unwrap();
        socket.into()
    }

    #[test]
    fn a_connection_to_itself_is_refused_and_others_are_not() {
        let own = joined();
        let error = refuse(own.local_addr().ok(), own.peer_addr().ok()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(error.to_string().contains("came back to itself"), "{error}");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        refuse(other.local_addr().ok(), other.peer_addr().ok()).unwrap();
    }
}
