//! Channels that their caller's thread drives, on std alone.

mod channel;
mod connect;
mod ending;
mod link;
mod streams;

pub use channel::Channel;
pub use streams::{StreamCall, StreamReader, StreamWriter};
