//! One connection of a channel, with the calls that are in flight on it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corewire_codec::{FrameWriter, RequestHead, request_flags};
use corewire_proto::{ClientConfig, CloseReason, TransportError};

use super::server_side::ServerSide;
use super::streams::{Deliver, InFlight, Streams};
use super::waiter::{ConnectionId, PendingCall, StreamEnd, Waiter, WriteBody};
use crate::config::Reply;
use crate::core::session::Session;
use crate::failure::CallFailure;

/// How long to keep reading from a connection that can no longer be written to: what the server said before it
/// left tells which calls it has not run.
const LAST_FRAMES: Duration = Duration::from_secs(1);

/// A connection whose socket somebody else keeps.
#[derive(Debug)]
pub struct Connection<W: Waiter> {
    /// Its name.
    pub id: ConnectionId,
    /// What it carries, and its buffers.
    pub session: Session<InFlight<W>>,
    /// The ids on the wire of calls in flight, by their names.
    calls: HashMap<u64, u32>,
    server_side: Arc<ServerSide>,
    /// The calls that stream, also those that are over and not read to their end.
    streams: Streams<W::Stream>,
    /// How a write failed, and until when the connection is still received from.
    write_failed: Option<(TransportError, Instant)>,
    /// Nobody looked at it for longer than its server waits for a hello.
    was_left_alone: bool,
}

impl<W: Waiter> Connection<W> {
    pub(super) fn new(
        id: ConnectionId,
        config: &Arc<ClientConfig>,
        server_side: &Arc<ServerSide>,
        jitter: u64,
        now: Instant,
    ) -> Self {
        Self {
            id,
            session: Session::with_jitter(config, jitter, now),
            calls: HashMap::new(),
            server_side: Arc::clone(server_side),
            streams: Streams::default(),
            write_failed: None,
            was_left_alone: false,
        }
    }

    /// Calls in flight that a caller waits for, and streams that are not read to their end.
    pub(super) fn tallies(&self) -> (usize, usize) {
        (self.calls.len(), self.streams.len())
    }

    /// Bytes that wait for the socket.
    pub fn unsent(&self) -> usize {
        self.session.out.len()
    }

    /// Whether something may be written now that takes no slot.
    #[inline]
    pub(super) fn takes_frames(&self) -> bool {
        let session = &self.session;
        session.is_going_on()
            && self.write_failed.is_none()
            && !(W::DRIVES && session.awaits_pong())
    }

    /// Whether any call may be written now. Only the server's hello says how large a request may be.
    #[inline]
    pub(super) fn takes_calls(&self) -> bool {
        self.session.is_ready() && self.session.has_slot() && self.takes_frames()
    }

    /// Whether it neither is over nor goes away, and no stream has something to write.
    pub(super) fn is_steady(&self) -> bool {
        self.session.is_going_on() && !self.has_ready_streams()
    }

    /// Nobody looked at it for longer than a server waits for a hello. If its server leaves before its own hello,
    /// that is no reason to leave the server alone.
    pub fn handle_left_alone(&mut self) {
        self.was_left_alone = true;
    }

    /// Whether the end for this reason is no fault of the server.
    pub(super) fn is_excused(&self, reason: CloseReason) -> bool {
        let is_left = matches!(reason, CloseReason::PeerLeft | CloseReason::Transport(_));
        self.was_left_alone && !self.session.is_ready() && is_left
    }

    /// Whether no call is in flight and nothing waits to be written or to be read.
    pub fn is_idle(&self) -> bool {
        self.session.in_flight() == 0 && self.streams.is_empty() && self.unsent() == 0
    }

    /// Writes a call, on a connection that [takes it](super::ClientCore::open_connection). If that fails, the call ends
    /// here. Returns whether it is in flight.
    #[inline]
    pub fn begin<B: WriteBody>(&mut self, call: PendingCall<W, B>, now: Instant) -> bool {
        let PendingCall { id, mut head, deadline, body, waiter } = call;
        if deadline.is_some() {
            // It may have waited. A timeout that is too long for a deadline stays as it is.
            head.timeout_us = None;
        }
        self.write(id, &mut head, deadline, body, waiter, now)
    }

    /// The same without a move of the head, which may state its timeout.
    #[inline]
    pub fn write<B: WriteBody>(
        &mut self,
        id: Option<u64>,
        head: &mut RequestHead,
        deadline: Option<Instant>,
        body: B,
        mut waiter: W,
        now: Instant,
    ) -> bool {
        if let Err(failure) = self.session.check_metadata(head) {
            waiter.complete(Err(CallFailure::NotSent(failure)));
            return false;
        }
        let encode = |frame: &mut FrameWriter<'_>| body.write_to(frame);
        if head.flags & request_flags::ONE_WAY != 0 {
            waiter.handle_begun(self.id, 0);
            let written = self.session.one_way(head, deadline, now, encode);
            let outcome = written.map(|()| Reply::written()).map_err(CallFailure::NotSent);
            waiter.complete(outcome);
            return false;
        }
        let stream = waiter.stream().cloned();
        let connection = self.id;
        let work = |call| {
            waiter.handle_begun(connection, call);
            InFlight { id, waiter }
        };
        match self.session.request(head, deadline, now, work, encode) {
            Ok(call) => {
                if let Some(id) = id {
                    self.note_named(id, call, stream);
                }
                true
            }
            Err((call, failure)) => {
                if let Some(call) = call {
                    call.waiter.complete(Err(CallFailure::NotSent(failure)));
                }
                false
            }
        }
    }

