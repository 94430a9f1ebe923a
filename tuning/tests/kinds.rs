//! What each kind of host must get, and must not get, with the reason: the hosts after public reports, and variants of
//! each of them. The whole texts are compared in `fixtures.rs`; this says why they are right.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Card, Machine, classes};
use corewire_tune::doctor::{Report, diagnose};
use corewire_tune::host::{Archive, ArchiveHost};
use corewire_tune::placement::{self, CpuSet};
use corewire_tune::plan::{Plan, PlanError, PlanOptions, Setting, make};
use corewire_tune::snapshot::{Scope, Snapshot};

fn case(name: &str) -> Archive {
    let (_, text) = classes::CASES.iter().find(|(known, _)| known.starts_with(name)).unwrap();
    Archive::from_text(text).unwrap()
}

fn look(archive: &Archive, ifaces: &[&str]) -> Snapshot {
    let ifaces = ifaces.iter().map(|iface| (*iface).to_owned()).collect();
    Snapshot::take(&ArchiveHost::new(archive.clone()), &Scope { ifaces, ..Scope::default() })
        .unwrap()
}

fn report(archive: &Archive) -> Report {
    diagnose(&look(archive, &[]), None)
}

fn plan_with(archive: &Archive, iface: &str, derive: placement::Options) -> Plan {
    let options = PlanOptions { derive, is_named: true, ..PlanOptions::default() };
    make(&look(archive, &[iface]), &options).unwrap()
}

fn plan(archive: &Archive, iface: &str) -> Plan {
    plan_with(archive, iface, placement::Options::default())
}

/// Where the plan moves interrupts to: (vector, CPUs).
fn moves(plan: &Plan) -> Vec<(String, String)> {
    let irq = |step: &corewire_tune::plan::Step| match &step.setting {
        Setting::Irq { vector, .. } => Some((vector.clone(), step.new.clone())),
        _ => None,
    };
    plan.steps.iter().filter_map(irq).collect()
}

fn resets_queues(plan: &Plan) -> bool {
    plan.steps.iter().any(|step| step.setting.remakes_queues())
}

fn card(iface: &'static str, driver: &'static str, vector: &str, queues: u32) -> Card {
    Card {
        iface,
        driver,
        node: 0,
        queues,
        max: queues,
        vector: vector.to_owned(),
        serve: |queue| (queue.to_string(), queue),
        ring: (512, 4096),
        rss: true,
    }
}

#[test]
fn vectors_are_found_whatever_they_are_called() {
    // mlx4 counts its vectors from 1, has more of them than queues, and one for events.
    let host = case("02");
    let nics = look(&host, &[]).nics;
    assert_eq!(
        (nics[0].vectors.len(), nics[1].vectors.len()),
        (1, 8),
        "one vector called like the interface; eight queues"
    );
    assert_eq!(nics[1].vectors[0].irq, 211);
    assert!(report(&host).has("IRQ_PILE"), "all eight are served on CPU 0");
    // vmxnet3's rxtx is receive and transmit together, and its event vector no queue.
    assert_eq!(look(&case("04"), &[]).nics[0].vectors.len(), 8);
    for (driver, vector) in [
        ("gve", "eth%d-ntfy-block.{}"),
        ("mlx4_en", "eth0-{}"),
        ("sfc", "eth0-{}"),
        ("iavf", "iavf-oldname-TxRx-{}"),
        ("hinic", "hinic_vector_{}_of_something"),
    ] {
        let mut machine = Machine::new("", 1, 8, 1, &[]);
        machine.card(&card("eth0", driver, vector, 4));
        let nic = look(&machine.archive, &[]).nics.remove(0);
        // gve has two for each queue: four vectors are two each way.
        assert_eq!(nic.vectors.len(), 4, "{vector}");
        assert_ne!(nic.vector_method, "none", "{vector}");
    }
}

