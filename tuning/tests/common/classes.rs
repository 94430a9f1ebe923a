//! The classes of hosts that the doctor and the plan are tried on.

use corewire_tune::host::{Archive, NicFacts};

use super::{Card, Machine};

const MADE: &str = "made by hand after the driver's source; not a recording";

fn card(iface: &'static str, driver: &'static str, vector: &str, queues: u32, max: u32) -> Card {
    Card {
        iface,
        driver,
        node: 0,
        queues,
        max,
        vector: vector.to_owned(),
        serve: |queue| (queue.to_string(), queue),
        ring: (512, 4096),
        rss: true,
    }
}

/// The recorded machine: two CPUs, one virtio queue.
pub fn firecracker_virtio() -> Archive {
    Archive::from_text(include_str!("../hosts/firecracker-virtio.txt")).unwrap()
}

/// Two sockets, 64 threads, 16 RSS queues; nobody placed the interrupts, and all are served on CPU 0 under traffic.
pub fn ixgbe_64() -> Archive {
    let mut machine = Machine::new(MADE, 2, 16, 2, &[]);
    let all = |_| ("0-63".to_owned(), 0);
    machine.card(&Card { serve: all, ..card("eth0", "ixgbe", "eth0-TxRx-{}", 16, 63) });
    machine.traffic(|cpu| if cpu == 0 { 400_000 } else { 0 }, |cpu| if cpu == 0 { 95 } else { 0 });
    machine.archive
}

/// One socket, 32 threads, everything already where it belongs, even traffic: nothing to find, nothing to do.
pub fn i40e_tuned() -> Archive {
    let mut machine = Machine::new(MADE, 1, 16, 2, &[]);
    machine.card(&card("eth0", "i40e", "i40e-eth0-TxRx-{}", 16, 32));
    for queue in 0..16_u32 {
        let mask = machine.mask(&queue.to_string());
        machine.file(&format!("/sys/class/net/eth0/queues/tx-{queue}/xps_cpus"), &mask);
    }
    machine.traffic(|cpu| if cpu < 16 { 20_000 } else { 0 }, |cpu| if cpu < 16 { 10 } else { 0 });
    machine.archive
}

/// 48 threads, and the card drops packets for lack of descriptors although the CPUs have time.
pub fn ice_ring_drops() -> Archive {
    let mut machine = Machine::new(MADE, 1, 24, 2, &[]);
    machine.card(&Card { ring: (2048, 8160), ..card("eth0", "ice", "ice-eth0-TxRx-{}", 24, 48) });
    machine.facts("eth0", |facts| {
        facts.stats.insert("rx_dropped.nic".to_owned(), 10);
    });
    machine.traffic(|cpu| if cpu < 24 { 30_000 } else { 0 }, |cpu| if cpu < 24 { 30 } else { 0 });
    machine.later_facts("eth0", |facts| {
        facts.stats.insert("rx_dropped.nic".to_owned(), 812);
    });
    machine.archive
}

/// The same card whose ring cannot grow, with CPUs that are full.
pub fn ice_ring_at_max() -> Archive {
    let mut machine = Machine::new(MADE, 1, 24, 2, &[]);
    machine.card(&Card { ring: (8160, 8160), ..card("eth0", "ice", "ice-eth0-TxRx-{}", 24, 48) });
    machine.facts("eth0", |facts| {
        facts.stats.insert("rx_dropped.nic".to_owned(), 10);
    });
    machine.traffic(|cpu| if cpu < 24 { 90_000 } else { 0 }, |cpu| if cpu < 24 { 97 } else { 0 });
    machine.later_facts("eth0", |facts| {
        facts.stats.insert("rx_dropped.nic".to_owned(), 90_000);
    });
    machine.archive
}

/// Two sockets, the card on the second, its interrupts served on the first.
pub fn mlx5_two_sockets() -> Archive {
    let mut machine = Machine::new(MADE, 2, 12, 2, &[]);
    machine.card(&Card {
        node: 1,
        ring: (1024, 8192),
        ..card("ens1f0np0", "mlx5_core", "mlx5_comp{}@pci:{slot}", 12, 63)
    });
    machine.traffic(|cpu| if cpu < 12 { 25_000 } else { 0 }, |cpu| if cpu < 12 { 20 } else { 0 });
    machine.archive
}

