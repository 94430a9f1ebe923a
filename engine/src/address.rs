//! Addresses as people write them: of TCP and of Unix sockets.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What stands before a path.
const UNIX: &str = "unix:";

/// The longest path of a Unix socket, in bytes: the kernel's 108, less the zero behind it.
const PATH_BYTES_MAX: usize = 107;

/// Where a server listens: written as `127.0.0.1:7000`, `[::1]:7000` or `unix:/run/store.sock`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A host's address and a port.
    Tcp(SocketAddr),
    /// A socket in the file system, by its path of at most 107 bytes. Only processes of this host
    /// reach it, and the file's permissions say which.
    Unix(PathBuf),
}

impl Address {
    /// The address of a TCP socket, if it is one.
    #[must_use]
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// The path of a Unix socket, if it is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(path) => Some(path),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl FromStr for Address {
    type Err = String;

    /// A numeric address and a path are read; a host name is looked up, which blocks the thread.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix(UNIX) {
            return unix(path);
        }
        let looked_up = text.parse().or_else(|_| first(text));
        looked_up.map(Self::Tcp).map_err(|error| {
            format!("'{text}' is not an address ({error}); write host:port, as in 127.0.0.1:7000, or unix:/path")
        })
    }
}

fn unix(path: &str) -> Result<Address, String> {
    match path.len() {
        0 => Err("'unix:' names no path; write unix:/run/store.sock".to_owned()),
        1..=PATH_BYTES_MAX => Ok(Address::Unix(path.into())),
        bytes => Err(format!(
            "the path of a Unix socket has at most {PATH_BYTES_MAX} bytes; this one has {bytes}"
        )),
    }
}

/// Who called, as far as the transport tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Peer {
    /// A client over TCP.
    Tcp(SocketAddr),
    /// A process of this host; its end of a Unix socket has no name.
    Unix,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// Something that names one address: `"127.0.0.1:7000"`, `"unix:/run/store.sock"`, `("host", 7000)`,
/// a [`SocketAddr`], or an [`Address`].
pub trait IntoAddress {
    /// The address.
    ///
    /// # Errors
    ///
    /// One sentence that says what is wrong and how an address looks.
    fn into_address(self) -> Result<Address, String>;
}

impl IntoAddress for Address {
    fn into_address(self) -> Result<Address, String> {
        Ok(self)
    }
}

impl IntoAddress for &Address {
    fn into_address(self) -> Result<Address, String> {
        Ok(self.clone())
    }
}

impl IntoAddress for SocketAddr {
    fn into_address(self) -> Result<Address, String> {
        Ok(Address::Tcp(self))
    }
}

impl IntoAddress for &str {
    fn into_address(self) -> Result<Address, String> {
        self.parse()
    }
}

impl IntoAddress for &String {
    fn into_address(self) -> Result<Address, String> {
        self.parse()
    }
}

impl IntoAddress for String {
    fn into_address(self) -> Result<Address, String> {
        self.parse()
    }
}

impl IntoAddress for (&str, u16) {
    fn into_address(self) -> Result<Address, String> {
        let (host, port) = self;
        first(self)
            .map(Address::Tcp)
            .map_err(|error| format!("'{host}' port {port} is not an address ({error})"))
    }
}

fn first(name: impl ToSocketAddrs) -> Result<SocketAddr, String> {
    let mut addresses = name.to_socket_addrs().map_err(|error| error.to_string())?;
    addresses.next().ok_or_else(|| "the name has no address".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_shown() {
        for text in ["127.0.0.1:7000", "[::1]:1", "unix:/run/store.sock", "unix:relative"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        let longest = format!("unix:/{}", "x".repeat(PATH_BYTES_MAX - 1));
        assert!(longest.parse::<Address>().is_ok());
        for text in ["unix:", "nowhere", &format!("{longest}x")] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
