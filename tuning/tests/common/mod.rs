//! Machines for tests. They are put together from what drivers' sources and the kernel's formats say; none of their numbers was
//! measured on such a machine. The one recorded machine is `tests/hosts/firecracker-virtio.txt`.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(dead_code, reason = "each test program uses its part")]
#![allow(unreachable_pub, reason = "shared by test programs")]

pub mod classes;
pub mod fake;
pub mod traffic;

use std::fmt::Write as _;

use corewire_tune::host::{Archive, Moment, NicFacts};
use corewire_tune::placement::CpuSet;

/// A machine under construction.
#[derive(Debug)]
pub struct Machine {
    pub archive: Archive,
    possible: u32,
    online: Vec<u32>,
    irqs: Vec<(u32, String, u32)>,
    next_irq: u32,
    masks_wide: bool,
}

/// How the vectors of a card are named, and how its queues are counted.
#[derive(Debug, Clone)]
pub struct Card {
    pub iface: &'static str,
    pub driver: &'static str,
    pub node: i32,
    pub queues: u32,
    pub max: u32,
    /// The name of queue N's vector: `{}` stands for N.
    pub vector: String,
    /// (affinity, effective CPU) of queue N's interrupt.
    pub serve: fn(u32) -> (String, u32),
    pub ring: (u32, u32),
    pub rss: bool,
}

impl Machine {
    /// A machine of `nodes` x `cores` cores x `threads`; CPU numbers run over the cores of all nodes first, then over siblings.
    pub fn new(comment: &str, nodes: u32, cores: u32, threads: u32, offline: &[u32]) -> Self {
        let physical = nodes * cores;
        let possible = physical * threads;
        let online: Vec<u32> = (0..possible).filter(|cpu| !offline.contains(cpu)).collect();
        let list = |cpus: &mut dyn Iterator<Item = u32>| format!("{}\n", cpus.collect::<CpuSet>());
        let mut archive = Archive { comment: format!("{comment}\n"), ..Archive::default() };
        let mut put = |path: &str, text: String| {
            archive.first.files.insert(path.to_owned(), text);
        };
        let base = "/sys/devices/system/cpu";
        put(&format!("{base}/possible"), list(&mut (0..possible)));
        put(&format!("{base}/online"), list(&mut online.iter().copied()));
        put(&format!("{base}/isolated"), "\n".to_owned());
        put(&format!("{base}/smt/active"), format!("{}\n", u32::from(threads > 1)));
        for cpu in &online {
            let siblings = list(&mut (0..threads).map(|thread| cpu % physical + thread * physical));
            put(&format!("{base}/cpu{cpu}/topology/core_cpus_list"), siblings);
        }
        for node in 0..nodes {
            let cpus = list(&mut (0..possible).filter(|cpu| cpu % physical / cores == node));
            put(&format!("/sys/devices/system/node/node{node}/cpulist"), cpus);
        }
        put(
            "/proc/self/status",
            format!("Cpus_allowed_list:\t{}", list(&mut online.iter().copied())),
        );
        put("/proc/cpuinfo", "flags\t\t: fpu tsc\n".to_owned());
        put("/proc/sys/kernel/osrelease", "6.12.0\n".to_owned());
        put("/proc/sys/kernel/random/boot_id", "00000000-0000-4000-8000-000000000001\n".to_owned());
        for (name, value) in [
            ("netdev_budget", 300),
            ("netdev_budget_usecs", 8000),
            ("netdev_max_backlog", 1000),
            ("somaxconn", 4096),
            ("busy_poll", 0),
            ("busy_read", 0),
        ] {
            put(&format!("/proc/sys/net/core/{name}"), format!("{value}\n"));
        }
        put("/proc/sys/kernel/numa_balancing", "0\n".to_owned());
        put("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n".to_owned());
        put("/sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n".to_owned());
        put("/proc/net/sockstat", "TCP: inuse 600 orphan 0 tw 0 alloc 700 mem 224\n".to_owned());
        put(
            "/proc/net/netstat",
            "TcpExt: ListenOverflows ListenDrops RcvPruned\nTcpExt: 0 0 0\n".to_owned(),
        );
        let mut machine =
            Self { archive, possible, online, irqs: Vec::new(), next_irq: 100, masks_wide: false };
        machine.counters(&|_| 0, &|_| (0, 1000), false);
        machine.write_interrupts(0, false);
        machine
    }