/// Fewer queues than the card's node has cores.
pub fn bnxt_few_queues() -> Archive {
    let mut machine = Machine::new(MADE, 1, 16, 1, &[]);
    machine.card(&card("eth0", "bnxt_en", "eth0-TxRx-{}", 8, 74));
    machine.archive
}

/// A cloud machine at the limit of what was paid for.
pub fn ena_allowance() -> Archive {
    let mut machine = Machine::new(MADE, 1, 4, 2, &[]);
    machine.card(&Card {
        node: -1,
        ring: (1024, 8192),
        ..card("eth0", "ena", "eth0-Tx-Rx-{}", 8, 8)
    });
    machine.file("/proc/cpuinfo", "flags : fpu hypervisor");
    machine.facts("eth0", |facts| {
        facts.stats.insert("pps_allowance_exceeded".to_owned(), 0);
    });
    machine.traffic(|_| 20_000, |_| 15);
    machine.later_facts("eth0", |facts| {
        facts.stats.insert("pps_allowance_exceeded".to_owned(), 4242);
    });
    machine.archive
}

/// gve has an interrupt for each direction, transmit first, and counts its queues apart.
pub fn gve_two_directions() -> Archive {
    let mut machine = Machine::new(MADE, 1, 4, 2, &[]);
    let serve = |block: u32| ((block % 8).to_string(), block % 8);
    machine.card(&Card {
        node: -1,
        serve,
        ..card("eth0", "gve", "gve-ntfy-blk{}@pci:{slot}", 8, 16)
    });
    // Eight blocks: four queues each way.
    machine.file("/proc/cpuinfo", "flags : fpu hypervisor");
    let gone: Vec<String> =
        (4..8).flat_map(|queue| [format!("rx-{queue}"), format!("tx-{queue}")]).collect();
    machine
        .archive
        .first
        .files
        .retain(|path, _| !gone.iter().any(|name| path.contains(&format!("/{name}/"))));
    machine.facts("eth0", |facts| {
        *facts = NicFacts::default();
        for (name, value) in [
            ("channels.rx", 4),
            ("channels.rx.max", 16),
            ("channels.tx", 4),
            ("channels.tx.max", 16),
            ("ring.rx", 1024),
            ("ring.rx.max", 1024),
        ] {
            facts.settings.insert(name.to_owned(), value);
        }
    });
    machine.archive
}

/// A virtual machine with as many queues as CPUs; receive and transmit interrupt apart.
pub fn virtio_four_queues() -> Archive {
    let mut machine = Machine::new(MADE, 1, 4, 1, &[]);
    machine.card(&Card {
        node: -1,
        ring: (256, 256),
        rss: false,
        ..card("eth0", "virtio_net", "virtio0-input.{}", 4, 4)
    });
    let pci = "/sys/devices/pci0000:00/0000:00:03.0";
    machine.archive.links.insert("/sys/class/net/eth0/device".to_owned(), format!("{pci}/virtio0"));
    // The vectors belong to the PCI device above the virtio device.
    let dirs: Vec<String> = machine.archive.dirs.iter().cloned().collect();
    for dir in dirs {
        if let Some((_, rest)) = dir.split_once("/msi_irqs") {
            machine.archive.dirs.insert(format!("{pci}/msi_irqs{rest}"));
        }
    }
    for queue in 0..4 {
        machine.irq(pci, &format!("virtio0-output.{queue}"), "0-3", 0);
    }
    machine.file("/proc/cpuinfo", "flags : fpu hypervisor");
    machine.traffic(|_| 9_000, |_| 5);
    machine.archive
}

