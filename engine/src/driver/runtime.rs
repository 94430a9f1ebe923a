//! The only file that names glommio.
//!
//! Glommio hosts the shard: it owns the thread's loop, runs the driver as one task among others, and
//! sleeps in the kernel when there is no work. Socket I/O does not go through it
//! (`docs/decisions/0002-epoll-from-a-driver-task.md`; why glommio: `0001`, its timer: `0004`).

use glommio::io::{PollState, PollableFd};
use glommio::{GlommioError, Latency, LocalExecutorBuilder, Placement, Shares};
use rustix::fd::OwnedFd;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::shard::context::ShardContext;

/// How long a busy driver may keep glommio from its own timers and files: the bound on how late they
/// can be on a shard that always has work.
pub(crate) const REACTOR_EVERY: Duration = Duration::from_millis(1);

/// Glommio's preemption timer. It must not be short: when it fires between glommio's look at its
/// rings and its run of the task queues, glommio-ng 0.12 takes the queues for empty and sleeps with
/// runnable tasks in them. At 1 ms a neighbour on the same core triggered that within seconds; at
/// 100 ms the thread would have to lose its core for that long at exactly that place. The driver
/// visits the reactor by itself every [`REACTOR_EVERY`] instead.
const PREEMPT: Duration = Duration::from_millis(100);

/// The longest sleep, whatever the timers say: if the above happens all the same, it ends here.
const SLEEP_MAX: Duration = Duration::from_secs(10);

/// How long a visit to the reactor lasts at least, and how long glommio looks at its rings before it
/// sleeps: long enough that the timer of a visit is due before glommio would go to sleep.
const VISIT: Duration = Duration::from_micros(1);
const LOOK: Duration = Duration::from_micros(10);

/// Submission queue entries of each of glommio's rings.
const RING_DEPTH: usize = 128;

/// Locked memory that glommio needs for one executor, in bytes; its builder refuses less.
pub(crate) const LOCKED_BYTES: u64 = 512 * 1024;

/// A glommio executor of this thread.
pub(super) struct Executor(glommio::LocalExecutor);

impl Executor {
    /// Made, and the thread pinned to `cpu` if one is given.
    pub(super) fn new(name: &str, cpu: Option<usize>) -> io::Result<Self> {
        let placement = cpu.map_or(Placement::Unbound, Placement::Fixed);
        let executor = LocalExecutorBuilder::new(placement)
            .name(name)
            // No file I/O goes through registered buffers here: use the minimum.
            .io_memory(0)
            .ring_depth(RING_DEPTH)
            .preempt_timer(PREEMPT)
            // Glommio ignores it on a thread that is not pinned; a visit then costs a short sleep.
            .spin_before_park(LOOK)
            .make()
            .map_err(system_error)?;
        Ok(Self(executor))
    }

    /// Runs a future to its end.
    pub(super) fn run<T>(self, future: impl Future<Output = T>) -> T {
        self.0.run(future)
    }
}

/// The error with the system's number, if it has one: glommio's own conversion keeps only the text.
fn system_error<T>(error: GlommioError<T>) -> io::Error {
    match error {
        GlommioError::EnhancedIoError { source, .. } if source.raw_os_error().is_some() => source,
        error => error.into(),
    }
}

/// Glommio's share of the thread: when its own tasks and its reactor have their turn.
pub(super) struct Reactor {
    visit: glommio::timer::Timer,
    parker: Parker,
    local: Rc<ShardContext>,
    /// When the reactor, and when other tasks, last had their turn.
    reacted: Instant,
    yielded: Instant,
}

/// How long a spinning shard leaves glommio's own tasks alone.
const YIELD_EVERY: Duration = Duration::from_micros(20);

impl Reactor {
    pub(super) fn new(set: OwnedFd, local: Rc<ShardContext>, now: Instant) -> io::Result<Self> {
        let parker = Parker::new(set, Rc::clone(&local))?;
        let visit = glommio::timer::Timer::new(VISIT);
        Ok(Self { visit, parker, local, reacted: now, yielded: now })
    }

    /// Lets glommio and its tasks run. A shard that spins makes them wait a little: switching there and back
    /// costs more than a look at a socket.
    pub(super) async fn take_turn(&mut self, now: Instant, spinning: bool) {
        if now.duration_since(self.reacted) >= REACTOR_EVERY {
            (self.reacted, self.yielded) = (now, now);
            self.local.set_now(None);
            // While the driver waits for the timer, the task queues run empty, which makes glommio turn to its
            // reactor: timers, files and wakes. A timer of zero would be ready at once and change nothing.
            self.visit.reset(VISIT);
            (&mut self.visit).await;
        } else if !spinning || now.duration_since(self.yielded) >= YIELD_EVERY {
            self.yielded = now;
            glommio::executor().yield_now().await;
        }
    }

    /// Sleeps until anything happens, or it is time.
    pub(super) async fn park(&mut self, until: Option<Instant>) -> io::Result<()> {
        let outcome = self.parker.park(until).await;
        self.reacted = Instant::now();
        outcome
    }
}

/// Runs the driver in a queue of its own.
pub(super) async fn run_driver<T: 'static>(
    future: impl Future<Output = T> + 'static,
) -> io::Result<T> {
    let queue = glommio::executor().create_task_queue(
        Shares::Static(1000),
        // Not a latency queue: those shorten the preemption timer.
        Latency::NotImportant,
        "corewire",
    );
    let task = glommio::spawn_local_into(future, queue);
    Ok(task.map_err(system_error)?.await)
}

/// Sleeps in glommio until the epoll set or code of the shard has news, or it is time.
struct Parker {
    set: PollableFd<OwnedFd>,
    registration: PollState,
    local: Rc<ShardContext>,
}

impl Parker {
    fn new(set: OwnedFd, local: Rc<ShardContext>) -> io::Result<Self> {
        let set = PollableFd::new(set).map_err(system_error)?;
        Ok(Self { set, registration: PollState::new(), local })
    }

    async fn park(&mut self, until: Option<Instant>) -> io::Result<()> {
        let wait = until.map_or(SLEEP_MAX, |until| until.saturating_duration_since(Instant::now()));
        let mut timer = pin!(glommio::timer::sleep(wait.min(SLEEP_MAX)));
        let Self { set, registration, local } = self;
        let outcome = poll_fn(|context| {
            if local.wakes.has_news() || local.wakes.ready_tasks() > 0 {
                return Poll::Ready(Ok(()));
            }
            local.wakes.set_driver(Some(context.waker().clone()));
            if timer.as_mut().poll(context).is_ready() {
                return Poll::Ready(Ok(()));
            }
            match set.poll_readable(context, registration) {
                Poll::Ready(outcome) => Poll::Ready(outcome.map_err(system_error)),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        local.wakes.set_driver(None);
        outcome
    }
}
