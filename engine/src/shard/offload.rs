//! Work for threads beside the shards.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::shard::clock::{clock, is_simulated};
use crate::shard::context::ShardContext;
use crate::workers::error::OffloadError;
use crate::workers::pool::{Counts, Ticket, Work};
use corewire_client::log_limit::{Topic, admit_here};
use corewire_client::panics::panic_text;

/// Runs a closure on a thread beside the shards, and waits for what it returns. For what would hold the shard: work
/// that computes for more than some hundred microseconds, and work that blocks, such as a file or a database.
///
/// ```
/// # mod corewire {
/// #     pub use corewire_engine::*;
/// #     pub use corewire_engine::run_on_shard as block_on_shard;
/// # }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use corewire::{ClientShard, block_on_shard, offload};
///
/// let sum = block_on_shard(ClientShard::default(), || async {
///     let numbers: Vec<u64> = (1..=1_000_000).collect();
///     offload(move || numbers.iter().sum::<u64>()).await // the shard's other work goes on
/// })??;
/// assert_eq!(sum, 500_000_500_000);
/// # Ok(())
/// # }
/// ```
///
/// # Threads
///
/// The shards of a server share its threads: by default as many as the CPUs that its shards leave free, and at least
/// two (`ServerBuilder::offload_threads`). They run on those CPUs. If there are none, they run on all CPUs of the
/// process, but only while no shard wants them (`SCHED_IDLE`), unless the shards never sleep ([`Spin::Always`](crate::Spin)). They are named
/// `corewire-work`, start when there is work, and end after 10 s without, and with the server. A shard of
/// `block_on_shard` or of a client thread has threads of its own, by the same rule.
///
/// # Bounds
///
/// Work beyond `ServerBuilder::offload_queue` (1,024 by default) is refused at once with [`OffloadError::Full`], so a
/// caller learns of an overload when it begins and not when its time is over.
///
/// # Cancel-safety
///
/// It does nothing before it is awaited. Dropping it takes the closure out of the queue if it has not begun: it is dropped
/// and never runs. That is also what happens when the call of a handler that awaits it is cancelled, or runs out of time. A
/// closure that runs cannot be stopped; its value is dropped then. While a server drains, work of its calls is done as
/// before, until the drain's deadline.
///
/// # Cost
///
/// Some allocations, and two threads are woken: some 20 µs. In a simulation (`corewire::testing`) the closure runs at
/// once, on the thread of the simulation.
///
/// # Errors
///
/// [`OffloadError`]; as a `Status`, it goes to the caller by `?`.
///
/// # Panics
///
/// When it is awaited on a thread that is not a shard's.
#[doc(alias("spawn_blocking", "block_in_place", "rayon", "thread pool"))]
pub fn offload<F, T>(work: F) -> Offload<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let (sender, outcome) = oneshot::async_channel();
    let work: Work = Box::new(move |counts| {
        let outcome = catch_unwind(AssertUnwindSafe(work));
        counts.finish(outcome.is_err());
        let outcome = outcome.map_err(|panic| panicked(&*panic));
        // If nobody waits, the value is dropped here.
        let _ = sender.send(outcome);
    });
    Offload { work: Some(work), ticket: None, outcome }
}

/// Only the log is told with what.
#[cold]
fn panicked(panic: &(dyn Any + Send)) -> OffloadError {
    if admit_here(Topic::WORK_PANIC, clock()) {
        let panic = panic_text(panic);
        tracing::error!(panic, "offloaded work panicked; who waits for it gets an error");
    }
    OffloadError::Panicked
}

/// Work for a thread beside the shards, to be awaited; made by [`offload`].
///
/// ```
/// # mod corewire {
/// #     pub use corewire_engine::*;
/// #     pub use corewire_engine::run_on_shard as block_on_shard;
/// # }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use corewire::{ClientShard, Offload, block_on_shard, offload};
///
/// fn read(path: &'static str) -> Offload<std::io::Result<String>> {
///     offload(move || std::fs::read_to_string(path))
/// }
///
/// let text = block_on_shard(ClientShard::default(), || read("/proc/version"))???;
/// assert!(text.starts_with("Linux"));
/// # Ok(())
/// # }
/// ```
#[must_use = "it does nothing unless it is awaited"]
pub struct Offload<T> {
    /// Until the first poll.
    work: Option<Work>,
    ticket: Option<Ticket>,
    outcome: oneshot::AsyncReceiver<Result<T, OffloadError>>,
}

impl<T> fmt::Debug for Offload<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offload").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}

impl<T> Future for Offload<T> {
    type Output = Result<T, OffloadError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let local = ShardContext::current();
        if let Some(work) = self.work.take() {
            #[allow(clippy::panic, reason = "a mistake in the program, documented")]
            let Some(local) = &local else {
                panic!(
                    "corewire::offload works on shards; run this code with corewire::block_on_shard"
                )
            };
            let payer = if is_simulated() { None } else { local.costs.payer() };
            let work = match payer {
                Some(payer) => Box::new(move |counts: &Counts| payer.measure(|| work(counts))),
                None => work,
            };
            if is_simulated() {
                let counts = local.workers().counts();
                counts.begin();
                work(&counts);
            } else {
                self.ticket = Some(local.workers().submit(work)?);
            }
        }
        if let Some(local) = local {
            local.note_known_wait();
        }
        let outcome = ready!(Pin::new(&mut self.outcome).poll(context));
        self.ticket = None;
        // Nothing is sent if the value's own drop panicked, or the work was dropped with its threads.
        Poll::Ready(outcome.unwrap_or(Err(OffloadError::Panicked)))
    }
}

impl<T> Drop for Offload<T> {
    fn drop(&mut self) {
        if let Some(ticket) = &self.ticket {
            ticket.cancel();
        }
    }
}
