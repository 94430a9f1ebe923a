//! What a server's threads tell its supervisor, and what that tells in the end.

use std::io;
use std::time::Duration;

use corewire_proto::ShardId;

/// What the supervisor hears.
#[derive(Debug)]
pub(crate) enum Event {
    /// A shard turns.
    Ready(ShardId),
    /// A shard's thread ended; `None` is a good end.
    Ended { shard: ShardId, reason: Option<io::Error> },
    /// Drain within this time.
    Stop(Duration),
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Shards that died on the way; the server was not whole any more from then on.
    pub shards_lost: usize,
}
