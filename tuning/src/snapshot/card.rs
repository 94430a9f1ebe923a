//! Network interfaces: their queues, their interrupts, and where they are.

use crate::host::{Fault, FaultKind, Knob, NicFacts};
use crate::parse::{self, VectorRole};
use corewire_placement::{CpuSet, QueueLimits};

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
    /// The NUMA node; `None` when the machine does not report it, which is not node 0.
    pub node: Option<u32>,
    /// The interfaces below a bond or a VLAN.
    pub lowers: Vec<String>,
    /// Receive queues in numeric order.
    pub rx: Vec<RxQueue>,
    /// Transmit queues in numeric order.
    pub tx: Vec<TxQueue>,
    /// The interrupts of the queues.
    pub vectors: Vec<Vector>,
    /// How the interrupts were matched to queues: `netdev` (the driver says), `names`, `order` (no known name, so by
    /// number), or `none`.
    pub vector_method: &'static str,
    /// How many interrupts the device has, of queues or not; `None` if that is not known.
    pub own_irqs: Option<usize>,
    /// The bond or bridge that the interface is part of.
    pub master: Option<String>,
    /// Megabits per second; `None` when the link does not report it.
    pub speed: Option<u32>,
    /// (now, most) of the PCIe link's width and speed, as the kernel words them.
    pub pcie: Vec<(String, String)>,
    /// Its polling threads, where polling runs in threads: (name, CPUs that the thread may run on).
    pub napi_threads: Vec<(String, CpuSet)>,
    /// What the card reports about itself.
    pub facts: NicFacts,
    /// Whether its polling runs in kernel threads instead of softirqs.
    pub threaded: bool,
    /// Interrupts stay off for this many empty polls (`napi_defer_hard_irqs`).
    pub defer_hard_irqs: u64,
}

/// A receive queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RxQueue {
    /// The queue's number.
    pub index: u32,
    /// The CPUs that RPS hands its packets to; empty when RPS is off.
    pub rps: CpuSet,
    /// The same as the kernel wrote it, so that undo restores every byte.
    pub rps_text: String,
    /// Entries of its RFS table.
    pub rps_flows: u64,
}

/// A transmit queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxQueue {
    /// The queue's number.
    pub index: u32,
    /// The CPUs that send through it (XPS); `None` where the kernel has no such map, as on cards with one queue.
    pub xps: Option<CpuSet>,
    /// The same as the kernel wrote it, so that undo restores every byte.
    pub xps_text: String,
}

/// One interrupt of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vector {
    /// Its name in `/proc/interrupts`; unlike its number it survives a change of channels.
    pub name: String,
    /// The directory in `/sys/devices` whose `msi_irqs` lists it: two cards may give the same name to their vectors.
    /// Empty if no such directory is known.
    pub device: String,
    /// Whether another interrupt of the same device has the same name, so that the name does not tell which is meant.
    pub is_ambiguous: bool,
    /// The NUMA node of the device that raises it: the card's, unless several devices serve one port.
    pub node: Option<u32>,
    /// Its number now.
    pub irq: u32,
    /// The queue that it serves.
    pub queue: u32,
    /// What it serves.
    pub role: VectorRole,
    /// The CPUs that it may go to.
    pub affinity: CpuSet,
    /// The CPU that it does go to; `None` if the kernel does not report it.
    pub effective: Option<CpuSet>,
}

impl Vector {
    /// Where the interrupt is served: the effective CPU, or the mask if the kernel does not report one.
    #[must_use]
    pub fn served_on(&self) -> &CpuSet {
        self.effective.as_ref().filter(|set| !set.is_empty()).unwrap_or(&self.affinity)
    }
}

/// The interfaces to look at: those that were named, with those below them, or all that matter.
pub(super) fn select(reader: &mut Reader<'_>, named: &[String]) -> Result<Vec<String>, Fault> {
    let all = reader.list_needed("/sys/class/net")?;
    if !named.is_empty() {
        let mut chosen = Vec::new();
        for name in named {
            // A capture lists also the interfaces that were not read.
            let is_read = reader.optional(&format!("/sys/class/net/{name}/operstate")).is_some();
            if !all.contains(name) || !is_read {
                return Err(Fault::new(format!("interface {name}"), FaultKind::Missing));
            }
            push_with_lowers(reader, name, &mut chosen);
        }
        return Ok(chosen);
    }
    let is_up = |reader: &mut Reader<'_>, name: &str| {
        let state =
            reader.optional(&format!("/sys/class/net/{name}/operstate")).unwrap_or_default();
        // Many virtual devices report only `unknown` while they work.
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
    for lower in linked(reader, name, "lower_") {
        push_with_lowers(reader, &lower, chosen);
    }
}

/// The interfaces above or below this one. A veth's peer can be its lower device too, but it is not below it: a loop
/// ends at the names already chosen.
fn linked(reader: &mut Reader<'_>, name: &str, prefix: &str) -> Vec<String> {
    reader
        .list(&format!("/sys/class/net/{name}"))
        .into_iter()
        .filter_map(|entry| entry.strip_prefix(prefix).map(str::to_owned))
        .collect()
}

