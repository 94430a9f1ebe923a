//! Reads counters again and again, for watching a host.

use std::collections::BTreeMap;

use crate::host::{Fault, Host};
use corewire_placement::CpuSet;

use super::reader::Reader;
use super::{Counters, Cpus};

/// Reads the counters of a host as often as asked.
#[derive(Debug)]
pub struct Sampler<'h> {
    host: &'h dyn Host,
    cpus: Cpus,
    ifaces: Vec<String>,
    drivers: BTreeMap<String, String>,
}

impl<'h> Sampler<'h> {
    /// Prepares to watch these interfaces (all that matter, if none is named).
    ///
    /// # Errors
    ///
    /// When the online CPUs or the interfaces cannot be read, or one that was named is absent.
    pub fn new(host: &'h dyn Host, ifaces: &[String]) -> Result<Self, Fault> {
        let mut reader = Reader::new(host);
        let cpus = Cpus::read(&mut reader)?;
        let ifaces = super::card::select(&mut reader, ifaces)?;
        let driver = |name: &String| {
            let path = host.link(&format!("/sys/class/net/{name}/device/driver")).ok()?;
            Some((name.clone(), path.rsplit('/').next()?.to_owned()))
        };
        let drivers = ifaces.iter().filter_map(driver).collect();
        Ok(Self { host, cpus, ifaces, drivers })
    }

    /// Reads all counters.
    ///
    /// # Errors
    ///
    /// When a counter file is absent or of an unknown form.
    pub fn sample(&mut self) -> Result<Counters, Fault> {
        let mut reader = Reader::new(self.host);
        let mut counters = Counters::read(&mut reader, &self.cpus)?;
        for iface in &self.ifaces {
            let stats = self.host.nic(iface).map(|facts| facts.stats).unwrap_or_default();
            counters.add_card(&mut reader, iface, &stats);
        }
        Ok(counters)
    }

    /// The interfaces that are watched.
    #[must_use]
    pub fn ifaces(&self) -> &[String] {
        &self.ifaces
    }

    /// The CPUs that run.
    #[must_use]
    pub fn online(&self) -> &CpuSet {
        &self.cpus.online
    }

    /// The drivers of the interfaces that have one.
    #[must_use]
    pub fn drivers(&self) -> &BTreeMap<String, String> {
        &self.drivers
    }
}