#[test]
fn two_ports_of_one_device_are_told_apart() {
    let mut machine = Machine::new("", 1, 8, 1, &[]);
    machine.card(&card("eth0", "mlx4_core", "eth0-{}", 4));
    let device = machine.archive.links["/sys/class/net/eth0/device"].clone();
    machine.interface("eth0d1", 4, 4);
    machine.archive.links.insert("/sys/class/net/eth0d1/device".to_owned(), device.clone());
    for queue in 0..4 {
        machine.irq(&device, &format!("eth0d1-{queue}"), "7", 7);
    }
    let nics = look(&machine.archive, &[]).nics;
    let irqs = |at: usize| nics[at].vectors.iter().map(|vector| vector.irq).collect::<Vec<_>>();
    assert_eq!((irqs(0), irqs(1)), (vec![100, 101, 102, 103], vec![104, 105, 106, 107]));
}

#[test]
fn a_text_that_is_not_whole_is_no_clean_host() {
    let taken = Snapshot::take(&ArchiveHost::new(case("18")), &Scope::default());
    assert!(taken.unwrap_err().to_string().contains("not a whole file"));
}

#[test]
fn the_first_card_does_not_decide_for_all() {
    let host = case("16");
    let options = PlanOptions::default();
    assert!(
        matches!(make(&look(&host, &[]), &options), Err(PlanError::SeveralCards(cards)) if cards.len() == 2)
    );
    let fast = plan(&host, "enp161s0np0");
    assert_eq!(
        (moves(&fast), resets_queues(&fast)),
        (Vec::new(), false),
        "its interrupts are rightly placed"
    );
    assert_eq!(fast.placement.shard_cpus().to_string(), "16-31", "shards are on the card's node");
    let management = plan(&host, "eno1");
    assert_eq!((moves(&management), resets_queues(&management)), (Vec::new(), false));
    // Three healthy cards: nothing is reset for any of them.
    let host = case("03");
    for iface in ["eth0", "eth1", "eth2"] {
        assert!(!resets_queues(&plan(&host, iface)), "{iface}");
    }
    // A bond over cards on two nodes is one choice, and each card stays on its node.
    let mut machine = Machine::new("", 2, 8, 1, &[]);
    machine.card(&card("ens1", "ice", "ice-ens1-TxRx-{}", 8));
    machine.card(&Card {
        node: 1,
        serve: |queue| ((queue + 8).to_string(), queue + 8),
        ..card("ens2", "ice", "ice-ens2-TxRx-{}", 8)
    });
    for lower in ["ens1", "ens2"] {
        let links = &mut machine.archive.links;
        links.insert(
            format!("/sys/class/net/{lower}/upper_bond0"),
            "/sys/class/net/bond0".to_owned(),
        );
        links.insert(
            format!("/sys/class/net/bond0/lower_{lower}"),
            format!("/sys/class/net/{lower}"),
        );
    }
    let plan = make(&look(&machine.archive, &[]), &options).unwrap();
    assert_eq!((moves(&plan), plan.placement.shards.len()), (Vec::new(), 16));
}

#[test]
fn the_other_function_of_the_same_names_is_not_ours() {
    let host = case("14");
    let irqs: Vec<u32> = look(&host, &[]).nics[0].vectors.iter().map(|vector| vector.irq).collect();
    assert_eq!(irqs, [110, 111, 112, 113]);
    for step in plan(&host, "net1").steps {
        if let Setting::Irq { device, .. } = step.setting {
            assert_eq!(device, "/sys/devices/pci0000:17/0000:18:02.5");
        }
    }
}

