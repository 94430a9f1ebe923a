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
    /// The PCI address of its device, where the kernel writes it into the chip's name (`IR-PCI-MSIX-0000:41:00.0`).
    pub address: Option<String>,
}

/// Reads `/proc/interrupts`: the columns are the CPUs of the header (the online ones), rows whose label is not a number
/// (NMI, LOC, ERR) are left out.
///
/// # Errors
///
/// When there is no header of CPUs, a row has fewer counts than the header has CPUs, or a line is not a row at all:
/// then the text was wrapped or cut on its way, and what is missing cannot be known.
pub fn interrupts(text: &str) -> Result<Vec<IrqLine>, String> {
    let mut lines = text.lines().zip(1..);
    let header = lines.next().map_or("", |(line, _)| line);
    let cpus: Vec<u32> = header
        .split_whitespace()
        .map(|word| word.strip_prefix("CPU").and_then(|number| number.parse().ok()))
        .collect::<Option<_>>()
        .ok_or_else(|| "the header names something else than CPUs".to_owned())?;
    if cpus.is_empty() {
        return Err("there is no header of CPUs".to_owned());
    }
    let mut table = Vec::new();
    for (line, number) in lines.filter(|(line, _)| !line.trim().is_empty()) {
        // A label is one word, and a count follows. Any other colon belongs to the name of a row that was wrapped.
        let row = line.split_once(':').map(|(label, rest)| (label.trim(), rest));
        let Some((label, rest)) = row.filter(|(label, rest)| is_row(label, rest)) else {
            return Err(format!(
                "line {number} is no row of the table: this is not a whole file, its lines were wrapped or cut"
            ));
        };
        let Ok(irq) = label.parse::<u32>() else {
            continue;
        };
        let mut words = rest.split_whitespace();
        let mut counts = Vec::with_capacity(cpus.len());
        for cpu in &cpus {
            let count = words.next().and_then(|word| word.parse().ok()).ok_or_else(|| {
                format!(
                    "interrupt {irq} has fewer counts than there are CPUs: this is not a whole file"
                )
            })?;
            counts.push((*cpu, count));
        }
        let chip = words.next();
        let address = chip.and_then(pci_address).map(str::to_owned);
        let name = words.last().or(chip).unwrap_or_default().to_owned();
        table.push(IrqLine { irq, counts, name, address });
    }
    Ok(table)
}

fn is_row(label: &str, rest: &str) -> bool {
    let is_label = !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_label
        && rest
            .split_whitespace()
            .next()
            .is_some_and(|word| word.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The PCI address at the end of a chip's name.
fn pci_address(chip: &str) -> Option<&str> {
    let (_, address) = chip.rsplit_once('-')?;
    (address.matches(':').count() == 2).then_some(address)
}

/// What a vector serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum VectorRole {
    /// Receive, or receive and transmit together.
    Receive,
    /// Transmit only.
    Transmit,
}

/// What the name of one of a card's vectors says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VectorName {
    /// A queue's vector, recognised by a word that drivers use for queues.
    Queue(QueueName),
    /// A number and no known word: a queue's vector, if no other vector of the card has such a word.
    Numbered(QueueName),
    /// No number: the only vector of a card with one, or its vector for everything that is not a queue.
    Plain,
    /// Management, link state, errors: never a queue.
    Control,
}

/// A name with a number in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueName {
    /// What it serves.
    pub role: VectorRole,
    /// The number in the name. For most drivers the queue's number.
    pub number: u32,
    prefix: String,
    suffix: String,
}

impl QueueName {
    /// The name that the same driver gives to another queue.
    #[must_use]
    pub fn named(&self, number: u32) -> String {
        format!("{}{number}{}", self.prefix, self.suffix)
    }
}

