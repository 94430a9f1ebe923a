//! Access for the simulator and the benches.

pub mod bench_hooks;
pub mod sim;
