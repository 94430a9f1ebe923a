//! One connection of a client, as drivers without shards use it: the state machine with its buffers.

use corewire_codec::{
    CancelReason, EncodedBody, Encoding, Forwarded, FrameTooLarge, FrameWriter, HelloRecords,
    Limits, Payload, RecvBuffer, RequestHead, SendBuffer, Status, StatusCode,
};
use corewire_proto::{
    ClientConfig, ClientConnection, ClientInput, CloseReason, Expired, NotSent as NoMessage,
    StreamKind, TransportError,
};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{DEADLINE_TURNS, Reply};
use crate::failure::{CallFailure, NotSent, check_metadata};
use crate::reconnect::random_seed;
use crate::transport::Outcome;

/// How much is received at once.
pub const RECEIVE_BYTES: usize = 64 * 1024;

/// Slices of one gathered write, and the bytes that it takes at most where nobody waits in it.
pub const SLICES_MAX: usize = 32;
/// Bytes of one gathered write, where nobody waits in it.
pub const SEND_BYTES_MAX: usize = 1024 * 1024;

/// Who hears of what a connection brings.
pub trait Events<T> {
    /// The server said hello.
    fn ready(&mut self, server: &HelloRecords);
    /// A call ended by a reply, or without one.
    fn done(&mut self, work: T, outcome: Outcome);
    /// The server's handler took a call that streams.
    fn opened(&mut self, work: &mut T, forwarded: Option<Forwarded>, payload: Payload<'_>);
    /// A message of a server's stream; its cost is to be consumed.
    fn message(&mut self, work: &mut T, encoding: Encoding, cost: u32, payload: Payload<'_>);
    /// A call ended with its server's stream.
    fn end(&mut self, work: T, code: StatusCode, payload: &Payload<'_>);
    /// There is credit again for one stream, or for any.
    fn writable(&mut self, call: Option<u32>);
}

/// One connection and what it carries. `T` is kept for each call in flight.
#[derive(Debug)]
pub struct Session<T> {
    proto: ClientConnection<T>,
    /// What was received and not handled yet.
    pub recv: RecvBuffer,
    /// What is to be written.
    pub out: SendBuffer,
    own: Limits,
}

impl<T> Session<T> {
    /// A connection that was just made; its hello waits to be written.
    pub fn new(config: &Arc<ClientConfig>, now: Instant) -> Self {
        // A number of its own, so that no two connections have the same jitter.
        Self::with_jitter(config, random_seed(), now)
    }

    /// The same with the jitter drawn from this number.
    pub fn with_jitter(config: &Arc<ClientConfig>, jitter: u64, now: Instant) -> Self {
        let mut out = SendBuffer::new();
        let proto = ClientConnection::new(Arc::clone(config), jitter, &mut out, now);
        Self { proto, recv: RecvBuffer::new(), out, own: config.limits }
    }

    /// Whether the server's hello came; its limits are not known before.
    pub fn is_ready(&self) -> bool {
        self.proto.is_ready()
    }

    /// Whether one of the sides said that no new calls come.
    pub fn is_draining(&self) -> bool {
        self.proto.is_draining()
    }

    /// Whether the server was seen to take calls.
    pub fn is_proven(&self) -> bool {
        self.proto.is_proven()
    }

    /// Whether a call can be made now.
    pub fn has_slot(&self) -> bool {
        self.proto.has_slot()
    }

    /// Whether calls could be made, but every slot is taken.
    pub fn is_full(&self) -> bool {
        self.is_ready() && self.is_going_on() && !self.has_slot()
    }

    /// Whether it is not over, and neither side goes away.
    #[inline]
    pub fn is_going_on(&self) -> bool {
        self.proto.is_going_on()
    }

    /// Why the connection is over, if it is; a drained one ends here.
    pub fn close_reason(&mut self) -> Option<CloseReason> {
        if self.proto.is_drained() && self.out.is_empty() {
            self.proto.close(CloseReason::Drained);
        }
        self.proto.close_reason()
    }

    /// A time no later than the first deadline of the calls in flight.
    pub fn earliest_deadline(&self) -> Option<Instant> {
        self.proto.earliest_deadline()
    }

    /// When something is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.proto.poll_timeout()
    }

    /// Whether a ping waits for its answer and nothing was heard since it was sent.
    pub fn awaits_pong(&self) -> bool {
        self.proto.awaits_pong()
    }

    /// Checks that the server accepts this much metadata. To be asked before a request is appended.
    ///
    /// # Errors
    ///
    /// It has too much.
    #[inline]
    pub fn check_metadata(&self, head: &RequestHead) -> Result<(), NotSent> {
        check_metadata(head, &self.proto.peer().limits)
    }

    /// Appends a request; there must be a slot. `work` makes what is kept for the call with the id that it is given.
    /// Returns that id. The head's id is filled in, and its timeout unless it is there.
    ///
    /// # Errors
    ///
    /// Why nothing was sent. What was kept comes back, unless there was no slot and `work` was not run.
    #[inline]
    pub fn request(
        &mut self,
        head: &mut RequestHead,
        deadline: Option<Instant>,
        now: Instant,
        work: impl FnOnce(u32) -> T,
        encode: impl FnOnce(&mut FrameWriter<'_>) -> Result<(), NotSent>,
    ) -> Result<u32, (Option<T>, NotSent)> {
        let begun = match StreamKind::from_request_flags(head.flags) {
            None => self.proto.begin_call_with(work, deadline),
            Some(kind) => self.proto.begin_stream_with(kind, work, deadline),
        };
        let Ok(call) = begun else {
            return Err((None, NotSent::QueueFull));
        };
        head.call = call;
        self.state_key(head);
        state_timeout(head, deadline, now);
        let mut frame = self.out.request(head, None);
        // The caller's code may panic; the slot that was taken for it must not stay taken.
        let encoded = catch_unwind(AssertUnwindSafe(|| encode(&mut frame)));
        let failure = match encoded {
            Ok(Ok(())) => match frame.finish(self.proto.peer_frame_bytes_max()) {
                Ok(()) => return Ok(call),
                Err(error) => NotSent::TooLarge(error),
            },
            Ok(Err(failure)) => {
                drop(frame);
                failure
            }
            Err(panic) => {
                drop(frame);
                drop(self.proto.unsend(call));
                resume_unwind(panic);
            }
        };
        Err((self.proto.unsend(call), failure))
    }

    /// Appends the request of a one-way call.
    ///
    /// # Errors
    ///
    /// Why nothing was sent.
    pub fn one_way(
        &mut self,
        head: &mut RequestHead,
        deadline: Option<Instant>,
        now: Instant,
        encode: impl FnOnce(&mut FrameWriter<'_>) -> Result<(), NotSent>,
    ) -> Result<(), NotSent> {
        head.call = 0;
        self.state_key(head);
        state_timeout(head, deadline, now);
        let mut frame = self.out.request(head, None);
        encode(&mut frame)?;
        frame.finish(self.proto.peer_frame_bytes_max()).map_err(NotSent::TooLarge)?;
        // Whoever asks has seen that the connection takes calls.
        let _ = self.proto.begin_one_way(deadline, &mut self.out);
        Ok(())
    }

    /// Leaves the key out of a request whose server has no use for it, or has not said yet whether it has.
    #[inline]
    fn state_key(&self, head: &mut RequestHead) {
        if head.key().is_some() && !self.proto.takes_keys() {
            head.set_key(None);
        }
    }

    /// The deadline of the one-way call that was appended last has passed. Takes it back and returns `true` if nothing
    /// of it was written.
    pub fn take_back_one_way(&mut self) -> bool {
        self.proto.take_back_one_way(&mut self.out)
    }

    /// Nobody waits for this call any more.
    pub fn cancel(&mut self, call: u32) -> Option<T> {
        self.proto.abandon(call, CancelReason::Dropped, &mut self.out)
    }

    /// The limits of this side, and the server's.
    pub fn limits(&self) -> (&Limits, &Limits) {
        (&self.own, &self.proto.peer().limits)
    }

    /// A reader has taken messages of this cost.
    pub fn consume(&mut self, call: u32, cost: u32) {
        self.proto.consume(call, cost, &mut self.out);
    }

    /// Whether a message of this stream may be sent now.
    pub fn has_credit(&self, call: u32) -> bool {
        self.proto.send_credit(call) != 0
    }

    /// Appends a message; there must be credit. One that the server does not accept is not sent, and ends
    /// the stream.
    ///
    /// # Errors
    ///
    /// The message is larger than the server accepts.
    pub fn message(
        &mut self,
        call: u32,
        encoding: Encoding,
        body: EncodedBody,
    ) -> Result<(), FrameTooLarge> {
        match self.proto.begin_message(call, encoding, false, &mut self.out) {
            Ok(mut message) => {
                body.write_to(message.frame());
                message.finish()
            }
            // Its call is over, and so is whoever sent it.
            Err(NoMessage::Ended | NoMessage::NoCredit) => Ok(()),
        }
    }

    /// Ends this side's half of a stream.
    pub fn end_stream(&mut self, call: u32, failure: Option<&Status>) {
        // A call that is over has no half to end.
        let _ = self.proto.end_stream(call, failure, None, &mut self.out);
    }

    /// Calls that somebody waits for.
    pub fn in_flight(&self) -> usize {
        self.proto.in_flight()
    }

    /// What the server says about itself; the least values until its hello is here.
    pub fn peer(&self) -> &HelloRecords {
        self.proto.peer()
    }

    /// What the simulator checks: the calls that could begin now, the server's id of the connection once it said hello,
    /// the streams whose slots are taken, and the credit that they share.
    pub fn snapshot(&self) -> (usize, Option<u64>, usize, Option<corewire_proto::StreamAccounts>) {
        let proto = &self.proto;
        let connection = proto.peer().connection_id;
        (proto.free_slots(), connection, proto.streams(), proto.stream_accounts())
    }

    /// Bytes of messages that were received and not consumed.
    pub fn held_bytes(&self) -> u32 {
        self.proto.held_stream_bytes()
    }

    /// Handles what was received; `events` hears of it.
    pub fn handle_received(&mut self, now: Instant, events: &mut impl Events<T>) {
        let mut frames_left = usize::MAX;
        self.handle_frames(now, &mut frames_left, events);
    }

    /// The same for at most `frames_left` frames, from which those that were handled are taken. Returns whether
    /// no whole frame is left.
    pub fn handle_frames(
        &mut self,
        now: Instant,
        frames_left: &mut usize,
        events: &mut impl Events<T>,
    ) -> bool {
        while *frames_left > 0 {
            match self.proto.handle_frame(&mut self.recv, &mut self.out, now) {
                ClientInput::NeedBytes => {
                    self.proto.handle_rest(&self.recv, now);
                    return true;
                }
                ClientInput::Closed(_) => return true,
                ClientInput::Handled => {}
                ClientInput::Ready => events.ready(self.proto.peer()),
                ClientInput::Opened { call, forwarded, payload } => {
                    if let Some(work) = self.proto.work_mut(call) {
                        events.opened(work, forwarded, payload);
                    }
                }
                ClientInput::StreamData { call, encoding, cost, payload } => {
                    match self.proto.work_mut(call) {
                        Some(work) => events.message(work, encoding, cost, payload),
                        None => self.proto.consume(call, cost, &mut self.out),
                    }
                }
                ClientInput::StreamEnd { work, code, payload } => {
                    events.end(work, code, &payload);
                }
                ClientInput::Writable { call } => events.writable(call),
                ClientInput::Reply { work, head, payload } => {
                    events.done(work, Ok(Reply::new(head, payload)));
                }
                ClientInput::GoAway => {
                    while let Some(work) = self.proto.poll_refused() {
                        events.done(work, Err(CallFailure::Refused));
                    }
                }
            }
            *frames_left -= 1;
        }
        false
    }

    /// Whether something is due.
    pub fn is_late(&self, now: Instant) -> bool {
        self.proto.poll_timeout().is_some_and(|at| at <= now)
    }

    /// Whether something waits that the socket did not take.
    pub fn is_blocked(&self) -> bool {
        self.proto.is_blocked()
    }

    /// Does what is due. What arrived must have been read before; `unread` says in how many
    /// turns in a row that was not so. Replies may be in what was not read, and what the server owes.
    pub fn handle_timeout(&mut self, now: Instant, unread: u8, events: &mut impl Events<T>) {
        if unread > 0 {
            self.proto.handle_unread();
        }
        self.proto.handle_timeout(&mut self.out, now);
        if (1..DEADLINE_TURNS).contains(&unread) {
            return;
        }
        self.expire(now, events);
    }

    /// Ends the calls whose time is over.
    pub fn expire(&mut self, now: Instant, events: &mut impl Events<T>) {
        while let Some(Expired { work, sent }) = self.proto.poll_expired(&mut self.out, now) {
            events.done(work, Err(CallFailure::DeadlineExceeded { sent }));
        }
        if self.proto.poll_writable() {
            events.writable(None);
        }
    }

    /// What waits is about to be written.
    pub fn prepare_write(&mut self, now: Instant) {
        self.proto.prepare_write(&mut self.out, now);
    }

    /// How a write went: `count` bytes left. With 0 the socket takes nothing now.
    pub fn handle_write(&mut self, count: usize, now: Instant) {
        self.out.advance(count);
        self.handle_sent(count > 0, count > 0 && !self.out.is_empty(), now);
    }

    /// How a write went that has taken what it wrote out of [`out`](Self::out) already: whether bytes left, and
    /// whether the socket may take more of what is still there.
    pub fn handle_sent(&mut self, progress: bool, more: bool, now: Instant) {
        match more {
            true => self.proto.handle_part_written(now),
            false => self.proto.handle_write(progress, !self.out.is_empty(), now),
        }
    }

    /// The socket takes nothing more.
    pub fn handle_write_failed(&mut self) {
        self.proto.handle_write_failed();
    }

    /// The server's side has acknowledged bytes that were written before: it takes something, though not
    /// enough yet for the socket to take more.
    pub fn handle_acknowledged(&mut self, now: Instant) {
        self.proto.handle_acknowledged(now);
    }

    /// Whether nothing but replies is awaited: as long as this holds,
    /// [`poll_timeout`](Self::poll_timeout) moves earlier only if
    /// [`earliest_deadline`](Self::earliest_deadline) does.
    pub fn is_steady(&self) -> bool {
        self.proto.is_steady()
    }

    /// Whether streams without credit may go on, because messages that had used it were taken back. It returns
    /// true once.
    pub fn poll_writable(&mut self) -> bool {
        self.proto.poll_writable()
    }

    /// The server sends no more.
    pub fn handle_eof(&mut self) {
        self.proto.handle_eof();
    }

    /// The socket failed.
    pub fn handle_error(&mut self, error: impl Into<TransportError>) {
        self.proto.handle_error(error);
    }

    /// Tells the server that no more calls come.
    pub fn leave(&mut self) {
        self.proto.leave(&mut self.out);
    }

    /// Ends the connection from this side.
    pub fn close(&mut self) {
        self.proto.close(CloseReason::LocallyClosed);
    }

    /// Ends all calls of a connection that is over.
    pub fn fail_all(&mut self, reason: CloseReason, events: &mut impl Events<T>) {
        for failed in self.proto.fail_all() {
            let failure = match failed.may_have_run {
                true => CallFailure::Unknown(reason),
                false => CallFailure::Refused,
            };
            events.done(failed.work, Err(failure));
        }
    }
}

/// Has a request state the time left, unless it does already.
#[inline]
fn state_timeout(head: &mut RequestHead, deadline: Option<Instant>, now: Instant) {
    if let (None, Some(deadline)) = (head.timeout_us, deadline) {
        head.timeout_us = Some(as_micros(deadline.saturating_duration_since(now)));
    }
}

/// A timeout as a request states it.
#[inline]
pub fn as_micros(timeout: Duration) -> u64 {
    u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX)
}
