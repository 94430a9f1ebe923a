//! Network interfaces: their queues, their interrupts, and where they sit.

use std::collections::BTreeSet;

use crate::host::{Fault, Knob, NicFacts};
use crate::parse::{self, IrqLine, VectorRole};
use crate::placement::{CpuSet, QueueLimits};

use super::reader::Reader;

/// One network interface.
#[derive(Debug, Clone, Default)]
pub struct Nic {
    /// The interface.
    pub name: String,
    /// `hardware`, or the kind of a virtual link: `veth`, `bond`, `vlan`, ….
    pub kind: String,
    /// The driver's name, for hardware.
    pub driver: Option<String>,
    /// The device's path in `/sys/devices`, for hardware.
    pub device: Option<String>,
    /// The NUMA node; `None` when the machine does not say, which is not node 0.
    pub node: Option<u32>,
    /// The interfaces below a bond or a VLAN.
    pub lowers: Vec<String>,
    /// Receive queues in numeric order.
    pub rx: Vec<RxQueue>,
    /// Transmit queues in numeric order.
    pub tx: Vec<TxQueue>,
    /// The interrupts of the queues.
    pub vectors: Vec<Vector>,
    /// How the interrupts were matched to queues: `netdev` (the driver says), `names`, or `none`.
    pub vector_method: &'static str,
    /// What the card says of itself.
    pub facts: NicFacts,
    /// Whether its polling runs in kernel threads instead of softirqs.
    pub threaded: bool,
    /// Interrupts are left off for so many empty polls (`napi_defer_hard_irqs`).
    pub defer_hard_irqs: u64,
}

/// A receive queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RxQueue {
    /// The queue's number.
    pub index: u32,
    /// The CPUs that RPS hands its packets to; empty when RPS is off.
    pub rps: CpuSet,
    /// The same as the kernel wrote it, for putting it back to the byte.
    pub rps_text: String,
    /// Entries of its RFS table.
    pub rps_flows: u64,
}

/// A transmit queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxQueue {
    /// The queue's number.
    pub index: u32,
    /// The CPUs that send by it (XPS); `None` where the kernel has no such map, as on cards with one queue.
    pub xps: Option<CpuSet>,
    /// The same as the kernel wrote it, for putting it back to the byte.
    pub xps_text: String,
}

/// One interrupt of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vector {
    /// Its name in `/proc/interrupts`; unlike its number it survives a change of channels.
    pub name: String,
    /// Its number now.
    pub irq: u32,
    /// The queue that it serves.
    pub queue: u32,
    /// What it serves.
    pub role: VectorRole,
    /// The CPUs that it may go to.
    pub affinity: CpuSet,
    /// The CPU that it does go to; `None` where the kernel does not say.
    pub effective: Option<CpuSet>,
}

impl Vector {
    /// Where the interrupt is served: the effective CPU, or the mask where the kernel does not say.
    #[must_use]
    pub fn served_on(&self) -> &CpuSet {
        self.effective.as_ref().filter(|set| !set.is_empty()).unwrap_or(&self.affinity)
    }
}

/// The interfaces to look at: those named with what is below them, or all that matter.
pub(super) fn select(reader: &mut Reader<'_>, named: &[String]) -> Result<Vec<String>, Fault> {
    let all = reader.list_needed("/sys/class/net")?;
    if !named.is_empty() {
        let mut chosen = Vec::new();
        for name in named {
            if !all.contains(name) {
                return Err(Fault::new(
                    format!("interface {name}"),
                    crate::host::FaultKind::Missing,
                ));
            }
            push_with_lowers(reader, name, &mut chosen);
        }
        return Ok(chosen);
    }
    let is_up = |reader: &mut Reader<'_>, name: &str| {
        let state =
            reader.optional(&format!("/sys/class/net/{name}/operstate")).unwrap_or_default();
        // Many virtual devices never say more than `unknown` while they work.
        matches!(state.trim(), "up" | "unknown")
    };
    let up: Vec<String> =
        all.into_iter().filter(|name| name != "lo" && is_up(reader, name)).collect();
    let hardware: Vec<String> = up
        .iter()
        .filter(|name| reader.link(&format!("/sys/class/net/{name}/device")).is_some())
        .cloned()
        .collect();
    Ok(if hardware.is_empty() { up } else { hardware })
}

