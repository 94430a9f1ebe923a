//! What a connection holds, counted for the simulator.

use super::ServerConn;
use crate::sim::Census;

impl<S: 'static> ServerConn<S> {
    pub(crate) fn count_in(&self, census: &mut Census, unsent_bytes_max: usize) {
        census.in_flight += self.proto.in_flight();
        census.in_flight_max = census.in_flight_max.max(self.proto.in_flight());
        census.woken_max = census.woken_max.max(self.woken.len());
        census.unsent_max = census.unsent_max.max(self.send.len());
        census.unread_max = census.unread_max.max(self.recv.len());
        if self.send.len() > unsent_bytes_max {
            census.paused.push(self.proto.connection_id());
        }
    }
}
