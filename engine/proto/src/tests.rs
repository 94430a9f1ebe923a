//! Pair tests: two connections joined by in-memory queues under a virtual clock.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "a virtual clock must begin somewhere")]

mod calls;
mod drain;
mod hello;
mod misbehaviour;
mod model;
mod pair;
mod silence;