/// Two ports under a bond: the bond itself has nothing to place.
pub fn bond_of_two() -> Archive {
    let mut machine = Machine::new(MADE, 1, 8, 1, &[]);
    machine.card(&card("ens1", "mlx5_core", "mlx5_comp{}@pci:{slot}", 8, 16));
    machine.card(&card("ens2", "mlx5_core", "mlx5_comp{}@pci:{slot}", 8, 16));
    machine.interface("bond0", 16, 16);
    machine
        .archive
        .links
        .insert("/sys/class/net/bond0/lower_ens1".to_owned(), "/sys/class/net/ens1".to_owned());
    machine
        .archive
        .links
        .insert("/sys/class/net/bond0/lower_ens2".to_owned(), "/sys/class/net/ens2".to_owned());
    machine.archive.first.nics.insert("bond0".to_owned(), "kind bond\n".to_owned());
    machine.archive
}

/// A VLAN over a card whose hash table was left uneven.
pub fn vlan_over_ice() -> Archive {
    let mut machine = Machine::new(MADE, 1, 8, 1, &[]);
    machine.card(&card("eth0", "ice", "ice-eth0-TxRx-{}", 8, 8));
    machine.facts("eth0", |facts| facts.rss = vec![64, 64, 0, 0, 0, 0, 0, 0]);
    machine.interface("eth0.100", 1, 1);
    machine
        .archive
        .links
        .insert("/sys/class/net/eth0.100/lower_eth0".to_owned(), "/sys/class/net/eth0".to_owned());
    machine.archive.first.nics.insert("eth0.100".to_owned(), "kind vlan\n".to_owned());
    machine.archive
}

/// CPUs 4 and 5 are offline, and the kernel is too old to name the CPU of a softnet row.
pub fn offline_hole_old_kernel() -> Archive {
    let mut machine = Machine::new(MADE, 1, 8, 1, &[4, 5]);
    let serve = |queue: u32| {
        let cpu = [0, 1, 2, 3, 6, 7][queue as usize % 6];
        (cpu.to_string(), cpu)
    };
    machine.card(&Card { serve, ..card("eth0", "igb", "eth0-TxRx-{}", 6, 8) });
    machine.traffic(|_| 6_000, |_| 5);
    let short = |text: &mut String| {
        *text = text
            .lines()
            .map(|line| line.split(' ').take(10).collect::<Vec<_>>().join(" ") + "\n")
            .collect();
    };
    machine.archive.first.files.get_mut("/proc/net/softnet_stat").into_iter().for_each(short);
    machine
        .archive
        .later
        .iter_mut()
        .filter_map(|(_, moment)| moment.files.get_mut("/proc/net/softnet_stat"))
        .for_each(short);
    machine.file("/proc/sys/kernel/osrelease", "5.4.0");
    machine.archive
}

/// Most CPUs are kept quiet for the engine.
pub fn isolated_cpus() -> Archive {
    let mut machine = Machine::new(MADE, 1, 16, 1, &[]);
    machine.card(&Card {
        serve: |_| ("0-3".to_owned(), 1),
        ..card("eth0", "i40e", "i40e-eth0-TxRx-{}", 4, 16)
    });
    machine.file("/sys/devices/system/cpu/isolated", "4-15");
    machine.file("/sys/devices/system/cpu/nohz_full", "4-15");
    machine.archive
}

/// 288 CPUs: masks of nine groups, queues far fewer than CPUs, one of them short of budget.
pub fn huge_288() -> Archive {
    let mut machine = Machine::new(MADE, 2, 72, 2, &[]);
    machine.card(&Card {
        serve: |queue| ("0-287".to_owned(), queue),
        ring: (1024, 8192),
        ..card("eth0", "mlx5_core", "mlx5_comp{}@pci:{slot}", 63, 63)
    });
    machine.traffic(|cpu| if cpu < 63 { 10_000 } else { 0 }, |cpu| if cpu < 63 { 10 } else { 0 });
    let later = machine.archive.later.as_mut().unwrap();
    let softnet = later.1.files.get_mut("/proc/net/softnet_stat").unwrap();
    // The first row's third column: CPU 0 is squeezed.
    *softnet = softnet.replacen(" 0 0 ", " 0 00000064 ", 1);
    machine.archive
}

