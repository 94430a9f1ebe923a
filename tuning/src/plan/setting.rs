//! A name for a setting that stays the same while queues and interrupts come and go.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::host::Knob;
use crate::parse;
use corewire_placement::CpuSet;

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
