//! The two ends of a stream call, for the layer above, whatever drives the connection.
//!
//! Each kind of channel has its own types for them, which implement [`ReadMessages`], [`WriteMessages`] and
//! [`StreamHandle`].

use bytes::Bytes;
use corewire_codec::{EncodedBody, Encoding, Extras, Forwarded, Payload, Status, StatusCode};
use std::fmt;
use std::task::{Context, Poll};

use crate::transport::Outcome;

/// Bytes that may wait in a stream's outbox for credit or for the socket; one more message may be added.
/// Small, so that a thousand stalled streams hold megabytes and not gigabytes.
pub const OUTBOX_BYTES: usize = 32 * 1024;

/// Messages below this are copied out of the shared receive buffer: a small one that waits must not
/// keep 128 KiB alive.
const COPY_BELOW: usize = 16 * 1024;

/// Consumed bytes that are reported to the connection while more messages wait; the rest is reported when
/// none is left.
pub const CONSUMED_BYTES: u32 = 32 * 1024;

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

/// What came with the opening of a server's stream, if anything did.
pub type Opening = Option<Box<Opened>>;

/// What may come with the opening of a server's stream.
#[derive(Clone, Debug, Default)]
pub struct Opened {
    /// Its metadata.
    pub extras: Extras,
    /// The shard that the call was handed to, if it was not the connection's.
    pub forwarded: Option<Forwarded>,
}

/// What arrives for a stream's caller, in this order.
#[derive(Debug)]
pub enum Event {
    /// The server's handler took the call.
    Opened(Opening),
    /// A message, and what it costs.
    Message(Message, u32),
    /// The end of the server's stream, with the status that stopped it if one did. Nothing follows.
    End(Option<Status>),
    /// How the call ended, if not by the end of its stream. Nothing follows.
    Outcome(Outcome),
}

/// What a caller's stream sends.
#[derive(Debug)]
pub enum Outgoing {
    /// A message.
    Message(Encoding, EncodedBody),
    /// The end of this side's half.
    End(Option<Status>),
}

/// The end of a stream that messages are read from. Dropping a client's gives the call up.
pub trait ReadMessages: fmt::Debug + 'static {
    /// The next message, `None` after the last. A failure is the last item. Cancel-safe: a message stays
    /// until it is returned.
    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Message, StreamFailure>>>;
}

/// The end of a stream that messages are written to. Dropping it without [`end`](Self::end) ends the
/// stream as cancelled.
pub trait WriteMessages: fmt::Debug + 'static {
    /// Waits until the stream takes another message.
    ///
    /// # Errors
    ///
    /// Nothing more can be sent.
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Closed>>;

    /// Has the task woken when the stream takes no more messages, for a task that waits elsewhere.
    fn watch(&self, context: &mut Context<'_>);

    /// Gives the stream a message. It is taken even when there is no room, so call `poll_ready` first.
    fn send(&mut self, encoding: Encoding, body: EncodedBody);

    /// Ends the stream after its last message, with the status that stopped it if one did.
    fn end(&mut self, failure: Option<Status>);

    /// Waits until the end is written, or nothing more can be sent.
    fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<()>;
}

/// A client's streaming call. Dropping it gives the call up.
pub trait StreamHandle: fmt::Debug + Unpin + 'static {
    /// What the server's stream is read from.
    type Reader: ReadMessages;

    /// Waits until the server's handler has answered with a stream: until its opening, its first
    /// message or its end comes. Returns what came with the opening, once.
    ///
    /// # Errors
    ///
    /// How the call ended, if it ended before that.
    fn poll_opened(&mut self, context: &mut Context<'_>) -> Poll<Result<Opening, Outcome>>;

    /// Waits for the reply of a call in which only the client streams.
    fn poll_outcome(&mut self, context: &mut Context<'_>) -> Poll<Outcome>;

    /// What the server sends.
    fn into_reader(self) -> Option<Self::Reader>;
}

impl Message {
    /// A message that is to wait for its reader.
    pub fn received(encoding: Encoding, payload: Payload<'_>) -> Self {
        Self::received_below(encoding, payload, COPY_BELOW)
    }

    /// A message that is to wait for its reader; it is copied if it has fewer bytes than `copy_below`.
    pub fn received_below(encoding: Encoding, payload: Payload<'_>, copy_below: usize) -> Self {
        let body = if payload.body().len() < copy_below {
            Bytes::copy_from_slice(payload.body())
        } else {
            payload.into_body()
        };
        Self { encoding, body }
    }
}

/// The status with which a peer ended its stream; `None` is the ordinary end. It is copied out of the
/// buffer because it may wait long.
pub fn end_status(code: StatusCode, payload: &Payload<'_>) -> Option<Status> {
    match code {
        StatusCode::Ok => None,
        code => Some(Status::from_body(code, &Bytes::copy_from_slice(payload.body()))),
    }
}

/// What came with an opening.
pub fn opening(forwarded: Option<Forwarded>, payload: Payload<'_>) -> Opening {
    let (_, extras) = payload.into_parts();
    let says_more = forwarded.is_some() || !extras.is_empty();
    says_more.then(|| Box::new(Opened { extras, forwarded }))
}
