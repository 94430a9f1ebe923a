//! Counters at one moment, and what changed between two.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::host::Fault;
use crate::parse::{self, IrqLine, SoftnetRow, Stat};

use super::Cpus;
use super::reader::Reader;

/// All counters at one moment.
#[derive(Debug, Clone, Default)]
pub struct Counters {
    /// Interrupts by number.
    pub interrupts: Vec<IrqLine>,
    /// `/proc/net/softnet_stat` by CPU.
    pub softnet: BTreeMap<u32, SoftnetRow>,
    /// Runs of the NET_RX softirq by CPU. Runs are not packets: see the finding `SOFTIRQ_SKEW`.
    pub net_rx_runs: BTreeMap<u32, u64>,
    /// Ticks and context switches.
    pub stat: Stat,
    /// Counters of the TCP stack, by `Group.Name`.
    pub netstat: BTreeMap<String, i64>,
    /// Established and opening TCP sockets of this network namespace.
    pub tcp_sockets: u64,
    /// Counters of each interface: the standard ones as `rx_missed_errors`, the driver's own as `driver.NAME`.
    pub cards: BTreeMap<String, BTreeMap<String, u64>>,
    /// Ticks that each CPU's ksoftirqd has run.
    pub ksoftirqd: BTreeMap<u32, u64>,
}

impl Counters {
    pub(super) fn read(reader: &mut Reader<'_>, cpus: &Cpus) -> Result<Self, Fault> {
        let rows = reader.needed("/proc/net/softnet_stat", parse::softnet)?;
        // Old kernels do not say which CPU a row is of; rows are those of the online CPUs in order.
        let online: Vec<u32> = cpus.online.iter().collect();
        let softnet = rows
            .into_iter()
            .zip(0_usize..)
            .map(|(row, index)| {
                (
                    if row.cpu_known {
                        row.cpu
                    } else {
                        online.get(index).copied().unwrap_or(row.cpu)
                    },
                    row,
                )
            })
            .collect();
        let runs = reader
            .parsed("/proc/softirqs", parse::softirqs)
            .and_then(|mut table| table.remove("NET_RX"));
        let tcp_sockets = reader.optional("/proc/net/sockstat").and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("TCP: inuse "))?.to_owned();
            line.split_whitespace().next()?.parse().ok()
        });
        Ok(Self {
            interrupts: reader.interrupts()?,
            softnet,
            net_rx_runs: cpus.possible.iter().zip(runs.unwrap_or_default()).collect(),
            stat: reader.needed("/proc/stat", parse::stat)?,
            netstat: reader.parsed("/proc/net/netstat", parse::netstat).unwrap_or_default(),
            tcp_sockets: tcp_sockets.unwrap_or(0),
            cards: BTreeMap::new(),
            ksoftirqd: BTreeMap::new(),
        })
    }

    pub(super) fn add_card(
        &mut self,
        reader: &mut Reader<'_>,
        iface: &str,
        driver: &BTreeMap<String, u64>,
    ) {
        let mut counters: BTreeMap<String, u64> =
            driver.iter().map(|(name, value)| (format!("driver.{name}"), *value)).collect();
        for name in
            ["rx_dropped", "rx_missed_errors", "rx_fifo_errors", "rx_over_errors", "rx_packets"]
        {
            let path = format!("/sys/class/net/{iface}/statistics/{name}");
            if let Some(value) = reader.optional(&path).and_then(|text| parse::number(&text)) {
                counters.insert(name.to_owned(), value);
            }
        }
        self.cards.insert(iface.to_owned(), counters);
    }

    pub(super) fn add_ksoftirqd(&mut self, reader: &mut Reader<'_>, processes: &[(u32, String)]) {
        for (pid, name) in processes {
            let Some(Ok(cpu)) = name.strip_prefix("ksoftirqd/").map(str::parse) else {
                continue;
            };
            if let Some(ticks) = reader
                .optional(&format!("/proc/{pid}/stat"))
                .and_then(|text| parse::thread_times(&text))
            {
                self.ksoftirqd.insert(cpu, ticks);
            }
        }
    }
}

/// What changed between two samples. All differences are safe against counters that wrap or restart.
#[derive(Debug, Clone, Copy)]
pub struct Rate<'s> {
    /// The earlier sample.
    pub before: &'s Counters,
    /// The later sample.
    pub after: &'s Counters,
    /// The time between them.
    pub period: Duration,
}

