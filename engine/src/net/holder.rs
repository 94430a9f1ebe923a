//! Whose socket listens on an address: told by `/proc`, for the error of a server that cannot have it.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use crate::error::AddressHolder;
use corewire_client::address::Address;

/// The state `LISTEN` in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// Whose socket has this address.
pub(crate) fn of(address: &Address) -> AddressHolder {
    let found = match address {
        Address::Tcp(address) => tcp_sockets(*address),
        Address::Unix(path) => unix_sockets(path),
        _ => Vec::new(),
    };
    match own_sockets() {
        _ if found.is_empty() => AddressHolder::Unknown,
        None => AddressHolder::Unknown,
        Some(own) if found.iter().any(|inode| own.contains(inode)) => AddressHolder::ThisProcess,
        Some(_) => AddressHolder::AnotherProcess,
    }
}

/// The inodes of the sockets that this process has open.
fn own_sockets() -> Option<BTreeSet<u64>> {
    let inode = |entry: fs::DirEntry| {
        let link = fs::read_link(entry.path()).ok()?;
        link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    Some(fs::read_dir("/proc/self/fd").ok()?.flatten().filter_map(inode).collect())
}

/// The inodes of sockets that listen where `wanted` would.
fn tcp_sockets(wanted: SocketAddr) -> Vec<u64> {
    let files = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
    let texts = files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect::<Vec<_>>();
    let lines = texts.iter().flat_map(|text| text.lines().filter_map(tcp_line));
    lines.filter(|(address, _)| clash(*address, wanted)).map(|(_, inode)| inode).collect()
}

/// The address and the inode of a line about a socket that listens.
fn tcp_line(line: &str) -> Option<(SocketAddr, u64)> {
    let words = line.split_whitespace().collect::<Vec<_>>();
    let (address, state, inode) = (words.get(1)?, words.get(3)?, words.get(9)?);
    let (ip, port) = address.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let address = SocketAddr::new(ip_of(ip)?, port);
    (*state == LISTEN).then_some((address, inode.parse().ok()?))
}

/// An address as the kernel prints it: words of 32 bits in network order, each printed as a number of this machine.
fn ip_of(text: &str) -> Option<IpAddr> {
    let word = |from: usize| {
        let word = u32::from_str_radix(text.get(from..from + 8)?, 16).ok()?;
        Some(u32::from_be(word))
    };
    match text.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let bits = words.into_iter().fold(0_u128, |bits, word| bits << 32 | u128::from(word));
            Some(Ipv6Addr::from(bits).to_canonical())
        }
        _ => None,
    }
}

/// Whether two sockets cannot listen on both: the same port, and one address is the other or covers it.
fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    one.port() == other.port() && (a == b || a.is_unspecified() || b.is_unspecified())
}

/// The inodes of sockets that are bound to this path.
fn unix_sockets(path: &Path) -> Vec<u64> {
    let text = fs::read_to_string("/proc/self/net/unix").unwrap_or_default();
    let line = |line: &str| {
        let words = line.split_whitespace().collect::<Vec<_>>();
        let (inode, bound) = (words.get(6)?.parse().ok()?, words.get(7)?);
        (Path::new(bound) == path).then_some(inode)
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_listener_of_this_process_is_known_as_such() {
        for host in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0"] {
            // A host may have no IPv6.
            let Ok(listener) = TcpListener::bind(host) else { continue };
            let address = listener.local_addr().unwrap();
            assert_eq!(of(&address.into()), AddressHolder::ThisProcess, "{address}");
            drop(listener);
            assert_eq!(of(&address.into()), AddressHolder::Unknown, "{address}");
        }
    }

    #[test]
    fn lines_of_proc_are_read() {
        let line = "  0: 0100007F:1B58 00000000:0000 0A 00000000:00000000 00:00000000 00000000 1000 0 4711 1";
        let told = tcp_line(line).map(|(address, inode)| (address.port(), inode));
        assert_eq!(told, Some((7000, 4711)));
        for bad in ["", "0: x:y z 0A", "0: 0100007F:1B58 00000000:0000 01 a b c d e 4711"] {
            assert_eq!(tcp_line(bad), None, "{bad}");
        }
    }
}
