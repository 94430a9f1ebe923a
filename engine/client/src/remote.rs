//! Channels that any thread may use, whatever drives their connections.

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
