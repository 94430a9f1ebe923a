//! The client's side of a connection.

mod ending;
mod input;
mod retract;
mod streams;
mod taken_back;

use std::sync::Arc;
use std::time::Instant;

use corewire_codec::{
    CancelReason, FrameKind, GoAway, Head, Header, Hello, HelloRecords, Payload, RecvBuffer,
    ReplyHead, Role, Rule, SendBuffer, VERSION, reply_flags, stream_flags,
};

use crate::close::CloseReason;
use crate::config::ClientConfig;
use crate::config::records;
use crate::in_flight::slot;
use crate::jitter::mix;
use crate::keep_alive::KeepAlive;
use crate::streams::table::StreamTable;

pub use self::input::{CallsFailed, ClientInput, Expired, NoSlot};
use self::taken_back::TakenBack;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Calls may be made within [`Limits::EARLY`](corewire_codec::Limits::EARLY).
    Hello,
    Open,
    /// One of the sides sent a go-away: calls in flight go on.
    Draining,
    /// This side sent a go-away, and the server's hello is not here yet.
    LeavingEarly,
    Closed(CloseReason),
}

#[derive(Debug)]
enum SlotState<T> {
    Free,
    InFlight {
        work: T,
        deadline: Option<Instant>,
        order: u32,
    },
    /// Nobody waits any more, but the server has not answered: the slot must not be used again yet.
    Abandoned,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u16,
    state: SlotState<T>,
}

/// The client's side of one connection. `T` is what the caller keeps for a call in flight.
///
/// See the [crate's page](crate) for how to drive it.
#[derive(Debug)]
pub struct ClientConnection<T> {
    /// Counted across threads, so that a connection may move from one thread to another.
    config: Arc<ClientConfig>,
    phase: Phase,
    /// Whether the server's hello came.
    ready: bool,
    /// Whether the server was seen to take calls.
    proven: bool,
    keep_alive: KeepAlive,
    slots: Vec<Slot<T>>,
    /// Free slots, the one freed last on top: it is the one most likely in the cache.
    free: Vec<u16>,
    waiting: usize,
    /// Slots that are not free.
    taken: usize,
    /// Requests sent so far, modulo 2³², with those that were taken back since the last renumbering.
    sent: u32,
    /// How many of them are known to be completely written.
    written: u32,
    /// What is known of those that were taken back; made by the first.
    taken_back: Option<Box<TakenBack<T>>>,
    /// How many of them the server says it took.
    accepted: Option<u32>,
    earliest: Option<Instant>,
    /// Calls that the last scan found expired and that were not taken out yet, if they still live.
    expired: Vec<u32>,
    /// No slot below this one holds a call that the last go-away ruled out.
    refused_from: usize,
    peer: HelloRecords,
    /// What only connections with streams pay for.
    streams: Option<Box<StreamTable>>,
}

impl<T> ClientConnection<T> {
    /// A connection that was just made; its hello is appended to `out`. The `id` distinguishes it from
    /// the other connections with the same seed: the jitter of its times is made from both.
    #[must_use]
    pub fn new(config: Arc<ClientConfig>, id: u64, out: &mut SendBuffer, now: Instant) -> Self {
        let own = records(&config.limits, &config.timeouts);
        out.hello(&Hello { version: VERSION, role: Role::Client, records: own });
        let random = mix(config.jitter_seed, id);
        Self {
            keep_alive: KeepAlive::new(&config.timeouts, random, now),
            config,
            phase: Phase::Hello,
            ready: false,
            proven: false,
            slots: Vec::new(),
            free: Vec::new(),
            waiting: 0,
            taken: 0,
            sent: 0,
            written: 0,
            taken_back: None,
            accepted: None,
            earliest: None,
            expired: Vec::new(),
            refused_from: 0,
            peer: HelloRecords::default(),
            streams: None,
        }
    }

    /// What the server says about itself; the least values until its hello is here.
    #[must_use]
    pub fn peer(&self) -> &HelloRecords {
        &self.peer
    }

    /// The largest payload that the server accepts, in bytes.
    #[must_use]
    #[inline]
    pub fn peer_frame_bytes_max(&self) -> u32 {
        self.peer.limits.frame_bytes.get()
    }

    /// Whether a request should say the hash of its call's key: the server hashes keys, and has several shards to
    /// choose from (REQ-98, REQ-99).
    #[must_use]
    pub fn takes_keys(&self) -> bool {
        self.peer.routes_keys() && self.peer.shard.is_none_or(|(_, shards)| shards > 1)
    }

