//! One-way calls: never answered, and kept in a table of their own while they are pending.
//!
//! On the wire they have no id. A server gives each one an id from the upper half of the slots, which
//! never occurs on the wire, so that it can be parked and woken like any other call.

use std::time::Instant;

use crate::in_flight::InFlightTable;

/// Slots from here on are never on the wire (REQ-32).
pub(super) const FIRST_SLOT: usize = 0x8000;

/// Whether this is the id that a [`ServerConnection`](crate::ServerConnection) gave to a one-way call.
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
    /// The greatest number of one-way calls is already pending.
    TooManyPending,
    /// Its time was over when it arrived.
    TimeOver,
    /// The server is going away.
    Draining,
    /// Its compression is not known here.
    Compression,
}

/// Pending one-way calls.
#[derive(Debug)]
pub(super) struct OneWayTable<T> {
    calls: InFlightTable<T>,
    /// Free slots below `slots`.
    free: Vec<u16>,
    pub(super) slots: u16,
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
    pub(super) fn next_id(&mut self) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        let slot = self.free.last().copied().unwrap_or(self.slots);
        u32::from(slot) | 0x8000 | (u32::from(self.generation) << 16)
    }

    /// Ids in the table count from slot 0; otherwise it would have room for all the slots below.
    const fn key(call: u32) -> u32 {
        call & !0x8000
    }

    pub(super) fn insert(&mut self, call: u32, deadline: Option<Instant>, work: T) {
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

    pub(super) fn remove(&mut self, call: u32) -> Option<T> {
        let work = self.calls.remove(Self::key(call))?;
        self.release(call);
        Some(work)
    }

    pub(super) fn earliest_deadline(&self) -> Option<Instant> {
        self.calls.earliest_deadline()
    }

    pub(super) fn pop_expired(&mut self, now: Instant) -> Option<(u32, T)> {
        let (key, work) = self.calls.pop_expired(now)?;
        self.release(key);
        Some((key | 0x8000, work))
    }

    pub(super) fn into_work(mut self) -> impl Iterator<Item = (u32, T)> + use<T> {
        self.calls.drain().map(|(key, work)| (key | 0x8000, work))
    }

    /// Gives back the memory if nothing is pending.
    pub(super) fn shrink(&mut self) {
        if self.calls.is_empty() {
            self.calls.shrink();
            self.free = Vec::new();
            self.slots = 0;
        }
    }
}
