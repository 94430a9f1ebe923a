//! One connection of a channel, with the calls that are in flight on it.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corewire_codec::{FrameWriter, request_flags};
use corewire_proto::{ClientConfig, CloseReason};

use super::streams::{Deliver, InFlight, Streams};
use crate::config::Reply;
use crate::core::session::Session;
use crate::failure::CallFailure;
use crate::remote::command::Command;

/// How long a connection that takes nothing more may go on to bring something: what the server said before it
/// left tells which calls it has not run.
const LAST_FRAMES: Duration = Duration::from_secs(1);

/// Names a connection among those of its channel, for the shell that keeps its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionId(pub(crate) u64);

/// A connection whose socket somebody else keeps.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    pub(crate) session: Session<InFlight>,
    /// The ids on the wire of calls in flight, by their names.
    calls: HashMap<u64, u32>,
    /// The calls that stream, also those that are over and not read to their end.
    streams: Streams,
    /// How a write failed, and until when the connection is still received from.
    write_failed: Option<(io::Error, Instant)>,
}

impl Connection {
    pub(super) fn new(
        id: ConnectionId,
        config: &Arc<ClientConfig>,
        jitter: u64,
        now: Instant,
    ) -> Self {
        Self {
            id,
            session: Session::with_jitter(config, jitter, now),
            calls: HashMap::new(),
            streams: Streams::default(),
            write_failed: None,
        }
    }

    /// Calls in flight that a caller waits for, and streams that are not read to their end.
    #[cfg(feature = "sim")]
    pub(super) fn tallies(&self) -> (usize, usize) {
        (self.calls.len(), self.streams.len())
    }

    /// Bytes that wait for the socket.
    pub(crate) fn unsent(&self) -> usize {
        self.session.out.len()
    }

    /// Whether a call may be written now. Only the server's hello says how large a request may be.
    pub(super) fn takes_calls(&self) -> bool {
        self.session.is_ready() && self.session.has_slot() && self.write_failed.is_none()
    }

    /// Whether no call is in flight and nothing waits to be written or to be read.
    pub(super) fn is_idle(&self) -> bool {
        self.calls.is_empty() && self.streams.is_empty() && self.unsent() == 0
    }

    /// Writes a call; a slot must be free.
    pub(super) fn begin(&mut self, command: Command, now: Instant) {
        let Command { id, head, deadline, body, mut done, .. } = command;
        done.begun = true;
        let encode = |frame: &mut FrameWriter<'_>| {
            body.write_to(frame);
            Ok(())
        };
        if head.flags & request_flags::ONE_WAY != 0 {
            let written = self.session.one_way(head, deadline, now, encode);
            let outcome = written.map(|()| Reply::written()).map_err(CallFailure::NotSent);
            return done.complete(outcome);
        }
        let port = done.port().cloned();
        match self.session.request(head, deadline, now, InFlight { id, done }, encode) {
            Ok(call) => {
                self.calls.insert(id, call);
                if let Some(port) = port {
                    let (own, peer) = self.session.limits();
                    port.begin(own, peer.in_flight.get());
                    self.streams.open(id, call, port);
                }
            }
            Err((Some(call), failure)) => call.done.complete(Err(CallFailure::NotSent(failure))),
            Err((None, _)) => {}
        }
    }

    /// Nobody waits for this call any more. Returns whether it was in flight here.
    pub(super) fn cancel(&mut self, id: u64) -> bool {
        self.streams.forget(id, &mut self.session);
        let Some(call) = self.calls.remove(&id) else { return false };
        drop(self.session.cancel(call));
        true
    }

    /// The caller's ends of a stream want something. Returns whether the stream is one of this connection.
    pub(super) fn settle_stream(&mut self, id: u64) -> bool {
        self.streams.settle(id, &mut self.session)
    }

    /// Writes what its streams have to write, in turns and by credit.
    pub(super) fn serve_streams(&mut self) {
        if self.write_failed.is_none() {
            self.streams.serve(&mut self.session);
        }
    }

    /// Whether streams could write more.
    pub(crate) fn has_ready_streams(&self) -> bool {
        self.write_failed.is_none() && self.streams.has_ready(self.unsent())
    }

    /// Handles what was received into the session's buffer.
    pub(crate) fn handle_received(&mut self, now: Instant) {
        let mut events = Deliver { calls: &mut self.calls, streams: &mut self.streams };
        self.session.handle_received(now, &mut events);
    }

    /// Does what is due. What arrived must have been read before; `unread` says in how many turns in a row that
    /// was not so.
    pub(crate) fn handle_timeout(&mut self, now: Instant, unread: u8) {
        let mut events = Deliver { calls: &mut self.calls, streams: &mut self.streams };
        self.session.handle_timeout(now, unread, &mut events);
    }

    /// Ends the calls whose time is over, and nothing else.
    pub(super) fn expire(&mut self, now: Instant) {
        let mut events = Deliver { calls: &mut self.calls, streams: &mut self.streams };
        self.session.expire(now, &mut events);
        self.wake_readers();
    }

    /// Wakes each reader of a stream for which something came, once.
    pub(crate) fn wake_readers(&mut self) {
        self.streams.wake_readers();
    }

    /// Returns whether something is to be written now.
    pub(crate) fn prepare_write(&mut self, now: Instant) -> bool {
        if let Some((error, until)) = &self.write_failed {
            self.session.out.clear();
            if *until <= now {
                self.session.handle_error(error);
            }
            return false;
        }
        self.session.prepare_write(now);
        self.unsent() > 0
    }

    /// The socket takes nothing more.
    pub(crate) fn handle_write_error(&mut self, error: io::Error, now: Instant) {
        self.write_failed = Some((error, now + LAST_FRAMES));
    }

    /// When something is due next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let last_frames = self.write_failed.as_ref().map(|(_, until)| *until);
        [self.session.poll_timeout(), last_frames].into_iter().flatten().min()
    }

    /// The connection is over, and with it its calls and whatever was to be granted there.
    pub(super) fn end(mut self, reason: CloseReason) {
        let mut events = Deliver { calls: &mut self.calls, streams: &mut self.streams };
        self.session.fail_all(reason, &mut events);
    }
}
