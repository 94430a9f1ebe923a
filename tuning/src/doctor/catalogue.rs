//! Every finding that the doctor can make, explained once: for `explain`, for reports, and for `docs/findings.md`.

/// What is to be known about one finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub id: &'static str,
    /// What it says, in a few words.
    pub title: &'static str,
    /// The counter or file that shows whether it applies.
    pub shows: &'static str,
    /// Why it matters.
    pub why: &'static str,
    /// What the mend disturbs.
    pub risk: &'static str,
    /// What else to know before mending.
    pub detail: &'static str,
}

/// The entry of a finding.
#[must_use]
pub fn entry(id: &str) -> Option<&'static Entry> {
    CATALOGUE.iter().find(|entry| entry.id == id)
}

/// The catalogue as the page `docs/findings.md`, which a test keeps equal to this.
#[must_use]
pub fn catalogue_markdown() -> String {
    let mut text = String::from(
        "# Findings of the doctor\n\nWritten by `corewire-tune explain --all`; a test keeps this page equal to the program. The exact commands for a host, and those that undo them, stand in the doctor's report of that host.\n",
    );
    for entry in CATALOGUE {
        text.push_str(&format!(
            "\n## {}\n\n{}.\n\n- **Shown by**: {}.\n- **Why it matters**: {}\n- **Risk of mending**: {}.\n- **Before you mend**: {}\n",
            entry.id, entry.title, entry.shows, entry.why, entry.risk, entry.detail
        ));
    }
    text
}

