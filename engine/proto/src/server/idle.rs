//! A connection without calls, as something that another thread can go on with.

use std::rc::Rc;

use super::{ExtraCalls, OneWayTable, Phase, ServerConnection};
use crate::config::{ServerConfig, ServerIdentity};
use crate::in_flight::InFlightTable;
use crate::keep_alive::KeepAlive;
use crate::streams::table::StreamTable;

/// All that a server knows of a client that waits for nothing: [`ServerConnection::to_idle`] makes it, and
/// [`ServerConnection::from_idle`] goes on with it, on any thread. Its clocks and its credit go along.
#[derive(Clone, Debug)]
pub struct IdleServerConnection {
    identity: ServerIdentity,
    keep_alive: KeepAlive,
    accepted: u32,
    peer_frame_bytes_max: u32,
    peer_codecs: u16,
    peer_metadata_bytes_max: u16,
    peer_hears_forwards: bool,
    peer_stream_credit: u32,
    peer_connection_credit: u32,
    /// The credit that streams share, if there were any.
    streams: Option<StreamTable>,
}

impl IdleServerConnection {
    /// The connection's id in this process, which it keeps.
    #[must_use]
    pub fn connection_id(&self) -> u64 {
        self.identity.connection_id
    }
}

impl<T> ServerConnection<T> {
    /// What another thread needs to go on with the connection, if it is open, neither side has begun to end it, no call is
    /// in flight, no stream is open, all messages of streams are consumed, and nothing is awaited from the client. The
    /// caller's buffers must be empty as well. Drop this one then.
    #[must_use]
    pub fn to_idle(&self) -> Option<IdleServerConnection> {
        let busy = self.streams() > 0 || self.held_stream_bytes() > 0;
        if busy || !self.is_steady() || !self.goes_on() {
            return None;
        }
        Some(IdleServerConnection {
            identity: self.identity,
            keep_alive: self.keep_alive.clone(),
            accepted: self.accepted,
            peer_frame_bytes_max: self.peer_frame_bytes_max,
            peer_codecs: self.peer_codecs,
            peer_metadata_bytes_max: self.peer_metadata_bytes_max,
            peer_hears_forwards: self.peer_hears_forwards,
            peer_stream_credit: self.peer_stream_credit,
            peer_connection_credit: self.peer_connection_credit,
            streams: self.extra_calls.as_ref().map(|extra| extra.streams.without_slots()),
        })
    }

    /// Goes on with a connection. Limits and timeouts should be those that it had: the client was told them.
    #[must_use]
    pub fn from_idle(idle: IdleServerConnection, config: Rc<ServerConfig>) -> Self {
        let extra = |streams| Box::new(ExtraCalls { streams, one_way: OneWayTable::new() });
        Self {
            config,
            phase: Phase::Open,
            identity: idle.identity,
            keep_alive: idle.keep_alive,
            in_flight: InFlightTable::new(),
            accepted: idle.accepted,
            peer_frame_bytes_max: idle.peer_frame_bytes_max,
            peer_codecs: idle.peer_codecs,
            peer_metadata_bytes_max: idle.peer_metadata_bytes_max,
            peer_hears_forwards: idle.peer_hears_forwards,
            client_leaves: false,
            peer_stream_credit: idle.peer_stream_credit,
            peer_connection_credit: idle.peer_connection_credit,
            extra_calls: idle.streams.map(extra),
        }
    }
}
