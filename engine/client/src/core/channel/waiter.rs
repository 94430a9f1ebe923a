//! Who waits for the calls of a channel, and what the core asks of them.
//!
//! The core of a channel is the same for every shell; what differs is who waits, and how they hear of an outcome:
//! through a one-shot from another thread, or in a cell on the thread that drives the connection.

use std::fmt;
use std::time::Instant;

use corewire_codec::{Encoding, FrameWriter, Limits, Payload, RequestHead, Status};

use crate::failure::NotSent;
use crate::streams::{Event, Message, Outgoing};
use crate::transport::Outcome;

/// Names a connection among those of its channel, for the shell that keeps its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionId(pub(super) u64);

/// Who waits for a call. It hears of the end once.
pub trait Waiter: fmt::Debug + Sized {
    /// A request's body while its call waits for a slot or for the connection.
    type Body: WriteBody;
    /// The driver's end of a call that streams.
    type Stream: StreamEnd;
    /// What is kept, and then dropped, for someone who waits until a closed channel has no connection left.
    type Hold: fmt::Debug;

    /// Whether the thread that waits is the one that drives the connection. It can sleep in one socket only, was away
    /// between calls, and cannot wait for what only it could bring about. So a connection whose server goes away is not
    /// [retired](super), a call that finds no slot fails at once, and none is written while a pong is awaited.
    const DRIVES: bool;

    /// Whether nobody waits any more.
    fn is_abandoned(&self) -> bool;

    /// Whether this call may be written before the server's hello, which says how large a request may be.
    fn may_precede_hello(call: &PendingCall<Self>) -> bool {
        let _ = call;
        false
    }

    /// The call is about to be written on this connection, with this id on the wire: from now on it may have run.
    fn handle_begun(&mut self, connection: ConnectionId, call: u32);

    /// The driver's end of the call's stream, if it streams.
    fn stream(&self) -> Option<&Self::Stream>;

    /// The call ended with its server's stream.
    fn end_stream(self, failure: Option<Status>);

    /// The call ended.
    fn complete(self, outcome: Outcome);
}

/// A call that is to be made. `B` is its body.
pub struct PendingCall<W: Waiter, B = <W as Waiter>::Body> {
    /// The name that cancels it and finds its stream; `None` if nobody ever refers to it by name. Unique in its
    /// channel.
    pub id: Option<u64>,
    /// Its fields; the id on the wire and the timeout are filled in when it is written.
    pub head: RequestHead,
    /// When its caller gives up.
    pub deadline: Option<Instant>,
    /// What it sends.
    pub body: B,
    /// Who waits for it.
    pub waiter: W,
}

impl<W: Waiter, B> fmt::Debug for PendingCall<W, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingCall").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A request's body, or the code that makes it.
pub trait WriteBody {
    /// Appends it to its frame.
    ///
    /// # Errors
    ///
    /// It cannot be encoded.
    fn write_to(self, frame: &mut FrameWriter<'_>) -> Result<(), NotSent>;
}

impl<F> WriteBody for F
where
    F: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status>,
{
    fn write_to(self, frame: &mut FrameWriter<'_>) -> Result<(), NotSent> {
        self(frame).map_err(|status| NotSent::Encode(status.to_string()))
    }
}

/// The driver's end of a call that streams; its caller has the other one. Clones are the same end.
pub trait StreamEnd: fmt::Debug + Clone {
    /// The call begins, with these limits of this side, on a connection whose peer takes `in_flight_max` calls.
    fn begin(&self, own: &Limits, in_flight_max: u32);

    /// What the caller's end has asked for is looked at now.
    fn take_notice(&self);

    /// Whether the caller has given the call up. One that says so in another way never returns `true` here.
    fn is_given_up(&self) -> bool {
        false
    }

    /// A message that came, as it waits for its reader.
    fn received(&self, encoding: Encoding, payload: Payload<'_>) -> Message {
        Message::received(encoding, payload)
    }

    /// Cost of messages that the reader has taken since the last call of this.
    fn take_consumed(&self) -> u32;

    /// Whether there is something to write.
    fn has_outgoing(&self) -> bool;

    /// Whether the end is all that is left to write: it needs no credit.
    fn is_ending(&self) -> bool;

    /// The next item to write.
    fn pop(&self) -> Option<Outgoing>;

    /// Puts an event into the reader's queue. Wake the reader when all events of a turn are there.
    fn push(&self, event: Event);

    /// Wakes the reader, once for all that was pushed.
    fn wake_reader(&self);

    /// Nothing more is sent, and what waits is dropped.
    fn close(&self);
}
