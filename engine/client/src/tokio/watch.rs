//! Who ends calls in time when nobody polls the runtime.
//!
//! A runtime may exist and stand still: one of a single thread between two `block_on`, or one whose thread is
//! blocked. Its timers stand still as well, and a call over one of its channels would never end. So a thread
//! of the process's own looks after the channels' tasks: a task that is rung or due and was not polled for a
//! while has its overdue calls ended from there. It starts with the first channel, sleeps while nothing is
//! due, and costs a call a look at one flag.

use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tokio::sync::{OnceCell, mpsc};

/// How often the thread looks while tasks are at work, and for how long a task may leave a ring unheard, or
/// a deadline unserved, until its calls are ended from here.
const TICK: Duration = Duration::from_millis(50);

static WATCH: OnceCell<Watch> = OnceCell::const_new();

/// Whether the thread sleeps until something is due, so that a ring must wake it.
static RESTING: AtomicBool = AtomicBool::new(false);

/// What is watched: the driver of a channel's connections.
pub(super) trait Drive: Send + 'static {
    /// One turn; `Ready` when nobody can call any more and nothing is in flight.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()>;

    /// Nobody polls the runtime: ends the calls whose time is over, and leaves everything else as it is.
    fn expire(&mut self, now: Instant);

    /// A lower bound on the first deadline of all calls.
    fn first_deadline(&self) -> Option<Instant>;
}

/// The thread, and how it hears of channels.
struct Watch {
    thread: Thread,
    seats: flume::Sender<Watched>,
}

/// Where a driver is between two polls. Whoever takes it out is alone with it.
struct Seat {
    put: flume::Sender<Box<dyn Drive>>,
    take: flume::Receiver<Box<dyn Drive>>,
    start: Instant,
    /// How often the task was polled.
    polls: AtomicU64,
    /// When the first of the driver's calls is over, in µs from the start; none at the greatest number.
    due_us: AtomicU64,
}

/// What the thread knows of a driver.
struct Watched {
    seat: Weak<Seat>,
    bell: mpsc::WeakSender<()>,
    polls: u64,
}

/// A bell was rung that nobody has heard yet.
pub(super) fn note_ring() {
    // Either this sees that the thread rests, or the thread sees the bell before it does.
    fence(Ordering::SeqCst);
    if RESTING.load(Ordering::Relaxed)
        && RESTING.swap(false, Ordering::Relaxed)
        && let Some(watch) = WATCH.get()
    {
        watch.thread.unpark();
    }
}

/// The task of a driver, which is looked after while the runtime does not poll it.
pub(super) fn watched(
    driver: impl Drive,
    bell: mpsc::WeakSender<()>,
) -> impl Future<Output = ()> + Send + 'static {
    let (put, take) = flume::bounded(1);
    let (polls, due_us) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    let seat = Arc::new(Seat { put, take, start: Instant::now(), polls, due_us });
    seat.leave(Box::new(driver));
    look_after(Watched { seat: Arc::downgrade(&seat), bell, polls: 0 });
    poll_fn(move |context| seat.poll(context))
}

impl Seat {
    fn leave(&self, driver: Box<dyn Drive>) {
        let due = driver.first_deadline().map_or(u64::MAX, |by| {
            let due = by.saturating_duration_since(self.start).as_micros();
            u64::try_from(due).unwrap_or(u64::MAX)
        });
        self.due_us.store(due, Ordering::Release);
        // There is room: whoever has the driver took it from here.
        let _ = self.put.try_send(driver);
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        self.polls.fetch_add(1, Ordering::Relaxed);
        let Ok(mut driver) = self.take.try_recv() else {
            // It is being looked after, which takes a moment.
            context.waker().wake_by_ref();
            return Poll::Pending;
        };
        let polled = driver.poll(context);
        if polled.is_pending() {
            self.leave(driver);
        }
        polled
    }

    fn due(&self) -> Option<Instant> {
        let due_us = Some(self.due_us.load(Ordering::Acquire)).filter(|&due| due != u64::MAX)?;
        self.start.checked_add(Duration::from_micros(due_us))
    }

    /// Ends the calls whose time is over.
    fn expire(&self, now: Instant) {
        if let Ok(mut driver) = self.take.try_recv() {
            driver.expire(now);
            self.leave(driver);
        }
    }
}

/// What a look at one driver found.
enum Seen {
    /// It is gone.
    Gone,
    /// It is at work, or should be: look again soon.
    Busy,
    /// Nothing is to be done before this time, if ever.
    Quiet(Option<Instant>),
}

impl Watched {
    fn is_rung(&self) -> bool {
        self.bell.upgrade().is_some_and(|bell| bell.capacity() == 0)
    }

    fn look(&mut self, now: Instant) -> Seen {
        let Some(seat) = self.seat.upgrade() else { return Seen::Gone };
        let polls = seat.polls.load(Ordering::Relaxed);
        let was_polled = core::mem::replace(&mut self.polls, polls) != polls;
        if was_polled {
            return Seen::Busy;
        }
        let due = seat.due().and_then(|due| due.checked_add(TICK));
        let is_rung = self.is_rung();
        if is_rung || due.is_some_and(|due| due <= now) {
            seat.expire(now);
            return Seen::Busy;
        }
        Seen::Quiet(due)
    }
}

fn look_after(new: Watched) {
    let watch = loop {
        if let Some(watch) = WATCH.get() {
            break watch;
        }
        let (seats, seats_out) = flume::unbounded();
        let thread =
            thread::Builder::new().name("corewire-late".into()).spawn(move || run(&seats_out));
        match thread {
            // Another thread may have been quicker; this one ends then.
            Ok(thread) => drop(WATCH.set(Watch { thread: thread.thread().clone(), seats })),
            Err(error) => {
                tracing::warn!(%error, "calls over tokio channels may outlive their deadlines");
                return;
            }
        }
    };
    // The thread never ends.
    let _ = watch.seats.send(new);
    note_ring();
}

fn run(new: &flume::Receiver<Watched>) {
    let mut watched: Vec<Watched> = Vec::new();
    while !new.is_disconnected() || !watched.is_empty() {
        watched.extend(new.try_iter());
        let now = Instant::now();
        let mut next: Option<Instant> = None;
        let mut busy = false;
        watched.retain_mut(|each| match each.look(now) {
            Seen::Gone => false,
            Seen::Busy => {
                busy = true;
                true
            }
            Seen::Quiet(due) => {
                next = [next, due].into_iter().flatten().min();
                true
            }
        });
        if busy {
            thread::sleep(TICK);
            continue;
        }
        RESTING.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if new.is_empty() && !new.is_disconnected() && !watched.iter().any(Watched::is_rung) {
            match next {
                Some(next) => thread::park_timeout(next.saturating_duration_since(now)),
                None => thread::park(),
            }
        }
        RESTING.store(false, Ordering::Relaxed);
    }
}