/// An arm64 machine without siblings; its processor file has no `flags`.
pub fn arm64_ena() -> Archive {
    let mut machine = Machine::new(MADE, 1, 64, 1, &[]);
    machine.card(&Card {
        serve: |queue| (format!("{}", queue * 2), queue * 2),
        ..card("ens5", "ena", "ens5-Tx-Rx-{}", 32, 32)
    });
    machine.file("/proc/cpuinfo", "Features : fp asimd evtstrm");
    machine.file(
        "/sys/devices/system/clocksource/clocksource0/current_clocksource",
        "arch_sys_counter",
    );
    machine.archive
}

/// A control group that allows eight of the CPUs only.
pub fn cgroup_limited() -> Archive {
    let mut machine = Machine::new(MADE, 1, 16, 1, &[]);
    machine.card(&card("eth0", "ixgbe", "eth0-TxRx-{}", 16, 63));
    machine.file("/proc/self/status", "Cpus_allowed_list:\t8-15");
    machine.file("/proc/self/cgroup", "0::/kubepods/pod7");
    machine.file("/sys/fs/cgroup/kubepods/cpuset.cpus.effective", "8-15");
    machine.archive
}

/// Everything that time and habit do to a host: irqbalance, RPS on top of enough queues, old limits, a slow clock, full tables.
pub fn neglected() -> Archive {
    let mut machine = Machine::new(MADE, 2, 4, 1, &[]);
    machine.card(&card("eth0", "ixgbe", "eth0-TxRx-{}", 8, 63));
    for queue in 0..8_u32 {
        let mask = machine.mask("0-7");
        machine.file(&format!("/sys/class/net/eth0/queues/rx-{queue}/rps_cpus"), &mask);
    }
    machine.archive.processes.push((811, "irqbalance".to_owned()));
    machine.file("/proc/sys/net/core/somaxconn", "128");
    machine.file("/proc/sys/net/core/busy_poll", "50");
    machine.file("/proc/sys/kernel/numa_balancing", "1");
    machine.file("/proc/sys/kernel/io_uring_disabled", "2");
    machine.file("/sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never");
    machine.file("/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet");
    machine.file(
        "/sys/devices/system/clocksource/clocksource0/available_clocksource",
        "tsc hpet acpi_pm",
    );
    machine.file("/proc/sys/net/netfilter/nf_conntrack_count", "250000");
    machine.file("/proc/sys/net/netfilter/nf_conntrack_max", "262144");
    machine.file("/proc/net/ip_tables_names", "filter\nnat");
    machine.file("/sys/class/net/eth0/threaded", "1");
    machine.file("/sys/devices/system/cpu/cpu0/cpufreq/scaling_driver", "acpi-cpufreq");
    for cpu in 0..8 {
        machine.file(
            &format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"),
            "ondemand",
        );
    }
    machine.file("/sys/devices/system/cpu/cpu0/cpuidle/state3/name", "C6");
    machine.file("/sys/devices/system/cpu/cpu0/cpuidle/state3/latency", "133");
    machine.file("/sys/devices/system/cpu/cpu0/cpuidle/state3/disable", "0");
    machine.file("/etc/systemd/network/10-eth0.link", "[Link]\nIRQAffinityPolicy=spread");
    machine.traffic(|_| 5_000, |_| 5);
    machine.later_file(
        "/proc/net/netstat",
        "TcpExt: ListenOverflows ListenDrops RcvPruned\nTcpExt: 31 31 2",
    );
    machine.archive
}

