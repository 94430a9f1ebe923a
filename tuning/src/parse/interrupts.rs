//! `/proc/interrupts`, and the names that drivers give to the vectors of their queues.

/// One numbered interrupt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IrqLine {
    /// The interrupt's number.
    pub irq: u32,
    /// (CPU, how often it was served there since boot), for every CPU of the header.
    pub counts: Vec<(u32, u64)>,
    /// The last word of the line: the name of the vector, for interrupts with one user.
    pub name: String,
}

/// Reads `/proc/interrupts`: the columns are the CPUs of the header (the online ones), rows whose label is no number (NMI, LOC,
/// ERR) are left out.
///
/// # Errors
///
/// When there is no header of CPUs, or a row has fewer counts than the header has CPUs.
pub fn interrupts(text: &str) -> Result<Vec<IrqLine>, String> {
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let cpus: Vec<u32> = header
        .split_whitespace()
        .map(|word| word.strip_prefix("CPU").and_then(|number| number.parse().ok()))
        .collect::<Option<_>>()
        .ok_or_else(|| "the header names something else than CPUs".to_owned())?;
    if cpus.is_empty() {
        return Err("there is no header of CPUs".to_owned());
    }
    let mut table = Vec::new();
    for line in lines {
        let Some((label, rest)) = line.split_once(':') else {
            continue;
        };
        let Ok(irq) = label.trim().parse::<u32>() else {
            continue;
        };
        let mut words = rest.split_whitespace();
        let mut counts = Vec::with_capacity(cpus.len());
        for cpu in &cpus {
            let count = words.next().and_then(|word| word.parse().ok());
            counts.push((
                *cpu,
                count.ok_or_else(|| {
                    format!("interrupt {irq} has fewer counts than there are CPUs")
                })?,
            ));
        }
        table.push(IrqLine { irq, counts, name: words.last().unwrap_or_default().to_owned() });
    }
    Ok(table)
}

/// What a vector serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum VectorRole {
    /// Receive, or receive and transmit together.
    Receive,
    /// Transmit alone.
    Transmit,
}

/// A vector's name, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VectorName {
    /// What it serves.
    pub role: VectorRole,
    /// The number in the name. For most drivers the queue's number.
    pub queue: u32,
    prefix: String,
    suffix: String,
}

impl VectorName {
    /// The name that the same driver gives to another queue.
    #[must_use]
    pub fn named(&self, queue: u32) -> String {
        format!("{}{queue}{}", self.prefix, self.suffix)
    }
}

/// What stands right before the queue's number in vector names: (text, role). From the drivers' sources: ixgbe, i40e, ice, igb
/// (`TxRx-`), ena (`Tx-Rx-`), bnxt (`TxRx-`, formerly `fp-`), mlx5 (`mlx5_comp`), gve (`ntfy-blk`), mana (`mana_q`), virtio-net
/// (`input.`, `output.`), and drivers with a vector for each direction (`rx-`, `tx-`).
const PATTERNS: [(&str, VectorRole); 10] = [
    ("TxRx-", VectorRole::Receive),
    ("Tx-Rx-", VectorRole::Receive),
    ("fp-", VectorRole::Receive),
    ("mlx5_comp", VectorRole::Receive),
    ("ntfy-blk", VectorRole::Receive),
    ("mana_q", VectorRole::Receive),
    ("input.", VectorRole::Receive),
    ("output.", VectorRole::Transmit),
    ("rx-", VectorRole::Receive),
    ("tx-", VectorRole::Transmit),
];

/// Takes a vector's name apart, if it belongs to this interface: by the interface's name, by the PCI address behind an `@`, or by
/// the last part of the device's path (`virtio2`).
#[must_use]
pub fn vector_name(name: &str, iface: &str, device: Option<&str>) -> Option<VectorName> {
    let (body, address) = match name.split_once("@pci:") {
        Some((body, address)) => (body, Some(address)),
        None => (name, None),
    };
    let device_name = device.and_then(|path| path.rsplit('/').next());
    let ours = match address {
        Some(address) => device.is_some_and(|path| path.split('/').any(|part| part == address)),
        None => {
            let word = |owner: &str| {
                body == owner
                    || body.starts_with(&format!("{owner}-"))
                    || body.contains(&format!("-{owner}-"))
            };
            word(iface) || device_name.is_some_and(word)
        }
    };
    if !ours {
        return None;
    }
    let digits_at = body
        .rfind(|c: char| !c.is_ascii_digit())
        .map_or(0, |at| at + body[at..].chars().next().map_or(1, char::len_utf8));
    let queue = body.get(digits_at..)?.parse().ok()?;
    let before = &body[..digits_at];
    // The interface's own name may contain a pattern (`rx-card-3`), so the longest match at the very end decides.
    let (_, role) = PATTERNS
        .iter()
        .filter(|(pattern, _)| before.ends_with(pattern))
        .max_by_key(|(pattern, _)| pattern.len())?;
    let suffix = address.map(|address| format!("@pci:{address}")).unwrap_or_default();
    Some(VectorName { role: *role, queue, prefix: before.to_owned(), suffix })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rows_without_a_number_are_left_out_and_holes_keep_their_cpu() {
        let text = "           CPU0       CPU2\n 38:          0       5534  PCI-MSIX-0000:00:03.0   1-edge      virtio2-input.0\nNMI: 0 0 x\nERR:          0\n";
        let table = interrupts(text).unwrap();
        assert_eq!(table.len(), 1);
        assert_eq!((table[0].irq, table[0].name.as_str()), (38, "virtio2-input.0"));
        assert_eq!(table[0].counts, [(0, 0), (2, 5534)]);
        assert!(interrupts("").is_err());
        assert!(interrupts("CPU0 CPU1\n 3: 1\n").unwrap_err().contains("interrupt 3"));
    }

    #[test]
    fn drivers_names_are_taken_apart() {
        let pci = Some("/sys/devices/pci0000:40/0000:41:00.0");
        let queue = |name: &str, device| {
            vector_name(name, "eth0", device).map(|name| (name.role, name.queue))
        };
        for name in [
            "eth0-TxRx-7",
            "i40e-eth0-TxRx-7",
            "ice-eth0-TxRx-7",
            "eth0-Tx-Rx-7",
            "eth0-fp-7",
            "mlx5_comp7@pci:0000:41:00.0",
            "gve-ntfy-blk7@pci:0000:41:00.0",
        ] {
            assert_eq!(queue(name, pci), Some((VectorRole::Receive, 7)), "{name}");
        }
        assert_eq!(
            queue("virtio2-output.1", Some("/sys/devices/x/virtio2")),
            Some((VectorRole::Transmit, 1))
        );
        for name in [
            "eth1-TxRx-7",
            "mlx5_comp7@pci:0000:42:00.0",
            "virtio3-input.0",
            "eth0",
            "mlx5_async0@pci:0000:41:00.0",
            "eth0-TxRx-",
            "",
            "virtio2-config",
        ] {
            assert_eq!(queue(name, Some("/sys/devices/0000:41:00.0/virtio2")), None, "{name}");
        }
        assert_eq!(
            vector_name("mlx5_comp7@pci:0000:41:00.0", "eth0", pci).unwrap().named(3),
            "mlx5_comp3@pci:0000:41:00.0"
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(CPU0 )?(CPU1)?\n?([ 0-9A-Z]{0,5}:?[ -~é]{0,20}\n){0,4}", name in "\\PC{0,30}") {
            let _ = interrupts(&text);
            let _ = vector_name(&name, "eth0", Some(&text));
            let _ = vector_name(&format!("eth0-{name}7"), "eth0", None);
        }
    }
}
