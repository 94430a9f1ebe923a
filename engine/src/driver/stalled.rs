//! Whose call kept the shard from turning. Its supervisor says which call that is while the shard stands still. It does
//! not know the peer: telling it of each connection would cost every connection something, and this is rare.

use super::{Conn, Driver};
use crate::net::doorbell::StalledCall;
use crate::net::io::Io;

impl<I: Io> Driver<I> {
    /// Logs the call with its peer, if the connection is still there.
    #[cold]
    pub(super) fn tell_whose(&self, stalled: &StalledCall) {
        let peer = self.conns.iter().find_map(|(_, entry)| match &entry.conn {
            Some(Conn::Server(conn)) if conn.id() == stalled.connection => Some(conn.peer()),
            _ => None,
        });
        let StalledCall { method, call, .. } = stalled;
        if let Some(peer) = peer {
            let shard = self.shared.config.info.id;
            tracing::warn!(%shard, method, call, %peer, "this call kept the shard from turning");
        }
    }
}
