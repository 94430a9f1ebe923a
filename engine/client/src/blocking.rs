//! Channels that their caller's thread drives, on std alone.

mod cell;
mod channel;
mod client;
mod connect;
mod connecting;
mod ending;
mod link;
mod streams;
mod work;

pub use channel::Channel;
pub use streams::{StreamCall, StreamReader, StreamWriter};
