//! Access for simulations and the benches.

pub mod bench_hooks;
pub mod sim;
