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

/// Calls that were found expired and that were not taken out yet, if they still live.
#[derive(Debug, Default)]
struct Expired {
    calls: Vec<u32>,
}

/// The calls that are being worked on, by slot.
///
/// It grows to the highest slot that was in use at once and is emptied by [`shrink`](Self::shrink).
/// Deadlines are found by scanning when the earliest known one passes: with `n` calls in flight that
/// costs O(n) each time that any have passed, however many, and nothing per call.
#[derive(Debug)]
pub(crate) struct InFlightTable<T> {
    slots: Vec<Option<Entry<T>>>,
    count: usize,
    /// No deadline is earlier; it may be that of a call long gone.
    earliest: Option<Instant>,
    /// What the last scan found; made by the first that finds something.
    expired: Option<Box<Expired>>,
    #[cfg(test)]
    scans: usize,
}

impl<T> InFlightTable<T> {
    pub(crate) const fn new() -> Self {
        Self {
            slots: Vec::new(),
            count: 0,
            earliest: None,
            expired: None,
            #[cfg(test)]
            scans: 0,
        }
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
        if self.earliest.is_some() && crate::canary::is_planted(crate::canary::Bug::LateDeadline) {
            return;
        }
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
        loop {
            while let Some(call) = self.expired.as_mut().and_then(|expired| expired.calls.pop()) {
                // It may have ended since the scan, and its id been given to a later call.
                if self.deadline(call).is_some_and(|deadline| deadline <= now) {
                    return self.remove(call).map(|work| (call, work));
                }
            }
            if !self.scan(now) {
                return None;
            }
        }
    }

    fn deadline(&self, call: u32) -> Option<Instant> {
        let entry = self.slots.get(slot(call))?.as_ref()?;
        entry.deadline.filter(|_| entry.call == call)
    }

    /// Finds all calls whose deadline has passed, or the next deadline when there are none. Returns whether
    /// there are any.
    #[cold]
    fn scan(&mut self, now: Instant) -> bool {
        #[cfg(test)]
        {
            self.scans += 1;
        }
        let expired = &mut self.expired.get_or_insert_default().calls;
        let mut earliest: Option<Instant> = None;
        for entry in self.slots.iter().flatten() {
            let Some(deadline) = entry.deadline else { continue };
            if deadline <= now {
                expired.push(entry.call);
            } else {
                earliest = Some(earliest.map_or(deadline, |earliest| earliest.min(deadline)));
            }
        }
        if expired.is_empty() {
            self.earliest = earliest;
        }
        !expired.is_empty()
    }

    /// Takes out everything, in the order of slots.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (u32, T)> + use<T> {
        self.count = 0;
        self.earliest = None;
        self.expired = None;
        core::mem::take(&mut self.slots).into_iter().flatten().map(|entry| (entry.call, entry.work))
    }

    /// Gives back the memory if nothing is in flight.
    pub(crate) fn shrink(&mut self) {
        if self.count == 0 {
            self.slots = Vec::new();
            self.expired = None;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
#[allow(clippy::disallowed_methods, reason = "a virtual clock must begin somewhere")]
mod tests {
    use super::*;
    use std::time::Duration;

    /// A peer that lets thousands of calls expire together must not make the shard scan its table
    /// once for each.
    #[test]
    fn calls_that_expire_together_cost_two_scans() {
        let start = Instant::now();
        let mut table = InFlightTable::new();
        for call in 0..1_000 {
            table.insert(call, Some(start + Duration::from_micros(u64::from(call))), call);
        }
        let later = start + Duration::from_micros(499);
        let mut expired: Vec<u32> = Vec::new();
        while let Some((call, work)) = table.pop_expired(later) {
            assert_eq!(call, work);
            expired.push(call);
        }
        expired.sort_unstable();
        assert!(expired.into_iter().eq(0..500));
        assert_eq!((table.len(), table.scans), (500, 2));
        assert_eq!(table.earliest_deadline(), Some(start + Duration::from_micros(500)));
        assert!(table.pop_expired(later).is_none());
        assert_eq!(table.scans, 2);
    }

    /// What a scan found may have ended, and its slot or even its id been used again, before it is
    /// taken out.
    #[test]
    fn a_call_that_ended_since_the_scan_does_not_expire() {
        let start = Instant::now();
        let later = start + Duration::from_secs(1);
        let mut table = InFlightTable::new();
        for call in 0..4 {
            table.insert(call, Some(start), 'a');
        }
        assert_eq!(table.pop_expired(start), Some((3, 'a')));
        table.remove(0).unwrap();
        table.remove(1).unwrap();
        table.remove(2).unwrap();
        table.insert(0, None, 'b');
        table.insert(1, Some(later), 'b');
        table.insert(0x1_0002, Some(start), 'b');
        assert_eq!(table.pop_expired(start), Some((0x1_0002, 'b')));
        assert_eq!(table.pop_expired(start), None);
        assert_eq!(table.earliest_deadline(), Some(later));
        assert_eq!(table.pop_expired(later), Some((1, 'b')));
        assert_eq!(table.drain().collect::<Vec<_>>(), [(0, 'b')]);
    }

    #[test]
    fn only_the_same_generation_is_found() {
        let mut table = InFlightTable::new();
        table.insert(0x0002_0005, None, ());
        assert!(table.is_slot_taken(0x0001_0005) && !table.is_slot_taken(4));
        assert_eq!(table.get_mut(5), None);
        assert_eq!(table.remove(0x0003_0005), None);
        assert_eq!(table.remove(0x0002_0005), Some(()));
        assert!(table.is_empty() && !table.is_slot_taken(5));
        table.shrink();
        assert_eq!(table.slots.capacity(), 0);
    }
}
