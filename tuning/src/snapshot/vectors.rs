//! Which interrupts are a card's, and which queue each of them serves.
//!
//! The owner of an interrupt is taken from the device's `msi_irqs` and never from its name alone: two virtual functions
//! may have the same name, and then so do their vectors. Which queue it serves is taken from the driver (`netdev`), or
//! from the vector's name, or, if the name has no known word, from the order of numbers.

use std::collections::BTreeSet;

use crate::parse::{self, IrqLine, QueueName, VectorName, VectorRole};
use corewire_placement::CpuSet;

use super::card::{Nic, Vector, read_node};
use super::reader::Reader;

/// An interrupt of the card: number, name, and the directory whose `msi_irqs` lists it.
struct Own {
    irq: u32,
    name: String,
    device: String,
}

/// Fills in the card's vectors.
pub(super) fn read(nic: &mut Nic, reader: &mut Reader<'_>, interrupts: &[IrqLine]) {
    let Some(device) = nic.device.clone() else { return };
    let own = own_irqs(nic, reader, interrupts, &device);
    let by_driver: Vec<(u32, VectorRole, Own)> = nic
        .facts
        .queue_irqs
        .iter()
        .filter_map(|(queue, irq)| {
            let line = interrupts.iter().find(|line| line.irq == *irq)?;
            let listed = own.iter().find(|own| own.irq == *irq).map(|own| own.device.clone());
            // A port that several devices serve has interrupts of each of them.
            let of_other =
                || line.address.as_ref().map(|address| format!("/sys/bus/pci/devices/{address}"));
            let device = listed.or_else(of_other).unwrap_or_default();
            Some((*queue, VectorRole::Receive, Own { irq: *irq, name: line.name.clone(), device }))
        })
        .collect();
    let (method, mut found) =
        if by_driver.is_empty() { by_name(nic, own, &device) } else { ("netdev", by_driver) };
    let queues = u32::try_from(nic.rx.len().max(nic.tx.len())).unwrap_or(u32::MAX);
    // Vectors without a queue are there for more channels, or belong to another port of the same device.
    found.retain(|(queue, _, _)| queues == 0 || *queue < queues);
    found.sort_by_key(|(queue, role, own)| (*queue, *role, own.irq));
    let counts = |own: &Own| found.iter().filter(|(_, _, other)| same_name(own, other)).count();
    let ambiguous: BTreeSet<u32> = found
        .iter()
        .filter(|(_, _, own)| is_ambiguous(own, counts(own), interrupts))
        .map(|(_, _, own)| own.irq)
        .collect();
    let card_node = nic.node;
    for (queue, role, own) in found {
        let dir = format!("/proc/irq/{}", own.irq);
        let Some(affinity) =
            reader.parsed(&format!("{dir}/smp_affinity_list"), str::parse::<CpuSet>)
        else {
            continue;
        };
        let effective =
            reader.parsed(&format!("{dir}/effective_affinity_list"), str::parse::<CpuSet>);
        let is_other = own.device.starts_with("/sys/bus/");
        let node = if is_other { read_node(reader, &own.device) } else { card_node };
        nic.vectors.push(Vector {
            is_ambiguous: ambiguous.contains(&own.irq),
            name: own.name,
            irq: own.irq,
            device: own.device,
            node,
            queue,
            role,
            affinity,
            effective,
        });
    }
    if !nic.vectors.is_empty() {
        nic.vector_method = method;
    }
}

fn same_name(one: &Own, other: &Own) -> bool {
    one.name == other.name && one.device == other.device
}

/// Whether the name does not tell which interrupt is meant: within the device or, if none is known, on the whole
/// machine.
fn is_ambiguous(own: &Own, within: usize, interrupts: &[IrqLine]) -> bool {
    let all = interrupts.iter().filter(|line| line.name == own.name).count();
    within > 1 || (own.device.is_empty() && all > 1)
}

