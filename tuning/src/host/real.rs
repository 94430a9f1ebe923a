//! The machine that the program runs on.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::nic::add_statistic;
use super::{Fault, FaultKind, Host, Knob, NicFacts, netlink};

/// The machine that the program runs on: `/proc`, `/sys`, generic netlink, and `ethtool -S` for drivers' private counters.
///
/// Private counters are only available through an ioctl, for which no crate has a safe interface, so the `ethtool`
/// program is used for them. Where it is not installed the counters are reported as unread, and everything else works.
#[derive(Debug, Default)]
pub struct RealHost;

impl RealHost {
    /// The machine that the program runs on.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

impl Host for RealHost {
    fn read(&self, path: &str) -> Result<String, Fault> {
        if path == super::NFTABLES_RULES {
            // Asking would load the module where it is not in use.
            fs::metadata("/sys/module/nf_tables").map_err(|error| Fault::from_io(path, &error))?;
            return netlink::nftables_rules().map(|count| format!("{count}\n"));
        }
        fs::read_to_string(path).map_err(|error| Fault::from_io(path, &error))
    }

    fn write(&self, path: &str, value: &str) -> Result<(), Fault> {
        if path.starts_with("/etc/") {
            return replace(path, value);
        }
        write_existing(path, path, value)
    }

    fn list(&self, path: &str) -> Result<Vec<String>, Fault> {
        list_sorted(path, path)
    }

    fn has_entry(&self, dir: &str, name: &str) -> bool {
        fs::exists(format!("{dir}/{name}")).unwrap_or(false)
    }

    fn link(&self, path: &str) -> Result<String, Fault> {
        let target = fs::canonicalize(path).map_err(|error| Fault::from_io(path, &error))?;
        Ok(target.to_string_lossy().into_owned())
    }

    fn processes(&self, prefixes: &[&str]) -> Result<Vec<(u32, String)>, Fault> {
        let mut found: Vec<(u32, String)> = self
            .list("/proc")?
            .iter()
            .filter_map(|name| name.parse::<u32>().ok())
            // A process may end between the listing and the reading: then it is not there, which is the right result.
            .filter_map(|pid| {
                Some((pid, fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim().to_owned()))
            })
            .filter(|(_, name)| prefixes.iter().any(|prefix| name.starts_with(prefix)))
            .collect();
        found.sort_unstable();
        Ok(found)
    }

    fn nic(&self, iface: &str) -> Result<NicFacts, Fault> {
        let index_path = format!("/sys/class/net/{iface}/ifindex");
        let text = self.read(&index_path)?;
        let index: u32 =
            text.trim().parse().map_err(|_| Fault::format(&index_path, "not a number"))?;
        let mut facts = netlink::facts(iface, index);
        match driver_statistics(iface) {
            Ok(stats) => facts.stats.extend(stats),
            Err(why) => facts.notes.push(why),
        }
        Ok(facts)
    }

    fn nic_set(&self, iface: &str, knob: Knob, value: u32) -> Result<(), Fault> {
        netlink::set(iface, knob, value)
    }

    fn restart(&self, service: &str) -> Result<(), Fault> {
        let what = format!("systemctl try-restart {service}");
        let output = Command::new("systemctl")
            .args(["try-restart", service])
            .stdin(Stdio::null())
            .output()
            .map_err(|error| Fault::from_io(&what, &error))?;
        if output.status.success() {
            Ok(())
        } else {
            let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(Fault::new(what, FaultKind::Refused(words)))
        }
    }

    fn pause(&self, duration: Duration) {
        thread::sleep(duration);
    }
}

/// Writes into a file that is already there, in one `write` call: kernel attributes take a value only whole.
pub(super) fn write_existing(real: &str, shown: &str, value: &str) -> Result<(), Fault> {
    let fail = |error: std::io::Error| Fault::from_io(shown, &error);
    let mut file = fs::OpenOptions::new().write(true).truncate(true).open(real).map_err(fail)?;
    file.write_all(format!("{value}\n").as_bytes()).map_err(fail)
}

/// Replaces a file on a disk by another, so that a crash leaves either the old content or the new.
fn replace(path: &str, text: &str) -> Result<(), Fault> {
    let fail = |error: std::io::Error| Fault::from_io(path, &error);
    let real = fs::canonicalize(path).map_err(fail)?;
    let fresh = real.with_extension("corewire-tune");
    // The copy keeps the permissions.
    fs::copy(&real, &fresh).map_err(fail)?;
    let written = write_existing(&fresh.to_string_lossy(), path, text)
        .and_then(|()| fs::File::open(&fresh).and_then(|file| file.sync_all()).map_err(fail))
        .and_then(|()| fs::rename(&fresh, &real).map_err(fail));
    if written.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    written
}

/// The names in a directory, sorted.
pub(super) fn list_sorted(real: &str, shown: &str) -> Result<Vec<String>, Fault> {
    let entries = fs::read_dir(real).map_err(|error| Fault::from_io(shown, &error))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    names.sort_unstable();
    Ok(names)
}

/// The driver's private counters, from `ethtool -S`.
fn driver_statistics(iface: &str) -> Result<BTreeMap<String, u64>, String> {
    let output =
        Command::new("ethtool").args(["-S", iface]).stdin(Stdio::null()).output().map_err(
            |_| "driver counters not read: the program `ethtool` is not installed".to_owned(),
        )?;
    if !output.status.success() {
        // Usually "no stats available": loopback and many virtual devices have none.
        return Ok(BTreeMap::new());
    }
    Ok(parse_statistics(&String::from_utf8_lossy(&output.stdout)))
}

/// Reads `name: value` lines; anything else is skipped, because drivers put titles between them. Drivers that print a
/// block for each queue repeat the names in it: those are added up.
fn parse_statistics(text: &str) -> BTreeMap<String, u64> {
    let mut stats = BTreeMap::new();
    let lines = text.lines().filter_map(|line| line.rsplit_once(':'));
    for (name, value) in
        lines.filter_map(|(name, value)| Some((name, value.trim().parse::<u64>().ok()?)))
    {
        add_statistic(&mut stats, name, value);
    }
    stats
}

/// The fault for a machine that is only a copy of files and has no card to query.
pub(super) fn no_card(iface: &str) -> Fault {
    Fault::new(format!("card {iface}"), FaultKind::Missing)
}

#[cfg(test)]
mod tests {
    use super::parse_statistics;

    #[test]
    fn counters_are_read_and_titles_skipped() {
        let stats = parse_statistics(
            "NIC statistics:\n     rx_missed_errors: 7\n     rx queue 0: drops: 9\n x: -1\n pkts rx OOB: 3\n pkts rx OOB: 4\n",
        );
        assert_eq!(stats.get("pkts_rx_OOB"), Some(&7));
        assert_eq!(stats.get("rx_missed_errors"), Some(&7));
        assert_eq!(stats.get("rx_queue_0:_drops"), Some(&9));
        assert_eq!(stats.len(), 3);
    }
}
