//! What the commands of this package share: workloads, contenders, running them in turn, and reporting the results.
//!
//! A *contender* is an echo server with the client that loads it: the C floor, Corewire, a peer. The [`load::runner`] starts
//! each one pinned to its own core, in interleaved rounds, and keeps one [`measure::sample::Sample`] of every run. [`report::results`]
//! reduces the samples to medians and to ratios *within a round*, [`report::bars`] compares those with what Corewire promises,
//! and [`report`] prints them. `benches/README.md` explains the method.

pub mod load;
pub mod measure;
pub mod report;
