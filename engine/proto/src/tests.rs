//! Pair tests: two connections joined by in-memory queues under a virtual clock.
#![allow(clippy::unwrap_used, reason = "tests")]

mod calls;
mod drain;
mod hello;
mod misbehaviour;
mod model;
mod pair;
mod silence;
