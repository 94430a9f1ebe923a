//! Which CPUs there are, which of them get shards, and which are left to interrupts and everything else.
//!
//! The engine and the tuning tool must not disagree about placement, so both have it from here, and this crate knows neither.
//!
//! ```text
//!  Files (this host, a copied tree, a capture)
//!    │ read
//!    ▼
//!  Facts ──────────────┐                        Topology, cards, Options
//!  Policy (`split:2`) ─┴─▶ Choice ─▶ Report               │ derive()
//!                            ▲                            ▼
//!                            └───── placement.toml ◀── Placement
//! ```
//!
//! [`Facts`] are read from a [`Files`]. A [`Policy`] is what the operator wants, as text; [`Policy::choose`] finds the CPUs.
//! [`derive()`] is the rule where none are named: one shard for each physical core, on the nodes of the cards. The tool
//! writes what it makes as `placement.toml` ([`Placement`]), which the policy `file:` reads.
//!
//! ```
//! use corewire_placement::{CpuSet, Options, Topology, derive};
//!
//! let allowed: CpuSet = "0-3,8".parse().expect("a CPU list");
//! let topology = Topology::flat(&allowed);
//! let placement = derive(&topology, &[], &Options::default()).expect("there are CPUs");
//! assert_eq!(placement.shard_cpus().to_string(), "0-3,8");
//! ```
#![forbid(unsafe_code)]

mod cgroup;
mod choose;
mod cpu_set;
mod derive;
mod facts;
mod file;
mod files;
mod layout;
mod policy;
mod report;

pub use choose::{Choice, ChooseError};
pub use cpu_set::{CpuOrder, CpuSet, CpuSetError};
pub use derive::{CpuPlace, DeriveError, Options, QueueLimits, Topology, derive};
pub use facts::{Facts, FactsError};
pub use file::{Placement, PlacementError, QueueMap, Shard};
pub use files::{Files, Root};
pub use layout::Layout;
pub use policy::Policy;
pub use report::{CpuLine, Report};
