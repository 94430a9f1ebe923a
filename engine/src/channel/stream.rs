//! Calls that stream, over a shard's channel.

use corewire_client::failure::CallFailure;
use corewire_codec::{FrameWriter, RequestHead};
use corewire_proto::{CloseReason, StreamKind};
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use super::Channel;
use super::begin::Encoder;
use super::caller::Caller;
use super::driven::Wants;
use crate::stream::{CoreEnd, StreamCall, StreamCell, StreamWriter};

impl Channel {
    /// Makes a call that streams; waits for the connection and for a slot, as [`call`](Self::call) does,
    /// and returns when the request is written. The writer is `Some` if the client sends.
    ///
    /// Dropping the future, or what it returns, cancels the call on the server.
    ///
    /// # Errors
    ///
    /// Why nothing was sent.
    #[doc(hidden)]
    pub async fn stream<E, F>(
        &self,
        kind: StreamKind,
        mut head: RequestHead,
        timeout: Option<Duration>,
        encode: F,
    ) -> Result<(StreamCall, Option<StreamWriter>), CallFailure>
    where
        E: std::fmt::Display,
        F: FnOnce(&mut FrameWriter<'_>) -> Result<(), E>,
    {
        let now = self.driven().shard.now();
        head.flags |= kind.request_flags();
        let name = self.next_stream();
        let halves = (kind.server_sends(), kind.client_sends());
        let arrivals = Rc::clone(self.arrivals());
        let current = Rc::clone(self.driven().current());
        let cell = StreamCell::of_client(arrivals, name, current, halves);
        // Dropped after the ends, which give the call up.
        let unwritten = Unwritten { channel: self, cell: &cell };
        let ends = StreamCall::new(kind, Rc::clone(&cell));
        let waiter = Caller::Stream(CoreEnd(Rc::clone(&cell)));
        let mut encode = Some(encode);
        let body = Encoder(&mut encode);
        self.begin(Some(name), &mut head, timeout, body, waiter, now);
        let written = poll_fn(|context| cell.poll_written(context)).await;
        drop(unwritten);
        match written {
            Ok(()) => Ok(ends),
            Err(Err(failure)) => Err(failure),
            // There is no reply to what was not written.
            Err(Ok(_)) => Err(CallFailure::Unknown(CloseReason::LocallyClosed)),
        }
    }
}

/// A stream whose request may wait in the core.
struct Unwritten<'a> {
    channel: &'a Channel,
    cell: &'a Rc<StreamCell>,
}

impl Drop for Unwritten<'_> {
    fn drop(&mut self) {
        if self.cell.token().is_none() && self.cell.is_abandoned() {
            let driven = self.channel.driven();
            driven.ask(Wants::All, |core| core.cancel_unnamed(None));
            driven.wake();
        }
    }
}
