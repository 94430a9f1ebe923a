//! Deadlines for calls whose callers state none, or one that is too late.

use corewire_codec::{OutOfRange, Range, Status};
use std::time::Duration;

use super::{CallView, Layer};

/// Limits how long a call may take. At a server it protects against callers that wait for ever:
/// their handlers are dropped at the end, and the caller gets `DeadlineExceeded`. A handler's own
/// calls inherit the limit through its [`Context`](crate::Context).
///
/// It costs a clock read for each call that it limits at a server, nothing at a client.
///
/// ```
/// use corewire::layer::TimeLimit;
/// use std::time::Duration;
///
/// // A tuple is two layers: at most a minute, and a second for callers that say nothing.
/// let server = corewire::Server::builder().layer(|_shard| {
///     (TimeLimit::at_most(Duration::from_secs(60)), TimeLimit::by_default(Duration::from_secs(1)))
/// });
/// # let _ = server;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct TimeLimit {
    limit: Duration,
    default_only: bool,
    in_range: bool,
}

/// A microsecond is the least that a request can state.
const LIMIT: Range<Duration> =
    Range::new(Duration::from_micros(1), Duration::from_secs(365 * 24 * 3600)).or_never();

impl TimeLimit {
    /// No call may take longer; callers may ask for less. 1 µs to 365 days, or [`Duration::MAX`] for no
    /// limit; a server does not start with another value, and a client's calls are turned away.
    #[must_use]
    pub fn at_most(limit: Duration) -> Self {
        Self::new(limit, false)
    }

    /// Calls without a timeout of their own may take this long; those with one take what it says. The same
    /// range.
    #[must_use]
    pub fn by_default(limit: Duration) -> Self {
        Self::new(limit, true)
    }

    fn new(limit: Duration, default_only: bool) -> Self {
        let in_range = Self::check_limit(limit).is_ok();
        Self { limit, default_only, in_range }
    }

    fn check_limit(limit: Duration) -> Result<(), OutOfRange> {
        LIMIT.check("TimeLimit", limit)
    }

    #[cold]
    fn refuse(&self) -> Result<(), Status> {
        Self::check_limit(self.limit)
            .map_err(|error| Status::failed_precondition(error.to_string()))
    }
}

impl Layer for TimeLimit {
    type Guard = ();

    #[inline]
    fn begin(&self, call: &mut CallView<'_>) -> Result<(), Status> {
        if !self.in_range {
            return self.refuse();
        }
        if !(self.default_only && call.has_time_limit()) {
            call.limit_time(self.limit);
        }
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        Ok(Self::check_limit(self.limit)?)
    }
}
