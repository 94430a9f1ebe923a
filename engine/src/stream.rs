//! The streams of a shard's calls, and their way through a connection.
//!
//! ```text
//!  reader ◀─ inbox ◀── frames ◀─┐              a StreamCell for each call, shared by both sides;
//!    │ consumed, stopped        │ connection's the connection's turn looks at those that the
//!    ▼                          │ turn         shard's context says want something
//!  context ──▶ StreamQueue ─────┘              at a client the core of the channel, to which the
//!    ▲ new messages, the end, given up          cell is a CoreEnd, stands for the queue
//!  writer ─▶ outbox ─▶ in turns, by credit ─▶ send buffer
//! ```
//!
//! A writer encodes each message into the outbox (one allocation per message; bodies of 4 KiB and more that
//! are `Bytes` are not copied), and waits while 32 KiB are there. The connection moves messages on as
//! credit and the unsent budget allow, 16 KiB of a stream at a time. What a reader takes out is granted
//! again in the connection's next turn.
//!
//! All streams of a connection write 256 KiB in a turn at most, and only while less than a quarter of the unsent
//! budget (at a client: 256 KiB) waits for the socket. So replies are never far behind, and reading is never paused for a stream. Streams
//! without credit leave the queue until the peer grants more. A stalled stream costs its window at the receiver and
//! its outbox at the sender, and nobody else's time. Received messages of less than 64 KiB are copied out of the
//! receive buffer; larger ones are slices.
//!
//! A handler's stream is driven by its parked call: once the handler has returned a `Streaming`, polls go to that,
//! and the connection ends the call when the last message is written. A client's stream is a task of the shard,
//! separate from its call. Whatever ends a call (a reply, a deadline, a cancel, the connection) closes its cell,
//! and both ends learn of it there. A stream has no deadline unless its client asked for one.

mod cell;
mod client;
mod ends;
mod queue;
mod relay;
#[cfg(test)]
mod tests;

pub use ends::{StreamCall, StreamEnds, StreamReader, StreamWriter};
pub(crate) use {
    cell::{Side, StreamArrivals, StreamCell},
    client::CoreEnd,
    queue::StreamQueue,
    relay::{Relay, Relayed},
};

/// Messages below this are copied out of the shared receive buffer. The peer may be anybody, so what waits in an
/// inbox keeps at most twice as much alive as it counts.
const INBOX_COPY_BELOW: usize = 64 * 1024;
