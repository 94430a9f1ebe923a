//! The threads and their queue.
//!
//! A piece of work lies in a place of its own, a channel of one, and the queue has the places. Whoever takes the work
//! out of its place has it alone: a thread that runs it, or its caller who gives up. So a caller who gives up drops the
//! work at once, wherever it stands in the queue; its empty place stays there until a thread comes to it, or
//! there are as many as may wait.
//!
//! The numbers below are changed by many threads, all in one order (`SeqCst`). Work passes here a few thousand times a
//! second at most, and no other call does.

use rustix::thread::{CpuSet, sched_setaffinity};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

use super::error::OffloadError;

/// A thread that has had nothing to do for this long ends.
const IDLE_FOR: Duration = Duration::from_secs(10);

/// What a thread runs. It counts its own end, before its caller learns of it.
pub(crate) type Work = Box<dyn FnOnce(&Counts) + Send>;

/// Where one piece of work waits.
type Place = flume::Receiver<Work>;

/// How many threads there may be, how much may wait, and where the threads run.
#[derive(Clone, Debug)]
pub(crate) struct PoolPlan {
    pub(crate) threads: usize,
    pub(crate) queue: usize,
    /// Empty: where the thread that starts them may run.
    pub(crate) cpus: Vec<usize>,
    /// Whether shards have these CPUs, too: then a thread runs only while they sleep. The kernel lets a shard that wakes
    /// have its CPU at once (`SCHED_IDLE`); at the lowest other priority it waits for most of a millisecond.
    pub(crate) gives_way: bool,
    pub(crate) idle_for: Duration,
}

impl PoolPlan {
    /// Threads that end when they are idle.
    pub(crate) fn new(threads: usize, queue: usize, cpus: Vec<usize>) -> Self {
        Self { threads, queue, cpus, gives_way: false, idle_for: IDLE_FOR }
    }
}

/// What the threads for offloaded work have done, and do now. See [`Running::offload_counts`](crate::Running::offload_counts).
///
/// ```
/// # use corewire_engine as corewire;
/// let counts = corewire::OffloadCounts::default(); // a running server's: server.offload_counts()
/// assert_eq!((counts.queued, counts.running, counts.threads), (0, 0, 0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OffloadCounts {
    /// Pieces of work that wait now.
    pub queued: usize,
    /// Pieces of work that run now.
    pub running: usize,
    /// Threads there are now.
    pub threads: usize,
    /// Pieces of work that ran to their end, those that panicked included.
    pub run: u64,
    /// Those that panicked.
    pub panicked: u64,
    /// Those that were taken out of the queue because nobody waited for them any more; they never ran.
    pub cancelled: u64,
    /// Those that found the queue full, or no thread.
    pub refused: u64,
}

/// The numbers behind [`OffloadCounts`].
#[derive(Debug, Default)]
pub(crate) struct Counts {
    queued: AtomicUsize,
    running: AtomicUsize,
    threads: AtomicUsize,
    run: AtomicU64,
    panicked: AtomicU64,
    cancelled: AtomicU64,
    refused: AtomicU64,
}

impl Counts {
    /// Work is about to run.
    pub(crate) fn begin(&self) {
        self.running.fetch_add(1, SeqCst);
    }

    /// The work has run.
    pub(crate) fn finish(&self, panicked: bool) {
        self.panicked.fetch_add(u64::from(panicked), SeqCst);
        self.run.fetch_add(1, SeqCst);
        self.running.fetch_sub(1, SeqCst);
    }

    pub(crate) fn read(&self) -> OffloadCounts {
        OffloadCounts {
            queued: self.queued.load(SeqCst),
            running: self.running.load(SeqCst),
            threads: self.threads.load(SeqCst),
            run: self.run.load(SeqCst),
            panicked: self.panicked.load(SeqCst),
            cancelled: self.cancelled.load(SeqCst),
            refused: self.refused.load(SeqCst),
        }
    }

    /// One more, if there are fewer than `most`.
    fn add_below(number: &AtomicUsize, most: usize) -> bool {
        number.fetch_update(SeqCst, SeqCst, |now| (now < most).then_some(now + 1)).is_ok()
    }
}

/// Threads, and what waits for them. When the last handle is dropped, the threads finish what waits, and end.
#[derive(Debug)]
pub(crate) struct Pool {
    sender: flume::Sender<Place>,
    queue: flume::Receiver<Place>,
    counts: Arc<Counts>,
    plan: PoolPlan,
    /// A thread has ended; a token at most.
    gone: (flume::Sender<()>, flume::Receiver<()>),
}

impl Pool {
    pub(crate) fn new(plan: PoolPlan) -> Arc<Self> {
        let (sender, queue) = flume::unbounded();
        Arc::new(Self { sender, queue, counts: Arc::default(), plan, gone: flume::bounded(1) })
    }

