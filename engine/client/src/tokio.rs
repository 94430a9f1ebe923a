//! Channels whose connections are tasks of a tokio runtime.

mod bell;
mod driver;
mod ending;
mod late;
mod streams;
mod watch;
