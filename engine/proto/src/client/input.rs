//! What a client's connection finds, and how its calls fail.

use corewire_codec::{Encoding, Forwarded, Payload, ReplyHead, StatusCode};

use crate::close::CloseReason;

/// What one step of [`ClientConnection::handle_frame`](crate::ClientConnection::handle_frame) found.
#[derive(Debug)]
pub enum ClientInput<'a, T> {
    /// No whole frame is there: receive more.
    NeedBytes,
    /// A frame was handled; call again.
    Handled,
    /// The server's hello came: its limits are known, more calls may be made, and streams that used up
    /// the credit that was assumed before may write again.
    Ready,
    /// A call is answered.
    Reply {
        /// What was kept for the call.
        work: T,
        /// How it ended.
        head: ReplyHead,
        /// Its bytes.
        payload: Payload<'a>,
    },
    /// The server's handler took a call, and its stream of results follows.
    Opened {
        /// The call; [`ClientConnection::work_mut`](crate::ClientConnection::work_mut) has what was kept for it.
        call: u32,
        /// The shard that the call was handed to, if it was not the connection's.
        forwarded: Option<Forwarded>,
        /// Its metadata and body.
        payload: Payload<'a>,
    },
    /// A message of a call's stream. When it is consumed, call
    /// [`ClientConnection::consume`](crate::ClientConnection::consume), even if its call is over by then.
    StreamData {
        /// The call; [`ClientConnection::work_mut`](crate::ClientConnection::work_mut) has what was kept for it.
        call: u32,
        /// How the message is encoded.
        encoding: Encoding,
        /// What to consume.
        cost: u32,
        /// Its bytes.
        payload: Payload<'a>,
    },
    /// A call whose results were a stream is over. It may end with a [`Reply`](Self::Reply) instead.
    StreamEnd {
        /// What was kept for the call.
        work: T,
        /// `Ok`, or how the call failed: then the payload is that of
        /// [`Status::from_body`](corewire_codec::Status::from_body).
        code: StatusCode,
        /// Metadata, and the body of a status.
        payload: Payload<'a>,
    },
    /// There is credit again, for one stream that got [`NotSent::NoCredit`](crate::NotSent) or, with
    /// `None`, for any of them.
    Writable {
        /// The call, or `None` when the connection's credit was used up.
        call: Option<u32>,
    },
    /// The server takes no new calls. Those in flight that it will not run are in
    /// [`ClientConnection::poll_refused`](crate::ClientConnection::poll_refused).
    GoAway,
    /// The connection is over; [`ClientConnection::fail_all`](crate::ClientConnection::fail_all) has the calls that went with it.
    Closed(CloseReason),
}

/// No call can be made now: all slots are taken, or the connection takes no more calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSlot {
    /// As many calls are in flight as the server accepts. A reply makes room.
    Full,
    /// The server is going away, or the connection is over.
    Closed,
}

/// A call whose deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired<T> {
    /// What was kept for the call.
    pub work: T,
    /// Whether a byte of its request was written, so that the server may run it.
    pub sent: bool,
}

/// A call that ended with its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallsFailed<T> {
    /// What was kept for the call.
    pub work: T,
    /// Whether the server may have run it.
    pub may_have_run: bool,
}
