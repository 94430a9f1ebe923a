//! What a server's threads report to its supervisor, and what the supervisor returns in the end.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use corewire_client::MethodName;
use corewire_client::panics::panic_text;
use corewire_codec::MethodId;
use corewire_proto::{ShardId, ShardInfo};

/// What is reported to the supervisor.
#[derive(Debug)]
pub(crate) enum Event {
    /// A shard turns.
    Ready { shard: ShardId, methods: Vec<(MethodId, MethodName)> },
    /// A shard's thread ended; `None` means without an error.
    Ended { shard: ShardId, reason: Option<io::Error> },
    /// Drain within this time.
    Stop(Duration),
}

/// A shard was lost: its thread died, or did not end in time.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ShardLost {
    /// The shard.
    pub shard: ShardInfo,
    /// Why, as far as it is known.
    pub reason: String,
}

/// A function that is told of each shard that is lost.
#[derive(Clone)]
pub struct ShardLostHook(Arc<dyn Fn(&ShardLost) + Send + Sync>);

impl ShardLostHook {
    /// Calls `tell` for each shard that is lost, on the supervisor's thread: what takes long there delays
    /// the watch over the other shards. If it panics, that is logged.
    pub fn new(tell: impl Fn(&ShardLost) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    pub(crate) fn call(&self, lost: &ShardLost) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (self.0)(lost))) {
            let panic = panic_text(&*panic);
            tracing::error!(shard = %lost.shard.id, panic, "the hook for lost shards panicked");
        }
    }
}

impl std::fmt::Debug for ShardLostHook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ShardLostHook")
    }
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ended {
    /// Shards that died before the end; from then on the server was incomplete.
    pub shards_lost: usize,
}
