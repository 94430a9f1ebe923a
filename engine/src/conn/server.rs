//! One accepted connection and its turn.

mod admission;
mod admission_state;
mod begin;
mod finish;
mod handover;
mod log;
mod snapshot;

pub(crate) use self::admission_state::Standing;

use corewire_codec::{RecvBuffer, RequestHead, Rule, SendBuffer, Status, request_flags};
use corewire_proto::canary::{Bug, is_planted};
use corewire_proto::{
    CloseReason, ServerConfig, ServerConnection, ServerIdentity, ServerInput, is_one_way_id,
};
use std::io;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use self::admission_state::AdmissionState;
use crate::calls::dispatch::{Note, ReplySlot};
use crate::calls::parked::{Ended, Parked};
use crate::conn::turn::{After, Ready, Received, TurnContext, stream_bytes_max};
use crate::net::io::Io;
use crate::stream::{StreamCell, StreamQueue};
use corewire_client::address::Peer;
use corewire_client::log_limit::Topic;
use corewire_client::streams::end_status;

/// How long a connection that is over is kept so that the peer reads its last frames before being
/// reset, and how many bytes the peer may still send meanwhile.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A connection that is cut off for what it holds is dropped at once if more bytes than this are unsent.
const LAST_BYTES_MAX: usize = 64 * 1024;

/// The flags of requests that ask for streams.
const STREAM: u8 = request_flags::STREAM_IN | request_flags::STREAM_OUT;

/// When the bytes came that are being handled.
#[derive(Clone, Copy, Debug)]
struct Times {
    /// Since when the first of them may have waited for this turn.
    came: Instant,
    /// When the last of them was received: all of them have waited at least since then.
    received: Instant,
}

/// A connection of the server.
#[derive(Debug)]
pub(crate) struct ServerConn<S> {
    socket: S,
    peer: Peer,
    proto: ServerConnection<Parked>,
    /// Bytes of frames that are not handled yet, if there are any: between turns most connections have none.
    recv: Option<Box<RecvBuffer>>,
    /// Bytes that the socket did not take.
    send: SendBuffer,
    /// Parked calls that want to be polled.
    woken: Vec<u32>,
    /// Its streams that want something; boxed, because most connections have none.
    streams: Option<Box<StreamQueue>>,
    /// Bytes that its pending calls hold.
    held: usize,
    /// Its progress, modulo the word: bytes that ended calls gave back, bytes sent of unsent ones, and bytes
    /// received of large requests; and how many calls ended.
    progress: usize,
    ended: u32,
    admission_state: Option<Box<AdmissionState>>,
    paused: bool,
    /// Whether the last turn ended with nothing awaited, and its timer armed.
    steady: bool,
    /// Whether a call came with the hash of its key: the client chose this shard.
    keyed: bool,
}

/// An idle connection must hold at most 512 bytes: this with the allocator's word, 48 in the driver's table, and
/// 24 of a timer.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<ServerConn<std::os::fd::OwnedFd>>() <= 408);