impl Rate<'_> {
    /// One column of softnet_stat, by CPU.
    #[must_use]
    pub fn softnet(&self, column: impl Fn(&SoftnetRow) -> u32) -> BTreeMap<u32, u64> {
        let delta = |(cpu, after): (&u32, &SoftnetRow)| {
            let before = self.before.softnet.get(cpu).map_or(0, &column);
            (*cpu, u64::from(column(after).wrapping_sub(before)))
        };
        self.after.softnet.iter().map(delta).collect()
    }

    /// Packets that each CPU took up the stack.
    #[must_use]
    pub fn packets(&self) -> BTreeMap<u32, u64> {
        self.softnet(|row| row.processed)
    }

    /// Runs of NET_RX, by CPU.
    #[must_use]
    pub fn net_rx_runs(&self) -> BTreeMap<u32, u64> {
        let before = &self.before.net_rx_runs;
        let delta = |(cpu, after): (&u32, &u64)| {
            (*cpu, grown(before.get(cpu).copied().unwrap_or(0), *after))
        };
        self.after.net_rx_runs.iter().map(delta).collect()
    }

    /// The share of a CPU's time (0 to 1) that a kind of tick took; `None` when no tick passed.
    #[must_use]
    pub fn time_share(&self, cpu: u32, ticks: impl Fn(&parse::CpuTimes) -> u64) -> Option<f64> {
        let (before, after) = (self.before.stat.cpus.get(&cpu)?, self.after.stat.cpus.get(&cpu)?);
        let total = after.total.saturating_sub(before.total);
        (total > 0).then(|| ratio(ticks(after).saturating_sub(ticks(before)), total))
    }

    /// The share of a CPU's time in soft interrupts.
    #[must_use]
    pub fn softirq_share(&self, cpu: u32) -> f64 {
        self.time_share(cpu, |times| times.softirq).unwrap_or(0.0)
    }

    /// The share of all CPUs' time that the hypervisor took away.
    #[must_use]
    pub fn steal_share(&self) -> f64 {
        let sum = |counters: &Counters, ticks: fn(&parse::CpuTimes) -> u64| {
            total(counters.stat.cpus.values().map(ticks))
        };
        let steal = sum(self.after, |times| times.steal)
            .saturating_sub(sum(self.before, |times| times.steal));
        let all = sum(self.after, |times| times.total)
            .saturating_sub(sum(self.before, |times| times.total));
        ratio(steal, all)
    }

    /// How much a counter of the TCP stack grew.
    #[must_use]
    pub fn netstat(&self, name: &str) -> u64 {
        let read = |counters: &Counters| counters.netstat.get(name).copied().unwrap_or(0);
        u64::try_from(read(self.after).saturating_sub(read(self.before))).unwrap_or(0)
    }

    /// How much each counter of an interface grew; only those that grew.
    #[must_use]
    pub fn card(&self, iface: &str) -> BTreeMap<String, u64> {
        let Some(after) = self.after.cards.get(iface) else {
            return BTreeMap::new();
        };
        let before = self.before.cards.get(iface);
        let more = |(name, after): (&String, &u64)| {
            let before = before.and_then(|counters| counters.get(name)).copied()?;
            let delta = grown(before, *after);
            (delta > 0).then(|| (name.clone(), delta))
        };
        after.iter().filter_map(more).collect()
    }

    /// How often an interrupt was served on each CPU.
    #[must_use]
    pub fn interrupts(&self, irq: u32) -> BTreeMap<u32, u64> {
        let find = |counters: &Counters| -> BTreeMap<u32, u64> {
            let line = counters.interrupts.iter().find(|line| line.irq == irq);
            line.map(|line| line.counts.iter().copied().collect()).unwrap_or_default()
        };
        let before = find(self.before);
        let delta =
            |(cpu, after): (u32, u64)| (cpu, grown(before.get(&cpu).copied().unwrap_or(0), after));
        find(self.after).into_iter().map(delta).collect()
    }

    /// How often an interrupt was served, on all CPUs together.
    #[must_use]
    pub fn served(&self, irq: u32) -> u64 {
        total(self.interrupts(irq).into_values())
    }

    /// The share of a CPU's time that its ksoftirqd ran, by the kernel's tick of 100 per second.
    #[must_use]
    pub fn ksoftirqd_share(&self, cpu: u32) -> f64 {
        let read = |counters: &Counters| counters.ksoftirqd.get(&cpu).copied().unwrap_or(0);
        let ticks = read(self.after).saturating_sub(read(self.before));
        ratio(ticks, 1) / (self.period.as_secs_f64().max(0.001) * 100.0)
    }
}

/// How much a counter grew. Many are 32 bits wide and wrap; one that is smaller for another reason was restarted and
/// says nothing.
pub(crate) fn grown(before: u64, after: u64) -> u64 {
    const WRAP: u64 = 1 << 32;
    if after >= before {
        after - before
    } else if (WRAP / 4 * 3..WRAP).contains(&before) && after < WRAP / 4 {
        after + WRAP - before
    } else {
        0
    }
}

/// The sum of counters. A text may contain any numbers, so it stops at the largest number.
pub(crate) fn total(counts: impl IntoIterator<Item = u64>) -> u64 {
    counts.into_iter().fold(0, u64::saturating_add)
}

/// A quotient of counters; counters here stay far below the numbers that a float cannot hold.
#[allow(clippy::cast_precision_loss, reason = "shares and means for people, not sums")]
pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::grown;

    #[test]
    fn counters_grow_wrap_or_begin_again() {
        assert_eq!(grown(5, 9), 4);
        assert_eq!(grown(u64::from(u32::MAX) - 1, 3), 5);
        assert_eq!(grown(900, 3), 0);
        assert_eq!(grown(u64::MAX, 3), 0);
    }
}
