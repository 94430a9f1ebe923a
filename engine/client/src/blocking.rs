//! Channels that their caller's thread drives, on std alone.
//!
//! A channel carries one unary call at a time, plus any number of streams, and uses the socket's timeouts for
//! deadlines. Before each call it looks at what arrived meanwhile and at its clocks, so that it notices a server
//! that has left before it sends anything. On a channel of this kind a callback runs before `then` returns.
//!
//! When a server goes away, the connection is closed once the streams are finished; new calls fail as not sent
//! until then. `close` does not wait for open streams, which only the thread that closes could read: the connection
//! ends with the last of them. Dropping a stream whose cancel the socket does not take blocks the thread for up to
//! 100 ms.

mod channel;
mod client;
mod link;
mod streams;
mod system;
#[cfg(test)]
mod tests;
mod waiter;

pub use channel::Channel;
pub use streams::{StreamCall, StreamReader, StreamWriter};
#[cfg(feature = "sim")]
#[doc(hidden)]
pub mod testing;
