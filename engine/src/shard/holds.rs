//! Who holds the shard: a handler or a task that keeps everything else on its thread waiting.
//!
//! The driver reads the clock when a turn begins and after every 16 frames, so it knows at no further cost how long
//! the shard went without a look. If that is longer than the limit, something held it. If one handler or one task ran
//! meanwhile, that was it. If several did, nobody knows which; then for some seconds ([`WATCH_FOR`]) each of them is
//! timed, which costs two clock reads for each poll, so that the next time the warning says who it was. Otherwise a poll
//! pays for one look at a flag (`polls.rs`).
//!
//! A shard whose CPU was given to somebody else looks the same at first. So each hold comes with what the thread's time was
//! spent on (`thread_time.rs`), and what it waited for a CPU is not held against anybody.

use std::cell::{Cell, RefCell};
use std::panic::Location;
use std::time::{Duration, Instant};

use crate::shard::thread_time::Span;
use corewire_codec::MethodId;

/// How long each poll is timed after something held the shard.
pub(crate) const WATCH_FOR: Duration = Duration::from_secs(10);

/// The most that are remembered until the driver tells of them.
const FOUND_MAX: usize = 16;

/// Who held the shard.
#[derive(Clone, Debug)]
pub(crate) enum Holder {
    /// The handler of this call: its connection, its id and its method.
    Call { connection: u64, call: u32, method: MethodId },
    /// A handler of this method.
    Method(MethodId),
    /// The task that was spawned there.
    Task(&'static Location<'static>),
    /// Nobody knows: so many polls of handlers and tasks.
    AnyOf(u64),
}

/// One hold.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    pub(crate) holder: Holder,
    pub(crate) span: Span,
}

/// What a shard knows of who holds it.
#[derive(Debug)]
pub(crate) struct Holds {
    limit: Cell<Duration>,
    /// Whether each poll is timed.
    watching: Cell<bool>,
    watch_until: Cell<Option<Instant>>,
    /// Polls of tasks and of parked calls.
    polls: Cell<u64>,
    /// The task that was polled last.
    task: Cell<Option<&'static Location<'static>>>,
    /// Whether one was timed since the driver's last look.
    timed: Cell<bool>,
    /// Whether the driver has something to do here.
    news: Cell<bool>,
    found: RefCell<Vec<Hold>>,
}

impl Default for Holds {
    fn default() -> Self {
        Self {
            limit: Cell::new(Duration::MAX),
            watching: Cell::new(false),
            watch_until: Cell::new(None),
            polls: Cell::new(0),
            task: Cell::new(None),
            timed: Cell::new(false),
            news: Cell::new(false),
            found: RefCell::default(),
        }
    }
}

impl Holds {
    pub(crate) fn set_limit(&self, limit: Duration) {
        self.limit.set(limit);
    }

    /// The longest that nobody is named for.
    pub(crate) fn limit(&self) -> Duration {
        self.limit.get()
    }

    /// Whether polls are timed, so that [`end`](Self::end) is to be called.
    #[inline]
    pub(crate) fn is_watching(&self) -> bool {
        self.watching.get()
    }

    /// A poll that was timed has ended. What it was spent on is asked only if it was long.
    pub(crate) fn end(
        &self,
        time: Duration,
        span: impl FnOnce() -> Span,
        holder: impl FnOnce() -> Holder,
    ) {
        if time > self.limit.get() {
            self.timed.set(true);
            self.push(Hold { holder: holder(), span: span() });
        }
    }

    /// A parked call is polled again.
    #[inline]
    pub(crate) fn note_poll(&self) {
        self.polls.set(self.polls.get().wrapping_add(1));
    }

    /// A task is polled.
    #[inline]
    pub(crate) fn note_task(&self, spawned: &'static Location<'static>) {
        self.note_poll();
        self.task.set(Some(spawned));
    }

    /// How often tasks and parked calls were polled.
    #[inline]
    pub(crate) fn polls(&self) -> u64 {
        self.polls.get()
    }

    /// The driver looked at the clock after a span in which `calls` calls began and `polls` others were polled; the last
    /// handler was of the method `last`.
    #[cold]
    pub(crate) fn note_gap(
        &self,
        now: Instant,
        span: Span,
        (calls, polls): (u64, u64),
        last: Option<MethodId>,
    ) {
        let known = self.timed.replace(false);
        // Nothing ran: the thread did not get its CPU, as far as the kernel tells.
        if calls + polls == 0 && span.held() > self.limit.get() {
            return;
        }
        self.watching.set(true);
        self.news.set(true);
        self.watch_until.set(now.checked_add(WATCH_FOR));
        if known {
            return;
        }
        let holder = match (calls + polls, last, self.task.get()) {
            (1, Some(method), _) => Holder::Method(method),
            (1, None, Some(task)) => Holder::Task(task),
            (count, ..) => Holder::AnyOf(count),
        };
        self.push(Hold { holder, span });
    }

    fn push(&self, hold: Hold) {
        let mut found = self.found.borrow_mut();
        if found.len() < FOUND_MAX {
            found.push(hold);
        }
        self.news.set(true);
    }

    /// The supervisor saw whose call ran while the shard stood still for `time`.
    pub(crate) fn name(&self, holder: Holder, time: Duration) {
        let mut found = self.found.borrow_mut();
        match found.iter_mut().max_by_key(|hold| hold.span.time) {
            Some(hold) => hold.holder = holder,
            None => found.push(Hold { holder, span: Span::of(time) }),
        }
        self.news.set(true);
    }

    /// Whether there is something to tell, or to end. To be asked once a turn.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        self.news.get()
    }

    /// Takes what was found, and ends the watch when its time is over.
    #[cold]
    pub(crate) fn take(&self, now: Instant) -> Vec<Hold> {
        if self.watch_until.get().is_some_and(|until| until <= now) {
            self.watching.set(false);
            self.watch_until.set(None);
        }
        self.news.set(self.watching.get());
        self.found.take()
    }
}