#[test]
fn rps_spreads_and_does_not_pile() {
    let host = case("20");
    assert!(report(&host).has("RPS_MISSING"), "the CPU of the only queue is full");
    let mask_of = |plan: &Plan| {
        let step =
            plan.steps.iter().find(|step| step.setting.to_string().ends_with("rps_cpus")).unwrap();
        CpuSet::from_mask(&step.new).unwrap()
    };
    assert_eq!(mask_of(&plan(&host, "enp6s0")).len(), 11, "all shards but the one on the full CPU");
    // A container's card: one queue and no interrupt. All shards share it.
    let mut machine = Machine::new("", 1, 4, 1, &[]);
    machine.interface("eth0", 1, 1);
    let options = PlanOptions { rps: true, ..PlanOptions::default() };
    assert_eq!(mask_of(&make(&look(&machine.archive, &[]), &options).unwrap()).to_string(), "0-3");
    // The same card, and a CPU that it fills: the finding needs no interrupt.
    machine.traffic(|cpu| if cpu == 2 { 90_000 } else { 0 }, |cpu| if cpu == 2 { 95 } else { 0 });
    machine.archive.later.as_mut().unwrap().1.files.insert(
        "/proc/stat".to_owned(),
        "cpu0 0 0 0 1100 0 0 0 0\ncpu1 0 0 0 1100 0 0 0 0\ncpu2 0 0 0 1005 0 0 95 0\ncpu3 0 0 0 1100 0 0 0 0\n".to_owned(),
    );
    assert!(report(&machine.archive).has("RPS_MISSING"));
    // A mask of one CPU without a packet that took that way is advice, and shows no growth as evidence.
    let mut machine = Machine::new("", 1, 4, 1, &[]);
    machine.interface("eth0", 2, 2);
    for queue in 0..2 {
        machine.file(&format!("/sys/class/net/eth0/queues/rx-{queue}/rps_cpus"), "2");
    }
    machine.traffic(|_| 20_000, |_| 5);
    let found = report(&machine.archive);
    let pile = found.findings.iter().find(|finding| finding.id == "RPS_PILE").unwrap();
    assert!(
        !found.has_fault() && pile.evidence.iter().all(|evidence| evidence.value != "+0"),
        "{pile:?}"
    );
}

#[test]
fn isolated_cpus_are_for_those_who_name_them() {
    for (name, iface, usable) in [("04", "eth0", "3-7"), ("24", "enp1s0", "0,2")] {
        let host = case(name);
        let found = report(&host);
        assert!(found.has("IRQ_ON_ISOLATED") && !found.has("CPUSET_MISMATCH"), "{name}");
        let plan = plan(&host, iface);
        assert_eq!(plan.placement.shard_cpus().to_string(), usable, "{name}");
        let quiet = look(&host, &[]).cpus.isolated;
        assert!(
            moves(&plan).iter().all(|(_, cpu)| !quiet.contains(cpu.parse().unwrap())),
            "{name}"
        );
    }
    // Named, they are used although no process of the tool may run there, and then interrupts there are right.
    let host = case("24");
    let derive =
        placement::Options { cpus: Some("3,1".parse().unwrap()), ..placement::Options::default() };
    let placement = plan_with(&host, "enp1s0", derive).placement;
    let order: Vec<u32> = placement.shards.iter().map(|shard| shard.cpu).collect();
    assert_eq!(order, [3, 1]);
    assert!(!diagnose(&look(&host, &[]), Some(&placement)).has("IRQ_ON_ISOLATED"));
}

#[test]
fn cards_are_known_by_their_drivers() {
    // 82599 hashes over 16 queues, whatever it offers.
    let host = case("17");
    assert!(!resets_queues(&plan(&host, "eth2")));
    for shards in 1..=32 {
        let derive = placement::Options { shards: Some(shards), ..placement::Options::default() };
        let plan = plan_with(&host, "eth2", derive);
        assert_eq!(plan.placement.shards.len(), shards as usize);
        assert_eq!(plan.placement.queues.len(), 16);
    }
    // 32 cores on two nodes with two threads each: siblings are left out before they are counted.
    let mut machine = Machine::new("", 2, 16, 2, &[]);
    machine.card(&card("eth0", "ice", "ice-eth0-TxRx-{}", 16));
    for shards in 1..=32 {
        let derive = placement::Options { shards: Some(shards), ..placement::Options::default() };
        assert_eq!(
            plan_with(&machine.archive, "eth0", derive).placement.shards.len(),
            shards as usize
        );
    }
    // A node without CPUs has no nearer ones.
    let host = case("11");
    assert!(!report(&host).has("IRQ_REMOTE_NODE"));
    assert_eq!(plan(&host, "ens1f0").placement.shards.len(), 17);
    // E cores come last.
    let mut machine = Machine::new("", 1, 8, 1, &[]);
    machine.card(&card("eth0", "igc", "eth0-TxRx-{}", 4));
    machine.file("/sys/devices/cpu_core/cpus", "0-3").file("/sys/devices/cpu_atom/cpus", "4-7");
    assert_eq!(plan(&machine.archive, "eth0").placement.shard_cpus().to_string(), "0-3");
    // In the split layout the shards send by the queues that there are.
    let split =
        placement::Options { layout: placement::Layout::Split(2), ..placement::Options::default() };
    let split = plan_with(&case("21"), "ens192", split);
    let masks: Vec<&str> = split
        .steps
        .iter()
        .filter(|step| step.setting.to_string().ends_with("xps_cpus"))
        .map(|step| step.new.as_str())
        .collect();
    assert_eq!(
        masks,
        ["5", "a", "1", "2"],
        "CPU 2 sends by queue 0 next to its interrupt's CPU 0, CPU 3 by queue 1"
    );
}

