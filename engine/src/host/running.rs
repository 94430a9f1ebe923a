//! The handle of a running server: stopping it, and waiting for its end in a way that suits the thread.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::Duration;

use crate::host::events::{Ended, Event};
use crate::host::signals;
use crate::shard::counters::ShardCounters;
use crate::workers::pool::{Counts, OffloadCounts};
use corewire_client::address::Address;
use corewire_client::wait::{block_on, is_driver};
use corewire_proto::ShardInfo;
use sync_wrapper::SyncWrapper;

/// A server that runs.
///
/// [`stop`](Self::stop) asks for its end. Wait for that with [`wait`](Self::wait) on a plain thread, and
/// with [`ended`](Self::ended) in a task.
///
/// Dropping the handle stops the server, and waits for its end unless this thread drives connections: on
/// a shard and within a tokio runtime the server drains in the background, because its clients may need
/// this thread to end their calls.
#[derive(Debug)]
pub struct Running {
    pub(crate) addresses: Vec<Address>,
    pub(crate) shards: Vec<RunningShard>,
    pub(crate) events: flume::Sender<Event>,
    pub(crate) supervisor: Option<Supervising>,
    pub(crate) readiness: Readiness,
    pub(crate) evenness: Evenness,
    pub(crate) drain_within: Duration,
    pub(crate) offload: Arc<Counts>,
}

/// The supervisor's thread, and what it sends at its end.
#[derive(Debug)]
pub(crate) struct Supervising {
    pub(crate) thread: thread::JoinHandle<()>,
    /// Reached through `&mut` alone, which makes the handle `Sync`.
    pub(crate) ended: SyncWrapper<oneshot::AsyncReceiver<Ended>>,
    pub(crate) signals: Option<signals::Watching>,
}

/// One shard of a running server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunningShard {
    /// Its number, CPU and the like.
    pub info: ShardInfo,
    /// Its counters.
    pub counters: Arc<ShardCounters>,
}

/// Whether a server should get new clients; for a health endpoint. Clones tell of the same server.
#[derive(Clone, Debug)]
pub struct Readiness(pub(crate) Arc<AtomicBool>);

impl Readiness {
    /// Whether the server is ready: from its start until it is asked to stop. It still takes clients for the
    /// time of its lame duck (`ServerBuilder::lame_duck`) after that.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The greatest load over the mean, as the bits of an `f64`.
#[derive(Clone, Debug)]
pub(crate) struct Evenness(Arc<AtomicU64>);

impl Default for Evenness {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(1.0_f64.to_bits())))
    }
}

impl Evenness {
    pub(crate) fn set(&self, max_over_mean: f64) {
        self.0.store(max_over_mean.to_bits(), Ordering::Relaxed);
    }
}

/// [`Running::wait`] was called on a thread that drives connections. It has the server's handle, which
/// [`into_running`](Self::into_running) gives back; dropping it stops the server.
pub struct WouldBlock(Box<Running>);

impl WouldBlock {
    /// The server, which runs on.
    #[must_use]
    pub fn into_running(self) -> Running {
        *self.0
    }
}

impl fmt::Display for WouldBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "wait() would block a thread that drives connections, which the server's clients may need; await ended() instead, or wait on a thread of its own",
        )
    }
}

corewire_codec::debug_is_display!(WouldBlock);

impl std::error::Error for WouldBlock {}

impl Running {
    /// The addresses, with the ports that the system chose.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// The shards, in order.
    #[must_use]
    pub fn shards(&self) -> &[RunningShard] {
        &self.shards
    }

    /// What the server's threads for offloaded work have done, and do now.
    #[must_use]
    pub fn offload_counts(&self) -> OffloadCounts {
        self.offload.read()
    }

    /// Whether the server should get new clients, for a health endpoint of another server or thread. Handlers
    /// of this server ask `corewire::is_ready`.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// How evenly the shards worked in the last second: the greatest load of a shard over the mean of all that run. 1 is
    /// even, and the number of shards means that one of them did everything. A gauge that changes once a second; 1 while
    /// nobody works. For other intervals compare the shards' counters `busy_us`.
    ///
    /// ```no_run
    /// # fn show(server: &corewire_engine::Running) {
    /// println!("corewire_load_max_over_mean {:.2}", server.load_max_over_mean());
    /// # }
    /// ```
    #[doc(alias("imbalance", "skew", "metrics"))]
    #[must_use]
    pub fn load_max_over_mean(&self) -> f64 {
        f64::from_bits(self.evenness.0.load(Ordering::Relaxed))
    }

    /// Asks for the end: the time of the lame duck, and then a drain within the configured time. Returns at
    /// once.
    #[doc(alias("shutdown", "graceful", "drain"))]
    pub fn stop(&self) {
        // A supervisor that is gone has nothing left to stop.
        let _ = self.events.send(Event::Stop(self.drain_within));
    }

    /// Blocks this thread until the end: after [`stop`](Self::stop), or after a signal where those drain
    /// (`ServerBuilder::drain_on_signal`).
    ///
    /// # Errors
    ///
    /// [`WouldBlock`] on a shard and within a tokio runtime. The server runs on; the error has its handle.
    #[doc(alias("join"))]
    pub fn wait(mut self) -> Result<Ended, WouldBlock> {
        if is_driver() {
            return Err(WouldBlock(Box::new(self)));
        }
        Ok(self.join())
    }

    /// The server's end, for a task on a shard, on tokio, or under any other executor. Dropping it stops the
    /// server, as dropping the handle does.
    ///
    /// ```no_run
    /// # async fn end(server: corewire_engine::Running) {
    /// server.stop();
    /// let shards_lost = server.ended().await.shards_lost;
    /// # }
    /// ```
    pub fn ended(self) -> Ending {
        Ending(self)
    }

    fn lost(&self) -> Ended {
        Ended { shards_lost: self.shards.len() }
    }

    fn join(&mut self) -> Ended {
        let lost = self.lost();
        let Some(Supervising { thread, ended, signals }) = self.supervisor.take() else {
            return lost;
        };
        // It sends nothing if it panicked.
        let ended = block_on(ended.into_inner(), None).and_then(Result::ok).unwrap_or(lost);
        let _ = thread.join();
        if let Some(signals) = signals {
            signals.end();
        }
        ended
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(supervising) = &mut self.supervisor else { return };
        // No `stop()`, because the sender would have to live on.
        let _ = self.events.send(Event::Stop(self.drain_within));
        if !is_driver() {
            self.join();
        } else if let Some(signals) = supervising.signals.take() {
            // Signals are caught until the process ends: a second one ends it at once.
            signals.detach();
        }
    }
}

/// The end of a server; made by [`Running::ended`].
#[must_use = "it does nothing unless it is awaited, and stops the server when it is dropped"]
#[derive(Debug)]
pub struct Ending(Running);

impl Future for Ending {
    type Output = Ended;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Ended> {
        let running = &mut self.get_mut().0;
        let lost = running.lost();
        let Some(supervising) = &mut running.supervisor else { return Poll::Ready(lost) };
        let ended = ready!(Pin::new(supervising.ended.get_mut()).poll(context)).unwrap_or(lost);
        if let Some(Supervising { signals: Some(signals), .. }) = running.supervisor.take() {
            signals.end();
        }
        Poll::Ready(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A handle may be kept anywhere, and an error with it goes into `Box<dyn Error + Send + Sync>`.
    #[test]
    fn handles_go_everywhere() {
        fn everywhere<T: Send + Sync + 'static>() {}
        everywhere::<Running>();
        everywhere::<WouldBlock>();
        everywhere::<Ending>();
    }
}