/// Width and speed of the PCIe link, where the device has one.
fn read_pcie(reader: &mut Reader<'_>, device: &str) -> Vec<(String, String)> {
    let pair = |reader: &mut Reader<'_>, what: &str| {
        let read = |reader: &mut Reader<'_>, which: &str| {
            reader
                .optional_quiet(&format!("{device}/{which}_link_{what}"))
                .map(|text| text.trim().to_owned())
        };
        Some((read(reader, "current")?, read(reader, "max")?))
    };
    ["width", "speed"].iter().filter_map(|what| pair(reader, what)).collect()
}

impl Nic {
    pub(super) fn read(reader: &mut Reader<'_>, name: &str, processes: &[(u32, String)]) -> Self {
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
            lowers: linked(reader, name, "lower_"),
            master: linked(reader, name, "upper_").into_iter().next(),
            speed: reader
                .optional_quiet(&format!("{base}/speed"))
                .and_then(|text| parse::number(&text)),
            pcie: device.as_deref().map(|device| read_pcie(reader, device)).unwrap_or_default(),
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
        nic.read_threads(reader, processes);
        nic
    }

    fn read_threads(&mut self, reader: &mut Reader<'_>, processes: &[(u32, String)]) {
        if !self.threaded {
            return;
        }
        // The kernel keeps fifteen characters of a thread's name.
        let prefix: String = format!("napi/{}-", self.name).chars().take(15).collect();
        for (pid, name) in processes.iter().filter(|(_, name)| name.starts_with(&prefix)) {
            let allowed = reader.optional(&format!("/proc/{pid}/status")).and_then(|text| {
                text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?.parse().ok()
            });
            self.napi_threads.extend(allowed.map(|allowed| (name.clone(), allowed)));
        }
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
        // By number, because `tx-10` sorts before `tx-2` by name.
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

    /// Its offloads that are off and can be switched on.
    #[must_use]
    pub fn offloads_off(&self) -> Vec<Knob> {
        let is_off =
            |knob: &Knob| self.facts.value(*knob) == Some(0) && self.facts.max(*knob) == Some(1);
        let all = [Knob::OffloadGro, Knob::OffloadTso];
        all.into_iter().filter(|knob| self.has_vectors() && is_off(knob)).collect()
    }

    /// The address of its device on the bus, for PCI devices and what is below them.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        self.device.as_deref()?.rsplit('/').find(|part| part.matches(':').count() == 2)
    }

    /// Whether packets come through its own interrupts. Without them RPS is the only way to choose the CPU.
    #[must_use]
    pub fn has_vectors(&self) -> bool {
        !self.vectors.is_empty()
    }

    /// The most queues over which the card spreads packets, however many channels it offers. From the drivers' sources.
    #[must_use]
    pub fn hash_limit(&self) -> Option<u32> {
        match self.driver.as_deref()? {
            "ixgbe" | "iavf" | "i40evf" => Some(16),
            "ixgbevf" => Some(4),
            "igb" => Some(8),
            "i40e" => Some(64),
            _ => None,
        }
    }

    /// What a placement needs to know; `traffic` says how often an interrupt was served while it was watched.
    #[must_use]
    pub fn queue_limits(&self, traffic: &dyn Fn(u32) -> u64) -> QueueLimits {
        let present = u32::try_from(self.rx.len()).unwrap_or(u32::MAX).max(1);
        // The queues of virtual pairs cost nothing and need no interrupt, so their number stays.
        let changeable = self.channels().filter(|_| self.has_vectors());
        let limit = self.hash_limit().unwrap_or(u32::MAX);
        let served = (0..present).map(|queue| self.served(queue)).collect();
        QueueLimits {
            iface: self.name.clone(),
            node: self.node,
            queues: present,
            queues_max: changeable.map_or(present, |(_, _, max)| max.min(limit)),
            fixed: changeable.is_none(),
            power_of_two: self.driver.as_deref().is_some_and(|driver| driver.starts_with("mlx4")),
            served,
            traffic: (0..present)
                .map(|queue| self.vector(queue).map_or(0, |vector| traffic(vector.irq)))
                .collect(),
        }
    }

    /// The interrupt of a receive queue.
    fn vector(&self, queue: u32) -> Option<&Vector> {
        self.vectors
            .iter()
            .find(|vector| vector.queue == queue && vector.role == VectorRole::Receive)
    }

    /// The CPU that serves a receive queue now, if it is a single CPU.
    fn served(&self, queue: u32) -> Option<u32> {
        let vector = self.vector(queue)?;
        vector.served_on().first().filter(|_| vector.served_on().len() == 1)
    }
}

/// The node of the device or of its parent. `-1` means that the machine does not report it.
pub(super) fn read_node(reader: &mut Reader<'_>, device: &str) -> Option<u32> {
    let parent = device.rsplit_once('/').map(|(parent, _)| parent);
    [Some(device), parent]
        .into_iter()
        .flatten()
        .find_map(|dir| reader.optional(&format!("{dir}/numa_node")))
        .and_then(|text| parse::number::<u32>(&text))
}
