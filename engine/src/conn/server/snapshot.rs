//! What a connection holds, counted for the simulator.

use super::ServerConn;
use crate::conn::turn::TurnContext;
use crate::net::io::Io;
use crate::snapshot::{Snapshot, StreamSnapshot};

impl<S: 'static> ServerConn<S> {
    /// Adds what is counted.
    pub(crate) fn count_in(&self, snapshot: &mut Snapshot) {
        snapshot.in_flight += self.proto.in_flight();
        snapshot.in_flight_max = snapshot.in_flight_max.max(self.proto.in_flight());
        snapshot.woken_max = snapshot.woken_max.max(self.woken.len());
        snapshot.unsent_max = snapshot.unsent_max.max(self.send.len());
        let unread = self.recv.as_ref().map_or(0, |unread| unread.len());
        snapshot.unread_max = snapshot.unread_max.max(unread);
        snapshot.unread += unread;
        snapshot.held_max = snapshot.held_max.max(self.proto.held_stream_bytes());
        snapshot.one_way_max = snapshot.one_way_max.max(self.proto.one_way_pending());
    }

    /// Adds what is listed.
    pub(crate) fn list_in<I: Io<Socket = S>>(
        &self,
        snapshot: &mut Snapshot,
        shared: &TurnContext<I>,
    ) {
        snapshot.streams.push(StreamSnapshot {
            connection: self.proto.connection_id(),
            open: self.proto.streams(),
            accounts: self.proto.stream_accounts(),
        });
        if self.is_over_budget(shared) {
            snapshot.paused.push(self.proto.connection_id());
        }
    }
}