/// The last word in the names of vectors that serve no queue: mlx4 and mlx5 (`async`, `eq`), ena, gve and idpf
/// (`mgmnt`, `mailbox`), vmxnet3 (`event`), virtio (`config`), Intel (`misc`, `mbx`, `lsc`, `other`), mana (`hwc`).
const CONTROL: [&str; 16] = [
    "async", "eq", "mgmnt", "mgmt", "event", "config", "control", "ctrl", "misc", "mbx", "mailbox",
    "lsc", "link", "other", "hwc", "wol",
];

/// The last word in the names of vectors that serve a queue, where neither `rx` nor `tx` is in the word: bnxt and qede
/// (`fp`), mlx5 (`comp`), gve (`blk`, `block`), mana (`q`), virtio (`input`).
const RECEIVE: [&str; 7] = ["fp", "comp", "blk", "block", "q", "queue", "input"];

/// Takes a vector's name apart. The vector must be known to be the card's: two cards may give the same names to theirs.
/// `owners` are names of the card itself (its interface, its device), which may contain any word.
#[must_use]
pub fn vector_name(name: &str, owners: &[&str]) -> VectorName {
    let (body, suffix) = name.find('@').map_or((name, ""), |at| name.split_at(at));
    if owners.contains(&body) {
        return VectorName::Plain;
    }
    let before = body.trim_end_matches(|c: char| c.is_ascii_digit());
    let own =
        owners.iter().filter_map(|owner| before.rfind(owner).map(|at| at + owner.len())).max();
    let words: Vec<String> = before[own.unwrap_or(0)..]
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    let at = |back: usize| {
        words.len().checked_sub(back).and_then(|at| words.get(at)).map_or("", String::as_str)
    };
    let (last, previous) = (at(1), at(2));
    if CONTROL.contains(&last) || previous == "fdir" {
        return VectorName::Control;
    }
    let Ok(number) = body[before.len()..].parse() else {
        return VectorName::Plain;
    };
    let transmits_only = (last.contains("tx") && !last.contains("rx")) || last == "output";
    let receives = last.contains("rx") || RECEIVE.contains(&last);
    let role = if transmits_only { VectorRole::Transmit } else { VectorRole::Receive };
    let queue = QueueName { role, number, prefix: before.to_owned(), suffix: suffix.to_owned() };
    if transmits_only || receives { VectorName::Queue(queue) } else { VectorName::Numbered(queue) }
}

