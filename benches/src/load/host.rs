//! The machine that figures were measured on, and who else used it meanwhile.

use std::fs;
use std::process::Command;

use serde::Serialize;

use crate::load::toolbox;

/// What a reader must know to judge a figure.
#[derive(Debug, Clone, Serialize)]
pub struct Host {
    /// The processor's name.
    pub processor: String,
    /// Cores that may be used.
    pub cores: usize,
    /// The kernel's release.
    pub kernel: String,
    /// The commit measured, followed by `+` when files were changed since.
    pub commit: String,
}

impl Host {
    /// Looks at this machine; what cannot be found out is `unknown`.
    #[must_use]
    pub fn look() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let unknown = || "unknown".to_owned();
        Self {
            processor: processor(&cpuinfo).map_or_else(unknown, ToOwned::to_owned),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: if release.is_empty() { unknown() } else { release.trim().to_owned() },
            commit: commit().unwrap_or_else(unknown),
        }
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { processor, cores, kernel, commit } = self;
        write!(f, "commit {commit}, {processor}, {cores} cores, Linux {kernel}")
    }
}

fn processor(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim())
}

fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .arg("-C")
            .arg(toolbox::workspace())
            .args(arguments)
            .output()
            .ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let hash = git(&["rev-parse", "--short=10", "HEAD"])?;
    let changed = git(&["status", "--porcelain"]).is_none_or(|changes| !changes.is_empty());
    Some(if changed { hash + "+" } else { hash })
}

/// The machine's CPU time since its start, in seconds over all cores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CpuTimes {
    /// Spent in processes, in user and kernel mode.
    pub processes: f64,
    /// Taken by the hypervisor for other machines.
    pub stolen: f64,
}

impl CpuTimes {
    /// Reads the counters; `None` where there are none.
    #[must_use]
    pub fn now() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal, in ticks.
    fn parse(stat: &str) -> Option<Self> {
        let mut fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
        let mut ticks = [0_f64; 8];
        for slot in &mut ticks {
            *slot = fields.next()?.parse().ok()?;
        }
        // USER_HZ is 100 on every Linux that this runs on.
        Some(Self { processes: (ticks[0] + ticks[1] + ticks[2]) / 100.0, stolen: ticks[7] / 100.0 })
    }
}

/// The CPU seconds between two readings that were not ours: those of other processes, and those that the
/// hypervisor took. They reveal a disturbed run.
#[must_use]
pub fn foreign_seconds(before: CpuTimes, after: CpuTimes, ours: f64) -> f64 {
    let others = (after.processes - before.processes - ours).max(0.0);
    others + (after.stolen - before.stolen).max(0.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_processor_is_read_from_its_line() {
        assert_eq!(
            processor("processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\n"),
            Some("Some CPU @ 3 GHz")
        );
        assert_eq!(processor(""), None);
    }

    #[test]
    fn foreign_time_is_what_others_used_and_what_was_stolen() {
        let before = CpuTimes::parse("cpu  100 0 100 900 0 0 0 10 0 0\ncpu0 1\n").unwrap();
        let after = CpuTimes::parse("cpu  250 0 150 990 0 0 0 20 0 0\n").unwrap();
        assert_eq!(before, CpuTimes { processes: 2.0, stolen: 0.1 });
        assert!((foreign_seconds(before, after, 1.5) - 0.6).abs() < 1e-9);
        assert!((foreign_seconds(before, after, 9.0) - 0.1).abs() < 1e-9);
    }

    #[test]
    fn a_short_line_is_no_reading() {
        assert_eq!(CpuTimes::parse("cpu 1 2 3"), None);
        assert_eq!(CpuTimes::parse(""), None);
    }
}
