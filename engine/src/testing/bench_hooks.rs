//! Internal parts for the benchmarks of this repository, which have no other access to them. Not part of the public
//! API: they are there only with the feature `bench-hooks`, and change without notice.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use corewire_codec::{Payload, RequestHead, SendBuffer};

use crate::calls::dispatch::{Dispatch, Incoming, ReplySlot};
use crate::calls::extensions::Extensions;
use crate::calls::parked::{ParkedCalls, Polled};
use crate::net::doorbell::Doorbell;
use crate::net::io::Token;
use crate::shard::context::ShardContext;
use crate::shard::counters::ShardCounters;
use crate::shard::timers::Timers;
use corewire_proto::ShardId;

/// How a handler's first poll went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The reply is in the send buffer.
    Replied,
    /// The handler pended; it was dropped.
    Pended,
}

/// Making calls on a shard, as the driver does it for each frame: a waker, the guard against panics, the counters.
#[derive(Debug)]
pub struct InlineCalls {
    calls: ParkedCalls,
    counters: ShardCounters,
    extensions: Extensions,
}

impl InlineCalls {
    /// No call has been made yet.
    ///
    /// # Errors
    ///
    /// When the system gives no eventfd for the wakers.
    pub fn new() -> io::Result<Self> {
        let local = ShardContext::new(Arc::new(Doorbell::new()?));
        let (counters, extensions) = Default::default();
        Ok(Self { calls: ParkedCalls::new(local), counters, extensions })
    }

    /// Makes a call and polls its handler once. `frame_bytes_max` is what the peer accepts, in bytes.
    #[inline]
    pub fn begin(
        &mut self,
        dispatch: &dyn Dispatch,
        request: &RequestHead,
        payload: Payload<'_>,
        deadline: Option<Instant>,
        out: &mut SendBuffer,
        frame_bytes_max: u32,
    ) -> Outcome {
        let mut incoming = Incoming {
            request,
            payload: Some(payload),
            deadline,
            peer: corewire_client::address::Peer::Tcp(([127, 0, 0, 1], 1).into()),
            shard: ShardId(0),
            connection_id: 1,
            streams: None,
            metadata_bytes_max: 1024,
            hears_forwards: false,
            extensions: &mut self.extensions,
        };
        let mut reply = ReplySlot::new(out, request.call, frame_bytes_max);
        let (calls, token) = (&mut self.calls, Token::connection(0, 1));
        let polled = calls.begin(dispatch, &mut incoming, token, &mut reply, &self.counters);
        self.extensions.clear();
        match polled {
            Polled::Done => Outcome::Replied,
            Polled::Parked(parked) => {
                self.calls.end(parked, crate::calls::parked::Ended::Dropped, &self.counters);
                Outcome::Pended
            }
        }
    }
}

/// The shard's timers.
#[derive(Debug, Default)]
pub struct TimerHeap(Timers);

impl TimerHeap {
    /// Makes sure that a connection is due at `at` or earlier; `armed` is its note of its earliest entry.
    #[inline]
    pub fn arm(&mut self, connection: u32, at: Instant, armed: &mut Option<Instant>) {
        self.0.arm(Token::connection(connection, 1), at, armed);
    }

    /// The earliest entry.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.0.next()
    }

    /// Takes an entry whose time has come; returns its time and its connection.
    #[inline]
    pub fn pop_due(&mut self, now: Instant) -> Option<(Instant, usize)> {
        self.0.pop_due(now).map(|(at, token)| (at, token.index()))
    }
}
