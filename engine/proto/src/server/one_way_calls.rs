//! What a server does with one-way calls (REQ-31 to REQ-36).

use std::time::{Duration, Instant};

use corewire_codec::{Payload, RequestHead};

use super::one_way::{FIRST_SLOT, OneWayDropped};
use super::{Phase, ServerConnection, ServerInput};
use crate::in_flight::slot;

impl<T> ServerConnection<T> {
    /// Pending one-way calls.
    #[must_use]
    #[inline]
    pub fn one_way_pending(&self) -> usize {
        self.extra_calls.as_ref().map_or(0, |extra| extra.one_way.len())
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
        self.keep_alive.handle_activity(now);
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
        request.call = self.extra_calls().one_way.next_id();
        let deadline = request.timeout_us.and_then(|us| now.checked_add(Duration::from_micros(us)));
        ServerInput::Call { request, payload, deadline }
    }

    #[cold]
    pub(super) fn park_one_way(&mut self, call: u32, deadline: Option<Instant>, work: T) {
        let one_way = &mut self.extra_calls().one_way;
        debug_assert!(slot(call) - FIRST_SLOT <= usize::from(one_way.slots), "the last id given");
        one_way.insert(call, deadline, work);
    }

    #[cold]
    pub(super) fn unpark_one_way(&mut self, call: u32) -> Option<T> {
        let work = self.extra_calls.as_mut()?.one_way.remove(call)?;
        self.keep_alive.handle_call_end();
        Some(work)
    }

    #[cold]
    pub(super) fn pop_expired_one_way(&mut self, now: Instant) -> Option<(u32, T)> {
        let expired = self.extra_calls.as_mut()?.one_way.pop_expired(now)?;
        self.keep_alive.handle_activity(now);
        Some(expired)
    }
}
