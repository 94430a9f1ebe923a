//! What became of a thread's time: how much of it was on a CPU, and how much it waited for one.
//!
//! The kernel counts for each thread the time that it was ready to run and did not (`/proc/thread-self/schedstat`, the second
//! number): another thread had the CPU, or the control group's quota was used up. What is left of a span, neither CPU time nor such a wait,
//! the thread slept by its own doing: it blocked.
//!
//! Reading both costs about a microsecond, so it is done four times a second, and when something has held the shard; for some
//! seconds after that each millisecond ([`FINELY`]). A span lies somewhere between two readings, and what was waited in
//! between is the most that can have been waited in it.
//! Time that a hypervisor takes away is not known to the kernel of a guest in this way; there it looks like CPU time.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use crate::shard::clock::is_simulated;
use rustix::time::{ClockId, clock_gettime};

/// How old a reading may be when a poll begins that is watched.
const FINELY: Duration = Duration::from_millis(1);

/// The thread's times at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reading {
    cpu: Duration,
    /// How long it waited for a CPU; `None` where the kernel does not say.
    waited: Option<Duration>,
}

/// What a span of time was spent on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// How long it was.
    pub(crate) time: Duration,
    /// The most of it that was CPU time; `None` if that is not known.
    pub(crate) cpu: Option<Duration>,
    /// The most of it in which the thread waited for a CPU.
    pub(crate) waited: Option<Duration>,
}

impl Span {
    /// A span of which nothing else is known.
    pub(crate) fn of(time: Duration) -> Self {
        Self { time, cpu: None, waited: None }
    }

    /// A span between two readings.
    pub(crate) fn between(before: Reading, after: Reading, time: Duration) -> Self {
        let waited = before.waited.zip(after.waited);
        Self {
            time,
            cpu: Some(after.cpu.saturating_sub(before.cpu).min(time)),
            waited: waited.map(|(before, after)| after.saturating_sub(before).min(time)),
        }
    }

    /// How long the thread ran or blocked, at least: what whoever had it answers for.
    pub(crate) fn held(&self) -> Duration {
        self.time.saturating_sub(self.waited.unwrap_or_default())
    }
}

/// Reads the times of the shard's thread.
#[derive(Debug, Default)]
pub(crate) struct ThreadTime {
    /// `Some(None)` where there is none.
    schedstat: RefCell<Option<Option<File>>>,
    last: Cell<Option<Reading>>,
    /// When that was, if it was for a poll that is watched.
    read_at: Cell<Option<Instant>>,
    /// The waits that were told by [`untold_wait`](Self::untold_wait).
    told: Cell<Option<Duration>>,
}

impl ThreadTime {
    /// The times now; `None` in a simulation. To be called on the shard's thread.
    fn read(&self) -> Option<Reading> {
        if is_simulated() {
            return None;
        }
        Some(Reading { cpu: thread_cpu(), waited: self.waited() })
    }

    fn waited(&self) -> Option<Duration> {
        let mut schedstat = self.schedstat.borrow_mut();
        let file = schedstat.get_or_insert_with(|| File::open("/proc/thread-self/schedstat").ok());
        let mut text = [0; 96];
        let length = file.as_ref()?.read_at(&mut text, 0).ok()?;
        parse(text.get(..length)?)
    }

    /// What a span that ends now was spent on, as far as the last reading tells. This reading is the next one's last.
    pub(crate) fn span(&self, time: Duration) -> Span {
        let Some(now) = self.read() else { return Span::of(time) };
        match self.last.replace(Some(now)) {
            Some(before) => Span::between(before, now, time),
            None => Span::of(time),
        }
    }

    /// Reads again, if the last reading is old.
    pub(crate) fn keep_fine(&self, now: Instant) {
        let old = |at: Instant| now.saturating_duration_since(at) >= FINELY;
        if self.read_at.get().is_none_or(old) {
            self.read_at.set(Some(now));
            self.last.set(self.read());
        }
    }

    /// Reads, and returns how long the thread waited since this was last asked.
    pub(crate) fn untold_wait(&self) -> Duration {
        let Some(now) = self.read() else { return Duration::ZERO };
        self.last.set(Some(now));
        let before = self.told.replace(now.waited);
        before.zip(now.waited).map_or(Duration::ZERO, |(before, now)| now.saturating_sub(before))
    }
}

/// The CPU time of this thread, by its own clock; a system call of some 100 ns to 300 ns.
pub(crate) fn thread_cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// The second number, in nanoseconds. A kernel that does not keep it says 0 for the CPU time as well.
fn parse(text: &[u8]) -> Option<Duration> {
    let mut numbers = str::from_utf8(text).ok()?.split_ascii_whitespace();
    let cpu: u64 = numbers.next()?.parse().ok()?;
    let waited: u64 = numbers.next()?.parse().ok()?;
    (cpu > 0).then(|| Duration::from_nanos(waited))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_the_kernel_says_is_read() {
        assert_eq!(parse(b"87912 3881545 2\n"), Some(Duration::from_nanos(3_881_545)));
        for wrong in [&b""[..], b"0 0 0\n", b"12\n", b"a b c\n", b"-1 2 3\n", b"\xff 1 1"] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }

    /// Who holds the shard answers for CPU time and for sleep, and not for waiting.
    #[test]
    fn a_wait_for_a_cpu_is_nobodys_fault() {
        let before = Reading { cpu: 5 * MS, waited: Some(10 * MS) };
        let after = |cpu, waited| Reading { cpu, waited: Some(waited) };
        let burnt = Span::between(before, after(45 * MS, 12 * MS), 42 * MS);
        assert_eq!((burnt.cpu, burnt.waited, burnt.held()), (Some(40 * MS), Some(2 * MS), 40 * MS));
        let slept = Span::between(before, after(6 * MS, 10 * MS), 50 * MS);
        assert_eq!((slept.cpu, slept.held()), (Some(MS), 50 * MS));
        let lost = Span::between(before, after(7 * MS, 90 * MS), 50 * MS);
        assert_eq!((lost.waited, lost.held()), (Some(50 * MS), Duration::ZERO));
        // Without the kernel's word everything counts as held.
        let unknown = Reading { cpu: 6 * MS, waited: None };
        assert_eq!(Span::between(before, unknown, 50 * MS).held(), 50 * MS);
    }

    /// A thread that sleeps by its own doing has not waited for a CPU; one that burns has used it.
    #[test]
    fn this_threads_times_are_told_apart() {
        let times = ThreadTime::default();
        times.untold_wait();
        let begun = thread_cpu();
        while thread_cpu() - begun < 20 * MS {}
        let burnt = times.span(Duration::from_secs(60));
        assert!(burnt.cpu.unwrap() >= 20 * MS, "{burnt:?}");
        std::thread::sleep(30 * MS);
        let slept = times.span(30 * MS);
        assert!(slept.cpu.unwrap() < 20 * MS, "{slept:?}");
    }
}
