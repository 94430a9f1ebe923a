//! Calls that end before a byte of their requests was written: they are taken out of the send buffer, and the
//! server never learns of them.

use std::time::Instant;

use corewire_codec::{FrameKind, Header, SendBuffer, request_flags};

use super::taken_back::TakenBack;
use super::{ClientConnection, Slot, SlotState, slot};
use crate::streams::credit::message_cost;

/// Whether this is the request of a one-way call with a deadline.
fn is_timed_one_way(header: &Header) -> bool {
    let flags = request_flags::TIMEOUT | request_flags::ONE_WAY;
    header.kind == FrameKind::Request && header.flags & flags == flags
}

/// At least this many numbers of taken-back requests are kept before the others are renumbered.
const TAKEN_BACK_MIN: usize = 64;

impl<T> ClientConnection<T> {
    /// The number of a call's request among all requests, if somebody waits for the call.
    fn order(&self, call: u32) -> Option<u32> {
        let place = self.slots.get(slot(call))?;
        match place.state {
            SlotState::InFlight { order, .. } if u32::from(place.generation) == call >> 16 => {
                Some(order)
            }
            _ => None,
        }
    }

    /// Takes back what was not written of a call in flight, which is about to be given up. Returns the work if
    /// nothing was written: its slot is free then, and the server need not be told.
    #[cold]
    pub(super) fn take_back(&mut self, call: u32, out: &mut SendBuffer) -> Option<T> {
        let order = self.order(call)?;
        let is_written = order.wrapping_sub(self.written) >= 1 << 31;
        let streams = self.streams.as_ref().is_some_and(|streams| streams.get(call).is_some());
        // Most calls that are given up were written long ago: no part of them is waiting.
        if is_written && !streams {
            return None;
        }
        self.retract(out, |_, other| other == call);
        let unsent = self.pop_unsent()?;
        self.free_unsent(unsent)
    }

    /// Takes back what was not written of all calls whose deadline has passed; those of which nothing was
    /// written end here.
    #[cold]
    pub(super) fn take_back_expired(&mut self, out: &mut SendBuffer, now: Instant) {
        self.retract(out, |slots: &[Slot<T>], call| {
            let place = slots.get(slot(call));
            place.is_some_and(|place| {
                u32::from(place.generation) == call >> 16
                    && matches!(
                        place.state,
                        SlotState::InFlight { deadline: Some(by), .. } if by <= now
                    )
            })
        });
        while let Some(call) = self.pop_unsent() {
            if let (Some(work), Some(taken_back)) = (self.free_unsent(call), &mut self.taken_back) {
                taken_back.never_sent.push(work);
            }
        }
    }

    fn pop_unsent(&mut self) -> Option<u32> {
        self.taken_back.as_mut()?.calls.pop()
    }

    /// What was kept for a call that expired before anything of it was written.
    pub(super) fn pop_never_sent(&mut self) -> Option<T> {
        self.taken_back.as_mut()?.never_sent.pop()
    }

    /// Takes back the one-way calls of which nothing was written, and returns whether there were any. No other
    /// request may have been begun behind them.
    #[cold]
    pub fn take_back_one_way(&mut self, out: &mut SendBuffer) -> bool {
        let mut count = 0u32;
        let taken = out.retract(|header| {
            let is_one_way =
                header.kind == FrameKind::Request && header.flags & request_flags::ONE_WAY != 0;
            count = count.wrapping_add(is_one_way.into());
            is_one_way
        });
        self.sent = self.sent.wrapping_sub(count);
        if let Some(taken_back) = self.taken_back.as_mut().filter(|_| count != 0) {
            taken_back.one_way.clear();
            taken_back.one_way_due = None;
        }
        if taken != 0 && out.is_empty() {
            self.keep_alive.handle_emptied();
        }
        count != 0
    }

    /// Keeps the deadline of a one-way call, which nobody waits for, so that the server is not given a time
    /// that has passed meanwhile.
    pub(super) fn note_one_way(&mut self, order: u32, by: Instant, out: &mut SendBuffer) {
        let taken_back = self.taken_back.get_or_insert_with(TakenBack::new);
        let kept = &mut taken_back.one_way;
        // The list grows only if dropping the calls that were written does not make enough room.
        if kept.len() == kept.capacity() {
            drop_written(kept, out);
        }
        kept.push((order, by));
        let due = &mut taken_back.one_way_due;
        *due = Some(due.map_or(by, |due| due.min(by)));
    }

    /// A time no later than the first deadline of the one-way calls that the socket does not take.
    pub(super) fn one_way_due(&self) -> Option<Instant> {
        self.taken_back.as_ref()?.one_way_due.filter(|_| self.keep_alive.is_blocked())
    }