    pub(crate) fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    /// Puts work into the queue, and starts a thread if there are too few.
    pub(crate) fn submit(&self, work: Work) -> Result<Ticket, OffloadError> {
        if !Counts::add_below(&self.counts.queued, self.plan.queue) {
            self.counts.refused.fetch_add(1, SeqCst);
            return Err(OffloadError::Full);
        }
        let (put, place) = flume::bounded(1);
        // There is room, and its other end is in hand.
        let _ = put.try_send(work);
        let ticket = Ticket { place: place.clone(), counts: self.counts() };
        // The queue lives as long as this end.
        let _ = self.sender.send(place);
        if self.sender.len() > 2 * self.plan.queue {
            self.sweep();
        }
        if !self.has_thread() && ticket.take_back() {
            self.counts.refused.fetch_add(1, SeqCst);
            return Err(OffloadError::NoThread);
        }
        Ok(ticket)
    }

    /// Takes empty places out. At least half of them are, so each was paid for by who left it. Those behind keep their
    /// order, if nobody else takes or puts any meanwhile.
    #[cold]
    fn sweep(&self) {
        for _ in 0..self.queue.len() {
            let Ok(place) = self.queue.try_recv() else { return };
            if !place.is_empty() {
                let _ = self.sender.send(place);
            }
        }
    }

    /// Whether any thread will come to what was just put into the queue; starts one if there is more to do than
    /// threads.
    fn has_thread(&self) -> bool {
        let counts = &self.counts;
        let work = counts.queued.load(SeqCst) + counts.running.load(SeqCst);
        let threads = counts.threads.load(SeqCst);
        if work <= threads || !Counts::add_below(&counts.threads, self.plan.threads) {
            return true;
        }
        match self.start_thread() {
            Ok(()) => true,
            Err(error) => {
                counts.threads.fetch_sub(1, SeqCst);
                tracing::error!(%error, threads, "no further thread for offloaded work");
                threads > 0
            }
        }
    }

    fn start_thread(&self) -> std::io::Result<()> {
        let worker = Worker {
            queue: self.queue.clone(),
            counts: self.counts(),
            gone: self.gone.0.clone(),
            plan: self.plan.clone(),
        };
        thread::Builder::new().name("corewire-work".into()).spawn(move || worker.run()).map(drop)
    }

    /// Waits until its threads have ended, if this is the last handle, but not longer than `within`. Returns how many
    /// are left.
    pub(crate) fn end(self: Arc<Self>, within: Duration) -> usize {
        let (counts, gone) = (self.counts(), self.gone.1.clone());
        let until = Instant::now() + within;
        if Arc::into_inner(self).is_some() {
            while counts.threads.load(SeqCst) > 0 && gone.recv_deadline(until).is_ok() {}
        }
        counts.threads.load(SeqCst)
    }
}

/// One piece of work in the queue, as its caller knows it.
#[derive(Debug)]
pub(crate) struct Ticket {
    place: Place,
    counts: Arc<Counts>,
}

impl Ticket {
    /// Nobody waits for the work any more: it is dropped, unless it has begun.
    pub(crate) fn cancel(&self) {
        if self.take_back() {
            self.counts.cancelled.fetch_add(1, SeqCst);
        }
    }

    fn take_back(&self) -> bool {
        let Ok(work) = self.place.try_recv() else { return false };
        self.counts.queued.fetch_sub(1, SeqCst);
        // What it holds may panic when it is dropped, which is no matter of the caller's.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(work)));
        true
    }
}

/// One thread.
struct Worker {
    queue: flume::Receiver<Place>,
    counts: Arc<Counts>,
    gone: flume::Sender<()>,
    plan: PoolPlan,
}

impl Worker {
    fn run(self) {
        self.move_beside_the_shards();
        if self.plan.gives_way {
            let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
            // Everybody may do this to a thread of his own. If it fails all the same, the thread competes with the shards.
            let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy);
        }
        loop {
            match self.queue.recv_timeout(self.plan.idle_for) {
                Ok(place) => {
                    if let Ok(work) = place.try_recv() {
                        // In this order: together they never fall below what there is to do.
                        self.counts.begin();
                        self.counts.queued.fetch_sub(1, SeqCst);
                        // It catches its own panics; this is for what it holds.
                        let _ = catch_unwind(AssertUnwindSafe(|| work(&self.counts)));
                    }
                }
                Err(flume::RecvTimeoutError::Timeout) => {
                    self.counts.threads.fetch_sub(1, SeqCst);
                    // Whoever put work there in this moment may still have counted on this thread.
                    let wanted = self.counts.queued.load(SeqCst) > 0
                        && Counts::add_below(&self.counts.threads, self.plan.threads);
                    if !wanted {
                        break;
                    }
                }
                Err(flume::RecvTimeoutError::Disconnected) => {
                    self.counts.threads.fetch_sub(1, SeqCst);
                    break;
                }
            }
        }
        let _ = self.gone.try_send(());
    }

    /// A thread has the CPUs of the one that starts it, which is a shard's.
    fn move_beside_the_shards(&self) {
        if self.plan.cpus.is_empty() {
            return;
        }
        let mut set = CpuSet::new();
        self.plan.cpus.iter().for_each(|cpu| set.set(*cpu));
        // It fails if a cpuset has taken the CPUs away meanwhile; the thread stays where it is then.
        let _ = sched_setaffinity(None, &set);
    }
}

#[cfg(test)]
mod tests;
