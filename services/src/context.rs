//! What a handler may know about the call it serves.

#[cfg(feature = "shard")]
use corewire_engine::Incoming;
use corewire_engine::{Peer, ShardId};
use std::fmt;
use std::time::{Duration, Instant};

/// A call's name in the whole server process: connection and call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallId {
    /// The connection's id, which the client knows from the hello.
    pub connection: u64,
    /// The call's id on that connection.
    pub call: u32,
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.connection, self.call)
    }
}

/// One call, as its handler sees it. A method gets it by taking `&Context` as its first argument.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    pub(crate) peer: Peer,
    pub(crate) shard: ShardId,
    pub(crate) deadline: Option<Instant>,
    pub(crate) id: CallId,
    pub(crate) priority: u8,
}

impl Context {
    #[cfg(feature = "shard")]
    pub(crate) fn new(incoming: &Incoming<'_>) -> Self {
        Self {
            peer: incoming.peer,
            shard: incoming.shard,
            deadline: incoming.deadline,
            id: CallId { connection: incoming.connection_id, call: incoming.request.call },
            priority: incoming.request.priority,
        }
    }

    /// Who calls.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// The shard that runs the handler.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// When the caller stops waiting; the handler is dropped then. `None` when it waits for ever.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// How much of the caller's time is left, by a clock read now.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// The call's name, for logs.
    #[must_use]
    pub fn call_id(&self) -> CallId {
        self.id
    }

    /// The caller's priority: 0 (lowest) to 7, 3 when it said nothing.
    #[must_use]
    pub fn priority(&self) -> u8 {
        self.priority
    }
}
