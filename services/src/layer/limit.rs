//! A limit on the calls that run at once, and which calls are turned away beyond it.

use corewire_codec::{Range, RequestHead, Status};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{CallEnd, CallView, Guard, Layer};

/// Lets at most `max` calls run at once and sheds the others immediately: they get
/// `ResourceExhausted`, marked as not run, so that their callers may try them again elsewhere or
/// later.
///
/// Nobody waits for a permit. At a server, waiting calls would fill memory and time out behind
/// those that already run too slowly; at a client, the channel has a queue of its own for calls
/// that the server has no room for.
///
/// Only pending handlers can exceed a limit at a server: a shard runs one at a time.
///
/// Each permit is given back when its call ends, in whichever way: also when its handler panics or
/// its caller gives it up. It costs two atomic operations for each call, on a counter that no other
/// thread writes unless a client with the limit is shared between threads.
///
/// ```
/// use corewire::layer::ConcurrencyLimit;
/// use std::time::Duration;
///
/// let limit = ConcurrencyLimit::new(100).reserve(10).retry_after(Duration::from_millis(20));
/// assert_eq!(limit.running(), 0);
/// ```
#[derive(Clone, Debug)]
pub struct ConcurrencyLimit {
    running: Arc<AtomicUsize>,
    max: usize,
    reserved: usize,
    retry_after: Duration,
}

impl ConcurrencyLimit {
    /// At most `max` calls at once, any number; 0 turns all away. A clone shares the limit.
    #[must_use]
    pub fn new(max: usize) -> Self {
        let retry_after = Duration::from_millis(50);
        Self { running: Arc::default(), max, reserved: 0, retry_after }
    }

    /// Keeps the last `reserved` of the permits for calls of more than usual priority (4 to 7), so that
    /// those below are shed first. More than `max` counts as `max`; default none.
    #[must_use]
    pub fn reserve(mut self, reserved: usize) -> Self {
        self.reserved = reserved.min(self.max);
        self
    }

    /// How long callers that are turned away are asked to wait. Default 50 ms, 0 to 24 h; a server does
    /// not start with more.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = wait;
        self
    }

    /// Calls that run now.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    #[cold]
    fn shed(&self, room: usize) -> Status {
        let text = format!("{room} calls run already; this one was not begun");
        Status::resource_exhausted(text).with_retry_after(self.retry_after)
    }
}

impl Layer for ConcurrencyLimit {
    type Guard = Permit;

    #[inline]
    fn begin(&self, call: &mut CallView<'_>) -> Result<Permit, Status> {
        let room = match call.priority() > RequestHead::PRIORITY_USUAL {
            true => self.max,
            false => self.max - self.reserved,
        };
        // The permit is made before the count is checked, and gives itself back when it is one too
        // many.
        let permit = Permit { running: Arc::clone(&self.running) };
        match permit.running.fetch_add(1, Ordering::Relaxed) < room {
            true => Ok(permit),
            false => Err(self.shed(room)),
        }
    }

    fn check(&self) -> Result<(), String> {
        Ok(RETRY_AFTER.check("ConcurrencyLimit's retry_after", self.retry_after)?)
    }
}

const RETRY_AFTER: Range<Duration> = Range::new(Duration::ZERO, Duration::from_secs(24 * 3600));

/// Permission to run, for as long as it lives.
///
/// ```
/// use corewire::layer::{ConcurrencyLimit, Layer, Permit};
///
/// /// The layer's guard: a permit lives as long as its call.
/// fn is_guard<L: Layer<Guard = Permit>>(_: &L) {}
///
/// is_guard(&ConcurrencyLimit::new(8));
/// ```
#[derive(Debug)]
pub struct Permit {
    running: Arc<AtomicUsize>,
}

impl Guard for Permit {
    #[inline]
    fn end(self, _: &mut CallEnd) {}
}

impl Drop for Permit {
    #[inline]
    fn drop(&mut self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }
}
