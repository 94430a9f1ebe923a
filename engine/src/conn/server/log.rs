//! What the log says about a call of a connection, and its caller is not told.

use corewire_codec::MethodId;

use super::ServerConn;
use crate::calls::dispatch::Note;
use crate::calls::parked::LoggedCall;
use crate::conn::turn::TurnContext;
use crate::net::io::Io;

impl<S: 'static> ServerConn<S> {
    /// Logs what the caller of a call is not told.
    #[cold]
    pub(super) fn log_call<I: Io<Socket = S>>(
        &self,
        shared: &TurnContext<I>,
        method: MethodId,
        call: u32,
        note: &Note,
    ) {
        let connection_id = self.proto.connection_id();
        let logged = LoggedCall { method, connection_id, call, peer: self.peer };
        logged.log(note, &*shared.dispatch, &shared.calls.local().log);
    }
}
