//! What a connection holds in addition to its calls, and how it waits for room.
//!
//! Room is lacking when the connection's pending calls, or everything that its shard holds, have reached
//! their bound ([`Budgets`](crate::Budgets)). The connection is then not read from, and its own socket
//! holds its client up. But what it has sent may be the very thing that would make room: a cancel, or
//! the message that a handler waits for. So after `refuse_after` frames are read again, and requests refused.
//!
//! The same holds for a connection that has its share of a shard that is filling up (`shard/account.rs`). If
//! its streams hold the share, the next message for a stream ends that stream's call: the message would be
//! held, too.

use std::time::Instant;

use corewire_codec::{FrameKind, RecvBuffer, Status, request_flags};
use corewire_proto::CloseReason;

use super::ServerConn;
use super::admission_state::Standing;
use crate::calls::parked::Ended;
use crate::conn::turn::{Ready, TurnContext, stream_bytes_max};
use crate::net::io::Io;
use crate::net::recv_pool::PARTIAL_SHARE;
use crate::shard::account::Own;
use corewire_client::address::Peer;

impl<S: 'static> ServerConn<S> {
    /// What it holds, and what it has given back.
    pub(crate) fn standing(&self) -> Standing {
        let (bytes, released) = self.streams.as_ref().map_or((0, 0), |streams| streams.held());
        let counted =
            self.admission_state.as_ref().map_or(0, |admission_state| admission_state.counted);
        Standing {
            bytes: self.held + counted + bytes,
            calls: self.proto.in_flight(),
            released: self.progress.wrapping_add(released),
            ended: self.ended,
        }
    }

    pub(crate) fn peer(&self) -> Peer {
        self.peer
    }

    /// The connection's id in this process.
    pub(crate) fn id(&self) -> u64 {
        self.proto.connection_id()
    }

    /// Notes whether its address holds more than its share.
    pub(crate) fn set_crowded(&mut self, crowded: bool) {
        if let Some(admission_state) = &mut self.admission_state {
            admission_state.crowded = crowded;
        } else if crowded && (self.held > 0 || self.streams.is_some()) {
            self.admission_state.get_or_insert_default().crowded = true;
        }
        if let Some(streams) = &self.streams {
            streams.set_crowded(crowded);
        }
    }

    /// Ends the connection, which holds too much; its next turn says so to its peer.
    pub(crate) fn cut_off(&mut self) {
        self.proto.cut_off(&mut self.send);
    }

    /// What counts against its share when it asks for more room.
    fn own(&self) -> Own {
        let streams = self.streams.as_ref().map_or(0, |streams| streams.held().0);
        let (partial, given, crowded) = self
            .admission_state
            .as_ref()
            .map_or((0, 0, false), |it| (it.partial, it.large, it.crowded));
        let bytes = self.held + streams + partial + self.send.len();
        Own { bytes, given, calls: self.proto.in_flight(), crowded }
    }

    /// Whether room may be lacking, here or on the shard. This is asked first, and everything else
    /// only if it is true.
    #[inline]
    pub(super) fn is_strained<I: Io<Socket = S>>(&self, shared: &TurnContext<I>) -> bool {
        self.admission_state.is_some()
            || self.held >= shared.config.budgets.connection_bytes_max
            || shared.memory.is_tight()
    }

    /// Whether [`is_held_up`](Self::is_held_up) is worth calling.
    #[inline]
    pub(super) fn may_be_held_up<I: Io<Socket = S>>(&self, shared: &TurnContext<I>) -> bool {
        self.is_strained(shared) || self.send.len() > shared.config.budgets.unsent_bytes_max
    }

    /// Whether the limit on unsent bytes is reached: then no call that gets a reply begins.
    #[inline]
    pub(super) fn is_over_budget<I: Io<Socket = S>>(&self, shared: &TurnContext<I>) -> bool {
        self.send.len() > shared.config.budgets.unsent_bytes_max
            || (shared.memory.is_tight() && self.is_unsent_over_share(shared))
    }

    /// Whether frames and woken handlers wait: until unsent bytes leave, which the socket reports, or until
    /// others give something back to the shard, which only the shard reports.
    #[inline]
    pub(super) fn waits_to_answer<I: Io<Socket = S>>(&self, shared: &mut TurnContext<I>) -> bool {
        let waits = self.is_over_budget(shared);
        if waits {
            self.wait_to_answer(shared);
        }
        waits
    }

    #[cold]
    fn wait_to_answer<I: Io<Socket = S>>(&self, shared: &mut TurnContext<I>) {
        if self.send.len() <= shared.config.budgets.unsent_bytes_max {
            shared.memory.wait(shared.token);
        }
    }

    /// Whether the unsent bytes alone use up its share.
    #[cold]
    pub(super) fn is_unsent_over_share<I: Io<Socket = S>>(&self, shared: &TurnContext<I>) -> bool {
        let Own { given, crowded, .. } = self.own();
        let unsent = Own { bytes: self.send.len(), given, calls: 0, crowded };
        unsent.bytes > 0 && shared.memory.is_bytes_over_share(unsent)
    }

    /// Whether its streams hold its share, and have done so for longer than `refuse_after`.
    #[inline]
    pub(super) fn streams_are_over<I: Io<Socket = S>>(&self, shared: &TurnContext<I>) -> bool {
        shared.memory.is_tight()
            && self.may_refuse()
            && self.streams.as_ref().is_some_and(|streams| streams.is_over_share())
    }

    /// Ends a call whose stream brings more than there is room for.
    #[cold]
    pub(super) fn stop_call<I: Io<Socket = S>>(&mut self, shared: &mut TurnContext<I>, call: u32) {
        let status = self.no_room(shared);
        if let Some(parked) = self.proto.stop_call(call, &status, &mut self.send) {
            self.end_call(shared, parked, Ended::Dropped);
        }
    }

    /// Whether streams have something to do that no event will report. Writers that wait for room are
    /// noted with the shard.
    pub(super) fn streams_want_a_turn<I: Io<Socket = S>>(
        &self,
        shared: &mut TurnContext<I>,
    ) -> bool {
        let Some(streams) = &self.streams else { return false };
        let (starves, has_room) = streams.starves();
        if starves && !has_room {
            shared.memory.wait(shared.token);
        }
        has_room || (streams.has_ready() && self.send.len() <= stream_bytes_max(shared))
    }

    /// Whether the connection is over, and kept only until its last frames are read.
    #[inline]
    pub(super) fn lingers(&self) -> bool {
        self.admission_state
            .as_ref()
            .is_some_and(|admission_state| admission_state.linger.is_some())
    }

    /// Whether another call would be one too many.
    #[inline]
    pub(super) fn lacks_room<I: Io<Socket = S>>(&self, shared: &TurnContext<I>) -> bool {
        self.held >= shared.config.budgets.connection_bytes_max
            || (shared.memory.is_tight() && shared.memory.is_over_share(self.own()))
    }

    /// Whether nothing is read for lack of room: as long as the lack lasts, but not for longer than `refuse_after`.
    #[inline]
    pub(super) fn waits_for_room<I: Io<Socket = S>>(
        &mut self,
        shared: &mut TurnContext<I>,
    ) -> bool {
        if self.lacks_room(shared) {
            return self.wait_for_room(shared);
        }
        if let Some(admission_state) = &mut self.admission_state {
            admission_state.since = None;
        }
        false
    }

    /// Whether room was already lacking, and for too long, when the frame that is being handled was begun.
    #[inline]
    pub(super) fn may_refuse(&self) -> bool {
        self.admission_state.as_ref().is_some_and(|admission_state| admission_state.since.is_some())
    }

    #[cold]
    fn wait_for_room<I: Io<Socket = S>>(&mut self, shared: &mut TurnContext<I>) -> bool {
        let released = self.given_back();
        let admission_state = self.admission_state.get_or_insert_default();
        if admission_state.since.is_none() || admission_state.released != released {
            // Giving something back is progress: the wait starts again.
            (admission_state.since, admission_state.released) = (Some(shared.now), released);
        }
        let since = admission_state.since.unwrap_or(shared.now);
        let waits = shared.now < since + shared.config.budgets.refuse_after;
        if waits {
            shared.memory.wait(shared.token);
        }
        waits
    }

    /// When requests begin to be refused, while the connection waits.
    pub(super) fn refuse_by<I: Io<Socket = S>>(&self, shared: &TurnContext<I>) -> Option<Instant> {
        let admission_state = self.admission_state.as_ref()?;
        let refuse_after = shared.config.budgets.refuse_after;
        let by = |since: Option<Instant>| Some(since? + refuse_after).filter(|by| *by > shared.now);
        [by(admission_state.since), by(admission_state.large_since)].into_iter().flatten().min()
    }

    /// The status of a call that is refused after `refuse_after`.
    #[cold]
    pub(super) fn no_room<I: Io<Socket = S>>(&self, shared: &TurnContext<I>) -> Status {
        let budgets = &shared.config.budgets;
        let text = if self.held >= budgets.connection_bytes_max {
            format!("the connection's pending calls hold {} bytes, and may hold no more", self.held)
        } else {
            let (calls, bytes) = (shared.memory.calls(), shared.memory.bytes());
            let Own { bytes: own, calls: own_calls, .. } = self.own();
            format!(
                "the connection has its share: {own_calls} pending calls and {own} bytes, of {calls} and {bytes} that the server's shard holds"
            )
        };
        Status::resource_exhausted(text).with_retry_after(RETRY_AFTER)
    }

    /// How much one receive takes. While memory is tight, no more than has room: what comes after it may
    /// have to wait.
    #[inline]
    pub(super) fn receive_bytes_max<I: Io<Socket = S>>(
        &self,
        shared: &TurnContext<I>,
        buffer: &RecvBuffer,
    ) -> usize {
        if !shared.memory.is_tight() {
            return usize::MAX;
        }
        let skip = self.admission_state.as_ref().map_or(0, |admission_state| admission_state.skip);
        // What is left behind must be so little that it is copied, and keeps no buffer.
        buffer.lacking().max(skip).max(shared.room_needed_from() - 1)
    }

    /// Whether it waits for room for a large request: it is not read from, so what it has sent is not late.
    #[inline]
    pub(super) fn waits_for_large(&self) -> bool {
        self.admission_state
            .as_ref()
            .is_some_and(|admission_state| admission_state.large_since.is_some())
    }

    /// Whether it waits for room for a large request, and holds less itself than when it looked for it: its replies have
    /// left in this turn, which nobody else would tell it. It is told once.
    #[inline]
    pub(super) fn has_shrunk(&mut self) -> bool {
        self.waits_for_large() && self.is_below_last_try()
    }

    #[cold]
    fn is_below_last_try(&mut self) -> bool {
        let own = self.own().bytes;
        let Some(admission_state) = &mut self.admission_state else { return false };
        own < core::mem::replace(&mut admission_state.large_own, own)
    }

    /// Whether the rest of what `buffer` begins with may be received: a large request waits until the
    /// shard has room for all of it. It then keeps its room, so that whatever was begun ends. A request
    /// that finds none within `refuse_after` is refused, and the rest of it is dropped.
    #[inline]
    pub(super) fn may_receive<I: Io<Socket = S>>(
        &mut self,
        shared: &mut TurnContext<I>,
        buffer: &mut RecvBuffer,
    ) -> bool {
        let frame = buffer.len().saturating_add(buffer.lacking());
        if frame <= shared.room_needed_from() || !self.proto.is_open() {
            if let Some(admission_state) = &mut self.admission_state {
                admission_state.large_since = None;
            }
            return true;
        }
        self.reserve(shared, buffer, frame)
    }

    /// What its calls and streams have given back: progress. Sending refusals is no progress. Comparable
    /// with what this returned while the same admission_state lasted.
    fn given_back(&self) -> usize {
        let released = self.streams.as_ref().map_or(0, |streams| streams.held().1);
        let moved =
            self.admission_state.as_ref().map_or(0, |admission_state| admission_state.moved);
        self.progress.wrapping_sub(moved).wrapping_add(released)
    }

    /// `bytes` of unsent ones were sent, or `bytes` of a large request were received.
    #[inline]
    pub(super) fn note_moved(&mut self, bytes: usize) {
        if let Some(admission_state) = &mut self.admission_state {
            admission_state.moved = admission_state.moved.wrapping_add(bytes);
            self.progress = self.progress.wrapping_add(bytes);
        }
    }

    /// Nothing is read, so nobody would see that the client has gone: the connection ends here, unless
    /// there was room in time. What the client still asks for could not be served.
    #[cold]
    pub(super) fn notice_end<I: Io<Socket = S>>(&mut self, shared: &TurnContext<I>, ready: &Ready) {
        let since =
            self.admission_state.as_ref().and_then(|admission_state| admission_state.large_since);
        let refuse_after = shared.config.budgets.refuse_after;
        if ready.hangup && since.is_some_and(|since| since + refuse_after <= shared.now) {
            self.proto.close(CloseReason::PeerLeft);
        }
    }

    #[cold]
    fn reserve<I: Io<Socket = S>>(
        &mut self,
        shared: &mut TurnContext<I>,
        buffer: &mut RecvBuffer,
        frame: usize,
    ) -> bool {
        let admission_state = self.admission_state.get_or_insert_default();
        if admission_state.large == frame {
            return true;
        }
        // Another one was handled in this same turn: its room is not this one's.
        if core::mem::take(&mut admission_state.large) != 0 {
            self.count(shared);
        }
        let own = self.own();
        let admission_state = self.admission_state.get_or_insert_default();
        if shared.memory.has_room(own, frame) {
            (admission_state.large, admission_state.large_since) = (frame, None);
            self.count(shared);
            return true;
        }
        let released = self.given_back();
        let is_unwanted = self.is_unwanted_message(buffer);
        let admission_state = self.admission_state.get_or_insert_default();
        if admission_state.large_since.is_none() || admission_state.large_released != released {
            // Giving something back is progress: the wait starts again.
            (admission_state.large_since, admission_state.large_released) =
                (Some(shared.now), released);
        }
        admission_state.large_own = own.bytes;
        let since = admission_state.large_since.unwrap_or(shared.now);
        if (is_unwanted || since + shared.config.budgets.refuse_after <= shared.now)
            && let Some(frame) = self.turn_away_partial(shared, buffer)
        {
            let admission_state = self.admission_state.get_or_insert_default();
            admission_state.large_since = None;
            admission_state.skip = frame - buffer.discard(frame);
            return true;
        }
        shared.memory.wait(shared.token);
        false
    }

    /// Whether `buffer` begins with a message that nobody waits for.
    fn is_unwanted_message(&mut self, buffer: &RecvBuffer) -> bool {
        buffer.peek_header().is_some_and(|header| {
            header.kind == FrameKind::StreamData && self.proto.parked_mut(header.call).is_none()
        })
    }

    /// Refuses the request that `buffer` begins with a part of, or ends the call whose message it is. Returns
    /// how many bytes belong to it, which are to be dropped; `None` if it must be received to be judged.
    fn turn_away_partial<I: Io<Socket = S>>(
        &mut self,
        shared: &mut TurnContext<I>,
        buffer: &RecvBuffer,
    ) -> Option<usize> {
        let header = buffer.peek_header()?;
        if header.kind == FrameKind::StreamData {
            self.stop_call(shared, header.call);
            return self.proto.drop_message(buffer, &mut self.send, shared.now);
        }
        let status = self.no_room(shared);
        let refused = self.proto.refuse_partial(buffer, &status, &mut self.send, shared.now)?;
        let is_one_way = header.flags & request_flags::ONE_WAY != 0;
        let counters = &shared.counters;
        if is_one_way { &counters.one_way_dropped } else { &counters.calls_refused }.add(1);
        Some(refused)
    }

    /// Drops received bytes of a refused request. They are a sign of life all the same.
    #[inline]
    pub(super) fn skip(&mut self, buffer: &mut RecvBuffer, now: Instant) {
        if let Some(admission_state) = &mut self.admission_state
            && admission_state.skip > 0
        {
            admission_state.skip -= buffer.discard(admission_state.skip);
            self.proto.handle_dropped(now);
        }
    }

    /// Brings the shard's account up to date, at the end of a turn.
    #[inline]
    pub(super) fn settle_account<I: Io<Socket = S>>(&mut self, shared: &TurnContext<I>) {
        if self.admission_state.is_some() || self.recv.is_some() || !self.send.is_empty() {
            self.settle_rest(shared);
        }
    }

    #[cold]
    fn settle_rest<I: Io<Socket = S>>(&mut self, shared: &TurnContext<I>) {
        if self.admission_state.is_some() || !self.send.is_empty() || self.kept_buffer(shared) != 0
        {
            self.count(shared);
        }
    }

    /// Memory of the receive buffer that a partial frame keeps.
    fn kept_buffer<I: Io<Socket = S>>(&self, shared: &TurnContext<I>) -> usize {
        let keeps_from = shared.config.budgets.receive_bytes / PARTIAL_SHARE;
        let unread = self.recv.as_ref().filter(|unread| unread.len() >= keeps_from);
        unread.map_or(0, |unread| unread.made_with())
    }

    #[cold]
    fn count<I: Io<Socket = S>>(&mut self, shared: &TurnContext<I>) {
        let kept = self.kept_buffer(shared);
        let admission_state = self.admission_state.get_or_insert_default();
        // A large request is counted whole, because its buffer may grow to that; what it was received into
        // may be larger still.
        admission_state.partial = kept.saturating_sub(admission_state.large);
        let held = self.send.len() + admission_state.large + admission_state.partial;
        shared.memory.change(admission_state.counted, held);
        admission_state.counted = held;
        let waits = admission_state.since.is_some() || admission_state.large_since.is_some();
        let ends = admission_state.finished.is_some() || admission_state.linger.is_some();
        if held == 0 && !waits && !ends && admission_state.skip == 0 {
            self.admission_state = None;
        }
    }

    /// Notes how much of a large request has arrived, or that none is being received any more.
    #[inline]
    pub(super) fn end_large(&mut self, here: usize, lacking: usize, usual: usize) {
        let Some(admission_state) = &mut self.admission_state else { return };
        let rest = here.saturating_add(lacking);
        if rest <= usual && rest != admission_state.large {
            admission_state.large = 0;
        }
        // Bytes received of it are progress.
        let came = here.saturating_sub(admission_state.large_here);
        admission_state.large_here = if admission_state.large == 0 { 0 } else { here };
        if admission_state.large > 0 {
            self.note_moved(came);
        }
    }

    /// The connection is about to be dropped: gives back all that the shard counts for it.
    pub(crate) fn leave<I: Io<Socket = S>>(&mut self, shared: &mut TurnContext<I>) {
        self.drop_calls(shared);
        if let Some(admission_state) = self.admission_state.take() {
            shared.memory.change(admission_state.counted, 0);
        }
    }
}

/// When a caller whose call found no room should try again.
const RETRY_AFTER: std::time::Duration = std::time::Duration::from_millis(50);