    fn note_named(&mut self, id: u64, call: u32, stream: Option<W::Stream>) {
        self.calls.insert(id, call);
        if let Some(stream) = stream {
            let (own, peer) = self.session.limits();
            stream.begin(own, peer.in_flight.get());
            self.streams.open(id, call, stream);
        }
    }

    /// Nobody waits for this call any more. Returns whether it was in flight here.
    pub fn cancel(&mut self, id: u64) -> bool {
        self.streams.forget(id, &mut self.session);
        let Some(call) = self.calls.remove(&id) else { return false };
        drop(self.session.cancel(call));
        true
    }

    /// The caller's ends of a stream want something. Returns whether the stream is one of this connection.
    pub fn settle_stream(&mut self, id: u64) -> bool {
        if self.streams.is_given_up(id) {
            self.cancel(id);
            return true;
        }
        self.streams.settle(id, &mut self.session)
    }

    /// Whether it carries the stream with this name, or has messages of it that were not taken.
    pub fn has_stream(&self, id: u64) -> bool {
        self.streams.contains(id)
    }

    /// Whether a message of this stream would be written at once.
    pub fn takes_message(&self, id: u64) -> bool {
        self.write_failed.is_none() && self.streams.takes_message(id, &self.session)
    }

    /// Whether so much is unread that the server may have no credit left, for this stream or for all.
    pub fn is_choked(&self, id: u64) -> bool {
        let (own, _) = self.session.limits();
        // What was consumed and not granted yet is less than the other half.
        self.streams.held(id) >= own.stream_window() / 2
            || self.session.held_bytes() >= own.connection_credit.get() / 2
    }

    /// Writes what its streams have to write, in turns and by credit.
    #[inline]
    pub fn serve_streams(&mut self) {
        if self.write_failed.is_none() {
            if self.session.poll_writable() {
                self.streams.handle_writable(None);
            }
            self.streams.serve(&mut self.session);
        }
    }

    /// Whether streams could write more.
    #[inline]
    pub fn has_ready_streams(&self) -> bool {
        self.write_failed.is_none() && self.streams.has_ready(self.unsent())
    }

    /// Handles what was received into the session's buffer.
    pub fn handle_received(&mut self, now: Instant) {
        let Self { calls, server_side, streams, .. } = self;
        let mut events = Deliver { calls, server_side, streams };
        self.session.handle_received(now, &mut events);
    }

    /// The same for at most `frames_left` frames, from which those that were handled are taken. Returns whether
    /// no whole frame is left.
    #[inline]
    pub fn handle_frames(&mut self, now: Instant, frames_left: &mut usize) -> bool {
        let Self { calls, server_side, streams, .. } = self;
        let mut events = Deliver { calls, server_side, streams };
        self.session.handle_frames(now, frames_left, &mut events)
    }

    /// Does what is due. What arrived must have been read before; `unread` says in how many turns in a row that
    /// was not so.
    pub fn handle_timeout(&mut self, now: Instant, unread: u8) {
        let Self { calls, server_side, streams, .. } = self;
        let mut events = Deliver { calls, server_side, streams };
        self.session.handle_timeout(now, unread, &mut events);
    }

    /// Ends the calls whose time is over, and nothing else.
    pub(super) fn expire(&mut self, now: Instant) {
        let Self { calls, server_side, streams, .. } = self;
        let mut events = Deliver { calls, server_side, streams };
        self.session.expire(now, &mut events);
        self.wake_readers();
    }

    /// Wakes each reader of a stream for which something came, once.
    #[inline]
    pub fn wake_readers(&mut self) {
        self.streams.wake_readers();
    }

    /// Returns whether something is to be written now.
    #[inline]
    pub fn prepare_write(&mut self, now: Instant) -> bool {
        if let Some((error, until)) = &self.write_failed {
            // What is still in the buffer stays: it tells which calls were not sent.
            if *until <= now {
                self.session.handle_error(*error);
            }
            return false;
        }
        self.session.prepare_write(now);
        self.unsent() > 0
    }

    /// The socket takes nothing more.
    pub fn handle_write_error(&mut self, error: impl Into<TransportError>, now: Instant) {
        self.session.handle_write_failed();
        self.write_failed = Some((error.into(), now + LAST_FRAMES));
    }

    /// Whether nothing but replies is awaited: as long as this holds, [`poll_timeout`](Self::poll_timeout) moves
    /// earlier only if the first deadline of the calls in flight does.
    pub fn has_steady_timers(&self) -> bool {
        self.write_failed.is_none() && self.session.is_steady()
    }

    /// When something is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let last_frames = self.write_failed.as_ref().map(|(_, until)| *until);
        [self.session.poll_timeout(), last_frames].into_iter().flatten().min()
    }

    /// The connection is over, and with it its calls and whatever was to be granted there.
    pub(super) fn end(mut self, reason: CloseReason) {
        let Self { session, calls, server_side, streams, .. } = &mut self;
        let mut events = Deliver { calls, server_side, streams };
        session.fail_all(reason, &mut events);
    }
}
