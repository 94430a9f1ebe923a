//! The current time, where the time of the driver's turn is not exact enough.

use std::time::Instant;

pub(crate) use here::{clock, is_simulated, set_clock};

/// The time: [`Instant::now`], but virtual in a simulation (`corewire::testing`). Code that compares times, and is to be
/// tested there, asks this.
///
/// ```
/// # use corewire_engine as corewire;
/// let before = corewire::now();
/// assert!(corewire::now() >= before);
/// ```
#[inline]
#[must_use]
pub fn now() -> Instant {
    clock()
}

#[cfg(not(feature = "sim"))]
mod here {
    use std::time::Instant;

    #[inline]
    pub(crate) fn clock() -> Instant {
        Instant::now()
    }

    /// Whether this thread runs a simulation.
    #[inline]
    pub(crate) fn is_simulated() -> bool {
        false
    }

    /// Only a build for simulations can set it.
    pub(crate) fn set_clock(_: Option<Instant>) -> Option<Instant> {
        None
    }
}

/// A simulated shard has its own time, and a simulation runs all its shards on one thread.
#[cfg(feature = "sim")]
mod here {
    use std::cell::Cell;
    use std::time::Instant;

    thread_local! {
        static VIRTUAL: Cell<Option<Instant>> = const { Cell::new(None) };
    }

    #[inline]
    pub(crate) fn clock() -> Instant {
        VIRTUAL.get().unwrap_or_else(Instant::now)
    }

    /// Whether this thread runs a simulation.
    #[inline]
    pub(crate) fn is_simulated() -> bool {
        VIRTUAL.get().is_some()
    }

    /// Sets this thread's simulated time, or with `None` goes back to the real one. Returns what was set before.
    pub(crate) fn set_clock(now: Option<Instant>) -> Option<Instant> {
        VIRTUAL.replace(now)
    }
}
