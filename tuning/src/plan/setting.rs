//! A name for a setting that stays the same while queues and interrupts come and go.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::host::{Fault, FaultKind, Host, Knob};
use crate::parse;
use crate::placement::CpuSet;
use crate::snapshot::{action, setting_line, words};

/// A setting of the machine. Interrupts are named by their vector, never by their number, which does not survive a change of
/// channels or a reboot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Setting {
    /// A file with one value.
    File {
        /// The absolute path.
        path: String,
    },
    /// A file with a CPU mask. The kernel prints masks wider than they were written.
    Mask {
        /// The absolute path.
        path: String,
    },
    /// Where an interrupt may go, as a CPU list.
    Irq {
        /// The interface.
        iface: String,
        /// The vector's name in `/proc/interrupts`.
        vector: String,
        /// The directory whose `msi_irqs` lists the interrupt; empty where there is none. Two cards may give the same name to
        /// their vectors, so the name alone is not enough.
        #[serde(default)]
        device: String,
    },
    /// The line of irqbalance's configuration that sets a variable; empty where none does. Setting it restarts irqbalance.
    Irqbalance {
        /// The configuration.
        path: String,
        /// The variable.
        name: String,
    },
    /// A setting of a card, as a number.
    Card {
        /// The interface.
        iface: String,
        /// Which one.
        knob: Knob,
    },
}

impl Setting {
    /// Its value now, without the newline.
    ///
    /// # Errors
    ///
    /// The host's error; for an interrupt also that no vector of that name exists.
    pub fn read(&self, host: &dyn Host) -> Result<String, Fault> {
        match self {
            Self::File { path } | Self::Mask { path } => Ok(host.read(path)?.trim_end().to_owned()),
            Self::Irqbalance { path, name } => {
                Ok(setting_line(&host.read(path)?, name).unwrap_or_default().to_owned())
            }
            Self::Irq { vector, device, .. } => {
                Ok(host.read(&irq_path(host, vector, device)?)?.trim_end().to_owned())
            }
            Self::Card { iface, knob } => match host.nic(iface)?.value(*knob) {
                Some(value) => Ok(value.to_string()),
                None => Err(Fault::new(self.to_string(), FaultKind::Unsupported)),
            },
        }
    }

    /// Sets it.
    ///
    /// # Errors
    ///
    /// The host's error, and values that this setting cannot have.
    pub fn write(&self, host: &dyn Host, value: &str) -> Result<(), Fault> {
        match self {
            Self::File { path } | Self::Mask { path } => host.write(path, value),
            Self::Irqbalance { path, name } => configure_irqbalance(host, path, name, value),
            Self::Irq { vector, device, .. } => host.write(&irq_path(host, vector, device)?, value),
            Self::Card { iface, knob } => {
                let value = value.parse().map_err(|_| {
                    Fault::format(&self.to_string(), format!("`{value}` is not a number"))
                })?;
                host.nic_set(iface, *knob, value)
            }
        }
    }

    /// Whether two texts are the same value of this setting.
    #[must_use]
    pub fn same(&self, one: &str, other: &str) -> bool {
        if one.trim() == other.trim() {
            return true;
        }
        match self {
            Self::Mask { .. } => {
                matches!((CpuSet::from_mask(one), CpuSet::from_mask(other)), (Ok(one), Ok(other)) if one == other)
            }
            Self::Irq { .. } => {
                matches!((one.parse::<CpuSet>(), other.parse::<CpuSet>()), (Ok(one), Ok(other)) if one == other)
            }
            Self::File { .. } => parse::bracketed(one) == parse::bracketed(other),
            Self::Card { .. } | Self::Irqbalance { .. } => false,
        }
    }

    /// The interface that it is a setting of.
    #[must_use]
    pub fn iface(&self) -> Option<&str> {
        match self {
            Self::File { path } | Self::Mask { path } => {
                path.strip_prefix("/sys/class/net/")?.split('/').next()
            }
            Self::Irq { iface, .. } | Self::Card { iface, .. } => Some(iface),
            Self::Irqbalance { .. } => None,
        }
    }

    /// Whether it outlasts a restart of the machine.
    #[must_use]
    pub fn is_kept_on_disk(&self) -> bool {
        matches!(self, Self::Irqbalance { .. })
    }

