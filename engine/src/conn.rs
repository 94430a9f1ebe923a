//! One connection and its turn, on either side.
//!
//! A turn reads, handles frames, and writes once. Everything that gathered goes out in one send, or in one vectored
//! send if large bodies wait. A write comes first and is not asked for: only after a send met a full socket does
//! the connection wait for the kernel to report room.
//!
//! # Memory
//!
//! An idle connection has an entry in the driver's table, its `ServerConn`, an entry in the timer heap, and what
//! the kernel keeps for a socket; no buffer. Receive buffers are lent for a turn, and so is one send buffer: only a
//! connection with unsent bytes or a partial frame owns memory. A pending call adds a table entry and its future. A
//! body that a handler keeps as `Bytes` is a slice of the receive buffer and keeps all 132 KiB of it, or up to
//! twice its own size if it is larger: copy what is to live long. `docs/PERFORMANCE.md` has figures.
//!
//! # How a server's connection ends
//!
//! - **The peer breaks a rule.** It gets a go-away with the rule's number. The connection lingers for up to a
//!   second, so that the go-away is read before the reset. Nobody else notices.
//! - **The client goes.** Its pending handlers are dropped. A client that has only ended its sending side still
//!   gets its replies (REQ-79); a ping finds out which of the two it is.
//! - **The server drains.** The connection gets a go-away with the number of requests that were taken. Those are
//!   finished; later ones are refused as not run. A connection without calls is closed by its client, or after a
//!   second. What is left at the deadline is stopped, its callers get `Unavailable`, and the connection closes, at
//!   the latest a second later.
//! - **Time.** A connection that is due is received from first, and judged then; see `keep_alive.rs` of
//!   `corewire-proto`.
//!
//! How a client's connections end: `ClientCore` of `corewire-client`.

pub(crate) mod client;
pub(crate) mod dial;
pub(crate) mod run_queue;
pub(crate) mod server;
pub(crate) mod turn;
