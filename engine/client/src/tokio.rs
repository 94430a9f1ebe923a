//! Channels whose connections belong to a task of a tokio runtime.

mod bell;
mod driver;
mod late;
mod socket;
mod watch;
