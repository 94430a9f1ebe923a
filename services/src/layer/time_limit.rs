//! Deadlines for calls whose callers state none, or too much.

use corewire_codec::Status;
use std::time::Duration;

use super::{CallView, Layer};

/// Bounds how long a call may take. At a server it makes up for callers that wait for ever: their
/// handlers are dropped at the end, and the caller gets `DeadlineExceeded`. A handler's own calls
/// inherit the bound through its [`Context`](crate::Context).
///
/// It costs a clock read for each call that it bounds at a server, nothing at a client.
#[derive(Clone, Copy, Debug)]
pub struct TimeLimit {
    limit: Duration,
    default_only: bool,
}

impl TimeLimit {
    /// No call may take longer; callers may ask for less.
    #[must_use]
    pub fn at_most(limit: Duration) -> Self {
        Self { limit, default_only: false }
    }

    /// Calls without a timeout of their own may take this long; those with one take what it says.
    #[must_use]
    pub fn by_default(limit: Duration) -> Self {
        Self { limit, default_only: true }
    }
}

impl Layer for TimeLimit {
    type Guard = ();

    #[inline]
    fn begin(&self, call: &mut CallView<'_>) -> Result<(), Status> {
        if !(self.default_only && call.has_time_limit()) {
            call.limit_time(self.limit);
        }
        Ok(())
    }
}
