//! CPU time and memory of processes, from their own clocks.

use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// A process whose CPU time can be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    clock: ClockId,
    pid: Option<i32>,
}

impl Process {
    /// This process.
    pub(crate) fn own() -> Self {
        Self { clock: ClockId::CLOCK_PROCESS_CPUTIME_ID, pid: None }
    }

    /// Another process on this machine.
    pub(crate) fn other(pid: i32) -> Result<Self, String> {
        let absent = |why: &dyn std::fmt::Display| {
            format!(
                "--server-pid is {pid}, and no such process is on this machine ({why}); give the server's process id, or leave the flag out"
            )
        };
        // The C library packs the id into a clock's number and does not notice when it does not fit,
        // so that another process's clock could be read.
        if pid < 1 || !Path::new(&format!("/proc/{pid}")).exists() {
            return Err(absent(&"it is not in /proc"));
        }
        let clock = clock_getcpuclockid(Pid::from_raw(pid)).map_err(|error| absent(&error))?;
        Ok(Self { clock, pid: Some(pid) })
    }

    /// CPU time of all its threads since it started.
    pub(crate) fn cpu_time(self) -> Result<Duration, String> {
        let time = clock_gettime(self.clock);
        time.map(Duration::from)
            .map_err(|error| format!("the server's process has ended ({error})"))
    }

    /// The most memory it ever had in use, in MiB.
    pub(crate) fn peak_rss_mib(self) -> Result<f64, String> {
        let pid = self.pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
        let status = fs::read_to_string(format!("/proc/{pid}/status"))
            .map_err(|error| format!("the server's process has ended ({error})"))?;
        let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib =
            kib.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u32>().ok());
        let kib = kib.ok_or("the kernel does not tell the server's peak memory")?;
        Ok(f64::from(kib) / 1024.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_time_passes_and_memory_is_used() {
        let own = Process::own();
        let before = own.cpu_time().expect("the clock is there");
        while own.cpu_time().expect("the clock is there") == before {
            std::hint::black_box(vec![0u8; 4096]);
        }
        assert!(own.peak_rss_mib().expect("/proc is there") > 0.1);
    }

    #[test]
    fn a_process_that_is_not_there_is_named() {
        for pid in [i32::MAX, 0, -1] {
            let error = Process::other(pid).expect_err("no process has this id");
            assert!(error.contains(&pid.to_string()), "{error}");
        }
    }
}