    /// Calls that somebody waits for.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.waiting
    }

    /// Whether the server's hello came.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Whether a ping waits for its pong and nothing was heard since it was sent: the server may be gone.
    #[must_use]
    pub fn awaits_pong(&self) -> bool {
        self.keep_alive.awaits_pong()
    }

    /// Takes a slot for a call and returns its id; the caller then appends the request with exactly
    /// that id, or gives the slot back with [`unsend`](Self::unsend).
    ///
    /// # Errors
    ///
    /// Why there is no slot; `work` is dropped.
    #[inline]
    pub fn begin_call(&mut self, work: T, deadline: Option<Instant>) -> Result<u32, NoSlot> {
        self.begin_call_with(|_| work, deadline)
    }

    /// As [`begin_call`](Self::begin_call), for work that has to know its call's id. Without a slot, `work` is not run.
    ///
    /// # Errors
    ///
    /// Why there is no slot.
    #[inline]
    pub fn begin_call_with(
        &mut self,
        work: impl FnOnce(u32) -> T,
        deadline: Option<Instant>,
    ) -> Result<u32, NoSlot> {
        if !matches!(self.phase, Phase::Hello | Phase::Open) {
            return Err(NoSlot::Closed);
        }
        let index = match self.free.pop() {
            Some(index) => index,
            None => self.grow()?,
        };
        let order = self.sent;
        self.sent = self.sent.wrapping_add(1);
        let place = &mut self.slots[usize::from(index)];
        let call = u32::from(index) | (u32::from(place.generation) << 16);
        place.state = SlotState::InFlight { work: work(call), deadline, order };
        self.waiting += 1;
        self.taken += 1;
        let is_missed =
            self.earliest.is_some() && crate::canary::is_planted(crate::canary::Bug::LateDeadline);
        if let Some(deadline) = deadline.filter(|_| !is_missed) {
            self.earliest = Some(self.earliest.map_or(deadline, |earliest| earliest.min(deadline)));
        }
        Ok(call)
    }

    #[cold]
    fn grow(&mut self) -> Result<u16, NoSlot> {
        if self.slots.len() >= self.peer.limits.in_flight.get() as usize {
            return Err(NoSlot::Full);
        }
        let index = u16::try_from(self.slots.len()).map_err(|_| NoSlot::Full)?;
        self.slots.push(Slot { generation: 0, state: SlotState::Free });
        Ok(index)
    }

    /// Whether a call can be made now.
    #[must_use]
    #[inline]
    pub fn has_slot(&self) -> bool {
        matches!(self.phase, Phase::Hello | Phase::Open)
            && (!self.free.is_empty()
                || self.slots.len() < self.peer.limits.in_flight.get() as usize)
    }

    /// How many calls can be made now.
    #[must_use]
    pub fn free_slots(&self) -> usize {
        match self.phase {
            Phase::Hello | Phase::Open => {
                let unused = self.peer.limits.in_flight.get() as usize;
                self.free.len() + unused.saturating_sub(self.slots.len())
            }
            Phase::Draining | Phase::LeavingEarly | Phase::Closed(_) => 0,
        }
    }

    /// A time no later than the first deadline of the calls in flight.
    #[must_use]
    #[inline]
    pub fn earliest_deadline(&self) -> Option<Instant> {
        self.earliest.filter(|_| self.waiting != 0)
    }

    /// Takes back the call that was begun last and whose request was not appended.
    pub fn unsend(&mut self, call: u32) -> Option<T> {
        let work = self.take(call)?;
        self.sent = self.sent.wrapping_sub(1);
        self.forget_stream(call);
        self.release(call);
        Some(work)
    }

    /// Takes the work out of a slot and leaves it abandoned.
    #[inline]
    fn take(&mut self, call: u32) -> Option<T> {
        let place = self.slots.get_mut(slot(call))?;
        if u32::from(place.generation) != call >> 16 {
            return None;
        }
        match core::mem::replace(&mut place.state, SlotState::Abandoned) {
            SlotState::InFlight { work, .. } => {
                self.waiting -= 1;
                Some(work)
            }
            other => {
                place.state = other;
                None
            }
        }
    }

    /// Frees a slot for the next generation.
    #[inline]
    fn release(&mut self, call: u32) {
        let index = slot(call);
        let place = &mut self.slots[index];
        place.generation = place.generation.wrapping_add(1);
        place.state = SlotState::Free;
        self.taken -= 1;
        self.free.push((call & 0xffff) as u16);
    }

    /// Nobody waits for a call any more. If no byte of its request was written, the request is taken out of
    /// `out` and the slot is free at once. Otherwise a cancel is appended, waiting stream messages are taken
    /// out, and the slot stays taken until the server answers.
    ///
    /// It looks at each frame in `out` if the request may still be there.
    pub fn abandon(&mut self, call: u32, reason: CancelReason, out: &mut SendBuffer) -> Option<T> {
        // Nothing may follow the last go-away.
        if matches!(self.phase, Phase::Closed(_)) {
            let work = self.take(call)?;
            self.leave_stream(call);
            return Some(work);
        }
        if !out.is_empty()
            && let Some(work) = self.take_back(call, out)
        {
            return Some(work);
        }
        self.cancel(call, reason, out)
    }

    /// Gives up a call whose request was written, wholly or partly.
    fn cancel(&mut self, call: u32, reason: CancelReason, out: &mut SendBuffer) -> Option<T> {
        let work = self.take(call)?;
        self.leave_stream(call);
        if self.streams.as_ref().is_none_or(|streams| streams.get(call).is_none())
            && reason == CancelReason::Dropped
            && crate::canary::is_planted(crate::canary::Bug::SilentCancel)
        {
            return Some(work);
        }
        out.cancel(call, reason);
        if reason == CancelReason::Deadline
            && crate::canary::is_planted(crate::canary::Bug::EarlySlot)
        {
            self.release(call);
        }
        Some(work)
    }

    /// Handles the next frame of `recv`, if a whole one is there. Answers to it are appended to
    /// `out`.
    #[inline]
    pub fn handle_frame<'a>(
        &mut self,
        recv: &'a mut RecvBuffer,
        out: &mut SendBuffer,
        now: Instant,
    ) -> ClientInput<'a, T> {
        match self.phase {
            Phase::Open | Phase::Draining => {}
            Phase::Hello | Phase::LeavingEarly => return self.handle_hello(recv, out, now),
            Phase::Closed(reason) => return ClientInput::Closed(reason),
        }
        let limits = &self.config.limits;
        let metadata_bytes_max = limits.metadata_bytes.get();
        let header = match recv.next_header(limits.frame_bytes.get()) {
            Ok(Some(header)) => header,
            Ok(None) if recv.is_empty() => return ClientInput::NeedBytes,
            Ok(None) => return self.handle_unfinished(recv, out),
            Err(rule) => return self.misbehaved(rule, out),
        };
        self.keep_alive.handle_frame(now);
        // Most frames are replies that end their call: they take the short way, and the others stay out of it.
        if header.kind != FrameKind::Reply || header.flags & reply_flags::STREAM != 0 {
            return self.handle_other(header, recv, out, now);
        }
        match recv.front_reply(header, metadata_bytes_max) {
            Ok((head, payload)) => self.handle_reply(head, payload, out, now),
            Err(rule) => self.misbehaved(rule, out),
        }
    }

    /// Part of a frame is here. If its header shows it to be wrong, the rest is not waited for: its
    /// payload would take as much room as the largest reply.
    #[cold]
    fn handle_unfinished<'a>(
        &mut self,
        recv: &RecvBuffer,
        out: &mut SendBuffer,
    ) -> ClientInput<'a, T> {
        match recv.peek_header().map_or(Ok(()), |header| self.check_unfinished(header)) {
            Ok(()) => ClientInput::NeedBytes,
            Err(rule) => self.misbehaved(rule, out),
        }
    }

    fn check_unfinished(&self, header: Header) -> Result<(), Rule> {
        header.check_unfinished()?;
        match header.kind {
            FrameKind::Request => Err(Rule::WrongDirection),
            FrameKind::StreamData if header.flags & stream_flags::END != 0 => {
                Err(Rule::ReservedBits)
            }
            FrameKind::StreamData | FrameKind::StreamEnd => {
                crate::streams::table::check_receiving(self.streams.as_deref(), header.call)
            }
            FrameKind::Reply if self.is_slot_free(header.call) => Err(Rule::UnknownReply),
            _ => Ok(()),
        }
    }

    /// Whether no reply can come for this call: it was never made, or has ended.
    fn is_slot_free(&self, call: u32) -> bool {
        let place = self.slots.get(slot(call));
        place.is_none_or(|place| {
            matches!(place.state, SlotState::Free) || u32::from(place.generation) != call >> 16
        })
    }

    #[inline(never)]
    fn handle_other<'a>(
        &mut self,
        header: Header,
        recv: &'a mut RecvBuffer,
        out: &mut SendBuffer,
        now: Instant,
    ) -> ClientInput<'a, T> {
        let frame = match recv.front(header, self.config.limits.metadata_bytes.get()) {
            Ok(frame) => frame,
            Err(rule) => return self.misbehaved(rule, out),
        };
        match frame.head {
            Head::Ping(opaque) => {
                self.keep_alive.handle_ping(opaque, out);
                ClientInput::Handled
            }
            Head::Pong(opaque) => match self.keep_alive.handle_pong(opaque) {
                Ok(()) => ClientInput::Handled,
                Err(rule) => self.misbehaved(rule, out),
            },
            Head::GoAway(go_away) => self.handle_go_away(go_away),
            Head::Credit(credit) => self.handle_credit(&credit, out),
            Head::Reply(head) => {
                self.keep_alive.handle_activity(now);
                self.handle_opening(head, frame.payload, out)
            }
            Head::Request(_) | Head::Cancel { .. } => self.misbehaved(Rule::WrongDirection, out),
            Head::StreamData(data) => {
                self.keep_alive.handle_activity(now);
                self.handle_stream_data(data, frame.payload, out)
            }
            Head::StreamEnd(end) => {
                self.keep_alive.handle_activity(now);
                self.handle_stream_end(end, frame.payload, out)
            }
        }
    }

    #[cold]
    fn handle_hello<'a>(
        &mut self,
        recv: &mut RecvBuffer,
        out: &mut SendBuffer,
        now: Instant,
    ) -> ClientInput<'a, T> {
        match recv.next_hello() {
            Ok(None) => ClientInput::NeedBytes,
            Err(rule) => self.misbehaved(rule, out),
            Ok(Some(hello)) if hello.role != Role::Server => {
                self.misbehaved(Rule::BrokenHello, out)
            }
            Ok(Some(hello)) => {
                self.raise_credit(&hello.records);
                self.peer = hello.records;
                self.keep_alive.handle_hello(now);
                self.phase = match self.phase {
                    Phase::LeavingEarly => Phase::Draining,
                    _ => Phase::Open,
                };
                self.ready = true;
                ClientInput::Ready
            }
        }
    }

    #[inline]
    fn handle_reply<'a>(
        &mut self,
        head: ReplyHead,
        payload: Payload<'a>,
        out: &mut SendBuffer,
        now: Instant,
    ) -> ClientInput<'a, T> {
        self.keep_alive.handle_activity(now);
        if let Some(work) = self.take(head.call) {
            if self.streams.is_some() {
                self.end_stream_call(head.call, out);
            }
            self.release(head.call);
            self.proven = true;
            return ClientInput::Reply { work, head, payload };
        }
        self.handle_late_reply(head.call, out)
    }

    /// A reply that nobody waits for: its call was abandoned, or never made.
    #[cold]
    fn handle_late_reply<'a>(&mut self, call: u32, out: &mut SendBuffer) -> ClientInput<'a, T> {
        let abandoned = self.slots.get(slot(call)).is_some_and(|place| {
            matches!(place.state, SlotState::Abandoned) && u32::from(place.generation) == call >> 16
        });
        if abandoned {
            self.end_stream_call(call, out);
            self.release(call);
            ClientInput::Handled
        } else {
            self.misbehaved(Rule::UnknownReply, out)
        }
    }

    #[cold]
    fn misbehaved<'a>(&mut self, rule: Rule, out: &mut SendBuffer) -> ClientInput<'a, T> {
        out.go_away(&GoAway { accepted: 0, rule: rule.number() }, rule.text());
        let reason = CloseReason::PeerMisbehaved(rule);
        self.close(reason);
        ClientInput::Closed(reason)
    }

    /// No whole frame is left in `recv`; starts or stops the clock of a partial one.
    #[inline]
    pub fn handle_rest(&mut self, recv: &RecvBuffer, now: Instant) {
        self.keep_alive.handle_rest(recv, &self.config.timeouts, now);
    }

    /// More arrived than was read. The next [`handle_timeout`](Self::handle_timeout) does not hold overdue
    /// frames against the server: they may be in the unread bytes.
    pub fn handle_unread(&mut self) {
        self.keep_alive.handle_unread();
    }

    /// Whether bytes are waiting to be written that the socket does not take.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.keep_alive.is_blocked()
    }

    /// The server's side has acknowledged bytes that were written before: it takes something, though not
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
        if !blocked {
            self.written = self.sent;
        }
        self.keep_alive.handle_write(progress, blocked, now);
    }

    /// The socket takes nothing more, while the server may still say something. What waits in the send buffer stays
    /// there, as not written, and no longer counts as something that the server does not read.
    pub fn handle_write_failed(&mut self) {
        self.keep_alive.handle_emptied();
    }

    /// Whether the connection is open and nothing but replies is awaited. From one such moment to the
    /// next, [`poll_timeout`](Self::poll_timeout) moves earlier only if
    /// [`earliest_deadline`](Self::earliest_deadline) does, so it need not be called otherwise.
    #[must_use]
    #[inline]
    pub fn is_steady(&self) -> bool {
        let may_idle = self.taken == 0 && self.config.timeouts.idle.is_some();
        self.phase == Phase::Open && !may_idle && self.keep_alive.is_quiet()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if matches!(self.phase, Phase::Closed(_)) {
            return None;
        }
        let link = self.keep_alive.poll_timeout(&self.config.timeouts, self.taken != 0);
        [link, self.earliest_deadline(), self.one_way_due()].into_iter().flatten().min()
    }

    /// Does everything that is due, except for expired calls: [`poll_expired`](Self::poll_expired)
    /// takes those out.
    pub fn handle_timeout(&mut self, out: &mut SendBuffer, now: Instant) {
        if matches!(self.phase, Phase::Closed(_)) {
            return;
        }
        let busy = self.taken != 0;
        if let Err(rule) = self.keep_alive.handle_timeout(&self.config.timeouts, busy, out, now) {
            let _ = self.misbehaved(rule, out);
        }
        // They leave room for streams, which nothing else would report.
        if self.one_way_due().is_some_and(|due| due <= now) {
            self.take_back_late_one_way(out, now);
        }
        if let Some(streams) = &mut self.streams {
            streams.shrink();
        }
    }

    /// Takes out a call whose deadline has passed. If a byte of its request was written, a cancel is appended;
    /// otherwise the request is taken out of `out`. When the connection is over nothing expires any more;
    /// [`fail_all`](Self::fail_all) takes out what is left.
    pub fn poll_expired(&mut self, out: &mut SendBuffer, now: Instant) -> Option<Expired<T>> {
        if matches!(self.phase, Phase::Closed(_)) {
            return None;
        }
        loop {
            if let Some(work) = self.pop_never_sent() {
                return Some(Expired { work, sent: false });
            }
            while let Some(call) = self.expired.pop() {
                // It may have been answered since the scan, or taken back.
                if self.deadline(call).is_some_and(|deadline| deadline <= now) {
                    let work = self.cancel(call, CancelReason::Deadline, out);
                    self.keep_alive.handle_doubt(&self.config.timeouts, out, now);
                    return work.map(|work| Expired { work, sent: true });
                }
            }
            if self.waiting == 0 || self.earliest? > now {
                return None;
            }
            self.scan(now);
            if self.expired.is_empty() {
                return None;
            }
            if !out.is_empty() {
                self.take_back_expired(out, now);
            }
        }
    }

    fn deadline(&self, call: u32) -> Option<Instant> {
        let place = self.slots.get(slot(call))?;
        match place.state {
            SlotState::InFlight { deadline, .. } if u32::from(place.generation) == call >> 16 => {
                deadline
            }
            _ => None,
        }
    }

    /// Finds all calls whose deadline has passed, or the next deadline when there are none. It looks
    /// at each slot once each time that any deadlines have passed, however many.
    #[cold]
    fn scan(&mut self, now: Instant) {
        let mut earliest: Option<Instant> = None;
        for (index, place) in self.slots.iter().enumerate() {
            let SlotState::InFlight { deadline: Some(deadline), .. } = place.state else {
                continue;
            };
            if deadline <= now {
                self.expired.push(call_id(index, place.generation));
            } else {
                earliest = Some(earliest.map_or(deadline, |earliest| earliest.min(deadline)));
            }
        }
        if self.expired.is_empty() {
            self.earliest = earliest;
        }
    }
}

fn call_id(index: usize, generation: u16) -> u32 {
    // Slots are below 32,768.
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the table never has more than 32,768 slots"
    )]
    let index = index as u32;
    index | (u32::from(generation) << 16)
}
