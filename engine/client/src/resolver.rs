//! How names become addresses.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

pub(crate) type LookUp = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Looks up the names of servers, again for each connect. The default asks the operating system.
///
/// It runs on a thread of its own, one for each connect by name, so it may block; a connect that waits
/// for it still keeps its timeout.
///
/// ```
/// # use corewire_client as corewire;
/// use corewire::{ChannelConfig, Resolver};
///
/// let resolver = Resolver::new(|host, port| match host {
///     "store" => Ok(vec![([127, 0, 0, 1], port).into()]),
///     _ => Err(std::io::Error::other(format!("nobody knows '{host}'"))),
/// });
/// let config = ChannelConfig { resolver, ..ChannelConfig::default() };
/// # let _ = config;
/// ```
#[derive(Clone, Default)]
pub struct Resolver(pub(crate) Option<Arc<LookUp>>);

impl Resolver {
    /// Asks the operating system (`getaddrinfo`), which looks into `/etc/hosts` and asks name servers.
    #[must_use]
    pub fn system() -> Self {
        Self::default()
    }

    /// Asks `look_up` for the addresses of a host, each with the port. They are tried in the order in which it
    /// returns them, alternating between the families.
    #[must_use]
    pub fn new(
        look_up: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self(Some(Arc::new(look_up)))
    }
}

/// Two are equal when they are clones of one another, or both the system's.
impl PartialEq for Resolver {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl Eq for Resolver {}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Resolver::new" } else { "Resolver::system" })
    }
}