/// Disks interrupt everywhere, irqbalance moves what it likes, and the card's offloads are off.
pub fn disks_and_irqbalance() -> Archive {
    let mut machine = Machine::new(MADE, 1, 8, 1, &[]);
    let all = |_| ("0-7".to_owned(), 0);
    machine.card(&Card { serve: all, ..card("eth0", "ixgbe", "eth0-TxRx-{}", 4, 63) });
    machine.facts("eth0", |facts| {
        for (name, value) in [
            ("offload.gro", 0),
            ("offload.gro.max", 1),
            ("offload.tso", 0),
            ("offload.tso.max", 0),
            ("pause.rx", 1),
            ("pause.tx", 1),
        ] {
            facts.settings.insert(name.to_owned(), value);
        }
    });
    let disk = "/sys/devices/pci0000:00/0000:00:1f.0";
    machine.irq(disk, "nvme0q0", "0-7", 7);
    machine.irq(disk, "nvme0q1", "6", 6);
    machine.irq(disk, "megasas0-msix0", "0-7", 6);
    machine.archive.processes.push((811, "irqbalance".to_owned()));
    machine.archive.dirs.insert("/run/systemd/system".to_owned());
    let cmdline = "/usr/sbin/irqbalance\0--foreground\0".to_owned();
    machine.archive.first.files.insert("/proc/811/cmdline".to_owned(), cmdline);
    machine.archive.first.files.insert("/proc/811/environ".to_owned(), "LANG=C\0".to_owned());
    machine.file("/etc/default/irqbalance", "# arguments\nIRQBALANCE_ARGS=\"--foreground\"\n# end");
    machine.archive
}

/// Hosts by public reports and threads; the first lines of each say what of it is real. (name, file).
pub const CASES: [(&str, &str); 13] = [
    ("02-mlx4-and-single-queue", include_str!("../cases/02-mlx4-and-single-queue.txt")),
    ("03-ena-eks", include_str!("../cases/03-ena-eks.txt")),
    ("04-vmxnet3-isolcpus", include_str!("../cases/04-vmxnet3-isolcpus.txt")),
    ("11-node-without-cpus", include_str!("../cases/11-node-without-cpus.txt")),
    ("14-two-vfs-one-name", include_str!("../cases/14-two-vfs-one-name.txt")),
    ("16-mgmt-node0-100g-node1", include_str!("../cases/16-mgmt-node0-100g-node1.txt")),
    ("17-ixgbe-rss16", include_str!("../cases/17-ixgbe-rss16.txt")),
    ("18-wrapped", include_str!("../cases/18-wrapped.txt")),
    ("20-single-queue-full", include_str!("../cases/20-single-queue-full.txt")),
    ("21-vmxnet3-oob", include_str!("../cases/21-vmxnet3-oob.txt")),
    ("23-io-uring-group", include_str!("../cases/23-io-uring-group.txt")),
    ("24-irqs-on-isolated", include_str!("../cases/24-irqs-on-isolated.txt")),
    ("25-softnet-10-columns", include_str!("../cases/25-softnet-10-columns.txt")),
];

/// Every class: (name, machine, the interfaces to name).
pub fn all() -> Vec<(&'static str, Archive, Vec<String>)> {
    let every = |name, archive| (name, archive, Vec::new());
    let mut all = vec![
        every("firecracker-virtio", firecracker_virtio()),
        every("ixgbe-64-cpus", ixgbe_64()),
        every("i40e-tuned", i40e_tuned()),
        every("ice-ring-drops", ice_ring_drops()),
        every("ice-ring-at-max", ice_ring_at_max()),
        every("mlx5-two-sockets", mlx5_two_sockets()),
        every("bnxt-few-queues", bnxt_few_queues()),
        every("ena-allowance", ena_allowance()),
        every("gve-two-directions", gve_two_directions()),
        every("virtio-four-queues", virtio_four_queues()),
        ("bond-of-two", bond_of_two(), vec!["bond0".to_owned()]),
        ("vlan-over-ice", vlan_over_ice(), vec!["eth0.100".to_owned()]),
        every("offline-hole-old-kernel", offline_hole_old_kernel()),
        every("isolated-cpus", isolated_cpus()),
        every("huge-288-cpus", huge_288()),
        every("arm64-ena", arm64_ena()),
        every("cgroup-limited", cgroup_limited()),
        every("neglected", neglected()),
        every("disks-and-irqbalance", disks_and_irqbalance()),
    ];
    all.extend(CASES.iter().map(|(name, text)| every(*name, Archive::from_text(text).unwrap())));
    all
}
