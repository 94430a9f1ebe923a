//! What code on a shard reaches without going through the driver.
//!
//! A handler's waker, a client's channel and the driver all run on one thread, but never at the same
//! time. They meet here, in cells that are borrowed for single statements.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::classes::ServiceClass;
use crate::net::doorbell::Doorbell;
use crate::net::io::Token;
use crate::shard::account::{ReturnAccount, StreamAccount, Totals};
use crate::shard::affinity::default_plan;
use crate::shard::class_queues::ClassQueues;
use crate::shard::clock::clock;
use crate::shard::costs::Costs;
use crate::shard::handovers::Handovers;
use crate::shard::holds::Holds;
use crate::shard::phase::PhaseSign;
use crate::shard::sleepers::Sleepers;
use crate::shard::task_table::Tasks;
use crate::shard::thread_time::ThreadTime;
use crate::shard::timed_poll::TimedPoll;
use crate::shard::wakes::Wakes;
use crate::workers::pool::Pool;
use corewire_client::log_limit::LogLimit;
use corewire_client::wait::set_shard;

thread_local! {
    static CURRENT: RefCell<Option<Rc<ShardContext>>> = const { RefCell::new(None) };
}

/// What code on one shard shares with its driver.
#[derive(Debug)]
pub(crate) struct ShardContext {
    /// What was woken.
    pub(crate) wakes: Rc<Wakes>,
    /// Connections that have something to write or to check.
    dirty: RefCell<Vec<Token>>,
    /// The time of the driver's last turn, as long as it is still good.
    now: Cell<Option<Instant>>,
    pub(crate) tasks: Tasks,
    pub(crate) sleepers: Sleepers,
    /// What this shard holds.
    pub(crate) totals: Totals,
    /// What the streams of its clients hold of that.
    pub(crate) client_streams: Rc<StreamAccount>,
    /// A call that was just sent to another shard: its connection fills this in.
    wants_account: RefCell<Option<ReturnAccount>>,
    /// How often somebody began to wait for something that the driver brings.
    known_waits: Cell<u64>,
    /// When somebody last began to wait for anything else.
    foreign_wait: Cell<Option<Instant>>,
    /// Limits the log lines that peers can cause.
    pub(crate) log: LogLimit,
    /// Whether the server goes on, for handlers and tasks that ask.
    pub(crate) phase: PhaseSign,
    /// Who keeps the shard from turning.
    pub(crate) holds: Holds,
    /// What is measured of polls, if anything is.
    pub(crate) polls: TimedPoll,
    /// Woken calls that wait for their class's turn.
    pub(crate) classes: ClassQueues,
    /// What methods cost.
    pub(crate) costs: Costs,
    /// What the thread's time is spent on.
    pub(crate) thread_time: ThreadTime,
    /// Whether the shard has ended; channels may outlive it.
    over: Cell<bool>,
    /// Connections that come from other shards, and what became of those that went.
    pub(crate) handovers: Handovers,
    /// The threads for offloaded work: its server's, or from the first work on its own.
    workers: RefCell<Option<Arc<Pool>>>,
}

impl ShardContext {
    pub(crate) fn new(doorbell: Arc<Doorbell>) -> Rc<Self> {
        let totals = Totals::default();
        Rc::new(Self {
            wakes: Wakes::new(doorbell),
            client_streams: StreamAccount::of_clients(totals.clone()),
            totals,
            dirty: RefCell::default(),
            now: Cell::new(None),
            tasks: Tasks::default(),
            sleepers: Sleepers::default(),
            wants_account: RefCell::default(),
            known_waits: Cell::new(0),
            foreign_wait: Cell::new(None),
            log: LogLimit::new(),
            phase: PhaseSign::default(),
            holds: Holds::default(),
            polls: TimedPoll::default(),
            classes: ClassQueues::default(),
            costs: Costs::default(),
            thread_time: ThreadTime::default(),
            over: Cell::new(false),
            handovers: Handovers::default(),
            workers: RefCell::default(),
        })
    }

    /// Makes this the thread's context until the guard is dropped, which restores the previous one.
    pub(crate) fn enter(self: &Rc<Self>) -> Entered {
        Entered { former: Self::replace_current(Some(Rc::clone(self))) }
    }

