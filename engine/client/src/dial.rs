//! Connecting to a name: it is looked up, all its addresses are tried, and the first that answers wins.
//!
//! Both may take long, so they happen on threads that live no longer than the connect: one that looks up,
//! and one for each address that is tried while others have not answered. Connects to numeric addresses
//! and to Unix sockets need none of this.
//!
//! A name stays a name: each connect looks it up again, so one that moves is found within a back-off. Families
//! alternate, and each attempt begins 250 ms after the one before or as soon as that fails (RFC 8305).
//! `ChannelConfig::resolver` replaces the system's lookup.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::resolver::Resolver;
use crate::self_connect::refuse;

/// How long an address is tried alone before the next one is tried as well (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);

/// All addresses of a name, the best ones first; at least one. Blocks for as long as the resolver does.
///
/// # Errors
///
/// The resolver's error, or that it found no address.
pub fn look_up(resolver: &Resolver, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let found = match &resolver.0 {
        Some(look_up) => look_up(host, port),
        None => (host, port).to_socket_addrs().map(Iterator::collect),
    };
    let why = match found {
        Ok(addresses) if addresses.is_empty() => "it has no address".to_owned(),
        Ok(addresses) => return Ok(addresses),
        Err(error) => error.to_string(),
    };
    let text = format!("the name {host} cannot be looked up: {why}");
    Err(io::Error::new(io::ErrorKind::NotFound, text))
}

/// Connects to a host by name. Blocks for at most `within`, and then fails with `TimedOut`.
///
/// # Errors
///
/// Why no address could be connected to, or that none was found.
pub fn connect(
    resolver: &Resolver,
    host: &str,
    port: u16,
    within: Duration,
) -> io::Result<TcpStream> {
    let by = Instant::now().checked_add(within);
    let (sender, found) = mpsc::channel();
    let (resolver, host) = (resolver.clone(), host.to_owned());
    spawn("corewire-names", move || {
        // The caller may have given up.
        let _ = sender.send(look_up(&resolver, &host, port));
    })?;
    let addresses = receive(&found, by).unwrap_or_else(|| Err(timed_out()))?;
    race(&in_turn(addresses), by)
}

/// Tries one address after the other, each a little later than the one before or as soon as an attempt
/// fails. Returns the first that connects. Attempts that lose end by themselves.
fn race(addresses: &[SocketAddr], by: Option<Instant>) -> io::Result<TcpStream> {
    let (sender, attempts) = mpsc::channel();
    let (mut running, mut error) = (0_usize, None);
    let mut queue = addresses.iter();
    loop {
        let next = queue.next();
        if let Some(&address) = next {
            let (sender, within) = (sender.clone(), left(by));
            spawn("corewire-connect", move || {
                let connected = TcpStream::connect_timeout(&address, within);
                let connected = connected.and_then(|stream| {
                    refuse(stream.local_addr().ok(), stream.peer_addr().ok())?;
                    Ok(stream)
                });
                // Nobody receives this if another attempt was first.
                let _ = sender.send(connected);
            })?;
            running += 1;
        }
        let patience = match queue.len() {
            0 => by,
            _ => [Instant::now().checked_add(STAGGER), by].into_iter().flatten().min(),
        };
        match receive(&attempts, patience) {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(failed)) => {
                running -= 1;
                error = Some(failed);
            }
            None => {}
        }
        let is_over = by.is_some_and(|by| by <= Instant::now());
        if is_over || (running == 0 && queue.len() == 0) {
            return Err(error.filter(|_| !is_over).unwrap_or_else(timed_out));
        }
    }
}

/// Alternates the families, beginning with that of the first address (RFC 8305, section 4): a family that
/// does not work here costs one attempt, not one for each of its addresses.
fn in_turn(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (preferred, others): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv4() == first);
    let mut sorted = Vec::with_capacity(preferred.len() + others.len());
    let (mut preferred, mut others) = (preferred.into_iter(), others.into_iter());
    loop {
        let before = sorted.len();
        sorted.extend(preferred.next());
        sorted.extend(others.next());
        if sorted.len() == before {
            return sorted;
        }
    }
}

fn left(by: Option<Instant>) -> Duration {
    let left = by.map_or(Duration::MAX, |by| by.saturating_duration_since(Instant::now()));
    left.max(Duration::from_millis(1))
}

/// What comes until then. Only if a resolver panics is the sender gone without having sent.
fn receive<T>(from: &mpsc::Receiver<T>, until: Option<Instant>) -> Option<T> {
    match until {
        Some(until) => from.recv_timeout(until.saturating_duration_since(Instant::now())).ok(),
        None => from.recv().ok(),
    }
}

pub(crate) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(body).map(drop)
}

fn timed_out() -> io::Error {
    io::ErrorKind::TimedOut.into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::net::TcpListener;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// An address of this host on which nobody listens.
    fn closed() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    #[test]
    fn families_take_turns() {
        let of = |list: &[&str]| list.iter().map(|it| address(it)).collect::<Vec<_>>();
        let found = of(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]);
        let wanted = of(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]);
        assert_eq!(in_turn(found), wanted);
        assert_eq!(in_turn(Vec::new()), []);
    }

    #[test]
    fn an_address_that_refuses_is_followed_by_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let found = vec![closed(), closed(), listener.local_addr().unwrap()];
        let resolver = Resolver::new(move |_, _| Ok(found.clone()));
        let stream = connect(&resolver, "somewhere", 1, Duration::from_secs(20)).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
    }

    #[test]
    fn a_name_without_a_working_address_says_why() {
        let refused = closed();
        let resolver = Resolver::new(move |_, _| Ok(vec![refused]));
        let error = connect(&resolver, "somewhere", 1, Duration::from_secs(20)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let nobody = Resolver::new(|_, _| Ok(Vec::new()));
        let error = connect(&nobody, "somewhere", 1, Duration::from_secs(20)).unwrap_err();
        assert!(
            error.to_string().contains("somewhere") && error.to_string().contains("no address")
        );
        let hangs = Resolver::new(|_, _| {
            loop {
                thread::park();
            }
        });
        let error = connect(&hangs, "somewhere", 1, Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
