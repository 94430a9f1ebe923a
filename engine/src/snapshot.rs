//! What a shard and its channels hold at one moment, for simulations.

use corewire_proto::StreamAccounts;

/// What a shard holds at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Connections of both kinds.
    pub connections: usize,
    /// Connections of its server.
    pub server_connections: usize,
    /// Connections that wait for a turn.
    pub run_queue: usize,
    /// Entries of the timer heap, stale ones included.
    pub timers: usize,
    /// Whether the table of wakers has pending handlers.
    pub parked: bool,
    /// Parked calls of all connections.
    pub in_flight: usize,
    /// Parked calls of the connection that has the most.
    pub in_flight_max: usize,
    /// Queued wakes of the connection that has the most.
    pub woken_max: usize,
    /// Unsent bytes of the connection that has the most.
    pub unsent_max: usize,
    /// Received bytes that wait in the connection that has the most.
    pub unread_max: usize,
    /// Bytes and pending calls that count against the shard's budgets.
    pub held: (usize, usize),
    /// The ids of connections that are paused because they exceed their budget of unsent bytes.
    pub paused: Vec<u64>,
    /// Stream bytes that were delivered and not consumed, of the server's connection that has the most.
    pub held_max: u32,
    /// One-way calls that pend, of the server's connection that has the most.
    pub one_way_max: usize,
    /// What the server's connections know of their streams.
    pub streams: Vec<StreamSnapshot>,
    /// Received bytes that wait in the client's connection that has the most.
    pub client_unread_max: usize,
    /// Received bytes that wait in all connections.
    pub unread: usize,
}

/// What one side of a connection knows of its streams at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamSnapshot {
    /// The connection, by the server's id.
    pub connection: u64,
    /// Streams whose slots are taken.
    pub open: usize,
    /// The credit that they share; `None` if there never was a stream.
    pub accounts: Option<StreamAccounts>,
}

/// What one shard's part of a mesh holds at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeshSnapshot {
    /// What was sent and takes a place on its way, or waits at its owner without having said so.
    pub away: usize,
    /// What waits here because a ring is full.
    pub unsent: usize,
    /// What has arrived here and was not taken.
    pub arrived: usize,
    /// Who waits here for a place on the way.
    pub queued: usize,
    /// What was sent and is to come back.
    pub awaited: usize,
    /// What runs here for other shards.
    pub running: usize,
    /// Where parts of streams are waited for.
    pub slots: usize,
}

/// What a channel holds at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelSnapshot {
    /// Whether there is a connection.
    pub up: bool,
    /// Whether its server has said hello.
    pub ready: bool,
    /// Whether one is being made.
    pub connecting: bool,
    /// Calls in flight that a caller waits for.
    pub in_flight: usize,
    /// Calls that could begin now.
    pub free_slots: usize,
    /// Entries for calls that have not delivered their outcome.
    pub calls: usize,
    /// Calls that wait for a slot, for room or for the connection.
    pub waiting: usize,
    /// Bytes that wait to be sent.
    pub unsent: usize,
    /// Stream bytes that were delivered and not consumed.
    pub held: u32,
    /// What it knows of its streams, once the server has said hello.
    pub streams: Option<StreamSnapshot>,
}
