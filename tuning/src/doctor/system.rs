//! The rest of the host: power, clocks, memory, filters, limits, and the engine's process.

use crate::host::NFTABLES_RULES;
use crate::snapshot::Engine;
use corewire_placement::CpuSet;

use super::case::Case;
use super::finding::{Finding, Severity};

/// glommio refuses to start an executor with less lockable memory than this.
const MEMLOCK_PER_SHARD_BYTES: u64 = 512 * 1024;

pub(super) fn check(case: &mut Case<'_>) {
    power(case);
    clock_and_memory(case);
    filters(case);
    sockets(case);
    cpu_sets(case);
    if let Some(engine) = case.snapshot.engine.clone() {
        engine_limits(case, &engine);
        engine_threads(case, &engine);
    }
}

fn power(case: &mut Case<'_>) {
    let driver = case
        .snapshot
        .value("/sys/devices/system/cpu/cpu0/cpufreq/scaling_driver")
        .unwrap_or("")
        .to_owned();
    // The drivers that let the processor choose call their normal, fast mode `powersave`.
    let is_self_driving = driver.starts_with("intel_pstate") || driver.starts_with("amd-pstate");
    let slow: CpuSet = case
        .snapshot
        .cpus
        .governors
        .iter()
        .filter(|(_, governor)| {
            governor.as_str() != "performance"
                && !(is_self_driving && governor.as_str() == "powersave")
        })
        .map(|(cpu, _)| *cpu)
        .collect();
    if let Some(cpu) = slow.first() {
        let governor = case.snapshot.cpus.governors.get(&cpu).cloned().unwrap_or_default();
        let finding = Finding::new(
            "GOVERNOR",
            Severity::Advice,
            "host",
            format!("the governor of CPUs {slow} is `{governor}`"),
        )
        .seen(
            format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"),
            &governor,
        )
        .seen("scaling_driver", driver)
        .fixed_by("corewire-tune plan --only power --format json > plan.json && corewire-tune apply plan.json", "corewire-tune undo");
        case.add(finding);
    }
    let deep: Vec<_> = case
        .snapshot
        .cpus
        .idle_states
        .iter()
        .filter(|(_, latency, disabled)| *latency > 50 && !disabled)
        .collect();
    if let Some((name, latency, _)) = deep.iter().max_by_key(|(_, latency, _)| *latency) {
        let title = format!("idle CPUs may need {latency} µs to wake from {name}");
        let finding = Finding::new("DEEP_CSTATE", Severity::Note, "host", title)
            .seen(
                "/sys/devices/system/cpu/cpu0/cpuidle/state*/latency",
                format!("{latency} µs ({name})"),
            )
            .fixed_by(
                "systemctl start corewire-cstate.service # from tuning/systemd",
                "systemctl stop corewire-cstate.service",
            );
        case.add(finding);
    }
}

fn clock_and_memory(case: &mut Case<'_>) {
    let snapshot = case.snapshot;
    let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    if let Some(clock @ ("hpet" | "acpi_pm" | "jiffies" | "refined-jiffies")) = snapshot.value(path)
    {
        let offered = snapshot
            .value("/sys/devices/system/clocksource/clocksource0/available_clocksource")
            .unwrap_or("");
        let mut finding = Finding::new(
            "CLOCKSOURCE",
            Severity::Fault,
            "host",
            format!("reading the clock goes through `{clock}`, which is slow"),
        )
        .seen(path, clock)
        .seen("available_clocksource", offered);
        if offered.split_whitespace().any(|name| name == "tsc") {
            finding = finding.fixed_by_echo(path, clock, "tsc");
        }
        case.add(finding);
    }
    let nodes: std::collections::BTreeSet<_> =
        snapshot.cpus.topology.cpus.iter().map(|place| place.node).collect();
    if nodes.len() > 1
        && snapshot.value_number("/proc/sys/kernel/numa_balancing").is_some_and(|mode| mode > 0)
    {
        let finding = Finding::new(
            "NUMA_BALANCING",
            Severity::Advice,
            "host",
            "the kernel moves pages between nodes by faulting them",
        )
        .seen(
            "/proc/sys/kernel/numa_balancing",
            snapshot.value("/proc/sys/kernel/numa_balancing").unwrap_or(""),
        )
        .fixed_by_sysctl("kernel.numa_balancing", 1, 0);
        case.add(finding);
    }
    let path = "/sys/kernel/mm/transparent_hugepage/enabled";
    if snapshot.value(path).map(crate::parse::bracketed) == Some("always") {
        let finding = Finding::new(
            "THP_ALWAYS",
            Severity::Advice,
            "host",
            "every program gets huge pages, wanted or not",
        )
        .seen(path, snapshot.value(path).unwrap_or(""))
        .fixed_by_echo(path, "always", "madvise");
        case.add(finding);
    }
}

