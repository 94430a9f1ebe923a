//! Ends of calls that their handlers do not bring: passed deadlines, and clients that have ended their sending side.

use corewire_codec::RecvBuffer;

use super::ServerConn;
use crate::calls::parked::Ended;
use crate::conn::turn::TurnContext;
use crate::net::io::Io;

impl<S: 'static> ServerConn<S> {
    /// The client sends nothing more. If that was known already, something else woke this connection:
    /// the socket may have failed since, which a receive no longer reports.
    #[cold]
    pub(super) fn handle_end<I: Io<Socket = S>>(
        &mut self,
        shared: &mut TurnContext<I>,
        buffer: &mut RecvBuffer,
    ) {
        // The rest of a partial frame will never come.
        buffer.discard(buffer.len());
        self.proto.handle_eof(&mut self.send, shared.now);
        if self.proto.is_half_closed()
            && let Err(error) = shared.io.connected(&self.socket)
        {
            return self.proto.handle_error(&error);
        }
        for parked in self.proto.cut_streams(&mut self.send) {
            self.end_call(shared, parked, Ended::Dropped);
        }
    }

    /// Ends the connection when its client has received everything it is owed.
    #[cold]
    pub(super) fn finish<I: Io<Socket = S>>(&mut self, shared: &mut TurnContext<I>) {
        if self.proto.poll_finish(shared.now) {
            self.drop_calls(shared);
        }
        if self.send.is_empty() {
            self.proto.end_if_answered();
        }
    }

    /// Ends the calls whose time is over.
    #[cold]
    pub(super) fn expire_calls<I: Io<Socket = S>>(&mut self, shared: &mut TurnContext<I>) {
        while let Some((_, parked)) = self.proto.poll_expired(&mut self.send, shared.now) {
            self.end_call(shared, parked, Ended::Dropped);
        }
    }
}
