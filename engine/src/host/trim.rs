//! Gives memory back to the operating system when a server held much and holds little again.
//!
//! glibc keeps what was freed below the top of its heaps, for good: a server that once held hundreds of megabytes
//! keeps them. `malloc_trim` gives back every page that is wholly free (malloc_trim(3)). It keeps each heap locked
//! while it walks it, so it is called only after much was held, by the supervisor's thread, and once.

/// How much must have been held for the call to be worth its cost.
const WORTH_BYTES: u64 = 32 * 1024 * 1024;

/// How many checks in a row must find little: held memory shrinks in steps, and its owners free it after that.
const CALM_LOOKS: u8 = 3;

/// Watches how much is held, and decides when to trim.
#[derive(Debug, Default)]
pub(crate) struct Trim {
    /// The most that was held since the last trim.
    most: u64,
    /// Checks in a row that found less than an eighth of it.
    calm: u8,
}

impl Trim {
    /// Notes what all shards hold. Returns whether to give memory back now.
    pub(crate) fn note(&mut self, held: u64) -> bool {
        if held > self.most / 8 {
            self.most = self.most.max(held);
            self.calm = 0;
            return false;
        }
        self.calm += 1;
        if self.calm < CALM_LOOKS {
            return false;
        }
        let is_worth = self.most >= WORTH_BYTES;
        *self = Self { most: held, calm: 0 };
        is_worth
    }
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

    #[test]
    fn once_after_much_was_held() {
        let mut trim = Trim::default();
        let says: Vec<bool> = [0, 200, 100, 26, 20, 20, 30, 20, 20, 20, 20, 0, 0, 0, 0]
            .into_iter()
            .map(|held| trim.note(held * MIB))
            .collect();
        let when: Vec<usize> =
            says.iter().enumerate().filter_map(|(at, says)| says.then_some(at)).collect();
        assert_eq!(when, [9], "after three looks in a row with little: {says:?}");
    }

    #[test]
    fn never_for_little() {
        let mut trim = Trim::default();
        assert!((0..100_u64).all(|at| !trim.note(at % 10 / 9 * 31 * MIB)));
    }
}
