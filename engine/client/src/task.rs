//! Channels that one task drives, whatever runtime the task is of.
//!
//! [`Driver`] turns a channel's `ClientCore` into a future. What it needs of a runtime is a [`Shell`](shell::Shell): sockets, a clock,
//! a bell, other tasks. There are two shells: tokio's (`tokio/`), and the simulator's, which is its own crate
//! and comes in through `testing.rs`.

mod driver;
mod late;
pub(crate) mod shell;

pub(crate) use driver::Driver;
