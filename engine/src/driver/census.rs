//! What a driver holds, counted for the simulator.

use super::{Conn, Driver};
use crate::net::io::Io;
use crate::testing::sim::Census;

impl<I: Io> Driver<I> {
    pub(crate) fn is_accepting(&self) -> bool {
        self.accept_after.is_none()
    }

    /// All that is held.
    pub(crate) fn census(&self) -> Census {
        let mut census = self.tally();
        for (_, entry) in &self.conns {
            if let Some(Conn::Server(conn)) = &entry.conn {
                conn.list_in(&mut census, &self.shared);
            }
        }
        census
    }

    /// How much is held, without the lists.
    pub(crate) fn tally(&self) -> Census {
        let mut census = Census {
            connections: self.conns.len(),
            server_connections: self.server_conns,
            run_queue: self.run.len(),
            timers: self.shared.timers.len(),
            parked: self.shared.calls.has_parked(),
            held: (self.shared.holdings.bytes(), self.shared.holdings.calls()),
            ..Census::default()
        };
        for (_, entry) in &self.conns {
            match &entry.conn {
                Some(Conn::Server(conn)) => {
                    conn.count_in(&mut census);
                }
                Some(Conn::Client(conn)) => {
                    census.client_unread_max = census.client_unread_max.max(conn.unread());
                    census.unread += conn.unread();
                }
                Some(Conn::Dial(_)) | None => {}
            }
        }
        census
    }
}
