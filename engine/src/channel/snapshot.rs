//! What a channel holds, counted for the simulator.

use super::Channel;
use crate::snapshot::{ChannelSnapshot, StreamSnapshot};

impl Channel {
    /// Whether a request is being written into the send buffer.
    pub(crate) fn is_written(&self) -> bool {
        self.driven().core.try_borrow().is_err()
    }

    pub(crate) fn snapshot(&self) -> ChannelSnapshot {
        let core = self.driven().core.borrow().snapshot();
        let shared = ChannelSnapshot {
            connecting: core.connecting,
            calls: self.calls().len(),
            waiting: core.waiting,
            ..ChannelSnapshot::default()
        };
        let Some(current) = core.connections.iter().find(|connection| !connection.retired) else {
            return shared;
        };
        let streams = current.id.map(|connection| StreamSnapshot {
            connection,
            open: current.open_streams,
            accounts: current.accounts,
        });
        ChannelSnapshot {
            up: true,
            ready: current.ready,
            in_flight: current.in_flight,
            free_slots: current.free_slots,
            calls: shared.calls + current.streams,
            unsent: current.unsent,
            held: current.held,
            streams,
            ..shared
        }
    }
}
