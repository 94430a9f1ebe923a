//! A connect by name that somebody else waits for.

use std::io;
use std::net::TcpStream;
use std::time::Duration;

use crate::dial::{connect, spawn};
use crate::resolver::Resolver;

/// A connect by name on a thread of its own.
pub type Dialing = oneshot::Receiver<io::Result<TcpStream>>;

/// Begins one that takes at most `within`. Dropping the receiver abandons it.
///
/// # Errors
///
/// No thread could be started.
pub fn dial(resolver: &Resolver, host: &str, port: u16, within: Duration) -> io::Result<Dialing> {
    let (sender, dialing) = oneshot::channel();
    let (resolver, host) = (resolver.clone(), host.to_owned());
    spawn("corewire-dial", move || {
        // The caller may have given up.
        let _ = sender.send(connect(&resolver, &host, port, within));
    })?;
    Ok(dialing)
}
