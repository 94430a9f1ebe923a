//! Doors for the simulator and the benches.

#[cfg(all(feature = "bench-hooks", feature = "shard"))]
#[doc(hidden)]
pub mod bench_hooks;
#[cfg(feature = "sim")]
#[doc(hidden)]
pub mod sim;