fn push_with_lowers(reader: &mut Reader<'_>, name: &str, chosen: &mut Vec<String>) {
    if chosen.iter().any(|known| known == name) {
        return;
    }
    chosen.push(name.to_owned());
    for lower in lowers(reader, name) {
        push_with_lowers(reader, &lower, chosen);
    }
}

fn lowers(reader: &mut Reader<'_>, name: &str) -> Vec<String> {
    // A veth's peer can be its lower device too, but it is not below it: only stacked kinds have these links without `iflink`
    // loops, and a loop ends at the names already chosen.
    reader
        .list(&format!("/sys/class/net/{name}"))
        .into_iter()
        .filter_map(|entry| entry.strip_prefix("lower_").map(str::to_owned))
        .collect()
}

impl Nic {
    pub(super) fn read(
        reader: &mut Reader<'_>,
        name: &str,
        interrupts: &[IrqLine],
    ) -> Result<Self, Fault> {
        let base = format!("/sys/class/net/{name}");
        let facts = reader.nic(name);
        let device = reader.link(&format!("{base}/device"));
        let driver = reader
            .link(&format!("{base}/device/driver"))
            .and_then(|path| path.rsplit('/').next().map(str::to_owned));
        let kind = match (&facts.kind, &device) {
            (Some(kind), _) => kind.clone(),
            (None, Some(_)) => "hardware".to_owned(),
            (None, None) => "virtual".to_owned(),
        };
        let mut nic = Self {
            name: name.to_owned(),
            kind,
            driver,
            node: device.as_deref().and_then(|device| read_node(reader, device)),
            lowers: lowers(reader, name),
            vector_method: "none",
            threaded: reader
                .optional(&format!("{base}/threaded"))
                .is_some_and(|text| text.trim() == "1"),
            defer_hard_irqs: reader
                .optional(&format!("{base}/napi_defer_hard_irqs"))
                .and_then(|text| parse::number(&text))
                .unwrap_or(0),
            device,
            facts,
            ..Self::default()
        };
        nic.read_queues(reader, &base);
        nic.read_vectors(reader, interrupts);
        Ok(nic)
    }

    fn read_queues(&mut self, reader: &mut Reader<'_>, base: &str) {
        let mask =
            |text: &str| CpuSet::from_mask(text).map(|set| (set, text.trim_end().to_owned()));
        let mut names: Vec<(u32, bool)> = reader
            .list(&format!("{base}/queues"))
            .iter()
            .filter_map(|name| {
                name.split_once('-')
                    .and_then(|(side, index)| Some((index.parse().ok()?, side == "rx")))
            })
            .collect();
        // By number, since `tx-10` sorts before `tx-2` by name.
        names.sort_unstable();
        for (index, is_rx) in names {
            if is_rx {
                let dir = format!("{base}/queues/rx-{index}");
                let (rps, rps_text) =
                    reader.parsed(&format!("{dir}/rps_cpus"), mask).unwrap_or_default();
                let rps_flows = reader
                    .optional(&format!("{dir}/rps_flow_cnt"))
                    .and_then(|text| parse::number(&text))
                    .unwrap_or(0);
                self.rx.push(RxQueue { index, rps, rps_text, rps_flows });
            } else {
                let xps = reader.parsed(&format!("{base}/queues/tx-{index}/xps_cpus"), mask);
                let (xps, xps_text) = xps.unzip();
                let xps_text = xps_text.unwrap_or_default();
                self.tx.push(TxQueue { index, xps, xps_text });
            }
        }
    }