    /// Sets a file.
    pub fn file(&mut self, path: &str, text: &str) -> &mut Self {
        self.archive.first.files.insert(path.to_owned(), format!("{text}\n"));
        self
    }

    /// Sets a file of the later moment.
    pub fn later_file(&mut self, path: &str, text: &str) -> &mut Self {
        self.later().files.insert(path.to_owned(), format!("{text}\n"));
        self
    }

    fn later(&mut self) -> &mut Moment {
        &mut self.archive.later.get_or_insert_with(|| (1000, Moment::default())).1
    }

    /// A mask in the width of this machine's kernel.
    pub fn mask(&self, cpus: &str) -> String {
        let set: CpuSet = cpus.parse().unwrap();
        let mut groups: Vec<String> = set.to_mask().split(',').map(str::to_owned).collect();
        let count = self.possible.div_ceil(32) as usize;
        while groups.len() < count {
            groups.insert(0, "0".to_owned());
        }
        let width = |index: usize| {
            if index == 0 { (self.possible as usize - (count - 1) * 32).div_ceil(4) } else { 8 }
        };
        let wide: Vec<String> = groups
            .iter()
            .enumerate()
            .map(|(index, group)| format!("{group:0>width$}", width = width(index)))
            .collect();
        wide.join(",")
    }

    /// Adds a hardware card.
    pub fn card(&mut self, card: &Card) -> &mut Self {
        let slot = format!("0000:{:02x}:00.0", 0x41 + self.archive.links.len());
        let device = format!("/sys/devices/pci0000:40/{slot}");
        self.interface(card.iface, card.queues, card.queues);
        let base = format!("/sys/class/net/{}", card.iface);
        self.archive.links.insert(format!("{base}/device"), device.clone());
        self.archive.links.insert(
            format!("{base}/device/driver"),
            format!("/sys/bus/pci/drivers/{}", card.driver),
        );
        self.file(&format!("{device}/numa_node"), &card.node.to_string());
        for queue in 0..card.queues {
            let name = card.vector.replace("{}", &queue.to_string()).replace("{slot}", &slot);
            let (affinity, effective) = (card.serve)(queue);
            self.irq(&device, &name, &affinity, effective);
        }
        let mut facts = NicFacts::default();
        for (name, value) in [
            ("channels.combined", card.queues),
            ("channels.combined.max", card.max),
            ("ring.rx", card.ring.0),
            ("ring.rx.max", card.ring.1),
            ("coalesce.rx-usecs", 50),
            ("coalesce.adaptive-rx", 1),
        ] {
            facts.settings.insert(name.to_owned(), u64::from(value));
        }
        if card.rss {
            facts.rss = vec![128 / card.queues; card.queues as usize];
        }
        self.archive.first.nics.insert(card.iface.to_owned(), facts.to_text());
        self
    }

    /// Adds an interface with queues and nothing behind it.
    pub fn interface(&mut self, iface: &str, rx: u32, tx: u32) -> &mut Self {
        let base = format!("/sys/class/net/{iface}");
        self.file(&format!("{base}/operstate"), "up");
        self.file(&format!("{base}/threaded"), "0");
        self.file(&format!("{base}/napi_defer_hard_irqs"), "0");
        self.file(&format!("{base}/statistics/rx_missed_errors"), "0");
        self.file(&format!("{base}/statistics/rx_fifo_errors"), "0");
        let none = self.mask("");
        for queue in 0..rx {
            self.file(&format!("{base}/queues/rx-{queue}/rps_cpus"), &none);
            self.file(&format!("{base}/queues/rx-{queue}/rps_flow_cnt"), "0");
        }
        for queue in 0..tx {
            self.file(&format!("{base}/queues/tx-{queue}/xps_cpus"), &none);
        }
        self
    }

