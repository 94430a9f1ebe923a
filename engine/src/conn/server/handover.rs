//! How a connection goes to another shard, and comes from one.

use std::rc::Rc;

use corewire_codec::SendBuffer;
use corewire_proto::{IdleServerConnection, ServerConfig, ServerConnection};

use super::ServerConn;
use crate::conn::turn::TurnContext;
use crate::net::io::Io;
use corewire_client::address::Peer;

impl<S: 'static> ServerConn<S> {
    /// Goes on with a connection that was idle.
    pub(crate) fn from_idle(
        socket: S,
        peer: Peer,
        config: Rc<ServerConfig>,
        idle: IdleServerConnection,
    ) -> Self {
        Self::with_proto(socket, peer, ServerConnection::from_idle(idle, config))
    }

    /// Whether it may ever go to another shard: its client has not chosen this one.
    pub(crate) fn may_move(&self) -> bool {
        !self.keyed
    }

    /// What another shard needs to go on with it, if nothing of it is here.
    pub(crate) fn to_idle(&self) -> Option<IdleServerConnection> {
        let is_empty = self.recv.is_none()
            && self.send.is_empty()
            && self.woken.is_empty()
            && self.admission_state.is_none()
            && self.held == 0
            && self.streams.as_ref().is_none_or(|streams| streams.is_empty());
        if is_empty && self.may_move() { self.proto.to_idle() } else { None }
    }

    /// Its socket, when [`to_idle`](Self::to_idle) has taken the rest.
    pub(crate) fn into_socket<I: Io<Socket = S>>(
        mut self,
        shared: &mut TurnContext<I>,
    ) -> (S, Peer) {
        self.leave(shared);
        (self.socket, self.peer)
    }

    /// Tells the client to go elsewhere, and closes. For a connection that cannot be watched.
    #[cold]
    pub(crate) fn send_away<I: Io<Socket = S>>(
        mut self,
        shared: &mut TurnContext<I>,
        out: &mut SendBuffer,
    ) {
        self.proto.drain(out);
        // A new socket takes this much.
        let _ = shared.io.send(&self.socket, out, usize::MAX);
        shared.io.shutdown_write(&self.socket);
    }
}
