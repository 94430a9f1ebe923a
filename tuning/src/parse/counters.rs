//! Counters for each CPU and for the network stack.

use std::collections::BTreeMap;

/// One CPU's row of `/proc/net/softnet_stat`. The kernel's counters are 32 bits wide and wrap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SoftnetRow {
    /// The CPU, where the kernel says it (column 13, since 5.10); otherwise the row's number.
    pub cpu: u32,
    /// Whether the kernel gave the value of `cpu`.
    pub cpu_known: bool,
    /// Packets that this CPU took up the stack: the one counter that shows where the work is done.
    pub processed: u32,
    /// Packets dropped because this CPU's backlog was full.
    pub dropped: u32,
    /// How often the softirq had to stop with work left (`time_squeeze`).
    pub squeezed: u32,
    /// How often another CPU handed packets over through RPS.
    pub received_rps: u32,
}

/// Reads `/proc/net/softnet_stat`: one row for each online CPU, hexadecimal, 9 to 15 columns depending on the kernel.
///
/// # Errors
///
/// When there is no row, or a row has fewer than nine columns or anything other than hexadecimal.
pub fn softnet(text: &str) -> Result<Vec<SoftnetRow>, String> {
    let mut rows = Vec::new();
    for (line, index) in text.lines().zip(0_u32..) {
        let columns: Vec<u32> = line
            .split_whitespace()
            .map(|word| {
                u32::from_str_radix(word, 16).map_err(|_| {
                    format!(
                        "row {index}: `{}` is not hexadecimal",
                        word.chars().take(20).collect::<String>()
                    )
                })
            })
            .collect::<Result<_, _>>()?;
        if columns.len() < 9 {
            return Err(format!("row {index} has {} columns, at least 9 are known", columns.len()));
        }
        let cpu = columns.get(12).copied();
        rows.push(SoftnetRow {
            cpu: cpu.unwrap_or(index),
            cpu_known: cpu.is_some(),
            processed: columns[0],
            dropped: columns[1],
            squeezed: columns[2],
            received_rps: columns.get(9).copied().unwrap_or(0),
        });
    }
    if rows.is_empty() { Err("there is no row".to_owned()) } else { Ok(rows) }
}

/// Reads `/proc/softirqs`: for each name, one count for every *possible* CPU in the header's order.
///
/// # Errors
///
/// When there is no header, or a count is not a number.
pub fn softirqs(text: &str) -> Result<BTreeMap<String, Vec<u64>>, String> {
    let mut lines = text.lines();
    if !lines.next().unwrap_or_default().contains("CPU") {
        return Err("there is no header of CPUs".to_owned());
    }
    let mut table = BTreeMap::new();
    for line in lines {
        let Some((name, counts)) = line.split_once(':') else {
            continue;
        };
        let counts: Vec<u64> = counts
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map_err(|_| format!("a count of {} is not a number", name.trim()))?;
        table.insert(name.trim().to_owned(), counts);
    }
    Ok(table)
}

/// The ticks of one CPU in `/proc/stat`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTimes {
    /// All ticks, idle included.
    pub total: u64,
    /// Idle and waiting for disks.
    pub idle: u64,
    /// Hard interrupts.
    pub irq: u64,
    /// Soft interrupts.
    pub softirq: u64,
    /// Taken away by the hypervisor.
    pub steal: u64,
}

/// The part of `/proc/stat` that is used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stat {
    /// Ticks by CPU.
    pub cpus: BTreeMap<u32, CpuTimes>,
    /// Context switches since boot.
    pub context_switches: u64,
}

