//! What a channel holds, counted for the simulator.

use super::{Channel, Link};
use crate::sim::ChannelCensus;

impl Channel {
    pub(crate) fn census(&self) -> ChannelCensus {
        let state = self.core().state.borrow();
        let (up, in_flight, slots) = match &state.link {
            Link::Up { proto, .. } => (true, proto.in_flight(), proto.free_slots()),
            Link::Down { .. } | Link::Connecting { .. } => (false, 0, 0),
        };
        ChannelCensus {
            up,
            connecting: matches!(state.link, Link::Connecting { .. }),
            in_flight,
            free_slots: slots,
            calls: state.calls.len(),
            waiting: state.waiting.len(),
            unsent: state.out.len(),
        }
    }
}
