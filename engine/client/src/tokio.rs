//! Channels whose connections belong to a task of a tokio runtime.
//!
//! One task per channel owns its sockets, its timer and its calls (`task/driver.rs`); `ClientCore` decides what they do.
//! Here is what that task has of tokio, its `Shell` (`driver.rs`, `socket.rs`, `bell.rs`). Retired connections stay in
//! the same task. While nobody polls the runtime, a thread of the process's own (`watch.rs`) ends the calls whose time is
//! over.
//!
//! `bridge.rs` is the way from a shard to the libraries of tokio.

mod bell;
pub(crate) mod bridge;
mod driver;
mod socket;
mod watch;

pub use driver::TokioOpener;
