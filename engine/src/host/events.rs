//! What a server's threads report to its supervisor, and what the supervisor returns in the end.

use std::io;
use std::time::Duration;

use corewire_proto::ShardId;

/// What is reported to the supervisor.
#[derive(Debug)]
pub(crate) enum Event {
    /// A shard turns.
    Ready(ShardId),
    /// A shard's thread ended; `None` means without an error.
    Ended { shard: ShardId, reason: Option<io::Error> },
    /// Drain within this time.
    Stop(Duration),
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Shards that died before the end; from then on the server was incomplete.
    pub shards_lost: usize,
}