/// All findings, in the order in which the packet meets their causes.
pub const CATALOGUE: &[Entry] = &[
    Entry {
        id: "RING_DROPS",
        title: "The receive ring overflowed",
        shows: "the driver's ring-full counter grew while watched (`ethtool -S`, `rx_missed_errors`); which counter it is depends on the driver",
        why: "The card had packets and no free descriptor: they are lost, and TCP waits for a retransmission.",
        risk: "a new ring size restarts the queues of the card for some milliseconds",
        detail: "First ask whether one CPU is full: then a bigger ring only delays the drops. Otherwise double the ring and look again; do not jump to the maximum, since a ring that does not fit the cache costs latency. `ifconfig`'s `overruns` can stay 0 all the while: it shows `rx_fifo_errors`, which drivers of fast cards do not use.",
    },
    Entry {
        id: "RING_DROPS_AT_MAX",
        title: "The receive ring overflowed and cannot grow",
        shows: "the same counters as RING_DROPS, with the ring at its limit (`ethtool -g`)",
        why: "The card had packets and no free descriptor, and no larger ring is offered.",
        risk: "none from looking; see the finding that shows the cause",
        detail: "Spread the work (IRQ_PILE, SOFTIRQ_SKEW), use more queues (QUEUES_LT_SHARDS), or send less at once.",
    },
    Entry {
        id: "PORT_DISCARD",
        title: "The port dropped packets before any ring",
        shows: "mlx5 `rx_discards_phy` grew while watched",
        why: "The card's own buffer was full: PCIe or the ring drained too slowly, or flow control is off.",
        risk: "none from looking",
        detail: "Look at PCIe width and speed (`lspci -vv`), at pause frames (`ethtool -a`), then at the rings.",
    },
    Entry {
        id: "CLOUD_ALLOWANCE",
        title: "The cloud's limit for this machine was met",
        shows: "ena `*_allowance_exceeded` grew while watched",
        why: "The hypervisor drops or delays packets above what was paid for; no setting of this host changes that.",
        risk: "none from looking",
        detail: "A larger machine, or fewer packets. `conntrack_allowance_exceeded` falls when connections live longer.",
    },
    Entry {
        id: "BACKLOG_DROP",
        title: "A CPU's packet backlog was full",
        shows: "`/proc/net/softnet_stat` column 2 grew while watched",
        why: "Packets that RPS, loopback or a virtual pair handed to this CPU were dropped before TCP saw them.",
        risk: "a longer backlog delays packets instead of dropping them",
        detail: "Hardware queues do not pass the backlog, so first ask why packets do: RPS_PILE, RPS_REDUNDANT. Only then raise `net.core.netdev_max_backlog`.",
    },
    Entry {
        id: "SQUEEZE",
        title: "The softirq ended with packets left",
        shows: "`/proc/net/softnet_stat` column 3 grew by more than one in ten thousand packets, on a CPU below 70 % softirq",
        why: "The CPU had time, but the budget of one softirq run was used up, so packets waited.",
        risk: "a larger budget lets network work run longer before other work gets its turn",
        detail: "On a CPU that is full the budget is not the limit: spread first.",
    },
    Entry {
        id: "SOFTIRQ_SKEW",
        title: "Packets are processed on few of the CPUs",
        shows: "`/proc/net/softnet_stat` column 1 grew unevenly by more than chance explains",
        why: "One CPU works for all; the shards on the others wait for it.",
        risk: "see the steps of the plan",
        detail: "Never judge this by NET_RX in `/proc/softirqs`: it counts runs of the softirq, not packets. With RPS from CPU 0 to CPU 1 we measured NET_RX 50,225 and 50,204 (it looks even) while the packets were 18 and 200,011.",
    },
    Entry {
        id: "KSOFTIRQD_BUSY",
        title: "ksoftirqd does the network's work",
        shows: "the CPU time of `ksoftirqd/N` in `/proc/PID/stat`",
        why: "Softirqs came faster than they could be served in interrupt context; they now compete with the shard as a normal thread.",
        risk: "none from looking",
        detail: "Look for SOFTIRQ_SKEW and IRQ_PILE first; when all CPUs are alike, the host is simply full.",
    },
    Entry {
        id: "STEAL",
        title: "The hypervisor took CPU time away",
        shows: "`steal` in `/proc/stat`",
        why: "The virtual CPU wanted to run and did not. No measurement under steal can be trusted, and latency has gaps.",
        risk: "none from looking",
        detail: "Dedicated virtual CPUs, or another host.",
    },
    Entry {
        id: "IRQ_PILE",
        title: "Several queues interrupt one CPU",
        shows: "`effective_affinity_list` of each queue's interrupt, and its counts in `/proc/interrupts`",
        why: "Queues that share a CPU do not spread anything.",
        risk: "moving an interrupt disturbs nothing beyond a few cache misses",
        detail: "The mask (`smp_affinity`) is only what is allowed; the kernel picks one CPU of it. Judge by the effective CPU and by the counts.",
    },
    Entry {
        id: "IRQ_WIDE",
        title: "A wide mask does not spread",
        shows: "`smp_affinity_list` names several CPUs, `effective_affinity_list` one",
        why: "On almost all machines an interrupt goes to one CPU of its mask, so a wide mask leaves the choice to chance.",
        risk: "none from looking",
        detail: "Seen: mask 0-1, effective CPU 1, counts 0 and 5,534. Harmless by itself; a reason to pin when latency matters.",
    },
    Entry {
        id: "IRQ_REMOTE_NODE",
        title: "Interrupts are served on another NUMA node",
        shows: "`numa_node` of the card against the node of the effective CPU",
        why: "Every packet is then read across the nodes' link.",
        risk: "moving an interrupt disturbs nothing beyond a few cache misses",
        detail: "A node of -1 means that the machine does not say; it is not node 0, and nothing is concluded from it.",
    },
    Entry {
        id: "IRQ_ON_SMT_PEER",
        title: "Two receive interrupts share one physical core",
        shows: "`core_cpus_list` of the effective CPUs",
        why: "The two threads of a core share its execution units, while other cores have no interrupt at all.",
        risk: "moving an interrupt disturbs nothing beyond a few cache misses",
        detail: "The kernel's own scaling document sees no gain from hyper-threads for interrupts.",
    },
    Entry {
        id: "IRQ_DRIFT",
        title: "Interrupts are not where the placement puts them",
        shows: "`effective_affinity_list` against `placement.toml`",
        why: "A shard's packets are processed on another shard's CPU.",
        risk: "moving an interrupt disturbs nothing beyond a few cache misses",
        detail: "Something moved them: irqbalance, udev, a driver reset or a change of channels, which makes all interrupts anew.",
    },
    Entry {
        id: "IRQ_MANAGED",
        title: "The kernel manages this interrupt itself",
        shows: "writing its mask gives EIO",
        why: "The kernel spreads it by its own rules; nobody can move it, and that is no error.",
        risk: "none",
        detail: "NVMe and some cards. `isolcpus=managed_irq,...` on the kernel's command line keeps such interrupts from isolated CPUs. `apply` stops, names the interrupt and takes the whole plan back; plan again with `--only` without `irq`.",
    },
    Entry {
        id: "IRQBALANCE_FIGHT",
        title: "irqbalance moves interrupts",
        shows: "the process `irqbalance` exists",
        why: "It moves interrupts every ten seconds by its own measure, away from their shards.",
        risk: "irqbalance stops caring for this card's interrupts only",
        detail: "Ban by device, not by number: interrupt numbers change with every change of channels and at every boot. `apply` refuses interrupt steps while it runs, unless `--irqbalance-is-banned` says that it leaves the card alone.",
    },
    Entry {
        id: "UDEV_IRQ_POLICY",
        title: "udev places the card's interrupts",
        shows: "`IRQAffinity` in a `.link` file",
        why: "Two programs that place the same interrupts undo each other's work at the next event.",
        risk: "none from looking",
        detail: "Keep one of the two: the `.link` file, or this tool.",
    },
    Entry {
        id: "QUEUES_LT_SHARDS",
        title: "Fewer queues than shards",
        shows: "`ethtool -l` against the placement",
        why: "Shards without a queue get all their packets from other CPUs.",
        risk: "all queues stop for some milliseconds and are made anew; masks of the old ones are lost (the tool saves and restores them)",
        detail: "Where the card cannot have more, see RPS_MISSING.",
    },
    Entry {
        id: "QUEUES_GT_SHARDS",
        title: "More queues than shards",
        shows: "`ethtool -l` against the placement",
        why: "Queues beyond the shards interrupt CPUs that have other work. The most efficient number is the smallest at which no queue overflows.",
        risk: "all queues stop for some milliseconds and are made anew; masks of the old ones are lost (the tool saves and restores them)",
        detail: "Harmless while the extra queues' interrupts stay on the shards' CPUs.",
    },
    Entry {
        id: "RSS_UNEVEN",
        title: "The card's hash table is uneven",
        shows: "`ethtool -x`: entries for each queue",
        why: "A queue with more entries gets more flows.",
        risk: "flows move to other queues once, which may reorder packets for a moment",
        detail: "The tool prints the command and does not run it: an uneven table may be intended (contexts for one port).",
    },
    Entry {
        id: "RPS_PILE",
        title: "RPS steers every queue to one CPU",
        shows: "`rps_cpus` of all queues, and `/proc/net/softnet_stat` column 10",
        why: "The queues are spread in hardware and brought together again in software.",
        risk: "takes effect with the next packet; flows may be reordered for a moment",
        detail: "This is what a mask copied to all queues does.",
    },
    Entry {
        id: "RPS_REDUNDANT",
        title: "RPS is on, and there is a queue for every shard",
        shows: "`rps_cpus` and the number of queues",
        why: "Each packet costs an extra interrupt between CPUs and leaves the CPU that its queue was placed on.",
        risk: "takes effect with the next packet; flows may be reordered for a moment",
        detail: "RPS is for cards with fewer queues than CPUs.",
    },
    Entry {
        id: "RPS_MISSING",
        title: "Few queues, and the CPU that serves them is full",
        shows: "softirq time in `/proc/stat` over 70 % on the CPU of the queue's interrupt",
        why: "TCP's work for all shards is done on that one CPU.",
        risk: "takes effect with the next packet; costs an interrupt between CPUs for each batch",
        detail: "Without the evidence RPS is not switched on: below saturation it costs more than it gives.",
    },
    Entry {
        id: "XPS_MISALIGNED",
        title: "Transmit queues are not bound to their shard's CPU",
        shows: "`xps_cpus` against the placement",
        why: "Sent packets are completed on another shard's CPU, and queues are shared between CPUs.",
        risk: "takes effect with the next packet",
        detail: "Reading `xps_cpus` gives ENOENT on cards with one queue; that is normal and not reported.",
    },
    Entry {
        id: "THREADED_NAPI",
        title: "Polling runs in kernel threads",
        shows: "`/sys/class/net/IF/threaded`",
        why: "The threads are not pinned, so packets are processed wherever the scheduler puts them; the interrupt's CPU no longer matters.",
        risk: "takes effect at once",
        detail: "Either switch it off or pin each thread (`napi/IF-N`) to its queue's CPU.",
    },
    Entry {
        id: "LISTEN_OVERFLOW",
        title: "An accept queue was full",
        shows: "`ListenOverflows` and `ListenDrops` in `/proc/net/netstat` grew while watched",
        why: "Finished handshakes were thrown away; clients wait a second or more and try again.",
        risk: "none; the new limit holds for sockets that listen after the change",
        detail: "The limit is the smaller of the server's own backlog and `somaxconn`. A queue that fills at any length means an accept loop that does not run: look at that shard first.",
    },
    Entry {
        id: "SYN_DROP",
        title: "Connection requests were dropped",
        shows: "`TCPReqQFullDrop`, `TCPReqQFullDoCookies` in `/proc/net/netstat` grew while watched",
        why: "More handshakes were open than the limit allows.",
        risk: "none",
        detail: "A flood from outside looks the same; look at who connects before raising limits.",
    },
    Entry {
        id: "RCV_PRESSURE",
        title: "Receive buffers were pruned or collapsed",
        shows: "`RcvPruned`, `TCPRcvCollapsed` in `/proc/net/netstat` grew while watched",
        why: "A reader was too slow for its buffer. Collapsing large buffers takes long enough to be a latency spike.",
        risk: "none from looking",
        detail: "Usually a shard that does not read. A larger `tcp_rmem` makes each spike longer; mend the reader.",
    },
    Entry {
        id: "MEMLOCK_LOW",
        title: "The engine may lock too little memory",
        shows: "`/proc/PID/limits`, Max locked memory",
        why: "glommio refuses to start an executor below 512 KiB, and locks as much for each shard.",
        risk: "needs a restart of the engine",
        detail: "`LimitMEMLOCK=` in the unit, or `ulimit -l` in the shell that starts it.",
    },
    Entry {
        id: "NOFILE_LOW",
        title: "The engine may open few files",
        shows: "`/proc/PID/limits`, Max open files",
        why: "Each connection is a file; at the limit accepting fails.",
        risk: "needs a restart of the engine",
        detail: "`LimitNOFILE=` in the unit.",
    },
    Entry {
        id: "IO_URING_OFF",
        title: "io_uring is switched off",
        shows: "`/proc/sys/kernel/io_uring_disabled`",
        why: "The engine's executors cannot start (1: only with CAP_SYS_ADMIN or for the group in `io_uring_group`).",
        risk: "io_uring becomes usable by all programs",
        detail: "Container runtimes may forbid it by seccomp as well, which no file shows: then the engine's start says EPERM.",
    },
    Entry {
        id: "CONNTRACK_IN_PATH",
        title: "Connections are tracked",
        shows: "`nf_conntrack_count` above 0",
        why: "Every packet is looked up in a table, and every connection is added to it, before a shard sees it.",
        risk: "none from looking; a NOTRACK rule makes stateful rules blind for that port",
        detail: "Print the pair of NOTRACK rules for the engine's port with `tuning/scripts/show-netfilter.sh --port N`. This tool never changes a rule.",
    },
    Entry {
        id: "CONNTRACK_NEAR_MAX",
        title: "The table of tracked connections is nearly full",
        shows: "`nf_conntrack_count` against `nf_conntrack_max`",
        why: "At the limit new connections are dropped, whoever wants them.",
        risk: "about 300 bytes of memory for each entry",
        detail: "Better than a larger table: do not track the engine's port.",
    },
    Entry {
        id: "RULES_PRESENT",
        title: "Packets pass iptables rules",
        shows: "`/proc/net/ip_tables_names`",
        why: "Each rule of a chain is tried for each packet.",
        risk: "none from looking",
        detail: "Count them with `tuning/scripts/show-netfilter.sh` (root). nftables rules do not show in these files.",
    },
    Entry {
        id: "GOVERNOR",
        title: "The CPUs' clock follows the load",
        shows: "`scaling_governor`",
        why: "A shard that wakes for one call runs it at the low clock.",
        risk: "more power and heat",
        detail: "`powersave` of the drivers intel_pstate and amd-pstate is not this case: there the processor itself chooses.",
    },
    Entry {
        id: "DEEP_CSTATE",
        title: "Idle CPUs sleep deeply",
        shows: "`cpuidle/state*/latency`",
        why: "Waking takes as long as the state's latency, for the first packet after a pause.",
        risk: "more power and heat while the service runs",
        detail: "The unit `corewire-cstate.service` holds `/dev/cpu_dma_latency` open; closing it undoes the request by itself. A spinning engine does not need it.",
    },
    Entry {
        id: "CLOCKSOURCE",
        title: "Reading the clock is slow",
        shows: "`current_clocksource`",
        why: "Each timestamp is then an access to a device instead of some twenty nanoseconds.",
        risk: "takes effect at once",
        detail: "When `tsc` is not offered the kernel found it unstable; `dmesg` says why.",
    },
    Entry {
        id: "NUMA_BALANCING",
        title: "Pages move between nodes by themselves",
        shows: "`kernel.numa_balancing` with more than one node",
        why: "The kernel makes pages fault to learn who uses them; pinned shards gain nothing and pay the faults.",
        risk: "takes effect at once; other programs on the host may have liked it",
        detail: "Shards allocate on their own node by first touch.",
    },
    Entry {
        id: "THP_ALWAYS",
        title: "Huge pages for everyone",
        shows: "`transparent_hugepage/enabled` is `always`",
        why: "Memory grows in steps of 2 MiB and the kernel may stop to compact it.",
        risk: "takes effect for new memory; other programs on the host may have liked it",
        detail: "`madvise` leaves the choice to each program; allocators that want huge pages ask for them.",
    },
    Entry {
        id: "BUSY_POLL",
        title: "Sockets spin for all programs",
        shows: "`net.core.busy_poll`, `net.core.busy_read`",
        why: "It makes every program's poll spin, while the engine spins by its own, bounded rule.",
        risk: "takes effect for new sockets",
        detail: "Does nothing for io_uring, which registers its own NAPI polling.",
    },
    Entry {
        id: "SOMAXCONN_LOW",
        title: "Accept queues are short",
        shows: "`net.core.somaxconn` below 1024",
        why: "A burst of connections fills the queue before the shard's turn comes.",
        risk: "takes effect for sockets that listen after the change",
        detail: "Kernels before 5.4 start with 128.",
    },
    Entry {
        id: "CPUSET_MISMATCH",
        title: "The placement uses CPUs that are not there",
        shows: "`Cpus_allowed_list` and `cpu/online` against `placement.toml`",
        why: "Pinning a shard there fails.",
        risk: "none from looking",
        detail: "A control group's cpuset, `taskset`, or a CPU that went offline. Plan anew with `--emit-placement`.",
    },
    Entry {
        id: "ISOLATED_CPUS",
        title: "Some CPUs are kept quiet",
        shows: "`cpu/isolated`, `cpu/nohz_full`",
        why: "They are for programs that are put there by hand. An interrupt there breaks the quiet.",
        risk: "none from looking",
        detail: "Give them to the engine by `--cpus LIST`. The list belongs on the kernel's command line; the tool never writes that.",
    },
    Entry {
        id: "SHARD_OFF_PLACEMENT",
        title: "Shards do not run where the placement puts them",
        shows: "pinned threads of `/proc/PID/task/*/status` against `placement.toml`",
        why: "Queues are then served on one CPU and read on another.",
        risk: "needs a restart of the engine",
        detail: "Give the same file to the engine.",
    },
    Entry {
        id: "VM_LIMITED",
        title: "This machine offers one queue",
        shows: "`ethtool -l` and `/sys/class/net/IF/queues`",
        why: "Packets come by one queue, so one CPU takes them from the card; only RPS can share the rest of the work.",
        risk: "none from looking",
        detail: "A note, not a fault: nothing is wrong. Ask the hypervisor for more queues (virtio: `queues=N`, `vectors=2N+2`). RPS helps when RPS_MISSING shows up.",
    },
];

#[cfg(test)]
mod tests {
    use super::CATALOGUE;

    #[test]
    fn names_are_unique_and_every_part_is_said() {
        for (index, entry) in CATALOGUE.iter().enumerate() {
            assert!(
                CATALOGUE[..index].iter().all(|other| other.id != entry.id),
                "{} stands twice",
                entry.id
            );
            for part in [entry.title, entry.shows, entry.why, entry.risk, entry.detail] {
                assert!(!part.is_empty(), "{} lacks a part", entry.id);
            }
        }
    }
}
