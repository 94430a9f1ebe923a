//! What a network card reports about itself, and which of its settings can be changed.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A card's facts. What the driver does not offer is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NicFacts {
    /// The kind that rtnetlink reports for virtual devices: `veth`, `bond`, `vlan`. Absent for hardware.
    pub kind: Option<String>,
    /// Channels, rings and coalescing by name: a [`Knob`]'s name for the value, and the same with `.max` for its limit.
    pub settings: BTreeMap<String, u64>,
    /// How many entries of the receive hash table point to each queue; empty when the card does not report it.
    pub rss: Vec<u32>,
    /// The interrupt of each receive queue, where the driver reports it to the kernel (`netdev` netlink, `napi-get`).
    pub queue_irqs: BTreeMap<u32, u32>,
    /// Counters: the driver's own (`ethtool -S`) and, with the prefix `qstats.`, the kernel's per-device queue statistics.
    pub stats: BTreeMap<String, u64>,
    /// What could not be asked, and why.
    pub notes: Vec<String>,
}

impl NicFacts {
    /// The value of a setting.
    #[must_use]
    pub fn value(&self, knob: Knob) -> Option<u64> {
        self.settings.get(knob.name()).copied()
    }

    /// The limit of a setting; `None` when the driver names none.
    #[must_use]
    pub fn max(&self, knob: Knob) -> Option<u64> {
        self.settings.get(&format!("{}.max", knob.name())).copied().filter(|max| *max > 0)
    }

    /// Writes the facts as `name value` lines, sorted within each group: the form of captures and fixture trees.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        if let Some(kind) = &self.kind {
            text.push_str(&format!("kind {kind}\n"));
        }
        for (name, value) in &self.settings {
            text.push_str(&format!("{name} {value}\n"));
        }
        if !self.rss.is_empty() {
            let entries: Vec<String> = self.rss.iter().map(u32::to_string).collect();
            text.push_str(&format!("rss {}\n", entries.join(" ")));
        }
        for (queue, irq) in &self.queue_irqs {
            text.push_str(&format!("queue-irq.{queue} {irq}\n"));
        }
        for (name, value) in &self.stats {
            text.push_str(&format!("stat.{} {value}\n", name.replace(char::is_whitespace, "_")));
        }
        for note in &self.notes {
            text.push_str(&format!("note {note}\n"));
        }
        text
    }

    /// Reads what [`to_text`](Self::to_text) wrote.
    ///
    /// # Errors
    ///
    /// Names the first line that does not have that form.
    pub fn from_text(text: &str) -> Result<Self, String> {
        let mut facts = Self::default();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let bad =
                || format!("`{}` is not a card's fact", line.chars().take(60).collect::<String>());
            let (name, value) = line.split_once(' ').ok_or_else(bad)?;
            if name == "kind" {
                facts.kind = Some(value.to_owned());
            } else if name == "note" {
                facts.notes.push(value.to_owned());
            } else if name == "rss" {
                facts.rss = value
                    .split_whitespace()
                    .map(str::parse)
                    .collect::<Result<_, _>>()
                    .map_err(|_| bad())?;
            } else if let Some(queue) = name.strip_prefix("queue-irq.") {
                let queue = queue.parse().map_err(|_| bad())?;
                facts.queue_irqs.insert(queue, value.parse().map_err(|_| bad())?);
            } else if let Some(stat) = name.strip_prefix("stat.") {
                add_statistic(&mut facts.stats, stat, value.parse().map_err(|_| bad())?);
            } else {
                facts.settings.insert(name.to_owned(), value.parse().map_err(|_| bad())?);
            }
        }
        Ok(facts)
    }
}

/// Adds a counter to others of the same name. Some drivers write spaces in names, which captures cannot hold.
pub(super) fn add_statistic(stats: &mut BTreeMap<String, u64>, name: &str, value: u64) {
    let name = name.trim().replace(char::is_whitespace, "_");
    let sum = stats.entry(name).or_insert(0_u64);
    *sum = sum.wrapping_add(value);
}

/// A setting of a card that the tool may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Knob {
    /// Queue pairs.
    #[serde(rename = "channels.combined")]
    ChannelsCombined,
    /// Receive queues, on drivers that count them apart.
    #[serde(rename = "channels.rx")]
    ChannelsRx,
    /// Transmit queues, on drivers that count them apart.
    #[serde(rename = "channels.tx")]
    ChannelsTx,
    /// Descriptors in each receive ring.
    #[serde(rename = "ring.rx")]
    RingRx,
    /// Microseconds that a receive interrupt may wait.
    #[serde(rename = "coalesce.rx-usecs")]
    CoalesceRxUsecs,
    /// Whether the driver chooses that time by itself: 0 or 1.
    #[serde(rename = "coalesce.adaptive-rx")]
    CoalesceAdaptiveRx,
    /// Whether received packets are merged (GRO): 0 or 1.
    #[serde(rename = "offload.gro")]
    OffloadGro,
    /// Whether the card splits what TCP sends (TSO): 0 or 1.
    #[serde(rename = "offload.tso")]
    OffloadTso,
}

impl Knob {
    /// The name in files of this tool.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ChannelsCombined => "channels.combined",
            Self::ChannelsRx => "channels.rx",
            Self::ChannelsTx => "channels.tx",
            Self::RingRx => "ring.rx",
            Self::CoalesceRxUsecs => "coalesce.rx-usecs",
            Self::CoalesceAdaptiveRx => "coalesce.adaptive-rx",
            Self::OffloadGro => "offload.gro",
            Self::OffloadTso => "offload.tso",
        }
    }

    /// Whether the setting makes or destroys queues.
    #[must_use]
    pub fn is_channels(self) -> bool {
        matches!(self, Self::ChannelsCombined | Self::ChannelsRx | Self::ChannelsTx)
    }

    /// The `ethtool` command line that sets it.
    #[must_use]
    pub fn command(self, iface: &str, value: u32) -> String {
        let on = if value == 0 { "off" } else { "on" };
        match self {
            Self::ChannelsCombined => format!("ethtool -L {iface} combined {value}"),
            Self::ChannelsRx => format!("ethtool -L {iface} rx {value}"),
            Self::ChannelsTx => format!("ethtool -L {iface} tx {value}"),
            Self::RingRx => format!("ethtool -G {iface} rx {value}"),
            Self::CoalesceRxUsecs => format!("ethtool -C {iface} rx-usecs {value}"),
            Self::CoalesceAdaptiveRx => format!("ethtool -C {iface} adaptive-rx {on}"),
            Self::OffloadGro => format!("ethtool -K {iface} gro {on}"),
            Self::OffloadTso => format!("ethtool -K {iface} tso {on}"),
        }
    }
}

impl fmt::Display for Knob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
