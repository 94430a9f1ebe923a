//! A look at the socket itself, when something is due.
//!
//! What the runtime knows of a socket may be old by then. A process that was stopped goes on with its timers
//! before it hears what arrived meanwhile; and that a full socket takes something again is told only when it
//! has much room, for which a slow reader needs long.

use std::io;
use std::time::Instant;

use super::shell::{Bare, Socket};
use crate::core::session::RECEIVE_BYTES;
use crate::remote::command::Connection;

/// Receives of one look: a server that sends without end must not keep the task.
const RECEIVES_PER_LOOK: usize = 16;

/// Takes in what has arrived, and writes what the socket takes. Returns whether everything was taken in.
#[cold]
pub(super) fn look(socket: &impl Socket, connection: &mut Connection, now: Instant) -> bool {
    // Without a descriptor to spare, what the runtime knows must do.
    let Ok(mut socket) = socket.bare() else { return true };
    let session = &mut connection.session;
    if session.is_blocked()
        && let Ok(count) = socket.write(&session.out)
    {
        session.handle_write(count, now);
        if !session.out.is_empty() {
            session.handle_write(0, now);
        }
    }
    let mut bytes = vec![0; RECEIVE_BYTES];
    for _ in 0..RECEIVES_PER_LOOK {
        match socket.read(&mut bytes) {
            Ok(0) => connection.session.handle_eof(),
            Ok(count) => {
                connection.session.recv.extend_from_slice(bytes.get(..count).unwrap_or(&[]));
                connection.handle_received(now);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => connection.session.handle_error(&error),
        }
        if connection.session.close_reason().is_some() {
            return true;
        }
    }
    false
}