    /// Takes the one-way calls whose deadlines have passed out of the send buffer.
    #[cold]
    pub(super) fn take_back_late_one_way(&mut self, out: &mut SendBuffer, now: Instant) {
        let Some(TakenBack { orders, one_way, one_way_due, .. }) = self.taken_back.as_deref_mut()
        else {
            return;
        };
        drop_written(one_way, out);
        *one_way_due = one_way.iter().map(|(_, by)| *by).filter(|by| *by > now).min();
        if one_way.iter().all(|(_, by)| *by > now) {
            return;
        }
        let mut place = one_way.iter();
        let taken = out.retract(|header| {
            is_timed_one_way(header) && place.next().is_some_and(|(_, by)| *by <= now)
        });
        orders.extend(one_way.extract_if(.., |(_, by)| *by <= now).map(|(order, _)| order));
        if orders.len() >= self.slots.len().max(TAKEN_BACK_MIN) {
            self.renumber();
        }
        if taken != 0 && out.is_empty() {
            self.keep_alive.handle_emptied();
        }
    }

    /// Takes the wholly unwritten frames of the calls that `is_over` picks out of the send buffer, and
    /// notes the calls whose requests were among them.
    fn retract(&mut self, out: &mut SendBuffer, is_over: impl Fn(&[Slot<T>], u32) -> bool) {
        let Self { slots, taken_back, .. } = self;
        if crate::canary::is_planted(crate::canary::Bug::DeadRequest) {
            return;
        }
        let mut refund = 0u32;
        let taken = out.retract(|header| match header.kind {
            FrameKind::Request if header.flags & request_flags::ONE_WAY == 0 => {
                let is_over = is_over(slots, header.call);
                if is_over {
                    let taken_back = taken_back.get_or_insert_with(TakenBack::new);
                    taken_back.calls.push(header.call);
                }
                is_over
            }
            FrameKind::StreamData if is_over(slots, header.call) => {
                refund = refund.saturating_add(message_cost(header.payload_bytes));
                true
            }
            FrameKind::StreamEnd => is_over(slots, header.call),
            _ => false,
        });
        if let Some(streams) = self.streams.as_mut().filter(|_| refund != 0) {
            streams.refund(refund);
        }
        if taken != 0 && out.is_empty() {
            self.keep_alive.handle_emptied();
        }
    }

    /// Frees the slot of a call of which nothing was written.
    fn free_unsent(&mut self, call: u32) -> Option<T> {
        let order = self.order(call)?;
        let work = self.take(call)?;
        self.forget_stream(call);
        self.release(call);
        let orders = &mut self.taken_back.as_mut()?.orders;
        orders.push(order);
        if orders.len() >= self.slots.len().max(TAKEN_BACK_MIN) {
            self.renumber();
        }
        Some(work)
    }

    /// Numbers the requests of the calls in flight as the server counts them: without those that were taken
    /// back. This is put off until the numbers are needed, or many have accumulated.
    pub(super) fn renumber(&mut self) {
        let Some(TakenBack { orders, one_way, .. }) = self.taken_back.as_deref_mut() else {
            return;
        };
        if orders.is_empty() {
            return;
        }
        let sent = self.sent;
        // Numbers wrap around; how long ago they were given does not.
        let age = |order: u32| sent.wrapping_sub(order);
        orders.sort_unstable_by_key(|&order| age(order));
        let without = |order: u32| {
            let later = orders.partition_point(|&other| age(other) <= age(order));
            let before = orders.len() - later;
            order.wrapping_sub(u32::try_from(before).unwrap_or(u32::MAX))
        };
        for place in &mut self.slots {
            if let SlotState::InFlight { order, .. } = &mut place.state {
                *order = without(*order);
            }
        }
        one_way.iter_mut().for_each(|(order, _)| *order = without(*order));
        self.written = without(self.written);
        self.sent = without(sent);
        orders.clear();
    }

    /// Call this before writing `out`. If the socket took nothing for a while, the waiting requests are
    /// changed to state what is left of their calls' time (REQ-34).
    #[inline]
    pub fn prepare_write(&mut self, out: &mut SendBuffer, now: Instant) {
        if self.keep_alive.is_stalled(now) {
            self.take_back_late_one_way(out, now);
            self.restate_timeouts(out, now);
        }
    }

    #[cold]
    fn restate_timeouts(&self, out: &mut SendBuffer, now: Instant) {
        let one_way = self.taken_back.as_ref().map(|taken_back| taken_back.one_way.iter());
        let mut one_way = one_way.into_iter().flatten();
        out.restate_timeouts(|header| {
            let deadline = match is_timed_one_way(header) {
                true => one_way.next().map(|(_, by)| *by),
                false => self.deadline(header.call),
            };
            let left = deadline?.saturating_duration_since(now);
            u64::try_from(left.as_micros()).ok()
        });
    }

    /// Whether streams that had no credit may write again, because messages that had used it were taken back.
    /// It returns true once; call it after calls were given up or have expired.
    pub fn poll_writable(&mut self) -> bool {
        self.streams.as_mut().is_some_and(|streams| streams.take_reopened())
    }
}

/// Drops what is kept for one-way calls that were written, wholly or partly: those in front of the wholly
/// unwritten ones.
#[cold]
fn drop_written(kept: &mut Vec<(u32, Instant)>, out: &mut SendBuffer) {
    let mut whole = 0_usize;
    out.retract(|header| {
        whole += usize::from(is_timed_one_way(header));
        false
    });
    kept.drain(..kept.len().saturating_sub(whole));
}
