//! What the commands of this package share: workloads, contenders, running them in turn, and saying what came out.
//!
//! A *contender* is an echo server with the client that loads it: the C floor, Corewire, a peer. The [`runner`] starts
//! each one pinned to its own core, in interleaved rounds, and keeps one [`sample::Sample`] of every run. [`results`]
//! reduces the samples to medians and to ratios *within a round*, [`bars`] compares those with what Corewire promises,
//! and [`report`] prints them. `benches/README.md` explains the method.

pub mod bars;
pub mod callgrind;
pub mod calls;
pub mod cli;
pub mod clocks;
pub mod contender;
pub mod deadlines;
pub mod flags;
pub mod holder;
pub mod host;
pub mod in_memory;
pub mod instructions;
pub mod memory;
pub mod mixed;
pub mod pair;
pub mod plot;
pub mod process;
pub mod report;
pub mod results;
pub mod runner;
pub mod sample;
pub mod slow_reader;
pub mod spin;
pub mod stats;
pub mod toolbox;
pub mod workload;