    /// Adds an interrupt of a device.
    pub fn irq(&mut self, device: &str, name: &str, affinity: &str, effective: u32) -> &mut Self {
        let irq = self.next_irq;
        self.next_irq += 1;
        self.file(&format!("/proc/irq/{irq}/smp_affinity_list"), affinity);
        self.file(&format!("/proc/irq/{irq}/effective_affinity_list"), &effective.to_string());
        self.archive.dirs.insert(format!("{device}/msi_irqs"));
        self.archive.dirs.insert(format!("{device}/msi_irqs/{irq}"));
        self.irqs.push((irq, name.to_owned(), effective));
        self.write_interrupts(0, false);
        self
    }

    /// Changes what a card reports about itself.
    pub fn facts(&mut self, iface: &str, change: impl FnOnce(&mut NicFacts)) -> &mut Self {
        let mut facts =
            NicFacts::from_text(self.archive.first.nics.get(iface).map_or("", String::as_str))
                .unwrap();
        change(&mut facts);
        self.archive.first.nics.insert(iface.to_owned(), facts.to_text());
        self
    }

    /// Changes what a card reports about itself at the later moment.
    pub fn later_facts(&mut self, iface: &str, change: impl FnOnce(&mut NicFacts)) -> &mut Self {
        let mut facts = NicFacts::from_text(&self.archive.first.nics[iface]).unwrap();
        change(&mut facts);
        self.later().nics.insert(iface.to_owned(), facts.to_text());
        self
    }

    fn write_interrupts(&mut self, per_irq: u64, is_later: bool) {
        let mut text = String::from("      ");
        for cpu in &self.online {
            let _ = write!(text, " CPU{cpu}");
        }
        text.push_str("\n  4:");
        text.push_str(&" 7".repeat(self.online.len()));
        text.push_str("  IO-APIC 4-edge ttyS0\n");
        for (irq, name, effective) in &self.irqs {
            let _ = write!(text, "{irq}:");
            for cpu in &self.online {
                let count = if cpu == effective { 5000 + per_irq } else { 0 };
                let _ = write!(text, " {count}");
            }
            let _ = writeln!(text, "  PCI-MSI {irq}-edge {name}");
        }
        text.push_str("NMI: 0 Non-maskable interrupts\nERR: 0\n");
        let moment = if is_later { self.later() } else { &mut self.archive.first };
        moment.files.insert("/proc/interrupts".to_owned(), text);
    }

    /// Writes the counters of a moment: packets by CPU, and (softirq ticks, all ticks) by CPU.
    fn counters(
        &mut self,
        packets: &dyn Fn(u32) -> u64,
        ticks: &dyn Fn(u32) -> (u64, u64),
        is_later: bool,
    ) {
        let (mut softnet, mut stat) = (String::new(), String::from("cpu 0 0 0 0 0 0 0 0 0 0\n"));
        let mut softirqs = String::from("    ");
        let mut net_rx = String::from(" NET_RX:");
        for cpu in 0..self.possible {
            let _ = write!(softirqs, " CPU{cpu}");
            let _ = write!(net_rx, " {}", packets(cpu) / 4);
        }
        for cpu in &self.online {
            let _ = writeln!(
                softnet,
                "{:08x} 0 0 0 0 0 0 0 0 0 0 0 {cpu:08x} 0 0",
                0x1000 + packets(*cpu)
            );
            let (soft, all) = ticks(*cpu);
            let _ = writeln!(stat, "cpu{cpu} 0 0 0 {} 0 0 {soft} 0 0 0", all - soft);
        }
        stat.push_str("ctxt 1000\n");
        let moment = if is_later { self.later() } else { &mut self.archive.first };
        moment.files.insert("/proc/net/softnet_stat".to_owned(), softnet);
        moment.files.insert("/proc/stat".to_owned(), stat);
        moment.files.insert("/proc/softirqs".to_owned(), format!("{softirqs}\n{net_rx}\n"));
    }

    /// A second of traffic: packets on each CPU, and the share of its time that softirqs took, in percent.
    pub fn traffic(
        &mut self,
        packets: impl Fn(u32) -> u64,
        softirq_percent: impl Fn(u32) -> u64,
    ) -> &mut Self {
        self.counters(&packets, &|cpu| (softirq_percent(cpu), 1100), true);
        self.write_interrupts(2000, true);
        self
    }
}
