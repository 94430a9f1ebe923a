//! What is remembered of a connection that lacks something.

use std::time::Instant;

use crate::conn::turn::Unacked;

/// Kept by connections that hold something unsent, receive a large request, wait for room, or are
/// ending. Idle connections have none, so that they stay small.
#[derive(Debug, Default)]
pub(super) struct AdmissionState {
    /// What the shard's account counts for this connection, in addition to its calls.
    pub(super) counted: usize,
    /// The whole length of the large request that is being received, and how much of it is here.
    pub(super) large: usize,
    pub(super) large_here: usize,
    /// Memory of a receive buffer that a partial frame keeps.
    pub(super) partial: usize,
    /// The part of the connection's progress that was sent or received, not given back, since this was made.
    pub(super) moved: usize,
    /// Whether its address holds more than its share of the shard.
    pub(super) crowded: bool,
    /// Bytes of a refused request that are still to come, and to be dropped.
    pub(super) skip: usize,
    /// What the client's side has not acknowledged of what was written.
    pub(super) unacked: Unacked,
    /// Since when it waits for room for its calls without having given anything back, and since when
    /// for a large request.
    pub(super) since: Option<Instant>,
    /// What it had given back by then.
    pub(super) released: usize,
    pub(super) large_since: Option<Instant>,
    pub(super) large_released: usize,
    /// What counted against its share when it last found no room for the large request.
    pub(super) large_own: usize,
    /// While draining: since when nothing is in flight.
    pub(super) finished: Option<Instant>,
    /// Set when the connection is over: by when it is dropped at the latest, and the bytes that were
    /// dropped since.
    pub(super) linger: Option<(Instant, usize)>,
}

/// What a connection holds in all, and what it has given back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) bytes: usize,
    pub(crate) calls: usize,
    /// Bytes given back and pended calls ended, modulo the word.
    pub(crate) released: usize,
    pub(crate) ended: u32,
}