#[test]
fn a_port_of_two_devices_has_interrupts_near_both() {
    let mut machine = Machine::new("", 2, 4, 1, &[]);
    machine.card(&card("eth0", "mlx5_core", "mlx5_comp{}@pci:{slot}", 4));
    // Queues 2 and 3 come by the other function, on node 1, as the driver tells the kernel.
    let other = "/sys/bus/pci/devices/0000:c1:00.0";
    machine.irq(other, "mlx5_comp0@pci:0000:c1:00.0", "4", 4).irq(
        other,
        "mlx5_comp1@pci:0000:c1:00.0",
        "5",
        5,
    );
    machine.file(&format!("{other}/numa_node"), "1");
    let text = machine.archive.first.files.get_mut("/proc/interrupts").unwrap();
    // The chip's name tells which device raises the interrupt.
    let lines = text.lines().map(|line| match line.contains("c1:00.0") {
        true => line.replace("PCI-MSI", "PCI-MSIX-0000:c1:00.0") + "\n",
        false => format!("{line}\n"),
    });
    *text = lines.collect();
    machine
        .facts("eth0", |facts| facts.queue_irqs = [(0, 100), (1, 101), (2, 104), (3, 105)].into());
    let snapshot = look(&machine.archive, &[]);
    assert_eq!(
        snapshot.nics[0].vectors.iter().map(|vector| vector.node).collect::<Vec<_>>(),
        [Some(0), Some(0), Some(1), Some(1)]
    );
    assert!(!diagnose(&snapshot, None).has("IRQ_REMOTE_NODE"));
}

#[test]
fn drops_and_counters_are_read_as_the_drivers_write_them() {
    assert!(report(&case("21")).has("RING_DROPS"), "vmxnet3: pkts rx OOB");
    for (driver, counter, before, after) in [
        ("gve", "rx_queue_drop_cnt[0]", 3, 9),
        ("gve", "rx_no_buffers_posted[2]", 0, 9),
        ("mana", "hc_rx_discards_no_wqe", 0, 9),
        ("some_new_driver", "rx_no_buffer_count", 0, 9),
        // 32 bits, and it wrapped.
        ("ena", "rx_overruns", u64::from(u32::MAX) - 2, 5),
    ] {
        let mut machine = Machine::new("", 1, 4, 1, &[]);
        machine.card(&card("eth0", driver, "eth0-TxRx-{}", 4));
        machine.facts("eth0", |facts| {
            facts.stats.insert(counter.to_owned(), before);
        });
        machine.traffic(|_| 100, |_| 5);
        machine.later_facts("eth0", |facts| {
            facts.stats.insert(counter.to_owned(), after);
        });
        assert!(report(&machine.archive).has("RING_DROPS"), "{driver} {counter}");
    }
}