fn filters(case: &mut Case<'_>) {
    let snapshot = case.snapshot;
    let read = |name: &str| snapshot.value_number(&format!("/proc/sys/net/netfilter/{name}"));
    if let (Some(count), Some(max)) = (read("nf_conntrack_count"), read("nf_conntrack_max"))
        && count > 0
    {
        let near = max > 0 && count.saturating_mul(10) > max.saturating_mul(8);
        let (id, severity, title) = if near {
            (
                "CONNTRACK_NEAR_MAX",
                Severity::Fault,
                "the table of tracked connections is over 80 % full",
            )
        } else {
            (
                "CONNTRACK_IN_PATH",
                Severity::Note,
                "every packet is looked up in the table of tracked connections",
            )
        };
        let mut finding = Finding::new(id, severity, "host", title)
            .seen("/proc/sys/net/netfilter/nf_conntrack_count", count.to_string())
            .seen("/proc/sys/net/netfilter/nf_conntrack_max", max.to_string());
        if near {
            finding = finding.fixed_by_sysctl(
                "net.netfilter.nf_conntrack_max",
                max,
                max.saturating_mul(2),
            );
        } else {
            finding = finding.fixed_by(
                    "tuning/scripts/show-netfilter.sh --port PORT # prints NOTRACK rules for that port and changes nothing",
                    "",
                );
        }
        case.add(finding);
    }
    rules(case);
}

/// Rules of iptables by their tables; of nftables by their number (root), or by the modules in use.
fn rules(case: &mut Case<'_>) {
    let snapshot = case.snapshot;
    let tables: Vec<&str> = ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"]
        .iter()
        .filter_map(|path| snapshot.value(path))
        .flat_map(str::split_whitespace)
        .collect();
    let mut finding =
        Finding::new("RULES_PRESENT", Severity::Note, "host", "packets pass the rules of a filter");
    if !tables.is_empty() {
        finding = finding.seen("/proc/net/ip_tables_names, ip6_tables_names", tables.join(" "));
    }
    let modules = snapshot.value("/proc/modules").unwrap_or_default();
    let used_by = modules.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nf_tables"))
            .then(|| (words.nth(1).unwrap_or("0"), words.next().unwrap_or("-")))
    });
    match (snapshot.value_number(NFTABLES_RULES), used_by) {
        (Some(0), _) | (None, None | Some(("0", _))) => {}
        (Some(rules), _) => finding = finding.seen("rules of nftables", rules.to_string()),
        (None, Some((_, users))) => {
            finding = finding.seen("/proc/modules, nf_tables is used by", users)
        }
    }
    if !finding.evidence.is_empty() {
        case.add(finding);
    }
}

/// Mode 2 forbids io_uring to all; mode 1 allows it to CAP_SYS_ADMIN and to one group, so that it concerns only processes
/// with neither. The engine's shards then run on plain threads, without glommio's own timers and files.
fn io_uring(case: &mut Case<'_>) {
    let snapshot = case.snapshot;
    let path = "/proc/sys/kernel/io_uring_disabled";
    let Some(mode) = snapshot.value_number(path).filter(|mode| *mode > 0) else { return };
    let group = snapshot.value_number("/proc/sys/kernel/io_uring_group");
    let allowed = snapshot
        .engine
        .as_ref()
        .map(|engine| engine.is_admin || group.is_some_and(|group| engine.groups.contains(&group)));
    let (severity, title) = match (mode, allowed) {
        (1, Some(true)) => return,
        (1, None) => (
            Severity::Note,
            "io_uring is only for CAP_SYS_ADMIN and one group; the engine must be in it (--engine-pid checks)",
        ),
        (1, Some(false)) => (
            Severity::Advice,
            "io_uring is only for CAP_SYS_ADMIN and one group, and the engine is not in it: its shards run without glommio",
        ),
        _ => {
            (Severity::Advice, "io_uring is switched off: the engine's shards run without glommio")
        }
    };
    let group = group.map_or_else(|| "not set".to_owned(), |group| group.to_string());
    let mut finding = Finding::new("IO_URING_OFF", severity, "host", title)
        .seen(path, mode.to_string())
        .seen("/proc/sys/kernel/io_uring_group", group);
    if severity == Severity::Advice {
        finding = finding.fixed_by_sysctl("kernel.io_uring_disabled", mode, 0);
    }
    case.add(finding);
}