/// Whether a vector of an unknown device may be the card's by its name: the interface's or the device's own name is a whole word
/// of it, or the PCI address behind an `@` is part of the device's path.
#[must_use]
pub fn names_owner(name: &str, owners: &[&str], device: Option<&str>) -> bool {
    let (body, address) =
        name.split_once('@').map_or((name, None), |(body, address)| (body, Some(address)));
    if let Some(address) = address {
        let address = address.strip_prefix("pci:").unwrap_or(address);
        return device.is_some_and(|path| path.split('/').any(|part| part == address));
    }
    owners.iter().any(|owner| {
        body == *owner
            || body.starts_with(&format!("{owner}-"))
            || body.contains(&format!("-{owner}-"))
    })
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
        assert_eq!(table[0].address.as_deref(), Some("0000:00:03.0"));
        assert_eq!(table[0].counts, [(0, 0), (2, 5534)]);
        assert!(interrupts("").is_err());
        assert!(interrupts("CPU0 CPU1\n 3: 1\n").unwrap_err().contains("interrupt 3"));
    }

    #[test]
    fn wrapped_lines_are_no_whole_file() {
        for text in [
            "CPU0\n 28: 1 PCI-MSI\n 81921-edge eth0-Tx-Rx-0\n",
            "CPU0\n 27: 1 PCI-MSI\n 81920-edge ena-mgmnt@pci:0000:00:05.0\n",
            "CPU0 CPU1\nCPU2 CPU3\n 28: 1 2\n 3 4 PCI-MSI x\n",
            "CPU0\n 28: 1 PCI-MSI-0000:00\n:05.0 0-edge eth0\n",
            "CPU0\n 28: 1 PCI-MSI 0-edge\nehci_hcd:usb1, eth0\n",
        ] {
            assert!(interrupts(text).unwrap_err().contains("not a whole file"), "{text}");
        }
    }

    #[test]
    fn drivers_names_are_taken_apart() {
        let owners = ["eth0", "virtio2"];
        let queue = |name: &str| match vector_name(name, &owners) {
            VectorName::Queue(queue) => Some((queue.role, queue.number)),
            _ => None,
        };
        for name in [
            "eth0-TxRx-7",
            "i40e-eth0-TxRx-7",
            "iavf-enp24s0f0v0-TxRx-7",
            "eth0-Tx-Rx-7",
            "eth0-rxtx-7",
            "eth0-fp-7",
            "mlx5_comp7@pci:0000:41:00.0",
            "gve-ntfy-blk7@pci:0000:41:00.0",
            "eth%d-ntfy-block.7",
            "mana_q7@pci:7870:00:00.0",
            "virtio2-input.7",
            "eth0-Rx7",
        ] {
            assert_eq!(queue(name), Some((VectorRole::Receive, 7)), "{name}");
        }
        assert_eq!(queue("virtio2-output.1"), Some((VectorRole::Transmit, 1)));
        assert_eq!(queue("eth0-tx-1"), Some((VectorRole::Transmit, 1)));
        for name in [
            "mlx5_async0@pci:0000:41:00.0",
            "mlx4-async@pci:0000:09:00.0",
            "ena-mgmnt@pci:0000:00:05.0",
            "eth0-event-8",
            "virtio2-config",
            "ice-0000:17:00.0:misc",
            "i40e-0000:01:00.0:fdir-TxRx-0",
        ] {
            assert_eq!(vector_name(name, &owners), VectorName::Control, "{name}");
        }
        // An interface may be called anything.
        for iface in ["mgmt0", "link", "tx-1", "rx-async3"] {
            assert_eq!(vector_name(iface, &[iface]), VectorName::Plain);
            let name = format!("{iface}-TxRx-3");
            assert!(matches!(vector_name(&name, &[iface]), VectorName::Queue(_)), "{name}");
        }
        assert!(matches!(vector_name("mlx4-3@0000:09:00.0", &owners), VectorName::Numbered(_)));
        assert!(matches!(vector_name("eth0-3", &owners), VectorName::Numbered(_)));
        assert_eq!(vector_name("eth0", &owners), VectorName::Plain);
        let VectorName::Queue(name) = vector_name("mlx5_comp7@pci:0000:41:00.0", &owners) else {
            panic!("a queue's vector");
        };
        assert_eq!(name.named(3), "mlx5_comp3@pci:0000:41:00.0");
    }

    #[test]
    fn names_say_whose_they_may_be() {
        let device = Some("/sys/devices/pci0000:40/0000:41:00.0/virtio2");
        let owners = ["eth0", "virtio2"];
        for (name, is_ours) in [
            ("eth0-TxRx-7", true),
            ("i40e-eth0-TxRx-7", true),
            ("mlx5_comp7@pci:0000:41:00.0", true),
            ("mlx4-3@0000:41:00.0", true),
            ("virtio2-input.0", true),
            ("eth1-TxRx-7", false),
            ("eth01-TxRx-7", false),
            ("mlx5_comp7@pci:0000:42:00.0", false),
            ("virtio3-input.0", false),
        ] {
            assert_eq!(names_owner(name, &owners, device), is_ours, "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(CPU0 )?(CPU1)?\n?([ 0-9A-Z]{0,5}:?[ -~é]{0,20}\n){0,4}", name in "\\PC{0,30}") {
            let _ = interrupts(&text);
            let _ = vector_name(&name, &["eth0", &text]);
            let _ = vector_name(&format!("eth0-{name}7"), &["eth0", ""]);
            let _ = names_owner(&name, &["eth0"], Some(&text));
        }
    }
}
