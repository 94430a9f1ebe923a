//! What a driver holds, counted for the simulator.

use super::{Conn, Driver};
use crate::net::io::Io;
use crate::snapshot::Snapshot;

impl<I: Io> Driver<I> {
    pub(crate) fn is_accepting(&self) -> bool {
        self.accept_after.is_none()
    }

    /// All that is held.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.tally();
        for (_, entry) in &self.conns {
            if let Some(Conn::Server(conn)) = &entry.conn {
                conn.list_in(&mut snapshot, &self.shared);
            }
        }
        snapshot
    }

    /// How much is held, without the lists.
    pub(crate) fn tally(&self) -> Snapshot {
        let mut snapshot = Snapshot {
            connections: self.conns.len(),
            server_connections: self.server_conns,
            run_queue: self.run.len(),
            timers: self.shared.timers.len(),
            parked: self.shared.calls.has_parked(),
            held: (self.shared.memory.bytes(), self.shared.memory.calls()),
            ..Snapshot::default()
        };
        for (_, entry) in &self.conns {
            match &entry.conn {
                Some(Conn::Server(conn)) => {
                    conn.count_in(&mut snapshot);
                }
                Some(Conn::Client(conn)) => {
                    snapshot.client_unread_max = snapshot.client_unread_max.max(conn.unread());
                    snapshot.unread += conn.unread();
                }
                Some(Conn::Remote(conn)) => {
                    snapshot.client_unread_max = snapshot.client_unread_max.max(conn.unread());
                    snapshot.unread += conn.unread();
                }
                None => {}
            }
        }
        snapshot
    }
}
