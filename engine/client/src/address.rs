//! Addresses of TCP and Unix sockets, as people write them.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The prefix of a path.
const UNIX: &str = "unix:";

/// The longest path of a Unix socket, in bytes: the kernel's 108, less the terminating zero.
const PATH_BYTES_MAX: usize = 107;

/// The longest host name, in bytes (RFC 1035), and the longest of its parts.
const HOST_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// Where a server listens: written as `127.0.0.1:7000`, `[::1]:7000`, `db.example:7000` or
/// `unix:/run/store.sock`.
///
/// ```
/// # use corewire_client as corewire;
/// use corewire::Address;
///
/// let address: Address = "unix:/run/store.sock".parse()?;
/// assert_eq!(address, Address::Unix("/run/store.sock".into()));
/// assert!(matches!("db.example:7000".parse()?, Address::Name { port: 7000, .. }));
/// assert!("db.example".parse::<Address>().is_err()); // no port
/// # Ok::<(), <Address as std::str::FromStr>::Err>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// A host's address and a port.
    Tcp(SocketAddr),
    /// A host's name and a port. It stays a name: a client looks it up each time it connects, and tries
    /// all addresses that it finds; a server looks it up when it starts, and listens on the first.
    Name {
        /// The host, of at most 253 bytes.
        host: String,
        /// The port.
        port: u16,
    },
    /// A socket in the file system, by its path of at most 107 bytes. Only processes of this host
    /// reach it, and the file's permissions say which.
    #[doc(alias("unix socket", "uds", "domain socket"))]
    Unix(PathBuf),
}

impl Address {
    /// The address, if this is a TCP address and not a name.
    #[must_use]
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Name { .. } | Self::Unix(_) => None,
        }
    }

    /// The path, if this is a Unix socket.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Tcp(_) | Self::Name { .. } => None,
            Self::Unix(path) => Some(path),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

#[cfg(feature = "serde")]
corewire_codec::text_settings! { Address, "address"; }

impl FromStr for Address {
    type Err = String;

    /// Parses an address. Nothing is looked up, so a name that no host has is valid, too.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix(UNIX) {
            return unix(path);
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Tcp(address));
        }
        named(text).map_err(|error| {
            format!("'{text}' is not an address ({error}); write host:port, as in 127.0.0.1:7000, or unix:/path")
        })
    }
}

/// Parses a name and a port.
fn named(text: &str) -> Result<Address, String> {
    let (host, port) = text.rsplit_once(':').ok_or("it has no port")?;
    let port = port.parse().map_err(|_| "the port is not a number from 0 to 65535")?;
    name(host, port)
}

fn name(host: &str, port: u16) -> Result<Address, String> {
    if let Ok(ip) = host.parse() {
        return Ok(Address::Tcp(SocketAddr::new(ip, port)));
    }
    let is_label = |label: &str| {
        let all = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(all)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let labels = host.strip_suffix('.').unwrap_or(host);
    match labels.len() <= HOST_BYTES_MAX && labels.split('.').all(is_label) {
        true => Ok(Address::Name { host: host.to_owned(), port }),
        false => Err("the host is neither a number nor a name".to_owned()),
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

/// The caller, as far as the transport can tell.
///
/// ```
/// # use corewire_client as corewire;
/// use corewire::Peer;
///
/// fn is_local(peer: Peer) -> bool {
///     match peer {
///         Peer::Tcp(address) => address.ip().is_loopback(),
///         Peer::Unix => true,
///         _ => false,
///     }
/// }
/// ```
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
///
/// ```
/// # use corewire_client as corewire;
/// use corewire::{Address, IntoAddress};
///
/// fn server(address: impl IntoAddress) -> Result<Address, String> {
///     address.into_address()
/// }
///
/// assert!(server("db.example:7000").is_ok() && server("unix:/run/db").is_ok());
/// assert!(server("nowhere").is_err());
/// ```
pub trait IntoAddress {
    /// The address.
    ///
    /// # Errors
    ///
    /// One sentence that says what is wrong and what an address looks like.
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
        name(host, port)
            .map_err(|error| format!("'{host}' port {port} is not an address ({error})"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_shown() {
        let names = ["localhost:7000", "db-1.store_a.example.:0", "127.0.0.1.nip.io:1"];
        let plain = ["127.0.0.1:7000", "[::1]:1", "unix:/run/store.sock", "unix:relative"];
        for text in names.into_iter().chain(plain) {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        let longest = format!("unix:/{}", "x".repeat(PATH_BYTES_MAX - 1));
        assert!(longest.parse::<Address>().is_ok());
        let long = format!("{}:1", ["label"; 50].join("."));
        let wrong =
            ["nowhere", "host:", "host:65536", ":1", "a b:1", "a..b:1", "-a:1", "[::1:1", &long];
        for text in wrong.into_iter().chain(["unix:", &format!("{longest}x")]) {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
