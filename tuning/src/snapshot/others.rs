//! Interrupts of devices other than the cards in question: disks, USB, cards that were not named.

use std::collections::{BTreeMap, BTreeSet};

use crate::parse::IrqLine;
use corewire_placement::CpuSet;

use super::card::Nic;
use super::counters::Rate;
use super::reader::Reader;
use super::{ratio, total};

/// An interrupt of another device that was served often while we watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    /// Its number now.
    pub irq: u32,
    /// Its name in `/proc/interrupts`.
    pub name: String,
    /// The directory whose `msi_irqs` lists it; empty if none is known.
    pub device: String,
    /// The CPUs that it may go to.
    pub affinity: CpuSet,
    /// Why the tool cannot move it; `None` if it can try.
    pub fixed: Option<&'static str>,
}

/// More interrupts per second than this count as busy.
pub(crate) const BUSY_PER_SECOND: f64 = 100.0;

/// Reads the masks of the busy ones; those of thousands of idle interrupts are not read.
pub(super) fn read(reader: &mut Reader<'_>, nics: &[Nic], rate: &Rate<'_>) -> Vec<Other> {
    let ours: BTreeSet<u32> =
        nics.iter().flat_map(|nic| nic.vectors.iter().map(|vector| vector.irq)).collect();
    let lines = &rate.after.interrupts;
    let sum = |line: &IrqLine| total(line.counts.iter().map(|(_, count)| *count));
    let before: BTreeMap<u32, u64> =
        rate.before.interrupts.iter().map(|line| (line.irq, sum(line))).collect();
    let is_busy = |line: &&IrqLine| {
        let served = sum(line).saturating_sub(before.get(&line.irq).copied().unwrap_or(0));
        ratio(served, 1) > BUSY_PER_SECOND * rate.period.as_secs_f64()
    };
    let mut others = Vec::new();
    for line in lines.iter().filter(|line| !ours.contains(&line.irq)).filter(is_busy) {
        let path = format!("/proc/irq/{}/smp_affinity_list", line.irq);
        let Some(affinity) = reader.parsed(&path, str::parse::<CpuSet>) else { continue };
        let device = line.address.as_ref().map(|address| format!("/sys/bus/pci/devices/{address}"));
        let listed = device.filter(|device| {
            reader.list(&format!("{device}/msi_irqs")).contains(&line.irq.to_string())
        });
        let device = listed.unwrap_or_default();
        let is_only = lines.iter().filter(|other| other.name == line.name).count() == 1;
        let fixed = if is_managed(&line.name) {
            Some("the kernel manages it and lets nobody move it")
        } else if device.is_empty() && !is_only {
            Some("another interrupt has the same name")
        } else {
            None
        };
        others.push(Other { irq: line.irq, name: line.name.clone(), device, affinity, fixed });
    }
    others
}

/// Whether this is the name of a queue of a disk whose driver lets the kernel spread the interrupts: NVMe (its queue 0
/// is for administration commands, and can be moved) and virtio. Other drivers do so for some devices, too; for them
/// only writing shows it.
fn is_managed(name: &str) -> bool {
    let number = |start: &str, before: &str| {
        let (_, queue) = name.strip_prefix(start)?.split_once(before)?;
        queue.parse::<u32>().ok()
    };
    number("nvme", "q").is_some_and(|queue| queue > 0) || number("virtio", "-req.").is_some()
}

#[cfg(test)]
mod tests {
    use super::is_managed;

    #[test]
    fn queues_of_disks_are_managed_and_what_is_no_queue_is_not() {
        for name in ["nvme0q1", "nvme12q64", "virtio1-req.0"] {
            assert!(is_managed(name), "{name}");
        }
        for name in ["nvme0q0", "megasas0-msix3", "nvmeq", "virtio1-config"] {
            assert!(!is_managed(name), "{name}");
        }
    }
}