    /// Whether setting it recreates all queues of the card.
    #[must_use]
    pub fn remakes_queues(&self) -> bool {
        matches!(self, Self::Card { knob, .. } if knob.is_channels())
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path } | Self::Mask { path } => f.write_str(path),
            Self::Irqbalance { path, name } => write!(f, "{name} in {path}"),
            Self::Irq { iface, vector, .. } => write!(f, "interrupt {vector} of {iface}"),
            Self::Card { iface, knob } => write!(f, "{knob} of {iface}"),
        }
    }
}

/// Replaces the line, restarts irqbalance, and checks whether it was started with the line's words.
fn configure_irqbalance(host: &dyn Host, path: &str, name: &str, line: &str) -> Result<(), Fault> {
    let text = host.read(path)?;
    let old = setting_line(&text, name);
    let mut lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().rposition(|other| Some(*other) == old);
    match (at, line) {
        (Some(at), "") => drop(lines.remove(at)),
        (Some(at), _) => lines[at] = line,
        (None, "") => {}
        (None, _) => lines.push(line),
    }
    host.write(path, &lines.join("\n"))?;
    host.restart("irqbalance.service")?;
    // A service manager returns before its service has become a process of that name.
    let find = |_| {
        let found = host
            .processes(&["irqbalance"])
            .ok()?
            .into_iter()
            .find(|(_, name)| name == "irqbalance");
        found.or_else(|| {
            host.pause(Duration::from_millis(100));
            None
        })
    };
    let Some((pid, _)) = (0..20).find_map(find) else { return Ok(()) };
    // Its arguments are one variable, in words; any other variable is passed on as it is.
    let words = words(line).unwrap_or_default();
    let (file, wanted) = if name.starts_with("IRQBALANCE_BANNED") {
        ("environ", words.iter().map(|word| format!("{name}={word}")).collect())
    } else {
        ("cmdline", words.into_iter().map(str::to_owned).collect::<Vec<_>>())
    };
    let started = host.read(&format!("/proc/{pid}/{file}"))?;
    let is_there = |word: &&String| started.split('\0').any(|other| other == *word);
    match wanted.iter().find(|word| !is_there(word)) {
        None => Ok(()),
        Some(word) => Err(Fault::format(
            path,
            format!(
                "irqbalance was started without {word}, so its unit does not read {name} from this file"
            ),
        )),
    }
}

/// The file of the interrupt of this device that has this vector's name now.
fn irq_path(host: &dyn Host, vector: &str, device: &str) -> Result<String, Fault> {
    let what = || {
        format!(
            "vector {vector} of {}",
            if device.is_empty() { "/proc/interrupts" } else { device }
        )
    };
    let own = own_irqs(host, device)?;
    let by_kernel = own.iter().flatten().filter_map(|irq| {
        let text = host.read(&format!("/sys/kernel/irq/{irq}/actions")).ok()?;
        Some((*irq, action(&text)?))
    });
    let mut named: Vec<(u32, String)> = by_kernel.collect();
    if named.is_empty() {
        let path = "/proc/interrupts";
        let table = parse::interrupts(&host.read(path)?).map_err(|why| Fault::format(path, why))?;
        let is_own = |irq: &u32| own.as_ref().is_none_or(|own| own.contains(irq));
        named = table
            .into_iter()
            .filter(|line| is_own(&line.irq))
            .map(|line| (line.irq, line.name))
            .collect();
    }
    let irqs: Vec<u32> =
        named.into_iter().filter(|(_, name)| name == vector).map(|(irq, _)| irq).collect();
    match irqs[..] {
        [irq] => Ok(format!("/proc/irq/{irq}/smp_affinity_list")),
        [] => Err(Fault::new(what(), FaultKind::Missing)),
        _ => Err(Fault::new(
            what(),
            FaultKind::Refused(format!("an ambiguous name: interrupts {irqs:?} have it")),
        )),
    }
}

/// The interrupts of a device; `None` where no device is known and the name must be the only one on the machine.
fn own_irqs(host: &dyn Host, device: &str) -> Result<Option<BTreeSet<u32>>, Fault> {
    if device.is_empty() {
        return Ok(None);
    }
    let names = host.list(&format!("{device}/msi_irqs"))?;
    Ok(Some(names.iter().filter_map(|name| name.parse().ok()).collect()))
}
