//! Gives memory back to the operating system when a server held much and holds little again.
//!
//! glibc keeps what was freed below the top of its heaps, for good: a server that once held hundreds of megabytes
//! keeps them. `malloc_trim` gives back every page that is wholly free (malloc_trim(3)). It keeps each heap locked
//! while it walks it, so it is called only after much was held, by the supervisor's thread, and twice: what ends slowly
//! (connections that linger, buffers of a turn) may be freed after the first time.

/// How much must have been held, or be resident and not held, for the call to be worth its cost.
const WORTH_BYTES: u64 = 32 * 1024 * 1024;

/// How many checks in a row must find little: held memory shrinks in steps, and its owners free it after that.
const CALM_LOOKS: u8 = 3;

/// The check after a trim at which it is done again.
const AGAIN_AFTER: u8 = 8;

/// Watches how much is held and how much is resident, and decides when to trim.
///
/// What was held tells most of it, but it is looked at once a second: a burst between two looks leaves memory that nobody
/// saw held. So memory that became resident since the last trim and is not held counts, too. The program's own state looks the
/// same; a trim that gives nothing back is repeated only when half as much again is resident.
#[derive(Debug, Default)]
pub(crate) struct Trim {
    /// The most that was held since the last trim.
    most: u64,
    /// Checks in a row that found less than an eighth of it.
    calm: u8,
    /// What was resident after the last trim; at first, at the first look.
    base: Option<u64>,
    /// Checks in a row that found much more resident than that, and not held.
    surplus: u8,
    /// Checks until it is done again, after a first time.
    again_in: u8,
}

impl Trim {
    /// Notes what all shards hold, and what of the process is resident if that is known. Returns whether to give memory
    /// back now; then [`trimmed`](Self::trimmed) is to be called.
    pub(crate) fn note(&mut self, held: u64, resident: Option<u64>) -> bool {
        let by_held = self.note_held(held);
        let by_resident = resident.is_some_and(|resident| self.note_resident(held, resident));
        let is_first = by_held || by_resident;
        if is_first {
            self.again_in = AGAIN_AFTER;
            return true;
        }
        let was_last = self.again_in == 1;
        self.again_in = self.again_in.saturating_sub(1);
        was_last
    }

    fn note_held(&mut self, held: u64) -> bool {
        if held > self.most / 8 {
            self.most = self.most.max(held);
            self.calm = 0;
            return false;
        }
        self.calm = self.calm.saturating_add(1);
        self.calm >= CALM_LOOKS && self.most >= WORTH_BYTES
    }

    fn note_resident(&mut self, held: u64, resident: u64) -> bool {
        let base = *self.base.get_or_insert(resident);
        let worth = WORTH_BYTES.max(base / 2);
        // A load that holds much needs the memory again.
        if resident.saturating_sub(base) < held.saturating_mul(2).saturating_add(worth) {
            self.surplus = 0;
            return false;
        }
        self.surplus = self.surplus.saturating_add(1);
        self.surplus >= CALM_LOOKS
    }

    /// Memory was given back, and so much is resident now.
    pub(crate) fn trimmed(&mut self, held: u64, resident: Option<u64>) {
        let again_in = self.again_in;
        *self = Self { most: held, calm: 0, base: resident, surplus: 0, again_in };
    }
}

/// Bytes of this process that are resident; `None` where `/proc` is not there.
pub(crate) fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(u64::try_from(rustix::param::page_size()).ok()?)
}

/// Gives all free pages of glibc's heaps back. Nothing happens with another allocator or C library.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: it takes a number, no memory; it is safe to call from any thread at any time ("MT-Safe", glibc
        // manual, 3.2.3.1), and touches only pages that no allocation owns.
        let released = unsafe { libc::malloc_trim(0) } == 1;
        tracing::debug!(released, "much memory was held; what is free goes back");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    /// Which of the looks trim, if a trim leaves what is held and 5 MiB.
    fn trims(looks: impl IntoIterator<Item = (u64, Option<u64>)>) -> Vec<usize> {
        let mut trim = Trim::default();
        let mut when = Vec::new();
        for (at, (held, resident)) in looks.into_iter().enumerate() {
            let resident = resident.map(|it| it * MIB);
            if trim.note(held * MIB, resident) {
                trim.trimmed(held * MIB, resident.map(|_| (held + 5) * MIB));
                when.push(at);
            }
        }
        when
    }

    #[test]
    fn once_after_much_was_held() {
        let held = [0, 200, 100, 26, 20, 20, 30, 20, 20, 20, 20, 0, 0, 0, 0];
        assert_eq!(trims(held.map(|held| (held, None))), [9], "three looks in a row with little");
        let long = held.into_iter().chain(std::iter::repeat_n(0, 30));
        assert_eq!(trims(long.map(|held| (held, None))), [9, 17], "and once more");
    }

    #[test]
    fn never_for_little() {
        assert!(trims((0..100).map(|at| (at % 10 / 9 * 31, None))).is_empty());
        assert!(trims((0..100).map(|at| (0, Some(5 + at % 10 / 9 * 31)))).is_empty());
    }

    #[test]
    fn for_what_was_held_between_two_looks() {
        let burst = |at: u64| (0, Some(if at < 5 { 5 } else { 50 }));
        assert_eq!(trims((0..8).map(burst)), [7]);
        // Not as long as a load holds much.
        let loaded = |at: u64| (if at < 20 { 60 } else { 1 }, Some(if at == 0 { 5 } else { 150 }));
        assert_eq!(trims((0..25).map(loaded)), [22]);
    }

    #[test]
    fn seldom_for_the_programs_own_state() {
        let mut trim = Trim::default();
        let mut count = 0;
        for mib in 0..10_000 {
            if trim.note(0, Some(mib * MIB)) {
                trim.trimmed(0, Some(mib * MIB));
                count += 1;
            }
        }
        assert!((1..=32).contains(&count), "{count} times on the way to 10 GB");
    }

    #[test]
    fn what_is_resident_is_known() {
        assert!(resident().is_some_and(|bytes| bytes > MIB));
    }
}
