//! What a channel without its sockets holds, counted for the simulator.

use corewire_proto::StreamAccounts;

use super::{ClientCore, Connection, Current, Waiter};

/// What one connection of a channel holds at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionSnapshot {
    /// Whether new calls go to another connection.
    pub retired: bool,
    /// Whether the server has said hello.
    pub ready: bool,
    /// Calls that could be written now.
    pub free_slots: usize,
    /// Calls in flight that a caller waits for.
    pub in_flight: usize,
    /// Entries for such calls.
    pub calls: usize,
    /// Entries for streams, also of calls that are over and not read to their end.
    pub streams: usize,
    /// Bytes that wait to be sent.
    pub unsent: usize,
    /// Bytes that were received and not handled.
    pub unread: usize,
    /// Stream bytes that were delivered and not consumed.
    pub held: u32,
    /// The connection, by the server's id, once that is known.
    pub id: Option<u64>,
    /// Streams whose slots are taken.
    pub open_streams: usize,
    /// The credit that the streams share; `None` if there never was one.
    pub accounts: Option<StreamAccounts>,
}

/// What a channel holds at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoreSnapshot {
    /// Whether a connection is being made.
    pub connecting: bool,
    /// Calls that wait for a slot or for the connection, some of which may be given up.
    pub waiting: usize,
    /// The connections, that for new calls first.
    pub connections: Vec<ConnectionSnapshot>,
    /// Calls and control messages that the driver has not taken yet.
    pub has_news: bool,
}

impl<W: Waiter> ClientCore<W> {
    /// What the channel holds.
    pub fn snapshot(&self) -> CoreSnapshot {
        let is_current = |connection: &Connection<W>| match &self.current {
            Current::Up(current) => current.id == connection.id,
            Current::Down { .. } | Current::Connecting => false,
        };
        let of = |connection: &Connection<W>| {
            let (free_slots, id, open_streams, accounts) = connection.session.snapshot();
            let (calls, streams) = connection.tallies();
            let takes = connection.takes_calls();
            ConnectionSnapshot {
                retired: !is_current(connection),
                ready: connection.session.is_ready(),
                free_slots: if takes { free_slots } else { 0 },
                in_flight: connection.session.in_flight(),
                calls,
                streams,
                unsent: connection.unsent(),
                unread: connection.session.recv.len(),
                held: connection.session.held_bytes(),
                id,
                open_streams,
                accounts,
            }
        };
        CoreSnapshot {
            connecting: self.is_connecting(),
            waiting: self.waiting.len(),
            connections: self.connections().map(of).collect(),
            has_news: false,
        }
    }
}
