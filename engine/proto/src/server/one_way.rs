//! One-way calls: never answered, and kept in a table of their own while they pend.
//!
//! On the wire they have no id. A server gives each one an id from the upper half of the slots, which
//! never occurs on the wire, so that it can be parked and woken like any other call.

use std::time::{Duration, Instant};

use corewire_codec::{Payload, RequestHead};

use super::{Phase, ServerConnection, ServerInput};
use crate::in_flight::{InFlightTable, slot};

/// Slots from here on are never on the wire (REQ-32).
const FIRST_SLOT: usize = 0x8000;

/// Whether this is the id that a [`ServerConnection`] gave to a one-way call.
#[inline]
#[must_use]
pub const fn is_one_way_id(call: u32) -> bool {
    call & 0x8000 != 0
}

/// Why a one-way call did not run. A closed set, fit for counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OneWayDropped {
    /// The server does not take one-way calls.
    NotOffered,
    /// As many as may pend do so.
    TooManyPending,
    /// Its time was over when it arrived.
    TimeOver,
    /// The server is going away.
    Draining,
    /// Its compression is not known here.
    Compression,
}

/// One-way calls that pend.
#[derive(Debug)]
pub(super) struct OneWayTable<T> {
    calls: InFlightTable<T>,
    /// Free slots below `slots`.
    free: Vec<u16>,
    slots: u16,
    /// Of the next id, so that a late wake of an ended call finds nothing.
    generation: u16,
}

impl<T> OneWayTable<T> {
    pub(super) const fn new() -> Self {
        Self { calls: InFlightTable::new(), free: Vec::new(), slots: 0, generation: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    /// The id that the next call has if it is parked. Nothing is taken yet.
    fn next_id(&mut self) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        let slot = self.free.last().copied().unwrap_or(self.slots);
        u32::from(slot) | 0x8000 | (u32::from(self.generation) << 16)
    }

    /// Ids in the table count from slot 0, or it would have room for all those below.
    const fn key(call: u32) -> u32 {
        call & !0x8000
    }

    fn insert(&mut self, call: u32, deadline: Option<Instant>, work: T) {
        if self.free.pop().is_none() {
            self.slots += 1;
        }
        self.calls.insert(Self::key(call), deadline, work);
    }

    pub(super) fn get_mut(&mut self, call: u32) -> Option<&mut T> {
        self.calls.get_mut(Self::key(call))
    }

    fn release(&mut self, key: u32) {
        self.free.push((key & 0x7fff) as u16);
    }

    fn remove(&mut self, call: u32) -> Option<T> {
        let work = self.calls.remove(Self::key(call))?;
        self.release(call);
        Some(work)
    }

    pub(super) fn earliest_deadline(&self) -> Option<Instant> {
        self.calls.earliest_deadline()
    }

    fn pop_expired(&mut self, now: Instant) -> Option<(u32, T)> {
        let (key, work) = self.calls.pop_expired(now)?;
        self.release(key);
        Some((key | 0x8000, work))
    }

    pub(super) fn into_work(mut self) -> impl Iterator<Item = (u32, T)> + use<T> {
        self.calls.drain().map(|(key, work)| (key | 0x8000, work))
    }

    /// Gives back the memory if nothing pends.
    pub(super) fn shrink(&mut self) {
        if self.calls.is_empty() {
            self.calls.shrink();
            self.free = Vec::new();
            self.slots = 0;
        }
    }
}

impl<T> ServerConnection<T> {
    /// One-way calls that pend.
    #[must_use]
    #[inline]
    pub fn one_way_pending(&self) -> usize {
        self.beside.as_ref().map_or(0, |beside| beside.one_way.len())
    }

    /// A one-way request came (REQ-31, REQ-36). It takes no slot and is never answered, so all that
    /// can be done with one that cannot run is to drop it.
    #[cold]
    pub(super) fn handle_one_way<'a>(
        &mut self,
        request: &'a mut RequestHead,
        payload: Payload<'a>,
        now: Instant,
    ) -> ServerInput<'a, T> {
        self.link.handle_activity(now);
        if self.phase == Phase::Draining {
            return ServerInput::OneWayDropped(OneWayDropped::Draining);
        }
        self.accepted = self.accepted.wrapping_add(1);
        let max = usize::from(self.config.one_way_pending_max).min(FIRST_SLOT);
        let dropped = if max == 0 {
            Some(OneWayDropped::NotOffered)
        } else if request.timeout_us == Some(0) {
            Some(OneWayDropped::TimeOver)
        } else if request.encoding.check_compression().is_err() {
            Some(OneWayDropped::Compression)
        } else if self.one_way_pending() >= max {
            #[cfg(feature = "canary")]
            if crate::canary::is_planted(crate::canary::Bug::UncountedOneWay) {
                return ServerInput::Handled;
            }
            Some(OneWayDropped::TooManyPending)
        } else {
            None
        };
        if let Some(dropped) = dropped {
            return ServerInput::OneWayDropped(dropped);
        }
        request.call = self.beside().one_way.next_id();
        let deadline = request.timeout_us.and_then(|us| now.checked_add(Duration::from_micros(us)));
        ServerInput::Call { request, payload, deadline }
    }

    #[cold]
    pub(super) fn park_one_way(&mut self, call: u32, deadline: Option<Instant>, work: T) {
        let one_way = &mut self.beside().one_way;
        debug_assert!(slot(call) - FIRST_SLOT <= usize::from(one_way.slots), "the last id given");
        one_way.insert(call, deadline, work);
    }

    #[cold]
    pub(super) fn unpark_one_way(&mut self, call: u32) -> Option<T> {
        let work = self.beside.as_mut()?.one_way.remove(call)?;
        self.link.handle_call_end();
        Some(work)
    }

    #[cold]
    pub(super) fn pop_expired_one_way(&mut self, now: Instant) -> Option<(u32, T)> {
        let expired = self.beside.as_mut()?.one_way.pop_expired(now)?;
        self.link.handle_activity(now);
        Some(expired)
    }
}
