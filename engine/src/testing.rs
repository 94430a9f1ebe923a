//! Doors for the simulator and the benches.

#[cfg(feature = "bench-hooks")]
pub mod bench_hooks;
#[cfg(feature = "sim")]
pub mod sim;
