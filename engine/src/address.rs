//! Addresses as people write them.

use std::net::{SocketAddr, ToSocketAddrs};

/// Something that names one address: `"127.0.0.1:7000"`, `("host", 7000)`, or a [`SocketAddr`].
pub trait IntoAddress {
    /// The address.
    ///
    /// # Errors
    ///
    /// One sentence that says what is wrong and how an address looks.
    fn into_address(self) -> Result<SocketAddr, String>;
}

impl IntoAddress for SocketAddr {
    fn into_address(self) -> Result<SocketAddr, String> {
        Ok(self)
    }
}

impl IntoAddress for &str {
    /// A numeric address is read; a host name is looked up, which blocks the thread.
    fn into_address(self) -> Result<SocketAddr, String> {
        let looked_up = self.parse().or_else(|_| first(self));
        looked_up.map_err(|error| {
            format!("'{self}' is not an address ({error}); write host:port, as in 127.0.0.1:7000")
        })
    }
}

impl IntoAddress for &String {
    fn into_address(self) -> Result<SocketAddr, String> {
        self.as_str().into_address()
    }
}

impl IntoAddress for String {
    fn into_address(self) -> Result<SocketAddr, String> {
        self.as_str().into_address()
    }
}

impl IntoAddress for (&str, u16) {
    fn into_address(self) -> Result<SocketAddr, String> {
        let (host, port) = self;
        first(self).map_err(|error| format!("'{host}' port {port} is not an address ({error})"))
    }
}

fn first(name: impl ToSocketAddrs) -> Result<SocketAddr, String> {
    let mut addresses = name.to_socket_addrs().map_err(|error| error.to_string())?;
    addresses.next().ok_or_else(|| "the name has no address".to_owned())
}
