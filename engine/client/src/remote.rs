//! Channels that any thread may use, whatever drives their connections.
//!
//! A request is encoded where the call is made and handed over through a queue of at most 65,536 calls and
//! `ChannelConfig::queued_max` bytes; one more fails at once with `QueueFull`. The driver is woken once for all
//! calls that wait. The outcome returns through a one-shot channel, or a callback runs on the driver's thread.
//! Dropping a call sends its id after it, and the driver cancels it.
//!
//! `wait()` is refused (`WouldBlock`) on a shard's thread, and for a channel of tokio on a thread that belongs to a
//! tokio runtime, because the connection may need that thread.

pub(crate) mod backlog;
pub(crate) mod channel;
mod closing;
pub mod command;
mod dialing;
pub mod mailbox;
pub mod pipe;
mod queue;
mod streams;

pub use backlog::Body;
pub use channel::SharedChannel;
pub use closing::Closing;
pub use dialing::{Dialing, dial};
pub use queue::{QueueReceiver, QueueSender, queue};
pub use streams::{SharedStreamCall, SharedStreamReader, SharedStreamWriter};
