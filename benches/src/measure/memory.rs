//! The resident memory of a process, now and at its peak.

use std::fs;

use anyhow::{Context as _, Result};

/// What `/proc/PID/status` says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Memory {
    /// Resident now, in KiB.
    pub now_kib: f64,
    /// The most that was resident since the process began, or since [`reset_peak`].
    pub peak_kib: f64,
}

impl Memory {
    /// Looks at the process with this id.
    ///
    /// # Errors
    ///
    /// When there is no such process.
    pub fn of(pid: i32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))
            .with_context(|| format!("there is no process {pid}"))?;
        Self::parse(&status).context("the kernel does not tell memory")
    }

    fn parse(status: &str) -> Option<Self> {
        let kib = |label: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(label))?;
            line.split_whitespace().next()?.parse().ok()
        };
        Some(Self { now_kib: kib("VmRSS:")?, peak_kib: kib("VmHWM:")? })
    }
}

/// From now on, the peak is counted from this moment.
///
/// # Errors
///
/// When the kernel does not support that (it needs `CONFIG_PROC_PAGE_MONITOR`), or the process is another
/// user's.
pub fn reset_peak(pid: i32) -> Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5")
        .with_context(|| format!("cannot reset the peak of the memory of process {pid}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_peak_follows_what_is_used_and_can_be_reset() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let before = Memory::of(pid).unwrap();
        let large = vec![7_u8; 32 << 20];
        let with = Memory::of(pid).unwrap();
        assert!(large.iter().all(|byte| *byte == 7));
        drop(large);
        // Other tests of this process come and go; 32 MiB is more than all of them.
        assert!(with.peak_kib > before.now_kib + 30_000.0, "{before:?}, {with:?}");
        reset_peak(pid).unwrap();
        assert!(Memory::of(pid).unwrap().peak_kib < with.peak_kib - 16_000.0);
    }

    #[test]
    fn what_is_no_status_is_none() {
        assert_eq!(Memory::parse("VmRSS: 12 kB"), None);
        let both = Memory::parse("VmHWM:\t  20 kB\nVmRSS:\t  12 kB\n");
        assert_eq!(both, Some(Memory { now_kib: 12.0, peak_kib: 20.0 }));
    }
}
