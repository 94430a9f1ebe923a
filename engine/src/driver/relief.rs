//! What a driver remembers of its connections while memory is short.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::conn::server::Standing;
use crate::net::io::Token;

/// How often all connections are looked at while memory is short.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is remembered of connections while memory is short.
#[derive(Debug, Default)]
pub(super) struct Relief {
    /// When to look at all connections again; `None` while there is room.
    pub(super) look_at: Option<Instant>,
    /// When that was last done.
    looked: Option<Instant>,
    /// The standing of each connection when its time began.
    pub(super) marks: BTreeMap<Token, (Instant, Standing)>,
    /// When to free buffers that nobody used meanwhile.
    pub(super) trim_at: Option<Instant>,
}

impl Relief {
    /// Whether memory was short the last time.
    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.look_at.is_some()
    }

    /// When the driver must turn for it.
    pub(super) fn next(&self) -> [Option<Instant>; 2] {
        [self.look_at, self.trim_at]
    }
}

impl Relief {
    /// All connections are looked at now. A shard that looks much later than planned was away, and could not
    /// see what its peers gave back: that time does not count.
    pub(super) fn handle_look(&mut self, now: Instant, short: bool) {
        let before = core::mem::replace(&mut self.looked, short.then_some(now));
        let gap = before.map_or(Duration::ZERO, |before| now.saturating_duration_since(before));
        if gap <= 2 * LOOK_EVERY {
            return;
        }
        for (since, _) in self.marks.values_mut() {
            *since = (*since + (gap - LOOK_EVERY)).min(now);
        }
    }
}