fn sockets(case: &mut Case<'_>) {
    let snapshot = case.snapshot;
    io_uring(case);
    if let Some(now) =
        snapshot.value_number("/proc/sys/net/core/somaxconn").filter(|now| *now < 1024)
    {
        let finding = Finding::new(
            "SOMAXCONN_LOW",
            Severity::Advice,
            "host",
            format!("no accept queue can be longer than {now}"),
        )
        .seen("/proc/sys/net/core/somaxconn", now.to_string())
        .fixed_by_sysctl("net.core.somaxconn", now, 4096);
        case.add(finding);
    }
    for name in ["busy_poll", "busy_read"] {
        let path = format!("/proc/sys/net/core/{name}");
        if let Some(now) = snapshot.value_number(&path).filter(|now| *now > 0) {
            let title = format!("{name} makes every program on this host spin for {now} µs");
            let finding = Finding::new("BUSY_POLL", Severity::Advice, "host", title)
                .seen(path, now.to_string())
                .fixed_by_sysctl(&format!("net.core.{name}"), now, 0);
            case.add(finding);
        }
    }
}

fn cpu_sets(case: &mut Case<'_>) {
    let cpus = &case.snapshot.cpus;
    let given = case.placement.filter(|_| case.is_given);
    if let Some(why) = given.and_then(|placement| case.snapshot.misfit(placement)) {
        let title = format!("placement.toml does not fit: {why}");
        let finding = Finding::new("CPUSET_MISMATCH", Severity::Fault, "host", title)
            .seen("cpuset of the control group", cpus.allowed.to_string())
            .seen("/sys/devices/system/cpu/online", cpus.online.to_string());
        case.findings.push(finding);
    }
    let quiet = cpus.isolated.or(&cpus.nohz_full).and(&cpus.online);
    if !quiet.is_empty() {
        let title = format!(
            "CPUs {quiet} are kept from the scheduler or its tick: name them with --cpus if they are for the engine"
        );
        let finding = Finding::new("ISOLATED_CPUS", Severity::Note, "host", title)
            .seen("/sys/devices/system/cpu/isolated", cpus.isolated.to_string())
            .seen("/sys/devices/system/cpu/nohz_full", cpus.nohz_full.to_string());
        case.findings.push(finding);
    }
}

/// The limits of the engine's unit as the fix.
fn by_drop_in(finding: Finding, limit: &str) -> Finding {
    let dir = "/etc/systemd/system/corewire.service.d";
    let restart = "systemctl daemon-reload && systemctl restart corewire";
    finding.fixed_by(
        format!("cp tuning/systemd/engine-drop-in.conf {dir}/ && {restart} # {limit}"),
        format!("rm {dir}/engine-drop-in.conf && {restart}"),
    )
}

fn engine_limits(case: &mut Case<'_>, engine: &Engine) {
    let shards = case.placement.map_or(1, |placement| placement.shards.len()).max(1) as u64;
    let subject = format!("process {}", engine.pid);
    if let Some(bytes) =
        engine.memlock_bytes.filter(|bytes| *bytes < MEMLOCK_PER_SHARD_BYTES * shards)
    {
        let title = format!(
            "it may lock {} KiB; {shards} shards on glommio want {} KiB",
            bytes / 1024,
            MEMLOCK_PER_SHARD_BYTES * shards / 1024
        );
        let finding = Finding::new("MEMLOCK_LOW", Severity::Advice, &subject, title)
            .seen(format!("/proc/{}/limits, Max locked memory", engine.pid), bytes.to_string());
        case.add(by_drop_in(finding, "LimitMEMLOCK=infinity"));
    }
    if let Some(files) = engine.open_files.filter(|files| *files < 65_536) {
        let finding = Finding::new(
            "NOFILE_LOW",
            Severity::Advice,
            &subject,
            format!("it may open {files} files, and each connection is one"),
        )
        .seen(format!("/proc/{}/limits, Max open files", engine.pid), files.to_string());
        case.add(by_drop_in(finding, "LimitNOFILE=1048576"));
    }
}

fn engine_threads(case: &mut Case<'_>, engine: &Engine) {
    let (Some(placement), true) = (case.placement, case.is_given) else {
        return;
    };
    let pinned: CpuSet = engine
        .threads
        .iter()
        .filter(|thread| thread.allowed.len() == 1)
        .filter_map(|thread| thread.allowed.first())
        .collect();
    let missing = placement.shard_cpus().minus(&pinned);
    if missing.is_empty() {
        return;
    }
    let title = format!("no pinned thread on CPUs {missing}, where placement.toml puts shards");
    let finding = Finding::new(
        "SHARD_OFF_PLACEMENT",
        Severity::Fault,
        format!("process {}", engine.pid),
        title,
    )
    .seen(
        format!("/proc/{}/task/*/status, threads pinned to one CPU", engine.pid),
        pinned.to_string(),
    )
    .seen("placement.toml, CPUs of the shards", placement.shard_cpus().to_string());
    case.add(finding);
}