impl<S: 'static> ServerConn<S> {
    pub(crate) fn new(
        socket: S,
        peer: Peer,
        config: Rc<ServerConfig>,
        connection_id: u64,
        now: Instant,
    ) -> Self {
        let proto = ServerConnection::new(config, ServerIdentity { connection_id }, now);
        Self::with_proto(socket, peer, proto)
    }

    fn with_proto(socket: S, peer: Peer, proto: ServerConnection<Parked>) -> Self {
        Self {
            socket,
            peer,
            proto,
            recv: None,
            send: SendBuffer::new(),
            woken: Vec::new(),
            streams: None,
            held: 0,
            progress: 0,
            ended: 0,
            admission_state: None,
            paused: false,
            steady: false,
            keyed: false,
        }
    }

    /// Notes that a parked call wants to be polled.
    pub(crate) fn wake(&mut self, call: u32) {
        self.woken.push(call);
    }

    /// A stream of this connection wants something.
    pub(crate) fn push_stream(&mut self, stream: Rc<StreamCell>) {
        self.streams.get_or_insert_default().push(stream);
    }

    /// One turn; returns what comes next and when to come back at the latest.
    pub(crate) fn turn<I: Io<Socket = S>>(
        &mut self,
        shared: &mut TurnContext<I>,
        ready: &mut Ready,
    ) -> (After, Option<Instant>) {
        if self.lingers() {
            return self.turn_lingering(shared, ready);
        }
        shared.counters.current.enter(self.proto.connection_id());
        if self.send.is_empty() {
            core::mem::swap(&mut self.send, &mut shared.send);
        } else if self.is_over_budget(shared) {
            self.proto.handle_pause(shared.now);
        }
        if ready.due {
            // The client is judged below, by what has arrived until now.
            ready.readable = true;
            self.expire_calls(shared);
            if is_planted(Bug::BlindClocks) {
                self.judge(shared, false);
            }
        }
        // The drain's deadline may have ended the connection: then its handlers must not go on, and nothing
        // may follow the last go-away.
        if !self.woken.is_empty() && self.proto.close_reason().is_none() {
            self.poll_woken(shared);
        }
        if shared.drain_by.is_some() && !self.proto.is_draining() {
            self.proto.drain(&mut self.send);
        }
        let again = self.receive(shared, ready);
        if !again {
            ready.since = shared.now;
        }
        if self.streams.is_some() {
            self.serve_streams(shared);
        }
        if ready.due {
            self.judge(shared, again);
        }
        let more = self.flush(shared, ready);
        self.settle_account(shared);
        if self.send.is_empty() {
            core::mem::swap(&mut self.send, &mut shared.send);
            // What comes back may still have the memory of a time when another connection was slow.
            self.send.shrink();
        }
        let mut finish_by = None;
        if !self.proto.goes_on() {
            if self.proto.is_half_closed() {
                self.finish(shared);
            }
            finish_by = self.finish_by(shared);
            if let Some(reason) = self.proto.close_reason() {
                return self.close(shared, ready, reason);
            }
        }
        // A paused connection is looked at again when its replies leave, its calls end, or its share has grown.
        let again = more
            || (again && !self.is_held_up(shared))
            || (!self.woken.is_empty() && !self.waits_to_answer(shared))
            || self.has_shrunk()
            || self.streams_want_a_turn(shared);
        let after = if again { After::Again } else { After::Wait };
        // Most turns leave every clock where it is or move it later; the armed timer is still right.
        let was_steady = core::mem::replace(&mut self.steady, self.proto.is_steady());
        if was_steady && self.steady && !ready.due && self.admission_state.is_none() {
            return (after, None);
        }
        let refuse_by = self.refuse_by(shared);
        (after, [self.proto.poll_timeout(), finish_by, refuse_by].into_iter().flatten().min())
    }

    /// A draining connection without calls is left to its client, which closes it when it has its replies.
    /// If it does not, the connection is closed a second later. Returns when that is. If it is the client
    /// that goes away, nothing more can come of it, and the connection is closed at once.
    fn finish_by<I: Io<Socket = S>>(&mut self, shared: &TurnContext<I>) -> Option<Instant> {
        if self.proto.is_finished() && self.send.is_empty() {
            self.proto.close(CloseReason::Drained);
            return None;
        }
        let idle = self.proto.is_draining() && self.proto.in_flight() == 0 && self.send.is_empty();
        if !idle {
            if let Some(admission_state) = &mut self.admission_state {
                admission_state.finished = None;
            }
            return None;
        }
        let admission_state = self.admission_state.get_or_insert_default();
        let by = *admission_state.finished.get_or_insert(shared.now) + LINGER;
        if by <= shared.now {
            self.proto.close(CloseReason::Drained);
        }
        Some(by)
    }

    /// Does what is due, now that what arrived was read. If it was not read to its end, the client is not
    /// judged by what it owes.
    #[cold]
    fn judge<I: Io<Socket = S>>(&mut self, shared: &mut TurnContext<I>, unread: bool) {
        // While a large request waits for room, a pong or the next request may lie behind it.
        if unread || self.waits_for_large() {
            self.proto.handle_unread();
        }
        // A socket may take nothing for a long while although a slow reader takes bytes all the time.
        if self.proto.is_blocked()
            && self.admission_state.get_or_insert_default().unacked.falls(shared, &self.socket)
        {
            self.proto.handle_acknowledged(shared.now);
        }
        self.proto.handle_timeout(&mut self.send, shared.now);
    }

    /// A parked call is over.
    fn end_call<I: Io<Socket = S>>(
        &mut self,
        shared: &mut TurnContext<I>,
        parked: Parked,
        ended: Ended,
    ) {
        self.held = self.held.saturating_sub(parked.held);
        self.progress = self.progress.wrapping_add(parked.held);
        self.ended = self.ended.wrapping_add(1);
        shared.memory.end_call(parked.held);
        let method = parked.method;
        if let Some((call, note)) = shared.calls.end(parked, ended, &shared.counters) {
            self.log_call(shared, method, call, &note);
        }
    }

    fn poll_woken<I: Io<Socket = S>>(&mut self, shared: &mut TurnContext<I>) {
        // Handlers that could reply wait, too, while too much is unsent: otherwise a client that
        // reads nothing could have a reply held for each of its calls in flight.
        // A shard with several classes stops, too, when its handlers have had their time in this turn.
        while !shared.calls.local().classes.is_spent()
            && !self.is_over_budget(shared)
            && let Some(call) = self.woken.pop()
        {
            let frame_bytes_max = self.proto.peer_frame_bytes_max();
            // It may have ended between its wake and now.
            let Some(parked) = self.proto.parked_mut(call) else { continue };
            let mut reply = ReplySlot::new(&mut self.send, call, frame_bytes_max);
            let (method, counters) = (parked.method, &shared.counters);
            let polled = shared.calls.poll(parked, call, &mut reply, counters);
            if reply.is_refused() && is_one_way_id(call) {
                shared.counters.one_way_dropped.add(1);
            }
            let note = reply.into_note();
            if let Poll::Ready(ended) = polled
                && let Some(parked) = self.proto.unpark(call)
            {
                self.end_call(shared, parked, ended);
            }
            if let Some(note) = note {
                self.log_call(shared, method, call, &note);
            }
        }
        if self.woken.is_empty() && self.woken.capacity() > 64 {
            self.woken = Vec::new();
        }
    }

    /// Grants what streams consumed, writes what they have, and ends the calls whose last was written.
    #[cold]
    fn serve_streams<I: Io<Socket = S>>(&mut self, shared: &mut TurnContext<I>) {
        let Some(streams) = &mut self.streams else { return };
        // What handlers wanted in this turn need not wait for the next one.
        shared.streams.take_of(shared.token, |stream| streams.push(stream));
        streams.serve(&mut self.proto, &mut self.send, stream_bytes_max(shared));
        while let Some((call, failure)) = self.streams.as_mut().and_then(|it| it.pop_ended()) {
            let Some(parked) = self.proto.unpark(call) else { continue };
            let method = parked.method;
            self.end_call(shared, parked, Ended::Well);
            if let Some(failure) = failure {
                self.log_call(shared, method, call, &Note::Failed(*failure));
            }
        }
    }

    /// Whether nothing is read now: too much is unsent, or there is no room for calls.
    #[inline]
    fn is_held_up<I: Io<Socket = S>>(&mut self, shared: &mut TurnContext<I>) -> bool {
        self.waits_to_answer(shared) || self.waits_for_room(shared)
    }

    /// Receives and handles frames within the turn's bounds; returns whether work is left.
    fn receive<I: Io<Socket = S>>(
        &mut self,
        shared: &mut TurnContext<I>,
        ready: &mut Ready,
    ) -> bool {
        let mut buffer = match self.recv.take() {
            Some(unread) => *unread,
            None if ready.readable => shared.recv.lend(),
            None => return false,
        };
        let again = self.receive_with(shared, ready, &mut buffer);
        if self.admission_state.is_some() {
            let budget = shared.config.budgets.receive_bytes;
            self.end_large(buffer.len(), buffer.lacking(), budget);
        }
        // Whole frames that wait for the next turn are not late: only a partial one is timed.
        if !again {
            self.proto.handle_rest(&buffer, shared.now);
            if self.waits_for_large() {
                self.proto.handle_pause(shared.now);
            }
        }
        if buffer.is_empty() {
            shared.recv.give_back(buffer);
        } else {
            self.keep_unread(shared, buffer);
        }
        again
    }

    #[cold]
    fn keep_unread<I: Io<Socket = S>>(&mut self, shared: &mut TurnContext<I>, buffer: RecvBuffer) {
        let mut unread = RecvBuffer::new();
        shared.recv.settle(&mut unread, buffer);
        self.recv = Some(Box::new(unread));
    }

    fn receive_with<I: Io<Socket = S>>(
        &mut self,
        shared: &mut TurnContext<I>,
        ready: &mut Ready,
        buffer: &mut RecvBuffer,
    ) -> bool {
        let budgets = shared.config.budgets;
        let mut frames_left = budgets.frames_per_turn;
        // What lies in the buffer was received in an earlier turn; that turn tells since when it waits.
        let mut times = Times { came: ready.since, received: ready.since };
        for round in 0.. {
            if !buffer.is_empty() && !self.handle_frames(shared, buffer, &mut frames_left, times) {
                ready.since = times.received;
                return true;
            }
            if self.proto.close_reason().is_some() || !ready.readable {
                return false;
            }
            let strained = self.may_be_held_up(shared);
            if round >= shared.turn.receives_each() || (strained && self.is_held_up(shared)) {
                ready.since = shared.now;
                return true;
            }
            if !buffer.is_empty() && !self.may_receive(shared, buffer) {
                self.notice_end(shared, ready);
                return false;
            }
            let most = if strained { self.receive_bytes_max(shared, buffer) } else { usize::MAX };
            match shared.receive_up_to(&self.socket, buffer, ready, most) {
                Received::Bytes => {
                    self.skip(buffer, shared.now);
                    times.received = shared.now;
                    // What came after frames of this turn may have come just now.
                    if frames_left < budgets.frames_per_turn {
                        times.came = shared.now;
                    }
                }
                Received::Nothing => return false,
                Received::End => {
                    self.handle_end(shared, buffer);
                    return false;
                }
                Received::Failed(kind) => {
                    self.proto.handle_error(kind);
                    return false;
                }
            }
        }
        false
    }

    /// Handles whole frames; returns `false` when it stopped at a bound with frames left.
    fn handle_frames<I: Io<Socket = S>>(
        &mut self,
        shared: &mut TurnContext<I>,
        buffer: &mut RecvBuffer,
        frames_left: &mut usize,
        times: Times,
    ) -> bool {
        let mut head = RequestHead::default();
        // Whether the last call was answered at once, and took no room.
        let mut room_known = false;
        let (mut unsent_max, mut strained) = (0, false);
        loop {
            if *frames_left == 0 {
                return false;
            }
            // Room is checked again only after other frames.
            if !room_known {
                strained = self.is_strained(shared);
                unsent_max = if strained { 0 } else { shared.config.budgets.unsent_bytes_max };
            }
            if (self.send.len() > unsent_max && self.is_over_budget(shared))
                || (strained && !room_known && self.waits_for_room(shared))
            {
                if !core::mem::replace(&mut self.paused, true) {
                    shared.counters.reads_paused.add(1);
                }
                return false;
            }
            (self.paused, room_known) = (false, false);
            // A call's time counts from when it was received, not from its turn.
            match self.proto.handle_frame(buffer, &mut head, &mut self.send, times.received) {
                ServerInput::NeedBytes => return true,
                ServerInput::Handled => {}
                ServerInput::OneWayDropped(_) => shared.counters.one_way_dropped.add(1),
                ServerInput::StreamData { call, cost, .. } if self.streams_are_over(shared) => {
                    self.proto.consume(call, cost, &mut self.send);
                    self.stop_call(shared, call);
                }
                ServerInput::StreamData { call, encoding, cost, end, payload } => {
                    match self.proto.parked_mut(call).and_then(|parked| parked.stream.as_ref()) {
                        Some(stream) => {
                            stream.receive(encoding, cost, payload);
                            if end {
                                stream.end_incoming_ok();
                            }
                        }
                        None => self.proto.consume(call, cost, &mut self.send),
                    }
                }
                ServerInput::StreamEnd { call, code, payload } => {
                    let parked = self.proto.parked_mut(call);
                    if let Some(stream) = parked.and_then(|parked| parked.stream.as_ref()) {
                        stream.end_incoming(end_status(code, &payload));
                    }
                }
                ServerInput::Writable { call } => {
                    if let Some(streams) = &mut self.streams {
                        streams.handle_writable(call);
                    }
                }
                ServerInput::Call { request, payload, deadline } => {
                    room_known = self.begin_call(shared, request, payload, deadline, times.came);
                }
                ServerInput::Cancelled { work, .. } => {
                    self.end_call(shared, work, Ended::Dropped);
                }
                ServerInput::Closed(_) => return true,
            }
            *frames_left -= 1;
            shared.note_frame();
        }
    }

    /// Writes what there is, first and without asking; stops at the first `WouldBlock`, or at the
    /// bound of a turn, and then returns that another turn is wanted.
    fn flush<I: Io<Socket = S>>(&mut self, shared: &mut TurnContext<I>, ready: &mut Ready) -> bool {
        if self.send.is_empty() {
            return false;
        }
        let before = self.admission_state.as_ref().map_or(0, |_| self.send.len());
        let written = shared.write(&self.socket, &mut self.send, ready);
        if written.failed {
            self.send.clear();
        }
        if before != 0 {
            self.note_moved(before.saturating_sub(self.send.len()));
        }
        if written.failed {
            self.proto.handle_error(shared.failure);
        }
        match written.more {
            true => self.proto.handle_part_written(shared.now),
            false => self.proto.handle_write(written.progress, !self.send.is_empty(), shared.now),
        }
        written.more
    }

    fn drop_calls<I: Io<Socket = S>>(&mut self, shared: &mut TurnContext<I>) {
        for (_, parked) in self.proto.unpark_all() {
            self.end_call(shared, parked, Ended::Dropped);
        }
    }

    /// The drain deadline passed: the next turn tells the callers who still wait, and closes.
    pub(crate) fn abandon(&mut self) {
        self.proto.close(CloseReason::DrainDeadline);
    }

    /// Nobody may wait for the handlers any longer: their callers get a failure (REQ-76), and they are
    /// dropped. Returns whether anything is left to send.
    #[cold]
    fn finish_calls<I: Io<Socket = S>>(
        &mut self,
        shared: &mut TurnContext<I>,
        ready: &mut Ready,
    ) -> bool {
        let status = Status::unavailable("the server closes; the call was stopped while it ran");
        let parked = self.proto.finish_all(&status, &mut self.send);
        let told = !self.send.is_empty();
        for parked in parked {
            self.end_call(shared, parked, Ended::Dropped);
        }
        self.flush(shared, ready);
        told
    }

    fn report<I: Io<Socket = S>>(&self, shared: &TurnContext<I>, reason: CloseReason) {
        let shard = shared.config.info.id;
        let connection = self.proto.connection_id();
        let (peer, calls) = (self.peer, self.proto.accepted());
        let topic = Topic::of_client(reason);
        let log = &shared.calls.local().log;
        if topic.is_none_or(|topic| !log.admit(topic, shared.now)) {
            tracing::debug!(%shard, %peer, connection, calls, %reason, "connection closed");
        } else if let CloseReason::PeerMisbehaved(rule) = reason {
            let rule = rule.number();
            tracing::warn!(%shard, %peer, connection, calls, rule, %reason, "protocol fault; connection closed");
        } else {
            tracing::info!(%shard, %peer, %reason, "probed; connection closed");
        }
        if reason.is_fault() {
            shared.counters.connections_faulted.add(1);
        }
    }

    /// The connection is over: nobody waits for its calls. If it has last frames to send, the
    /// socket is kept for a while, because unread input would make the kernel reset it and lose them.
    fn close<I: Io<Socket = S>>(
        &mut self,
        shared: &mut TurnContext<I>,
        ready: &mut Ready,
        reason: CloseReason,
    ) -> (After, Option<Instant>) {
        shared.io.ending(&self.socket, reason);
        self.report(shared, reason);
        let told = reason == CloseReason::DrainDeadline && self.finish_calls(shared, ready);
        self.drop_calls(shared);
        self.recv = None;
        self.end_large(0, 0, 0);
        self.settle_account(shared);
        if reason == CloseReason::PeerMisbehaved(Rule::MemoryShort)
            && self.send.len() > LAST_BYTES_MAX
        {
            return (After::Drop, None);
        }
        let last_words = told
            || matches!(
                reason,
                CloseReason::PeerMisbehaved(_) | CloseReason::Foreign(_) | CloseReason::Drained
            );
        if !last_words || ready.hangup {
            return (After::Drop, None);
        }
        self.admission_state.get_or_insert_default().linger = Some((shared.now + LINGER, 0));
        if self.send.is_empty() {
            shared.io.shutdown_write(&self.socket);
        }
        self.turn_lingering(shared, ready)
    }

    /// Reads and drops input until the peer closes or the time is over.
    fn turn_lingering<I: Io<Socket = S>>(
        &mut self,
        shared: &mut TurnContext<I>,
        ready: &mut Ready,
    ) -> (After, Option<Instant>) {
        let Some((until, mut forgotten)) =
            self.admission_state.as_ref().and_then(|admission_state| admission_state.linger)
        else {
            return (After::Drop, None);
        };
        if until <= shared.now {
            return (After::Drop, None);
        }
        let mut more = false;
        if !self.send.is_empty() {
            more = self.flush(shared, ready);
            if self.send.is_empty() {
                shared.io.shutdown_write(&self.socket);
            }
        }
        let mut sink = shared.recv.lend();
        for _ in 0..shared.turn.receives_each() {
            if !ready.readable {
                break;
            }
            let storage = sink.storage(0);
            let outcome =
                shared.io.recv(&self.socket, storage, shared.config.budgets.receive_bytes);
            storage.clear();
            match outcome {
                Ok(count) if count > 0 && forgotten < LINGER_BYTES_MAX => {
                    forgotten += count;
                    ready.moved += count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.readable = false,
                Ok(_) | Err(_) => return (After::Drop, None),
            }
        }
        shared.recv.give_back(sink);
        self.admission_state.get_or_insert_default().linger = Some((until, forgotten));
        more |= ready.readable;
        (if more { After::Again } else { After::Wait }, Some(until))
    }
}
