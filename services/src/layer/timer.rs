//! How long calls take.

use corewire_client::MethodName;
use corewire_codec::{Status, StatusCode};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{CallEnd, CallView, Guard, Layer};
use crate::clock;

/// What a [`CallTimer`] layer reports about one call.
///
/// ```
/// use corewire::layer::{CallTime, CallTimer};
///
/// let timer = CallTimer::new(|call: &CallTime| {
///     println!("{} took {:?}, ended with {:?}", call.method, call.elapsed, call.code);
/// });
/// # let _ = timer;
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct CallTime {
    /// What was called.
    pub method: MethodName,
    /// How long it took: at a server from before its arguments were decoded until its reply was
    /// written into the send buffer, at a client until its reply was there.
    pub elapsed: Duration,
    /// How it ended; `None` when it was dropped before.
    pub code: Option<StatusCode>,
}

/// Measures each call, tells a function, which may feed a histogram, and states the time in the reply,
/// where [`Response::handler_time`](crate::Response::handler_time) returns it.
///
/// It costs two clock reads for each call, some 50 ns together, and what the function does on the
/// thread that runs the call. Without this layer, pending handlers are timed from when they first
/// were pending, and others are not timed.
///
/// ```
/// use corewire::layer::CallTimer;
///
/// let server = corewire::Server::builder().layer(|_shard| {
///     CallTimer::new(|timed| println!("{} took {:?}", timed.method, timed.elapsed))
/// });
/// # let _ = server;
/// ```
pub struct CallTimer<F> {
    tell: Arc<F>,
}

impl<F: Fn(&CallTime) + 'static> CallTimer<F> {
    /// Calls `tell` for every call that has ended or was dropped. It must not panic: a call that is
    /// dropped may be unwinding already. On a client it must be `Send` and `Sync`.
    #[must_use]
    pub fn new(tell: F) -> Self {
        Self { tell: Arc::new(tell) }
    }
}

impl<F> fmt::Debug for CallTimer<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallTimer").finish_non_exhaustive()
    }
}

impl<F: Fn(&CallTime) + 'static> Layer for CallTimer<F> {
    type Guard = TimerGuard<F>;

    fn begin(&self, call: &mut CallView<'_>) -> Result<TimerGuard<F>, Status> {
        let tell = Arc::clone(&self.tell);
        Ok(TimerGuard { method: call.method(), start: clock::now(), tell, code: None })
    }
}

/// One call's clock.
///
/// ```
/// use corewire::layer::{CallTime, CallTimer, Layer, TimerGuard};
///
/// fn is_guard<F: Fn(&CallTime) + 'static>(_: &impl Layer<Guard = TimerGuard<F>>, _: &F) {}
///
/// let tell: fn(&CallTime) = |_| {};
/// is_guard(&CallTimer::new(tell), &tell);
/// ```
pub struct TimerGuard<F: Fn(&CallTime)> {
    method: MethodName,
    start: Instant,
    tell: Arc<F>,
    code: Option<(StatusCode, Duration)>,
}

impl<F: Fn(&CallTime)> fmt::Debug for TimerGuard<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("TimerGuard");
        out.field("method", &self.method).field("start", &self.start).finish_non_exhaustive()
    }
}

impl<F: Fn(&CallTime) + 'static> Guard for TimerGuard<F> {
    fn end(mut self, end: &mut CallEnd) {
        let elapsed = clock::since(self.start);
        end.set_handler_time(elapsed);
        self.code = Some((end.code(), elapsed));
    }
}

impl<F: Fn(&CallTime)> Drop for TimerGuard<F> {
    fn drop(&mut self) {
        let (code, elapsed) = match self.code {
            Some((code, elapsed)) => (Some(code), elapsed),
            None => (None, clock::since(self.start)),
        };
        (self.tell)(&CallTime { method: self.method, elapsed, code });
    }
}
