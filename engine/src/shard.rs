//! What a shard is called, and what it is told.

use std::fmt;
use std::time::Duration;

#[cfg(feature = "shard")]
use corewire_proto::ServerConfig;

/// A shard's number in its server, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a shard knows about itself when its services are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardInfo {
    /// Its number.
    pub id: ShardId,
    /// How many shards the server has.
    pub count: u16,
    /// The CPU it is pinned to, if it is.
    pub cpu: Option<usize>,
}

/// How long a shard with nothing to do looks for work before it sleeps.
///
/// Spinning answers the next call sooner by the time of a wake-up, and costs the core meanwhile. It
/// pays only on a core that nobody else wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spin {
    /// Sleep at once.
    #[default]
    Off,
    /// Look for this long since the last piece of work.
    For(Duration),
    /// Never sleep.
    Always,
}

/// How much one connection may do before another has its turn, and how much it may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// Frames handled per connection and turn. Default 128.
    pub frames_per_turn: usize,
    /// Receive operations per connection and turn. Default 4.
    pub receives_per_turn: usize,
    /// Bytes that one receive takes at most, and the size of the shard's shared receive buffers.
    /// Default 132 KiB: bodies of 64 and 128 KiB are usual, and two of the one or one of the other
    /// fit with their headers.
    pub receive_bytes: usize,
    /// Unsent bytes of a connection above which nothing more is read from it. Default 1 MiB. One
    /// reply more than this may be held, since a reply is written whole.
    pub unsent_bytes_max: usize,
    /// Bytes sent per connection and turn. Default 528 KiB, as much as may be received.
    pub send_bytes_per_turn: usize,
    /// Connections accepted per turn. Default 64.
    pub accepts_per_turn: usize,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            frames_per_turn: 128,
            receives_per_turn: 4,
            receive_bytes: 132 * 1024,
            unsent_bytes_max: 1024 * 1024,
            send_bytes_per_turn: 4 * 132 * 1024,
            accepts_per_turn: 64,
        }
    }
}

/// Everything a shard's driver is told.
#[cfg(feature = "shard")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct DriverConfig {
    pub(crate) info: ShardInfo,
    pub(crate) server: ServerConfig,
    pub(crate) budgets: Budgets,
    /// The first connection id of this shard, and the step to the next one.
    pub(crate) connection_ids: (u64, u64),
}
