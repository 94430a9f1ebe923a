//! Streams of calls on a shard: their ends for the layer above, and their way through a connection.
//!
//! ```text
//!  reader ◀─ inbox ◀── frames ◀─┐              a StreamCell for each call, shared by both sides;
//!    │ consumed, stopped        │ connection's the connection's turn looks at those that the
//!    ▼                          │ turn         mailbox (local.rs) says want something
//!  mailbox ──▶ StreamQueue ─────┘
//!    ▲ new messages, the end, given up
//!  writer ─▶ outbox ─▶ in turns, by credit ─▶ send buffer
//! ```
//!
//! A writer encodes each message into the outbox (one allocation a message; bodies of 4 KiB and more that
//! are `Bytes` are not copied), and waits when 32 KiB are there. The connection moves messages on as
//! credit and the unsent budget allow, 16 KiB of a stream at a time. What a reader takes out is granted
//! again in the connection's next turn.

mod cell;
mod queue;

use bytes::Bytes;
use corewire_codec::{EncodedBody, Encoding, Status};
use corewire_proto::StreamKind;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::transport::Outcome;

pub(crate) use cell::{Side, StreamCell};
pub(crate) use queue::StreamQueue;

/// One message of a stream, as it came.
#[derive(Clone, Debug)]
pub struct Message {
    /// How it is encoded.
    pub encoding: Encoding,
    /// Its bytes; from 16 KiB on a slice of what was received, which keeps a receive buffer alive.
    pub body: Bytes,
}

/// Why a stream of messages ended early.
#[derive(Debug)]
pub enum StreamFailure {
    /// The other end said why it stopped.
    Status(Status),
    /// The call ended in this way before its stream did.
    Call(Outcome),
}

/// Nothing more can be sent: the call is over, or the stream was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

/// The end of a stream that messages are read from.
///
/// Dropping it says that nobody reads any more. A client's call is given up with it; a server's goes on,
/// and what still comes for it is dropped.
#[derive(Debug)]
pub struct StreamReader(Rc<StreamCell>);

impl StreamReader {
    /// The next message, `None` behind the last. A failure is the last item. Cancel-safe: a message
    /// stays until it is answered.
    pub fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Message, StreamFailure>>> {
        self.0.poll_next(context)
    }
}

impl Drop for StreamReader {
    fn drop(&mut self) {
        self.0.drop_reader();
    }
}

/// The end of a stream that messages are written to.
///
/// Dropping it without [`end`](Self::end) ends the stream as cancelled.
#[derive(Debug)]
pub struct StreamWriter(Rc<StreamCell>);

impl StreamWriter {
    /// Waits until the stream takes another message: until its outbox has room, which credit and the
    /// socket empty.
    ///
    /// # Errors
    ///
    /// Nothing more can be sent.
    pub fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        self.0.poll_ready(context)
    }

    /// Has the task woken when the stream takes no more messages, for one that waits elsewhere.
    pub fn watch(&self, context: &mut Context<'_>) {
        self.0.watch(context);
    }

    /// Gives the stream a message. It is taken also when there is no room, so ask before.
    pub fn send(&mut self, encoding: Encoding, body: EncodedBody) {
        self.0.send(encoding, body);
    }

    /// Says that the handler took the call, before its first message. Only a server does.
    pub fn accept(&mut self) {
        self.0.accept();
    }

    /// Ends the stream behind its last message, with the status that stopped it if one did.
    pub fn end(&mut self, failure: Option<Status>) {
        self.0.end(failure);
    }

    /// Waits until the end is written, or nothing more can be sent.
    pub fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.0.poll_ended(context)
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        self.0.end(Some(Status::cancelled("the stream's sender was dropped before its end")));
    }
}

/// A server's ends of a call's streams.
#[derive(Debug)]
pub struct StreamEnds {
    /// What the client sends, if it sends a stream.
    pub reader: Option<StreamReader>,
    /// What the server sends, if it sends a stream.
    pub writer: Option<StreamWriter>,
}

impl StreamEnds {
    pub(crate) fn new(kind: StreamKind, cell: &Rc<StreamCell>) -> Self {
        Self {
            reader: kind.client_sends().then(|| StreamReader(Rc::clone(cell))),
            writer: kind.server_sends().then(|| StreamWriter(Rc::clone(cell))),
        }
    }
}

/// A client's call that streams. Dropping it gives the call up.
#[derive(Debug)]
pub struct StreamCall(Option<Rc<StreamCell>>);

impl StreamCall {
    /// The call, and the writer if the client sends.
    pub(crate) fn new(kind: StreamKind, cell: Rc<StreamCell>) -> (Self, Option<StreamWriter>) {
        let writer = kind.client_sends().then(|| StreamWriter(Rc::clone(&cell)));
        (Self(Some(cell)), writer)
    }

    /// Waits until the server's handler has answered with a stream: until its opening, its first
    /// message or its end comes.
    ///
    /// # Errors
    ///
    /// How the call ended before.
    pub fn poll_opened(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Outcome>> {
        match &self.0 {
            Some(cell) => cell.poll_opened(context),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Waits for the reply of a call of which only the client streams.
    pub fn poll_outcome(&mut self, context: &mut Context<'_>) -> Poll<Outcome> {
        match &self.0 {
            Some(cell) => cell.poll_outcome(context),
            None => Poll::Pending,
        }
    }

    /// What the server sends.
    #[must_use]
    pub fn into_reader(mut self) -> Option<StreamReader> {
        self.0.take().map(StreamReader)
    }
}

impl Drop for StreamCall {
    fn drop(&mut self) {
        // Messages may have come before anybody asked for them: their credit goes back, too.
        if let Some(cell) = &self.0 {
            cell.drop_reader();
        }
    }
}

#[cfg(test)]
mod tests;