/// Reads `/proc/stat`.
///
/// # Errors
///
/// When there is no row of a CPU, or one has fewer than seven numbers.
pub fn stat(text: &str) -> Result<Stat, String> {
    let mut stat = Stat::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let label = words.next().unwrap_or_default();
        if label == "ctxt" {
            stat.context_switches =
                words.next().and_then(|word| word.parse().ok()).ok_or("`ctxt` has no number")?;
        }
        let Some(Ok(cpu)) = label.strip_prefix("cpu").map(str::parse::<u32>) else {
            continue;
        };
        let ticks: Vec<u64> = words
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map_err(|_| format!("a tick count of CPU {cpu} is not a number"))?;
        let [_user, _nice, _system, idle, iowait, irq, softirq, ..] = ticks[..] else {
            return Err(format!("CPU {cpu} has fewer than seven tick counts"));
        };
        // Guest time (fields 9 and 10) is already within user time.
        let total = ticks.iter().take(8).fold(0, |sum: u64, tick| sum.saturating_add(*tick));
        let steal = ticks.get(7).copied().unwrap_or(0);
        stat.cpus.insert(
            cpu,
            CpuTimes { total, idle: idle.saturating_add(iowait), irq, softirq, steal },
        );
    }
    if stat.cpus.is_empty() { Err("there is no row of a CPU".to_owned()) } else { Ok(stat) }
}

/// Reads `/proc/net/netstat` or `/proc/net/snmp`: pairs of a line of names and a line of values. Names become `TcpExt.ListenDrops`.
///
/// # Errors
///
/// When a line of values does not belong to the line of names before it.
pub fn netstat(text: &str) -> Result<BTreeMap<String, i64>, String> {
    let mut table = BTreeMap::new();
    let mut lines = text.lines();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let (Some((group, names)), Some((same, values))) =
            (names.split_once(':'), values.split_once(':'))
        else {
            return Err("a line has no group name".to_owned());
        };
        if group != same {
            return Err(format!(
                "the values of {} do not follow its names",
                group.chars().take(20).collect::<String>()
            ));
        }
        for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
            if let Ok(value) = value.parse() {
                table.insert(format!("{group}.{name}"), value);
            }
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn softnet_of_new_and_old_kernels() {
        let new = "000007a5 00000002 00000003 0 0 0 0 0 0 00000009 0 0 00000004 0 0\n";
        let row = softnet(new).unwrap()[0];
        assert_eq!(
            (row.cpu, row.cpu_known, row.processed, row.dropped, row.squeezed, row.received_rps),
            (4, true, 0x7a5, 2, 3, 9)
        );
        let old = "1 0 0 0 0 0 0 0 0\n2 0 0 0 0 0 0 0 0\n";
        assert_eq!(
            softnet(old).unwrap().iter().map(|row| (row.cpu, row.cpu_known)).collect::<Vec<_>>(),
            [(0, false), (1, false)]
        );
        assert!(softnet("").is_err());
        assert!(softnet("1 2 3\n").unwrap_err().contains("3 columns"));
        assert!(softnet("xyz\n").unwrap_err().contains("not hexadecimal"));
    }

    #[test]
    fn stat_and_netstat_and_softirqs() {
        let stat = stat("cpu  9 9 9 9\ncpu1 1 2 3 4 5 6 7 8 9 10\nintr 5\nctxt 77\n").unwrap();
        assert_eq!(stat.cpus[&1], CpuTimes { total: 36, idle: 9, irq: 6, softirq: 7, steal: 8 });
        assert_eq!(stat.context_switches, 77);
        assert!(super::stat("cpu0 1 2\n").is_err());
        let table = netstat("TcpExt: A ListenDrops\nTcpExt: 1 2\nTcp: MaxConn\nTcp: -1\n").unwrap();
        assert_eq!((table["TcpExt.ListenDrops"], table["Tcp.MaxConn"]), (2, -1));
        assert!(netstat("A: x\nB: 1\n").is_err());
        assert_eq!(softirqs(" CPU0 CPU1\n NET_RX: 3 4\n").unwrap()["NET_RX"], [3, 4]);
        assert!(softirqs("").is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "((cpu[0-9]?|ctxt|CPU0|[A-Z]{1,3}:|[0-9a-f]{1,9})( |\n)([ -~]{0,9}\n)?){0,30}") {
            let _ = softnet(&text);
            let _ = softirqs(&text);
            let _ = stat(&text);
            let _ = netstat(&text);
        }
    }
}
