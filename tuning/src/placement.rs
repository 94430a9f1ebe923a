//! Which shard runs on which CPU and is fed by which queue of which card.
//!
//! The engine and the tuning tool must not disagree about placement, so it is written down: the tool writes a
//! [`Placement`] as `placement.toml` and judges a host against it, and [`derive()`] makes one where there is none. The
//! engine gets its CPUs from `--cores` or `Placement::Cpus`. The module depends on nothing else in the tool (no host,
//! no doctor), so that it can become its own crate by moving the folder.
//!
//! ```
//! use corewire_tune::placement::{CpuSet, Options, Topology, derive};
//!
//! let allowed: CpuSet = "0-3,8".parse().expect("a CPU list");
//! let topology = Topology::flat(&allowed);
//! let placement = derive(&topology, &[], &Options::default()).expect("there are CPUs");
//! assert_eq!(placement.shard_cpus().to_string(), "0-3,8");
//! ```

mod cpu_set;
mod derive;
mod file;
mod layout;

pub use cpu_set::{CpuOrder, CpuSet, CpuSetError};
pub use derive::{CpuPlace, DeriveError, Options, QueueLimits, Topology, derive};
pub use file::{Placement, PlacementError, QueueMap, Shard};
pub use layout::Layout;