    /// Other code of the thread asks the flag in `wait` whether it may block.
    fn replace_current(local: Option<Rc<Self>>) -> Option<Rc<Self>> {
        set_shard(local.is_some());
        Wakes::replace_here(local.as_ref().map(|local| Rc::clone(&local.wakes)));
        CURRENT.try_with(|current| current.replace(local)).ok().flatten()
    }

    /// The thread's context, if it is a shard's.
    pub(crate) fn current() -> Option<Rc<Self>> {
        CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
    }

    /// Makes another context the thread's, or none; returns the previous one. A simulation has the
    /// shards of many threads on one.
    pub(crate) fn swap_current(local: Option<Rc<Self>>) -> Option<Rc<Self>> {
        Self::replace_current(local)
    }

    /// The call that is being dispatched has gone to another shard; what comes back is charged to its connection.
    pub(crate) fn want_account(&self, account: ReturnAccount) {
        drop(self.wants_account.replace(Some(account)));
    }

    /// The account that the call which was just dispatched wants to be told.
    #[inline]
    pub(crate) fn take_wanted_account(&self) -> Option<ReturnAccount> {
        self.wants_account.take()
    }

    pub(crate) fn mark_dirty(&self, token: Token) {
        self.dirty.borrow_mut().push(token);
        self.wakes.note_news();
    }

    /// Nobody drives connections here any more.
    pub(crate) fn end(&self) {
        self.over.set(true);
        self.now.set(None);
        drop(self.workers.take());
    }

    /// The threads for offloaded work are those of the shard's server.
    pub(crate) fn set_workers(&self, workers: Arc<Pool>) {
        drop(self.workers.replace(Some(workers)));
    }

    /// The threads for offloaded work.
    pub(crate) fn workers(&self) -> Arc<Pool> {
        let mut workers = self.workers.borrow_mut();
        Arc::clone(workers.get_or_insert_with(|| Pool::new(default_plan())))
    }

    /// Whether the shard has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.over.get()
    }

    /// `Some` after a turn, `None` before the thread sleeps or glommio looks at its rings.
    pub(crate) fn set_now(&self, now: Option<Instant>) {
        self.now.set(now);
    }

    /// Reads the clock again, if a time is kept.
    pub(crate) fn look_at_clock(&self) {
        if self.now.get().is_some() {
            self.now.set(Some(clock()));
        }
    }

    /// The time, at most as old as what ran since the driver's turn or the last 32 tasks: good enough for
    /// a deadline, and it saves a clock read per call.
    #[inline]
    pub(crate) fn now(&self) -> Instant {
        self.now.get().unwrap_or_else(clock)
    }

    /// Somebody begins to wait for something that the driver brings: a reply, a sleep, a task.
    #[inline]
    pub(crate) fn note_known_wait(&self) {
        self.known_waits.set(self.known_waits.get().wrapping_add(1));
    }

    /// A poll that returns pending without having increased this count waits for something else.
    #[inline]
    pub(crate) fn known_waits(&self) -> u64 {
        self.known_waits.get()
    }

    /// Somebody begins to wait for something the driver knows nothing about: glommio's files and
    /// timers, another thread, another task's channel.
    #[cold]
    pub(crate) fn note_foreign_wait(&self) {
        self.foreign_wait.set(Some(self.now()));
    }

    /// Whether such a wait began less than `within` ago.
    pub(crate) fn has_foreign_wait(&self, now: Instant, within: Duration) -> bool {
        self.foreign_wait.get().is_some_and(|at| now.saturating_duration_since(at) < within)
    }

    pub(crate) fn swap_dirty(&self, tokens: &mut Vec<Token>) {
        core::mem::swap(&mut *self.dirty.borrow_mut(), tokens);
    }
}

/// Leaves the context when dropped, and restores the thread's former one.
#[derive(Debug)]
pub(crate) struct Entered {
    former: Option<Rc<ShardContext>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let former = self.former.take();
        drop(ShardContext::replace_current(former));
    }
}

/// The call that this thread's shard begins is of a method of this class; for a [`Dispatch`](crate::Dispatch) that
/// [has classes](crate::Dispatch::has_classes), while it is given the call. Elsewhere it does nothing.
///
/// ```
/// # use corewire_engine as corewire;
/// corewire::enter_class(corewire::ServiceClass::Batch); // this thread is no shard's
/// ```
pub fn enter_class(class: ServiceClass) {
    if let Some(local) = ShardContext::current() {
        local.classes.set_current(class);
    }
}
