//! Connections of a channel that finish their calls and accept no new ones.

use corewire_codec::{CancelReason, SendBuffer};
use corewire_proto::ClientConnection;

use super::ChannelCore;
use crate::net::io::Token;

/// A connection whose server has gone away, with calls in flight that the server will still answer.
#[derive(Debug)]
pub(crate) struct Retired {
    pub(super) token: Token,
    pub(super) proto: Box<ClientConnection<usize>>,
    pub(super) out: Box<SendBuffer>,
}

impl Retired {
    #[cold]
    pub(super) fn find(
        all: &mut [Self],
        token: Token,
    ) -> Option<(&mut ClientConnection<usize>, &mut SendBuffer)> {
        let retired = all.iter_mut().find(|retired| retired.token == token)?;
        Some((&mut retired.proto, &mut retired.out))
    }

    /// Nobody waits for the call with this id and key any more, if it is one of this connection's.
    pub(super) fn abandon(&mut self, core: &ChannelCore, call: u32, key: usize) {
        if self.proto.work_mut(call).copied() == Some(key) {
            self.proto.abandon(call, CancelReason::Dropped, &mut self.out);
            core.local.mark_dirty(self.token);
        }
    }
}
