//! What is measured.

pub mod clocks;
pub mod memory;
pub mod sample;
pub mod stats;
