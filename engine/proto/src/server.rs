//! The server's side of a connection.

mod finish;
mod hello;
mod idle;
mod one_way;
mod one_way_calls;
mod streams;
mod unfinished;

use std::rc::Rc;
use std::time::{Duration, Instant};

use corewire_codec::{
    Encoding, FrameKind, GoAway, Head, Header, HelloRecords, Payload, RecvBuffer, ReplyHead,
    RequestHead, Rule, SendBuffer, Status, StatusCode, reply_flags, request_flags,
};

use self::one_way::OneWayTable;
use crate::close::CloseReason;
use crate::config::{ServerConfig, ServerIdentity};
use crate::in_flight::{InFlightTable, slot};
use crate::jitter::mix;
use crate::keep_alive::{Due, KeepAlive};
use crate::streams::table::StreamTable;
use crate::transport_error::TransportError;

pub use self::idle::IdleServerConnection;
pub use self::one_way::{OneWayDropped, is_one_way_id};

/// The flags of requests that ask for a stream.
const STREAM: u8 = request_flags::STREAM_IN | request_flags::STREAM_OUT;
const ONE_WAY: u8 = request_flags::ONE_WAY;

/// What one step of [`ServerConnection::handle_frame`] found.
#[derive(Debug)]
pub enum ServerInput<'a, T> {
    /// No whole frame is there: receive more.
    NeedBytes,
    /// A frame was handled; call again.
    Handled,
    /// A call is to be made. Answer it with [`SendBuffer::reply`] or [`SendBuffer::status`], now, or
    /// [`park`](ServerConnection::park) its work and answer later.
    ///
    /// A one-way call ([`request_flags::ONE_WAY`]) is never answered; its id is one that this
    /// connection gave it, for parking. A call that streams
    /// ([`StreamKind::from_request_flags`](crate::StreamKind::from_request_flags)) is best parked; one
    /// that is not must be ended with [`finish_stream`](ServerConnection::finish_stream).
    Call {
        /// What is asked.
        request: &'a RequestHead,
        /// Its bytes.
        payload: Payload<'a>,
        /// When nobody waits for the answer any more.
        deadline: Option<Instant>,
    },
    /// A message of a parked call's stream. When it is consumed, call
    /// [`consume`](ServerConnection::consume), even if its call is over by then.
    StreamData {
        /// The call.
        call: u32,
        /// How the message is encoded.
        encoding: Encoding,
        /// What to consume.
        cost: u32,
        /// Whether it is the client's last; no [`StreamEnd`](Self::StreamEnd) follows.
        end: bool,
        /// Its bytes.
        payload: Payload<'a>,
    },
    /// The client sends no more on a parked call's stream.
    StreamEnd {
        /// The call.
        call: u32,
        /// `Ok`, or how the client's sending failed: then the payload is that of
        /// [`Status::from_body`].
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
    /// A one-way call was dropped without running. Nobody is told; count it.
    OneWayDropped(OneWayDropped),
    /// A parked call is no longer wanted; its reply is written. Drop the work.
    Cancelled {
        /// The call.
        call: u32,
        /// What was parked for it.
        work: T,
    },
    /// The connection is over. Write what is left, and drop it.
    Closed(CloseReason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The client's hello is not here yet.
    Hello,
    Open,
    /// A go-away was sent: calls that are in flight are finished, new ones refused.
    Draining,
    Closed(CloseReason),
}

/// The server's side of one connection. `T` is what the caller keeps for a pending call.
///
/// See the [crate's page](crate) for how to drive it.
#[derive(Debug)]
pub struct ServerConnection<T> {
    config: Rc<ServerConfig>,
    phase: Phase,
    identity: ServerIdentity,
    keep_alive: KeepAlive,
    in_flight: InFlightTable<T>,
    /// Requests read before any go-away, modulo 2³²; all of them are answered.
    accepted: u32,
    peer_frame_bytes_max: u32,
    peer_codecs: u16,
    peer_metadata_bytes_max: u16,
    /// Whether the client understands that a call was forwarded.
    peer_hears_forwards: bool,
    /// The client said that it makes no more calls.
    client_leaves: bool,
    peer_stream_credit: u32,
    peer_connection_credit: u32,
    /// What only connections with streams or with pending one-way calls pay for.
    extra_calls: Option<Box<ExtraCalls<T>>>,
}

/// What a connection may need in addition to its table of calls.
#[derive(Debug)]
struct ExtraCalls<T> {
    streams: StreamTable,
    one_way: OneWayTable<T>,
}

impl<T> ServerConnection<T> {
    /// A connection that was just accepted.
    #[must_use]
    pub fn new(config: Rc<ServerConfig>, identity: ServerIdentity, now: Instant) -> Self {
        let early = HelloRecords::default();
        let random = mix(config.jitter_seed, identity.connection_id);
        let keep_alive = KeepAlive::new(&config.timeouts, random, now);
        let mut connection = Self {
            keep_alive: keep_alive.with_age(&config.timeouts, random, now),
            config,
            phase: Phase::Hello,
            identity,
            in_flight: InFlightTable::new(),
            accepted: 0,
            peer_frame_bytes_max: 0,
            peer_codecs: 0,
            peer_metadata_bytes_max: 0,
            peer_hears_forwards: false,
            client_leaves: false,
            peer_stream_credit: 0,
            peer_connection_credit: 0,
            extra_calls: None,
        };
        connection.set_peer(&early);
        connection
    }

    /// The largest payload that the client accepts, in bytes.
    #[must_use]
    #[inline]
    pub fn peer_frame_bytes_max(&self) -> u32 {
        self.peer_frame_bytes_max
    }

    /// The largest metadata block that the client accepts, in bytes.
    #[must_use]
    #[inline]
    pub fn peer_metadata_bytes_max(&self) -> u16 {
        self.peer_metadata_bytes_max
    }

    /// Whether the client may be told that a call was forwarded (REQ-98).
    #[must_use]
    #[inline]
    pub fn peer_hears_forwards(&self) -> bool {
        self.peer_hears_forwards
    }

    /// The connection's id in this process.
    #[must_use]
    pub fn connection_id(&self) -> u64 {
        self.identity.connection_id
    }

    /// Parked calls, one-way ones included.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len() + self.one_way_pending()
    }

    #[inline]
    fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.one_way_pending() == 0
    }

    /// Requests taken so far, modulo 2³².
    #[must_use]
    pub fn accepted(&self) -> u32 {
        self.accepted
    }

    /// Whether both sides have said hello and none has ended the connection.
    #[must_use]
    #[inline]
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Draining)
    }

    /// Whether a go-away was sent and calls are being finished.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.phase == Phase::Draining
    }

    /// Why the connection is over, if it is.
    #[must_use]
    pub fn close_reason(&self) -> Option<CloseReason> {
        match self.phase {
            Phase::Closed(reason) => Some(reason),
            _ => None,
        }
    }

    /// Handles the next frame of `recv`, if a whole one is there. Answers to it are appended to
    /// `out`. If it is a request, its fields are read into `head`, and the returned value borrows
    /// them: passing them on by value would copy them each time.
    #[inline]
    pub fn handle_frame<'a>(
        &mut self,
        recv: &'a mut RecvBuffer,
        head: &'a mut RequestHead,
        out: &mut SendBuffer,
        now: Instant,
    ) -> ServerInput<'a, T> {
        match self.phase {
            Phase::Open | Phase::Draining => {}
            Phase::Hello => return self.handle_hello(recv, out, now),
            Phase::Closed(reason) => return ServerInput::Closed(reason),
        }
        let limits = &self.config.limits;
        let metadata_bytes_max = limits.metadata_bytes.get();
        let header = match recv.next_header(limits.frame_bytes.get()) {
            Ok(Some(header)) => header,
            Ok(None) if recv.is_empty() => return ServerInput::NeedBytes,
            Ok(None) => return self.handle_unfinished(recv, out),
            Err(rule) => return self.misbehaved(rule, out),
        };
        self.keep_alive.handle_frame(now);
        // Most frames are requests of unary calls: they take the short way, and the others stay out of it.
        if header.kind != FrameKind::Request || header.flags & (STREAM | ONE_WAY) != 0 {
            return self.handle_other(header, recv, head, out, now);
        }
        match recv.front_request(header, metadata_bytes_max, head) {
            Ok(payload) => self.handle_request(head, payload, out, now),
            Err(rule) => self.misbehaved(rule, out),
        }
    }

    #[inline(never)]
    fn handle_other<'a>(
        &mut self,
        header: Header,
        recv: &'a mut RecvBuffer,
        head: &'a mut RequestHead,
        out: &mut SendBuffer,
        now: Instant,
    ) -> ServerInput<'a, T> {
        let frame = match recv.front(header, self.config.limits.metadata_bytes.get()) {
            Ok(frame) => frame,
            Err(rule) => return self.misbehaved(rule, out),
        };
        match frame.head {
            Head::Cancel { call, .. } => self.handle_cancel(call, out),
            Head::Ping(opaque) => {
                self.keep_alive.handle_ping(opaque, out);
                ServerInput::Handled
            }
            Head::Pong(opaque) => match self.keep_alive.handle_pong(opaque) {
                Ok(()) => ServerInput::Handled,
                Err(rule) => self.misbehaved(rule, out),
            },
            // A client that goes away will send no more requests; what is in flight goes on.
            Head::GoAway(go_away) if go_away.rule == 0 => {
                self.client_leaves = true;
                ServerInput::Handled
            }
            Head::GoAway(go_away) => {
                let reason = CloseReason::BlamedByPeer(Rule::from_number(go_away.rule));
                self.close(reason);
                ServerInput::Closed(reason)
            }
            Head::Request(request) => {
                *head = request;
                if request.flags & ONE_WAY != 0 {
                    return self.handle_one_way(head, frame.payload, now);
                }
                self.handle_stream_request(head, frame.payload, out, now)
            }
            Head::Reply(_) => self.misbehaved(Rule::WrongDirection, out),
            Head::StreamData(data) => {
                self.keep_alive.handle_activity(now);
                self.handle_stream_data(data, frame.payload, out)
            }
            Head::StreamEnd(end) => self.handle_stream_end(end, frame.payload, out),
            Head::Credit(credit) => self.handle_credit(&credit, out),
        }
    }

    #[allow(clippy::inline_always, reason = "it has one caller, and what it returns is large")]
    #[inline(always)]
    fn handle_request<'a>(
        &mut self,
        request: &'a RequestHead,
        payload: Payload<'a>,
        out: &mut SendBuffer,
        now: Instant,
    ) -> ServerInput<'a, T> {
        if let Err(rule) = self.check_slot(request.call) {
            return self.misbehaved(rule, out);
        }
        self.keep_alive.handle_activity(now);
        if self.phase != Phase::Draining {
            self.accepted = self.accepted.wrapping_add(1);
        }
        if self.is_unusual(request)
            && let Some(status) = self.refusal(request)
        {
            self.refuse(request.call, &status, out);
            return ServerInput::Handled;
        }
        let deadline = request.timeout_us.and_then(|us| now.checked_add(Duration::from_micros(us)));
        ServerInput::Call { request, payload, deadline }
    }

    /// Whether a call may have the slot that it names.
    #[inline]
    fn check_slot(&self, call: u32) -> Result<(), Rule> {
        if slot(call) >= self.config.limits.in_flight.get() as usize {
            return Err(Rule::CallSlot);
        }
        if self.in_flight.is_slot_taken(call) || self.is_stream_slot_taken(call) {
            return Err(Rule::CallIdInUse);
        }
        Ok(())
    }

    /// Whether there may be a [`refusal`](Self::refusal).
    #[inline]
    fn is_unusual(&self, request: &RequestHead) -> bool {
        self.phase == Phase::Draining
            || request.timeout_us == Some(0)
            || request.encoding.check_compression().is_err()
    }

    /// Why a request is not even given to its handler.
    #[cold]
    fn refusal(&self, request: &RequestHead) -> Option<Status> {
        if self.phase == Phase::Draining {
            return Some(Status::unavailable("the server is shutting down; try another one"));
        }
        if request.timeout_us == Some(0) {
            return Some(Status::deadline_exceeded("the call's time was over when it arrived"));
        }
        let error = request.encoding.check_compression().err()?;
        Some(Status::unimplemented(error.to_string()))
    }

    /// Answers a call that never ran.
    pub fn refuse(&self, call: u32, status: &Status, out: &mut SendBuffer) {
        let head = ReplyHead { flags: reply_flags::REFUSED, ..ReplyHead::ok(call) };
        out.status(&head, status, self.peer_frame_bytes_max);
    }

    fn handle_cancel<'a>(&mut self, call: u32, out: &mut SendBuffer) -> ServerInput<'a, T> {
        // The reply may have crossed the cancel, so an unknown call is nobody's fault.
        match self.cancel(call, "the caller cancelled the call", out) {
            Some(work) => ServerInput::Cancelled { call, work },
            None => ServerInput::Handled,
        }
    }

    #[cold]
    fn misbehaved<'a>(&mut self, rule: Rule, out: &mut SendBuffer) -> ServerInput<'a, T> {
        self.turn_away(rule, CloseReason::PeerMisbehaved(rule), out)
    }

    /// Ends the connection with a go-away that names this rule.
    fn turn_away<'a>(
        &mut self,
        rule: Rule,
        reason: CloseReason,
        out: &mut SendBuffer,
    ) -> ServerInput<'a, T> {
        if self.phase == Phase::Hello {
            self.say_hello(out);
        }
        out.go_away(&GoAway { accepted: self.accepted, rule: rule.number() }, rule.text());
        self.close(reason);
        ServerInput::Closed(reason)
    }

    /// Ends the connection without sending anything; the first reason given stays.
    pub fn close(&mut self, reason: CloseReason) {
        if !matches!(self.phase, Phase::Closed(_)) {
            self.phase = Phase::Closed(reason);
        }
    }

    /// No whole frame is left in `recv`; starts or stops the clock of a partial one.
    #[inline]
    pub fn handle_rest(&mut self, recv: &RecvBuffer, now: Instant) {
        self.keep_alive.handle_rest(recv, &self.config.timeouts, now);
    }

    /// Nothing is read from the client while it takes too little: what it has sent is not late. The clock
    /// of a partial frame starts again with [`handle_rest`](Self::handle_rest).
    pub fn handle_pause(&mut self, now: Instant) {
        self.keep_alive.handle_pause(now);
    }

    /// The transport failed. After a client's go-away, when everything is answered, that is no fault: a
    /// client that closes with something unread, such as a ping, resets the connection. Nor is it a fault
    /// before the hello: a port scan connects and resets.
    pub fn handle_error(&mut self, error: impl Into<TransportError>) {
        if self.is_half_closed() {
            return self.end();
        }
        self.close(match self.phase {
            Phase::Hello => CloseReason::PeerLeft,
            _ if self.is_left() => CloseReason::Drained,
            _ => CloseReason::Transport(error.into()),
        });
    }

    /// Whether the client said that it makes no more calls, and waits for none.
    fn is_left(&self) -> bool {
        self.client_leaves && self.in_flight.is_empty()
    }

    /// Whether the client said that it makes no more calls, and none of its calls is pending, one-way
    /// ones included: time to close, once what was appended has been written (REQ-75).
    #[must_use]
    #[inline]
    pub fn is_finished(&self) -> bool {
        self.client_leaves && self.is_idle()
    }

    /// More arrived than was read. The next [`handle_timeout`](Self::handle_timeout) does not hold overdue
    /// frames against the client: they may be in the unread bytes.
    pub fn handle_unread(&mut self) {
        self.keep_alive.handle_unread();
    }

    /// Whether bytes are waiting to be written that the socket does not take.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.keep_alive.is_blocked()
    }

    /// The client's side has acknowledged bytes that were written before: it takes something, though not
    /// enough yet for the socket to take more.
    pub fn handle_acknowledged(&mut self, now: Instant) {
        self.keep_alive.handle_acknowledged(now);
    }

    /// Reports a write after which more is left that the socket was not given yet: it took all that it was given.
    #[inline]
    pub fn handle_part_written(&mut self, now: Instant) {
        self.keep_alive.handle_part_written(now);
    }

    /// Reports how a write went: whether bytes were written, and whether the socket left some over.
    #[inline]
    pub fn handle_write(&mut self, progress: bool, blocked: bool, now: Instant) {
        self.keep_alive.handle_write(progress, blocked, now);
    }

    /// Keeps the work of a pending call. Its id must be that of the last
    /// [`Call`](ServerInput::Call) and not be parked yet.
    pub fn park(&mut self, call: u32, deadline: Option<Instant>, work: T) {
        if is_one_way_id(call) {
            self.park_one_way(call, deadline, work);
        } else {
            self.in_flight.insert(call, deadline, work);
        }
    }

    /// The work of a parked call.
    pub fn parked_mut(&mut self, call: u32) -> Option<&mut T> {
        if is_one_way_id(call) {
            return self.extra_calls.as_mut()?.one_way.get_mut(call);
        }
        self.in_flight.get_mut(call)
    }

    /// Takes out the work of a parked call, which was answered or is about to be. A stream of the call
    /// is over with it, as by [`finish_stream`](Self::finish_stream).
    pub fn unpark(&mut self, call: u32) -> Option<T> {
        if is_one_way_id(call) {
            return self.unpark_one_way(call);
        }
        let work = self.in_flight.remove(call)?;
        self.finish_stream(call);
        self.keep_alive.handle_call_end();
        Some(work)
    }

    /// Ends a parked call from this side: `status` is its reply. Drop the work.
    pub fn stop_call(&mut self, call: u32, status: &Status, out: &mut SendBuffer) -> Option<T> {
        let work = self.unpark(call)?;
        if !is_one_way_id(call) {
            out.status(&ReplyHead::ok(call), status, self.peer_frame_bytes_max);
        }
        Some(work)
    }

    /// Ends the connection because this side's memory is short and it holds much of it (REQ-95).
    pub fn cut_off(&mut self, out: &mut SendBuffer) {
        if !matches!(self.phase, Phase::Closed(_)) {
            drop(self.misbehaved(Rule::MemoryShort, out));
        }
    }

    /// Takes out all parked work; for a connection that is over.
    pub fn unpark_all(&mut self) -> impl Iterator<Item = (u32, T)> + use<T> {
        let extra = self.extra_calls.take();
        let one_way = extra.map(|extra| extra.one_way.into_work());
        self.in_flight.drain().chain(one_way.into_iter().flatten())
    }

    /// Whether the connection is open and nothing is awaited. From one such moment to the next,
    /// [`poll_timeout`](Self::poll_timeout) only moves later, so it need not be called.
    #[must_use]
    #[inline]
    pub fn is_steady(&self) -> bool {
        self.phase == Phase::Open && self.is_idle() && self.keep_alive.is_quiet()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if matches!(self.phase, Phase::Closed(_)) {
            return None;
        }
        let link = self.keep_alive.poll_timeout(&self.config.timeouts, !self.is_idle());
        let one_way = self.extra_calls.as_ref().and_then(|extra| extra.one_way.earliest_deadline());
        [link, self.in_flight.earliest_deadline(), one_way].into_iter().flatten().min()
    }

    /// Does everything that is due, except for expired calls: [`poll_expired`](Self::poll_expired)
    /// takes those out.
    pub fn handle_timeout(&mut self, out: &mut SendBuffer, now: Instant) {
        if matches!(self.phase, Phase::Closed(_)) {
            return;
        }
        let busy = !self.is_idle();
        match self.keep_alive.handle_timeout(&self.config.timeouts, busy, out, now) {
            Ok(Due::Nothing) => {}
            Ok(Due::Aged) if self.phase == Phase::Draining => self.keep_alive.forget_age(),
            Ok(Due::Aged) => self.go_away("the connection has reached its age", out),
            Ok(Due::GraceOver) => self.close(CloseReason::DrainDeadline),
            Err(rule) => drop(self.misbehaved(rule, out)),
        }
        self.in_flight.shrink();
        if let Some(extra) = &mut self.extra_calls {
            extra.streams.shrink();
            extra.one_way.shrink();
        }
    }

    /// Takes out a parked call whose deadline has passed; its reply is written, unless it is one-way.
    /// Drop the work. When the connection is over nothing expires any more: nothing may follow the
    /// last go-away.
    pub fn poll_expired(&mut self, out: &mut SendBuffer, now: Instant) -> Option<(u32, T)> {
        if matches!(self.phase, Phase::Closed(_)) {
            return None;
        }
        let Some((call, work)) = self.in_flight.pop_expired(now) else {
            return self.pop_expired_one_way(now);
        };
        self.finish_stream(call);
        self.keep_alive.handle_activity(now);
        let status = Status::deadline_exceeded("the deadline passed while the handler ran");
        out.status(&ReplyHead::ok(call), &status, self.peer_frame_bytes_max);
        Some((call, work))
    }

    /// Sends a go-away, once: calls in flight are finished, new ones are refused. A connection whose
    /// client has said nothing yet has nothing to finish and is over; the go-away tells the client
    /// that none of the calls behind its hello ran.
    pub fn drain(&mut self, out: &mut SendBuffer) {
        self.go_away("the server is shutting down", out);
    }

    fn go_away(&mut self, text: &str, out: &mut SendBuffer) {
        let go_away = GoAway { accepted: self.accepted, rule: 0 };
        match self.phase {
            Phase::Open => {
                out.go_away(&go_away, text);
                self.phase = Phase::Draining;
            }
            Phase::Hello => {
                self.say_hello(out);
                out.go_away(&go_away, text);
                self.close(CloseReason::Drained);
            }
            Phase::Draining | Phase::Closed(_) => {}
        }
    }

    /// Whether the client knows a codec.
    #[must_use]
    pub fn peer_has_codec(&self, codec: corewire_codec::CodecId) -> bool {
        self.peer_codecs & (1 << codec.number()) != 0
    }
}
