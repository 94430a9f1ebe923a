//! Finds what is wrong between a host's network cards and its shards, fixes it, verifies the fix, and undoes it.
//!
//! ```text
//!            Host (a real machine, a tree of files, a machine in memory)
//!              │ read                                        ▲ write, read back
//!              ▼                                             │
//!  Snapshot ──▶ doctor::diagnose ──▶ Report        apply ──▶ Journal ──▶ undo
//!     │                                ▲             ▲
//!     └──────▶ plan::make ──▶ Plan ────┼─────────────┘
//!                                      │
//!  two samples ──▶ verify ──▶ verdict ─┘
//! ```
//!
//! Everything between reading and writing is pure, so it is tested on machines that nobody here owns. The program
//! `corewire-tune` is this library with a command line; `tuning/README.md` says how to use it.

#![forbid(unsafe_code)]

pub mod apply;
pub mod capture;
pub mod cli;
pub mod doctor;
pub mod host;
pub mod journal;
pub mod lock;
pub mod parse;
pub mod plan;
pub mod snapshot;
pub mod verify;

pub use corewire_placement as placement;
