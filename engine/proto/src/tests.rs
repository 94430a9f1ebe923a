//! Pair tests: two connections joined by in-memory queues under a virtual clock.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "a virtual clock must begin somewhere")]

mod age;
mod away;
mod calls;
mod credit;
mod drain;
mod finish;
mod flow;
mod hello;
mod idle;
mod misbehaviour;
mod model;
mod one_way;
mod pair;
mod refusal;
mod retract;
mod silence;
mod streams;
