//! A client that has ended its sending side still gets the replies to its calls (REQ-79).

use std::time::Instant;

use corewire_codec::{ReplyHead, SendBuffer, Status};

use super::{Phase, ServerConnection};
use crate::close::CloseReason;

impl<T> ServerConnection<T> {
    /// Whether the connection is open and neither side has begun to end it.
    #[must_use]
    #[inline]
    pub fn goes_on(&self) -> bool {
        self.phase == Phase::Open && !self.client_leaves && !self.keep_alive.is_half_closed()
    }

    /// The client closed its sending side. If no reply is pending or unwritten, the connection is over.
    /// Otherwise its calls go on for at most the write timeout, except for those that
    /// [`cut_streams`](Self::cut_streams) takes out. It may have closed its other side, too; a ping makes
    /// the transport report that.
    pub fn handle_eof(&mut self, out: &mut SendBuffer, now: Instant) {
        if self.is_half_closed() {
            return;
        }
        if !self.is_open() || (self.is_idle() && out.is_empty()) {
            return self.end();
        }
        self.keep_alive.handle_finish(&self.config.timeouts, now);
        if !self.is_idle() {
            self.keep_alive.probe(out);
        }
    }

    /// Whether the client has ended its sending side while replies were pending or unwritten.
    #[must_use]
    #[inline]
    pub fn is_half_closed(&self) -> bool {
        self.keep_alive.is_half_closed()
    }

    /// Takes out the calls whose client was expected to send more messages and never will; their
    /// replies are written, as for a cancel. Drop the works.
    pub fn cut_streams(&mut self, out: &mut SendBuffer) -> Vec<T> {
        let Some(extra) = &self.extra_calls else { return Vec::new() };
        let cut = extra.streams.delivering();
        cut.into_iter()
            .filter_map(|call| self.cancel(call, "the client ended amid its stream", out))
            .collect()
    }

    /// A call is no longer wanted: takes out its work, and writes its reply.
    pub(super) fn cancel(
        &mut self,
        call: u32,
        why: &'static str,
        out: &mut SendBuffer,
    ) -> Option<T> {
        self.cancel_stream(call);
        let work = self.in_flight.remove(call)?;
        self.keep_alive.handle_call_end();
        out.status(&ReplyHead::ok(call), &Status::cancelled(why), self.peer_frame_bytes_max);
        Some(work)
    }

    /// Whether the time that calls have after the end of their client's side has just run out; true once.
    /// Drop what is parked.
    pub fn poll_finish(&mut self, now: Instant) -> bool {
        let over = self.keep_alive.poll_finish(now);
        // Not everything was answered, whatever the client said before.
        self.client_leaves &= !over;
        over
    }

    /// Ends a connection whose client has ended its side, if everything is answered. Call it when nothing
    /// waits to be written.
    pub fn end_if_answered(&mut self) {
        if self.is_half_closed() && self.is_idle() {
            self.end();
        }
    }

    /// The client is gone.
    pub(super) fn end(&mut self) {
        let drained = self.phase == Phase::Draining && self.is_idle() || self.is_left();
        self.close(if drained { CloseReason::Drained } else { CloseReason::PeerLeft });
    }
}
