//! What a connection holds, counted for the simulator.

use super::ServerConn;
use crate::conn::turn::Shared;
use crate::net::io::Io;
use crate::testing::sim::{Census, StreamCensus};

impl<S: 'static> ServerConn<S> {
    /// Adds what is counted.
    pub(crate) fn count_in(&self, census: &mut Census) {
        census.in_flight += self.proto.in_flight();
        census.in_flight_max = census.in_flight_max.max(self.proto.in_flight());
        census.woken_max = census.woken_max.max(self.woken.len());
        census.unsent_max = census.unsent_max.max(self.send.len());
        let unread = self.recv.as_ref().map_or(0, |unread| unread.len());
        census.unread_max = census.unread_max.max(unread);
        census.unread += unread;
        census.held_max = census.held_max.max(self.proto.held_stream_bytes());
        census.one_way_max = census.one_way_max.max(self.proto.one_way_pending());
    }

    /// Adds what is listed.
    pub(crate) fn list_in<I: Io<Socket = S>>(&self, census: &mut Census, shared: &Shared<I>) {
        census.streams.push(StreamCensus {
            connection: self.proto.connection_id(),
            open: self.proto.streams(),
            accounts: self.proto.stream_accounts(),
        });
        if self.is_over_budget(shared) {
            census.paused.push(self.proto.connection_id());
        }
    }
}
