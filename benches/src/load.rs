//! Who makes the load, and against whom.

pub mod calls;
pub mod contender;
pub mod deadlines;
pub mod flags;
pub mod holder;
pub mod host;
pub mod in_memory;
pub mod kinds;
pub mod mixed;
pub mod pair;
pub mod process;
pub mod runner;
pub mod slow_reader;
pub mod toolbox;
pub mod workload;
