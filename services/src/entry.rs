//! What the attributes `#[corewire::main]` and `#[corewire::test]` make of a function. The macro's code calls it.

use corewire_engine::{ClientShard, run_on_shard};
use std::future::Future;

/// Runs `main` on a shard. A shard that cannot start ends the process with code 1.
pub fn main<F>(shard: ClientShard, main: impl FnOnce() -> F) -> F::Output
where
    F: Future + 'static,
{
    run_on_shard(shard, main).unwrap_or_else(|error| {
        eprintln!("error: {error}");
        std::process::exit(1)
    })
}

/// Runs a test on a shard of its own, with real sockets and real time.
///
/// # Panics
///
/// The shard cannot start.
#[allow(clippy::panic, reason = "it fails a test")]
pub fn test<F>(test: impl FnOnce() -> F) -> F::Output
where
    F: Future + 'static,
{
    run_on_shard(ClientShard::default(), test)
        .unwrap_or_else(|error| panic!("the test has no shard to run on: {error}"))
}

/// Runs a test in a simulation, with this many seeds.
///
/// # Panics
///
/// The first seed that fails.
#[cfg(feature = "testing")]
#[allow(clippy::panic, reason = "it fails a test")]
pub fn simulated<F>(seeds: u64, test: impl Fn(crate::testing::Simulation) -> F) -> F::Output
where
    F: Future + 'static,
    F::Output: crate::testing::TestOutcome + 'static,
{
    crate::testing::Simulation::last_of_seeds(0..seeds, test)
        .unwrap_or_else(|| panic!("no seed was run: COREWIRE_SEEDS is 0"))
}
