//! The time that deadlines are compared with.

use std::time::{Duration, Instant};

/// The time: that of the system, or in a simulation the virtual one.
#[cfg(feature = "shard")]
#[inline]
pub(crate) fn now() -> Instant {
    corewire_engine::now()
}

#[cfg(not(feature = "shard"))]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The time since `start`.
#[inline]
pub(crate) fn since(start: Instant) -> Duration {
    now().saturating_duration_since(start)
}
