//! A log line for each call.

use corewire_client::{MethodName, Peer};
use corewire_codec::{Status, StatusCode, TraceContext};
use std::time::Instant;

use super::{CallEnd, CallView, Guard, Layer};
use crate::clock;

/// Logs for each call what it was, who made it, how it ended and how long it took, through
/// `tracing` under the target `corewire::calls`: faults of the server (`Unknown`, `Internal`,
/// `DataLoss`) as warnings, all other ends at the level of debug.
///
/// It costs two clock reads for each call, and the log line if a subscriber listens. Neither
/// arguments nor metadata are logged, because they may be secret.
///
/// ```
/// use corewire::layer::Log;
///
/// let server = corewire::Server::builder().layer(|_shard| Log::new());
/// # let _ = server;
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Log;

impl Log {
    /// The layer; it has no settings.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

impl Layer for Log {
    type Guard = LogGuard;

    fn begin(&self, call: &mut CallView<'_>) -> Result<LogGuard, Status> {
        let (method, peer, trace) = (call.method(), call.peer(), call.trace());
        Ok(LogGuard { method, peer, trace, start: clock::now(), ended: false })
    }
}

/// What will be logged about one call.
///
/// ```
/// use corewire::layer::{Layer, Log, LogGuard};
///
/// fn is_guard(_: &impl Layer<Guard = LogGuard>) {}
///
/// is_guard(&Log::new());
/// ```
#[derive(Debug)]
pub struct LogGuard {
    method: MethodName,
    peer: Option<Peer>,
    trace: Option<TraceContext>,
    start: Instant,
    ended: bool,
}

impl LogGuard {
    fn say(&self, outcome: &str, is_fault: bool) {
        let us = u64::try_from(clock::since(self.start).as_micros()).unwrap_or(u64::MAX);
        let method = self.method;
        let peer = self.peer.map(tracing::field::display);
        let trace = self.trace.map(tracing::field::display);
        if is_fault {
            tracing::warn!(target: "corewire::calls", %method, peer, trace, outcome, us, "call");
        } else {
            tracing::debug!(target: "corewire::calls", %method, peer, trace, outcome, us, "call");
        }
    }
}

impl Guard for LogGuard {
    fn end(mut self, end: &mut CallEnd) {
        self.ended = true;
        let code = end.code();
        let fault =
            matches!(code, StatusCode::Unknown | StatusCode::Internal | StatusCode::DataLoss);
        self.say(code.name(), fault);
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        if !self.ended {
            self.say("dropped", std::thread::panicking());
        }
    }
}
