//! Seeds for what a shard leaves to chance, such as the back-off of its channels.

pub(crate) use here::{seed, set_chance};

/// A number that differs from call to call and from run to run; in a simulation it follows from the simulation's seed.
#[must_use]
pub fn random_seed() -> u64 {
    seed()
}

#[cfg(not(feature = "sim"))]
mod here {
    pub(crate) fn seed() -> u64 {
        corewire_client::reconnect::random_seed()
    }

    /// Only a build for simulations can set it.
    pub(crate) fn set_chance(_: Option<u64>) -> Option<u64> {
        None
    }
}

/// In a simulation all chance follows from the simulation's seed.
#[cfg(feature = "sim")]
mod here {
    use corewire_client::reconnect::random_seed;
    use std::cell::Cell;

    thread_local! {
        static NEXT: Cell<Option<u64>> = const { Cell::new(None) };
    }

    pub(crate) fn seed() -> u64 {
        let Some(state) = NEXT.get() else { return random_seed() };
        // SplitMix64 (Steele, Lea, Flood 2014).
        let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        NEXT.set(Some(state));
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Sets what this thread draws next, or with `None` goes back to the system's seeds. Returns what was set before.
    pub(crate) fn set_chance(next: Option<u64>) -> Option<u64> {
        NEXT.replace(next)
    }
}
