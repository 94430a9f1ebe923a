//! Everything the tool asks of a machine, behind one trait, so that the same code runs on a real host, on a copied tree of files,
//! on a capture, and on the machines of the tests.

mod archive;
mod fault;
mod netlink;
mod nic;
mod real;
mod recorder;
mod tree;

use std::time::Duration;

pub use archive::{Archive, ArchiveError, ArchiveHost, Moment};
pub use fault::{Fault, FaultKind};
pub use nic::{Knob, NicFacts};
pub use real::RealHost;
pub use recorder::Recorder;
pub use tree::TreeHost;

/// Not a file: the number of nftables rules, which [`Host::read`] returns under this name.
pub const NFTABLES_RULES: &str = "/netlink/nftables/rules";

/// A machine, or something in place of one.
///
/// Paths are absolute paths of a Linux system (`/proc/net/softnet_stat`). Every refusal is a [`Fault`] that names the path and
/// the cause.
pub trait Host: std::fmt::Debug {
    /// Reads a file whole.
    ///
    /// # Errors
    ///
    /// When it is absent, may not be read, is not text, or the kernel refuses the read.
    fn read(&self, path: &str) -> Result<String, Fault>;

    /// Writes a value into an existing file. It never creates one: a sysfs attribute that is not there must not become a file.
    ///
    /// # Errors
    ///
    /// When the file is absent or may not be written, or the kernel refuses the value.
    fn write(&self, path: &str, value: &str) -> Result<(), Fault>;

    /// The names in a directory, sorted.
    ///
    /// # Errors
    ///
    /// When it is absent or may not be read.
    fn list(&self, path: &str) -> Result<Vec<String>, Fault>;

    /// Whether a directory has an entry of this name.
    fn has_entry(&self, dir: &str, name: &str) -> bool {
        self.list(dir).is_ok_and(|names| names.iter().any(|other| other == name))
    }

    /// The absolute path that a symbolic link finally leads to.
    ///
    /// # Errors
    ///
    /// When it is absent.
    fn link(&self, path: &str) -> Result<String, Fault>;

    /// Processes and kernel threads whose name starts with one of the prefixes: (process id, name).
    ///
    /// # Errors
    ///
    /// When `/proc` cannot be listed.
    fn processes(&self, prefixes: &[&str]) -> Result<Vec<(u32, String)>, Fault>;

    /// What the card reports about itself: channels, rings, coalescing, hash table, queue map, drop counters.
    ///
    /// # Errors
    ///
    /// When the interface does not exist. What one driver does not offer is simply absent from the result.
    fn nic(&self, iface: &str) -> Result<NicFacts, Fault>;

    /// Sets one of the card's settings.
    ///
    /// # Errors
    ///
    /// When the driver does not offer it, refuses the value, or permission is missing.
    fn nic_set(&self, iface: &str, knob: Knob, value: u32) -> Result<(), Fault>;

    /// Restarts a service that runs, so that it reads its configuration. A service that does not run stays stopped.
    ///
    /// # Errors
    ///
    /// When there is no systemd, or the service does not start.
    fn restart(&self, service: &str) -> Result<(), Fault>;

    /// Waits for the time between two samples.
    fn pause(&self, duration: Duration);
}
