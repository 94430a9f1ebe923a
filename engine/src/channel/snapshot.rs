//! What a channel holds, counted for the simulator.

use super::{Channel, Link};
use crate::snapshot::{ChannelSnapshot, StreamSnapshot};

impl Channel {
    pub(crate) fn waiting_calls(&self) -> usize {
        self.core().state.borrow().waiting.len()
    }

    pub(crate) fn snapshot(&self) -> ChannelSnapshot {
        let state = self.core().state.borrow();
        let (up, in_flight, slots, held, streams) = match &state.link {
            Link::Up { proto, .. } => {
                let streams = proto.peer().connection_id.map(|connection| StreamSnapshot {
                    connection,
                    open: proto.streams(),
                    accounts: proto.stream_accounts(),
                });
                let held = proto.held_stream_bytes();
                (true, proto.in_flight(), proto.free_slots(), held, streams)
            }
            Link::Down { .. } | Link::Connecting { .. } => (false, 0, 0, 0, None),
        };
        ChannelSnapshot {
            up,
            ready: state.is_ready(),
            connecting: matches!(state.link, Link::Connecting { .. }),
            in_flight,
            free_slots: slots,
            calls: state.calls.len(),
            waiting: state.waiting.len(),
            unsent: state.out.len(),
            room: state.waiting_for_room.len(),
            held,
            streams,
        }
    }
}
