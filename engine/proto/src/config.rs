//! What a connection is told when it is made.

use core::time::Duration;

use corewire_codec::{CodecId, HelloRecords, Limits};

/// How long each kind of silence may last. All have a resolution of the caller's timer;
/// [`Duration::MAX`] means for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the connection's start to the peer's whole hello. Default 5 s. At the limit the
    /// connection closes with rule 5.
    pub hello: Duration,
    /// From a frame's first byte to its last. Default 60 s. It bounds how long a peer that sends a
    /// byte at a time can hold a partial frame; a 16 MiB frame needs 280 KB/s to make it. Rule 17.
    pub frame: Duration,
    /// Silence after which a ping asks whether the peer is there. Default 60 s.
    pub ping_after: Duration,
    /// How long the answer to a ping may take. Default 20 s. Rule 30.
    pub ping: Duration,
    /// How long a connection may exist without any call in flight; `None` (the default) is for ever.
    /// Rule 30.
    pub idle: Option<Duration>,
    /// How long the peer may take nothing of what waits for it. Default 30 s. Rule 31.
    pub write: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            hello: Duration::from_secs(5),
            frame: Duration::from_secs(60),
            ping_after: Duration::from_secs(60),
            ping: Duration::from_secs(20),
            idle: None,
            write: Duration::from_secs(30),
        }
    }
}

/// What all connections of one server's shard have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerConfig {
    /// What this server accepts from each connection.
    pub limits: Limits,
    /// How long silence may last.
    pub timeouts: Timeouts,
    /// The shard that answers and the number of shards; goes into the hello.
    pub shard: u16,
    /// How many shards the server has, at least one.
    pub shards: u16,
}

/// What makes one connection of a server different from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerIdentity {
    /// The connection's id in this process; with a call id it names a call globally.
    pub connection_id: u64,
}

/// What a client's connection is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientConfig {
    /// What this client accepts.
    pub limits: Limits,
    /// How long silence may last.
    pub timeouts: Timeouts,
}

/// The records that both sides send: limits and the codecs of this crate.
pub(crate) fn records(limits: &Limits, timeouts: &Timeouts) -> HelloRecords {
    let records = HelloRecords {
        limits: *limits,
        idle_timeout_ms: timeouts
            .idle
            .map(|idle| u32::try_from(idle.as_millis()).unwrap_or(u32::MAX)),
        ..HelloRecords::default()
    };
    records.with_codec(CodecId::RAW).with_codec(CodecId::SPEEDY)
}
