//! The clocks that a load generator reads when the measured seconds begin and end.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

use crate::measure::memory::Memory;

/// All clocks at one moment.
#[derive(Debug)]
pub struct Clocks {
    wall: Instant,
    client_cpu: TimeSpec,
    server_cpu: Option<TimeSpec>,
}

/// What was used between two moments.
#[derive(Debug, Clone, Copy)]
pub struct Used {
    /// Seconds that passed.
    pub secs: f64,
    /// CPU seconds of this process.
    pub client_cpu_s: f64,
    /// CPU seconds of the server, if there was one to look at.
    pub server_cpu_s: Option<f64>,
    /// The server's peak resident memory in MiB.
    pub server_rss_mb: Option<f64>,
}

impl Clocks {
    /// Reads the clocks of this process and of the server with that process id.
    ///
    /// # Errors
    ///
    /// When there is no such process, or a clock cannot be read.
    pub fn read(server: Option<i32>) -> Result<Self> {
        let of_server = |pid| {
            let clock = clock_getcpuclockid(Pid::from_raw(pid))
                .with_context(|| format!("there is no process {pid}"))?;
            clock.now().with_context(|| format!("cannot read the CPU clock of process {pid}"))
        };
        Ok(Self {
            wall: Instant::now(),
            client_cpu: ClockId::CLOCK_PROCESS_CPUTIME_ID
                .now()
                .context("cannot read the CPU clock")?,
            server_cpu: server.map(of_server).transpose()?,
        })
    }

    /// What was used from an earlier moment to this one; the memory is that of now.
    #[must_use]
    pub fn since(&self, before: &Self, server: Option<i32>) -> Used {
        let server_cpu = before.server_cpu.zip(self.server_cpu);
        Used {
            secs: self.wall.duration_since(before.wall).as_secs_f64(),
            client_cpu_s: seconds_between(before.client_cpu, self.client_cpu),
            server_cpu_s: server_cpu.map(|(before, after)| seconds_between(before, after)),
            server_rss_mb: server.and_then(peak_memory),
        }
    }
}

fn seconds_between(before: TimeSpec, after: TimeSpec) -> f64 {
    Duration::from(after).saturating_sub(Duration::from(before)).as_secs_f64()
}

/// The peak of a process' resident memory in MiB.
fn peak_memory(pid: i32) -> Option<f64> {
    Memory::of(pid).ok().map(|memory| memory.peak_kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_clocks_and_memory() {
        let pid = i32::try_from(std::process::id()).expect("pids are small");
        let clocks = Clocks::read(Some(pid)).expect("its own clocks can be read");
        assert!(clocks.server_cpu.is_some_and(|cpu| cpu >= clocks.client_cpu));
        assert!(peak_memory(pid).is_some_and(|mib| mib > 0.1));
        // The kernel gives out no number above 2^22.
        assert!(Clocks::read(Some(5_000_000)).is_err());
    }
}