/// The interrupts of the card: by the `msi_irqs` of its device or of that device's PCI parent (virtio); otherwise its
/// one line interrupt; otherwise those whose chip names its address; otherwise those whose name may be its own.
fn own_irqs(
    nic: &mut Nic,
    reader: &mut Reader<'_>,
    interrupts: &[IrqLine],
    device: &str,
) -> Vec<Own> {
    let parent = device.rsplit_once('/').map_or("", |(parent, _)| parent);
    let listed = [device, parent].into_iter().find_map(|dir| {
        let names = reader.list(&format!("{dir}/msi_irqs"));
        let irqs: Vec<u32> = names.iter().filter_map(|name| name.parse().ok()).collect();
        (!irqs.is_empty()).then_some((dir, irqs))
    });
    if let Some((dir, mut irqs)) = listed {
        nic.own_irqs = Some(irqs.len());
        irqs.sort_unstable();
        let name_of = |reader: &mut Reader<'_>, irq: u32| {
            let line = interrupts.iter().find(|line| line.irq == irq).map(|line| line.name.clone());
            // Containers hide the table of interrupts; the kernel also gives the names one by one.
            line.or_else(|| {
                action(&reader.optional_quiet(&format!("/sys/kernel/irq/{irq}/actions"))?)
            })
        };
        return irqs
            .into_iter()
            .filter_map(|irq| {
                Some(Own { irq, name: name_of(reader, irq)?, device: dir.to_owned() })
            })
            .collect();
    }
    let plain =
        |line: &IrqLine| Own { irq: line.irq, name: line.name.clone(), device: String::new() };
    let legacy = reader
        .optional_quiet(&format!("{device}/irq"))
        .and_then(|text| parse::number::<u32>(&text));
    if let Some(line) =
        interrupts.iter().find(|line| Some(line.irq) == legacy.filter(|irq| *irq > 0))
    {
        return vec![plain(line)];
    }
    let addressed = |line: &&IrqLine| {
        line.address.as_ref().is_some_and(|address| device.split('/').any(|part| part == address))
    };
    let by_address: Vec<Own> = interrupts.iter().filter(addressed).map(plain).collect();
    if !by_address.is_empty() {
        return by_address;
    }
    let owners = owners(nic, device);
    let may_be = |line: &&IrqLine| {
        line.address.is_none() && parse::names_owner(&line.name, &owners, Some(device))
    };
    interrupts.iter().filter(may_be).map(plain).collect()
}

/// The last user of an interrupt in `/sys/kernel/irq/N/actions`.
pub(crate) fn action(text: &str) -> Option<String> {
    let name = text.trim().rsplit(',').next()?.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// The parts of a vector's name that say whose it is, not what it serves.
fn owners<'a>(nic: &'a Nic, device: &'a str) -> Vec<&'a str> {
    let own = device.rsplit('/').next().unwrap_or_default();
    vec![nic.name.as_str(), own]
}

/// Queues by the names of the vectors.
fn by_name(nic: &Nic, own: Vec<Own>, device: &str) -> (&'static str, Vec<(u32, VectorRole, Own)>) {
    let owners = owners(nic, device);
    let (mut queues, mut numbered, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    // Two ports of one device share its list; then their interfaces' names tell them apart.
    let is_named = |own: &Own| parse::names_owner(&own.name, &[&nic.name], None);
    let has_named = own.iter().any(is_named);
    for own in own.into_iter().filter(|own| !has_named || is_named(own)) {
        match parse::vector_name(&own.name, &owners) {
            VectorName::Queue(name) => queues.push((name, own)),
            VectorName::Numbered(name) => numbered.push((name, own)),
            VectorName::Plain => plain.push(own),
            VectorName::Control => {}
        }
    }
    let number = |(name, own): (QueueName, Own)| (name.number, name.role, own);
    if !queues.is_empty() {
        let mut found: Vec<_> = queues.into_iter().map(number).collect();
        if nic.driver.as_deref() == Some("gve") {
            renumber_gve(&mut found);
        }
        return ("names", found);
    }
    if !numbered.is_empty() {
        // Some drivers count from 1 (mlx4), and some give one number to several vectors: then only the order is left.
        let first = numbered.iter().map(|(name, _)| name.number).min().unwrap_or(0);
        let distinct: BTreeSet<u32> = numbered.iter().map(|(name, _)| name.number).collect();
        let is_counted = distinct.len() == numbered.len();
        let found = numbered
            .into_iter()
            .zip(0_u32..)
            .map(|((name, own), place)| {
                (if is_counted { name.number - first } else { place }, name.role, own)
            })
            .collect();
        return (if is_counted { "names" } else { "order" }, found);
    }
    let found = plain
        .into_iter()
        .zip(0_u32..)
        .map(|(own, queue)| (queue, VectorRole::Receive, own))
        .collect();
    ("order", found)
}

/// The gve driver numbers the notification blocks of its transmit queues first, so that receive queue 0 is in the
/// middle.
fn renumber_gve(found: &mut [(u32, VectorRole, Own)]) {
    let half = u32::try_from(found.len() / 2).unwrap_or(0);
    for (queue, role, _) in found {
        if *queue < half {
            *role = VectorRole::Transmit;
        } else {
            *queue -= half;
        }
    }
}
