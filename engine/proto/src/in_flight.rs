//! Calls in flight, by slot.
//!
//! A call id is a slot (low 16 bits) and a generation (high 16 bits). Clients choose dense slots
//! below the limit that the server granted, so that both sides find a call by indexing: no hashing,
//! nothing for a hostile peer to collide.

use std::time::Instant;

/// The slot of a call id.
#[inline]
pub(crate) fn slot(call: u32) -> usize {
    usize::from((call & 0xffff) as u16)
}

#[derive(Debug)]
struct Entry<T> {
    call: u32,
    deadline: Option<Instant>,
    work: T,
}

/// The calls that are being worked on, by slot.
///
/// It grows to the highest slot that was in use at once and is emptied by [`shrink`](Self::shrink).
/// Deadlines are found by scanning when the earliest known one passes: with `n` calls in flight that
/// costs O(n) once per distinct time-out, and nothing per call.
#[derive(Debug)]
pub(crate) struct InFlightTable<T> {
    slots: Vec<Option<Entry<T>>>,
    count: usize,
    /// No deadline is earlier; it may be that of a call long gone.
    earliest: Option<Instant>,
}

impl<T> InFlightTable<T> {
    pub(crate) const fn new() -> Self {
        Self { slots: Vec::new(), count: 0, earliest: None }
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether the slot of this call is taken, by it or by another generation.
    #[inline]
    pub(crate) fn is_slot_taken(&self, call: u32) -> bool {
        self.count != 0 && matches!(self.slots.get(slot(call)), Some(Some(_)))
    }

    /// Puts a call into its slot, which must be free.
    pub(crate) fn insert(&mut self, call: u32, deadline: Option<Instant>, work: T) {
        let index = slot(call);
        if index >= self.slots.len() {
            self.slots.resize_with(index + 1, || None);
        }
        debug_assert!(self.slots[index].is_none(), "the slot was checked to be free");
        self.slots[index] = Some(Entry { call, deadline, work });
        self.count += 1;
        if let Some(deadline) = deadline {
            self.earliest = Some(self.earliest.map_or(deadline, |earliest| earliest.min(deadline)));
        }
    }

    pub(crate) fn get_mut(&mut self, call: u32) -> Option<&mut T> {
        let entry = self.slots.get_mut(slot(call))?.as_mut()?;
        (entry.call == call).then_some(&mut entry.work)
    }

    pub(crate) fn remove(&mut self, call: u32) -> Option<T> {
        let place = self.slots.get_mut(slot(call))?;
        if place.as_ref()?.call != call {
            return None;
        }
        self.count -= 1;
        place.take().map(|entry| entry.work)
    }

    pub(crate) fn earliest_deadline(&self) -> Option<Instant> {
        self.earliest.filter(|_| self.count != 0)
    }

    /// Takes out one call whose deadline has passed.
    pub(crate) fn pop_expired(&mut self, now: Instant) -> Option<(u32, T)> {
        if self.earliest_deadline()? > now {
            return None;
        }
        let mut earliest: Option<Instant> = None;
        let mut expired = None;
        for (index, place) in self.slots.iter().enumerate() {
            let Some(deadline) = place.as_ref().and_then(|entry| entry.deadline) else { continue };
            if deadline <= now && expired.is_none() {
                expired = Some(index);
            } else {
                earliest = Some(earliest.map_or(deadline, |earliest| earliest.min(deadline)));
            }
        }
        let Some(index) = expired else {
            self.earliest = earliest;
            return None;
        };
        self.count -= 1;
        self.slots[index].take().map(|entry| (entry.call, entry.work))
    }

    /// Takes out everything, in the order of slots.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (u32, T)> + use<T> {
        self.count = 0;
        self.earliest = None;
        core::mem::take(&mut self.slots).into_iter().flatten().map(|entry| (entry.call, entry.work))
    }

    /// Gives back the memory if nothing is in flight.
    pub(crate) fn shrink(&mut self) {
        if self.count == 0 {
            self.slots = Vec::new();
        }
    }
}
