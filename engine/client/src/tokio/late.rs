//! A look at the socket itself, when something is due.
//!
//! What the runtime knows of a socket may be old by then. A process that was stopped goes on with its timers
//! before it hears what arrived meanwhile; and that a full socket takes something again is told only when it
//! has much room, for which a slow reader needs long.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::AsFd;
use std::time::Instant;

use corewire_codec::SendBuffer;

use super::socket::Socket;
use crate::core::session::{RECEIVE_BYTES, SEND_BYTES_MAX, SLICES_MAX};
use crate::remote::command::Connection;

/// Receives of one look: a server that sends without end must not keep the task.
const RECEIVES_PER_LOOK: usize = 16;

/// The same socket, without the runtime.
enum Bare {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Bare {
    fn of(socket: &Socket) -> io::Result<Self> {
        Ok(match socket {
            Socket::Tcp(stream) => Self::Tcp(stream.as_fd().try_clone_to_owned()?.into()),
            Socket::Unix(stream) => Self::Unix(stream.as_fd().try_clone_to_owned()?.into()),
        })
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(into),
            Self::Unix(stream) => stream.read(into),
        }
    }

    fn write(&mut self, from: &SendBuffer) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let filled = from.chunks(&mut slices, SEND_BYTES_MAX);
        let slices = slices.get(..filled).unwrap_or(&[]);
        match self {
            Self::Tcp(stream) => stream.write_vectored(slices),
            Self::Unix(stream) => stream.write_vectored(slices),
        }
    }
}

/// Takes in what has arrived, and writes what the socket takes. Returns whether everything was taken in.
#[cold]
pub(super) fn look(socket: &Socket, connection: &mut Connection, now: Instant) -> bool {
    // Without a descriptor to spare, what the runtime knows must do.
    let Ok(mut socket) = Bare::of(socket) else { return true };
    let session = &mut connection.session;
    if session.is_blocked()
        && let Ok(count) = socket.write(&session.out)
    {
        session.handle_write(count, now);
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
