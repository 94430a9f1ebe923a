//! What a client's connection holds, counted for the simulator.

use super::ClientConn;

impl<S: 'static> ClientConn<S> {
    /// Received bytes that wait to be handled.
    pub(crate) fn unread(&self) -> usize {
        self.recv.len()
    }
}