#[test]
fn an_idle_card_is_not_counted_with_a_busy_one() {
    // Eight queues of a management card, and one queue with all the traffic: it can be on one CPU only.
    let mut machine = Machine::new("", 1, 16, 1, &[]);
    machine.card(&card("eno1", "igb", "eno1-TxRx-{}", 8));
    machine.card(&Card {
        serve: |_| ("12".to_owned(), 12),
        ..card("eth0", "virtio_net", "virtio0-input.{}", 1)
    });
    for (iface, packets) in [("eno1", "40"), ("eth0", "90000")] {
        machine.file(&format!("/sys/class/net/{iface}/statistics/rx_packets"), "0");
        machine.later_file(&format!("/sys/class/net/{iface}/statistics/rx_packets"), packets);
    }
    machine.traffic(|cpu| if cpu == 12 { 90_000 } else { 5 }, |_| 5);
    machine.archive.later.as_mut().unwrap().1.files.remove("/proc/interrupts");
    assert!(!report(&machine.archive).has("SOFTIRQ_SKEW"));
}

#[test]
fn what_is_allowed_or_pinned_or_banned_is_no_fault() {
    let uring = report(&case("23"));
    assert!(uring.has("IO_URING_OFF") && !uring.has_fault(), "mode 1 allows a group");
    let mut host = case("23");
    host.first.files.insert("/proc/sys/kernel/io_uring_disabled".to_owned(), "2\n".to_owned());
    let report_of_two = report(&host);
    assert!(report_of_two.has("IO_URING_OFF") && !report_of_two.has_fault(), "shards run without");
    assert!(!report(&case("25")).has("IRQ_PILE"), "old softnet rows, one queue for each CPU");
    // Each polling thread on a CPU of its own.
    let mut machine = Machine::new("", 1, 4, 1, &[]);
    machine.card(&card("enp161s0f0np0", "ice", "ice-enp161s0f0np0-TxRx-{}", 2));
    machine.file("/sys/class/net/enp161s0f0np0/threaded", "1");
    for thread in 0..2_u32 {
        // The kernel cuts the names at fifteen characters.
        machine.archive.processes.push((900 + thread, "napi/enp161s0f0".to_owned()));
        machine.file(
            &format!("/proc/{}/status", 900 + thread),
            &format!("Cpus_allowed_list:\t{thread}"),
        );
    }
    assert!(!report(&machine.archive).has("THREADED_NAPI"));
    machine.file("/proc/901/status", "Cpus_allowed_list:\t0-3");
    assert!(report(&machine.archive).has("THREADED_NAPI"));
    // irqbalance with a ban of the card, by number, by driver, and by a policy script.
    machine.archive.processes.push((811, "irqbalance".to_owned()));
    assert!(report(&machine.archive).has("IRQBALANCE_FIGHT"));
    let device = look(&machine.archive, &[]).nics[0].device.clone().unwrap();
    let slot = device.rsplit('/').next().unwrap().to_owned();
    for (path, text) in [
        ("/proc/811/cmdline", "/usr/sbin/irqbalance\0--banirq=100\0--banirq=101\0".to_owned()),
        ("/etc/default/irqbalance", "#no\nIRQBALANCE_ARGS=\"--banmod=ice\"".to_owned()),
        ("/etc/sysconfig/irqbalance", "IRQBALANCE_ARGS=\"--policyscript=/etc/irqb.sh\"".to_owned()),
    ] {
        let mut banned = machine.archive.clone();
        banned.first.files.insert(path.to_owned(), text);
        banned.first.files.insert(
            "/etc/irqb.sh".to_owned(),
            format!("case $1 in *{slot}*) echo ban=true ;; esac\n"),
        );
        assert!(!report(&banned).has("IRQBALANCE_FIGHT"), "{path}");
    }
    // irqbalance compares a module with the driver of the PCI device, which for virtio is not the card's.
    for (module, is_banned) in [("virtio-pci", true), ("virtio_net", false), ("virtio0", false)] {
        let mut host = classes::virtio_four_queues();
        host.processes.push((811, "irqbalance".to_owned()));
        let arguments = format!("/usr/sbin/irqbalance\0--banmod={module}\0");
        host.first.files.insert("/proc/811/cmdline".to_owned(), arguments);
        assert_eq!(report(&host).has("IRQBALANCE_FIGHT"), !is_banned, "{module}");
    }
}