    /// Finds the queues' interrupts: what the driver tells the kernel first, then drivers' naming habits.
    fn read_vectors(&mut self, reader: &mut Reader<'_>, interrupts: &[IrqLine]) {
        let mut found: Vec<(u32, u32, VectorRole, String)> = Vec::new();
        for (queue, irq) in &self.facts.queue_irqs {
            if let Some(line) = interrupts.iter().find(|line| line.irq == *irq) {
                found.push((*queue, *irq, VectorRole::Receive, line.name.clone()));
            }
        }
        if !found.is_empty() {
            self.vector_method = "netdev";
        } else if self.device.is_some() {
            let own = self.own_irqs(reader);
            for line in interrupts
                .iter()
                .filter(|line| own.as_ref().is_none_or(|own| own.contains(&line.irq)))
            {
                if let Some(name) =
                    parse::vector_name(&line.name, &self.name, self.device.as_deref())
                {
                    found.push((name.queue, line.irq, name.role, line.name.clone()));
                }
            }
            if !found.is_empty() {
                self.vector_method = "names";
            }
            self.renumber_gve(&mut found);
        }
        found.sort_unstable();
        for (queue, irq, role, name) in found {
            let dir = format!("/proc/irq/{irq}");
            let affinity = reader.parsed(&format!("{dir}/smp_affinity_list"), str::parse::<CpuSet>);
            let effective =
                reader.parsed(&format!("{dir}/effective_affinity_list"), str::parse::<CpuSet>);
            if let Some(affinity) = affinity {
                self.vectors.push(Vector { name, irq, queue, role, affinity, effective });
            }
        }
    }

    /// The gve driver numbers its notification blocks transmit queues first, so that receive queue 0 stands in the middle.
    fn renumber_gve(&self, found: &mut [(u32, u32, VectorRole, String)]) {
        if self.driver.as_deref() != Some("gve") {
            return;
        }
        let half = u32::try_from(found.len() / 2).unwrap_or(0);
        for (queue, _, role, _) in found {
            if *queue < half {
                *role = VectorRole::Transmit;
            } else {
                *queue -= half;
            }
        }
    }

    /// The interrupts of the device or, as with virtio, of its PCI parent.
    fn own_irqs(&self, reader: &mut Reader<'_>) -> Option<BTreeSet<u32>> {
        let device = self.device.as_deref()?;
        let parent = device.rsplit_once('/').map(|(parent, _)| parent);
        [Some(device), parent].into_iter().flatten().find_map(|dir| {
            let names = reader.list(&format!("{dir}/msi_irqs"));
            (!names.is_empty()).then(|| names.iter().filter_map(|name| name.parse().ok()).collect())
        })
    }

    /// The setting that counts this card's receive queues, and its value and limit; `None` when the card has none.
    #[must_use]
    pub fn channels(&self) -> Option<(Knob, u32, u32)> {
        for knob in [Knob::ChannelsCombined, Knob::ChannelsRx] {
            let now = self
                .facts
                .value(knob)
                .and_then(|now| u32::try_from(now).ok())
                .filter(|now| *now > 0);
            if let (Some(now), Some(max)) =
                (now, self.facts.max(knob).and_then(|max| u32::try_from(max).ok()))
            {
                return Some((knob, now, max.max(now)));
            }
        }
        None
    }

    /// Whether packets come by interrupts of its own. Without them RPS is the only way to choose the CPU.
    #[must_use]
    pub fn has_vectors(&self) -> bool {
        !self.vectors.is_empty()
    }

    /// What a placement needs to know.
    #[must_use]
    pub fn queue_limits(&self) -> QueueLimits {
        let present = u32::try_from(self.rx.len()).unwrap_or(u32::MAX).max(1);
        // The queues of virtual pairs cost nothing and need no interrupt, so they stay as many as there are.
        let changeable = self.channels().filter(|_| self.has_vectors());
        QueueLimits {
            iface: self.name.clone(),
            node: self.node,
            queues_max: changeable.map_or(present, |(_, _, max)| max),
            fixed: changeable.is_none(),
        }
    }
}

/// The node of the device or of its parent. `-1` means that the machine does not say.
fn read_node(reader: &mut Reader<'_>, device: &str) -> Option<u32> {
    let parent = device.rsplit_once('/').map(|(parent, _)| parent);
    [Some(device), parent]
        .into_iter()
        .flatten()
        .find_map(|dir| reader.optional(&format!("{dir}/numa_node")))
        .and_then(|text| parse::number::<u32>(&text))
}