#[test]
fn rules_of_both_kinds_are_seen() {
    for (path, text, is_seen) in [
        (corewire_tune::host::NFTABLES_RULES, "12\n", true),
        (corewire_tune::host::NFTABLES_RULES, "0\n", false),
        ("/proc/modules", "nf_tables 356352 9 nft_compat,nft_ct, Live 0x0\n", true),
        ("/proc/modules", "nf_tables 356352 0 - Live 0x0\n", false),
        ("/proc/net/ip_tables_names", "filter\n", true),
    ] {
        let mut host = classes::i40e_tuned();
        host.first.files.insert(path.to_owned(), text.to_owned());
        assert_eq!(report(&host).has("RULES_PRESENT"), is_seen, "{path} {text}");
    }
}

#[test]
fn a_placement_of_another_machine_is_refused() {
    let placement = plan(&case("17"), "eth2").placement;
    let mut host = classes::i40e_tuned();
    host.first
        .files
        .insert("/sys/devices/system/node/node0/cpulist".to_owned(), "0-15\n".to_owned());
    let snapshot = look(&host, &[]);
    assert!(diagnose(&snapshot, Some(&placement)).has("CPUSET_MISMATCH"));
    let given = PlanOptions { given: Some(placement), ..PlanOptions::default() };
    assert!(matches!(make(&snapshot, &given), Err(PlanError::Misfit(_))));
}

#[test]
fn cpusets_of_both_versions_confine() {
    for (groups, file) in [
        ("0::/a/b", "/sys/fs/cgroup/a/cpuset.cpus.effective"),
        ("7:cpuset:/a\n0::/x", "/sys/fs/cgroup/cpuset/a/cpuset.effective_cpus"),
        ("7:cpu,cpuset:/gone\n0::/", "/sys/fs/cgroup/cpuset/cpuset.effective_cpus"),
    ] {
        let mut host = classes::i40e_tuned();
        host.first.files.insert("/proc/self/cgroup".to_owned(), format!("{groups}\n"));
        host.first.files.insert(file.to_owned(), "2-3\n".to_owned());
        assert_eq!(look(&host, &[]).cpus.allowed.to_string(), "2-3", "{groups}");
    }
}

#[test]
fn interrupts_beyond_the_cpuset_are_no_reason_to_panic() {
    let mut machine = Machine::new("", 1, 8, 1, &[]);
    machine.card(&Card {
        serve: |_| ("7".to_owned(), 7),
        ..card("eth0", "ice", "ice-eth0-TxRx-{}", 4)
    });
    machine.file("/proc/self/cgroup", "0::/").file("/sys/fs/cgroup/cpuset.cpus.effective", "0-1");
    machine.file("/sys/devices/system/cpu/isolated", "0-1");
    assert!(!report(&machine.archive).has("IRQ_PILE"));
}

#[test]
fn a_very_large_machine_is_read_within_two_seconds() {
    let cpus = 512;
    let mut machine = Machine::new("", 8, 64, 1, &[]);
    machine.card(&card("eth0", "mlx5_core", "mlx5_comp{}@pci:{slot}", 64));
    let mut text: String = machine.archive.first.files["/proc/interrupts"].clone();
    for irq in 1000..5096 {
        text.push_str(&format!(
            "{irq}:{} PCI-MSIX-0000:01:00.0 {irq}-edge nvme0q{irq}\n",
            " 123456".repeat(cpus)
        ));
    }
    machine.archive.first.files.insert("/proc/interrupts".to_owned(), text);
    let start = std::time::Instant::now();
    let snapshot = look(&machine.archive, &[]);
    assert!(!diagnose(&snapshot, None).has_fault());
    make(&snapshot, &PlanOptions::default()).unwrap();
    // Two seconds when built for use; a debug build on a machine that has other work gets more.
    let limit = if cfg!(debug_assertions) { 40 } else { 2 };
    eprintln!("{:?}", start.elapsed());
    assert!(start.elapsed().as_secs() < limit, "{:?}", start.elapsed());
}
