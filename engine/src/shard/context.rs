//! What code on a shard reaches without going through the driver: the thread's own mailbox.
//!
//! A handler's waker, a client's channel and the driver all run on one thread, but never at the same
//! time. They meet here, in cells that are borrowed for single statements.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use crate::channel::ChannelCore;
use crate::net::doorbell::{Doorbell, Order};
use crate::net::io::Token;
use crate::shard::account::{StreamAccount, Totals};
use crate::shard::clock::clock;
use crate::shard::sleep::Sleepers;
use crate::shard::tasks::{TASK, Tasks};
use crate::stream::StreamCell;
use corewire_client::log_limit::LogLimit;
use corewire_client::wait::set_shard;

thread_local! {
    static CURRENT: RefCell<Option<Rc<Local>>> = const { RefCell::new(None) };
}

/// One shard's mailbox.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) doorbell: Arc<Doorbell>,
    /// Keys of parked calls that want to be polled.
    woken: RefCell<Vec<u32>>,
    /// Connections that have something to write or to check.
    dirty: RefCell<Vec<Token>>,
    /// Streams that want something of their connections.
    streams: RefCell<Vec<Rc<StreamCell>>>,
    /// Channels that want a connection.
    connects: RefCell<Vec<Rc<ChannelCore>>>,
    /// The driver's waker while it sleeps.
    driver: RefCell<Option<Waker>>,
    /// Whether anything above was filled since the driver looked.
    news: Cell<bool>,
    /// The time of the driver's last turn, as long as it is still good.
    now: Cell<Option<Instant>>,
    pub(crate) tasks: Tasks,
    pub(crate) sleepers: Sleepers,
    /// What this shard holds.
    pub(crate) totals: Totals,
    /// What the streams of its clients hold of that.
    pub(crate) client_streams: Rc<StreamAccount>,
    /// How often somebody began to wait for something that the driver brings.
    known_waits: Cell<u64>,
    /// When somebody last began to wait for anything else.
    foreign_wait: Cell<Option<Instant>>,
    /// Limits the log lines that peers can cause.
    pub(crate) log: LogLimit,
    /// Whether the shard has ended; channels may outlive it.
    over: Cell<bool>,
}

impl Local {
    pub(crate) fn new(doorbell: Arc<Doorbell>) -> Rc<Self> {
        let totals = Totals::default();
        Rc::new(Self {
            doorbell,
            client_streams: StreamAccount::of_clients(totals.clone()),
            totals,
            woken: RefCell::default(),
            dirty: RefCell::default(),
            streams: RefCell::default(),
            connects: RefCell::default(),
            driver: RefCell::default(),
            news: Cell::new(false),
            now: Cell::new(None),
            tasks: Tasks::default(),
            sleepers: Sleepers::default(),
            known_waits: Cell::new(0),
            foreign_wait: Cell::new(None),
            log: LogLimit::new(),
            over: Cell::new(false),
        })
    }

    /// Makes this the thread's mailbox until the guard is dropped, which restores the previous one.
    pub(crate) fn enter(self: &Rc<Self>) -> Entered {
        Entered { former: Self::replace_current(Some(Rc::clone(self))) }
    }

    /// Other code of the thread asks the flag in `wait` whether it may block.
    fn replace_current(local: Option<Rc<Self>>) -> Option<Rc<Self>> {
        set_shard(local.is_some());
        CURRENT.try_with(|current| current.replace(local)).ok().flatten()
    }

    /// The thread's mailbox, if it is a shard's.
    pub(crate) fn current() -> Option<Rc<Self>> {
        CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
    }

    /// Makes another mailbox the thread's, or none; returns the previous one. A simulation has the
    /// shards of many threads on one.
    pub(crate) fn swap_current(local: Option<Rc<Self>>) -> Option<Rc<Self>> {
        Self::replace_current(local)
    }

    /// Wakes the work with this key if this thread is that of the shard with this doorbell.
    #[inline]
    fn wake_here(key: u32, doorbell: &Arc<Doorbell>) -> bool {
        let here = CURRENT.try_with(|current| match &*current.borrow() {
            Some(local) if Arc::ptr_eq(&local.doorbell, doorbell) => {
                local.wake_key(key);
                true
            }
            _ => false,
        });
        here.unwrap_or(false)
    }

    /// Wakes a parked call or a task.
    #[inline]
    pub(crate) fn wake_key(&self, key: u32) {
        if key & TASK == 0 {
            self.woken.borrow_mut().push(key);
            self.news.set(true);
        } else {
            self.tasks.push_ready(key);
        }
        self.wake_driver();
    }

    fn knock(&self) {
        self.news.set(true);
        self.wake_driver();
    }

    #[inline]
    fn wake_driver(&self) {
        let driver = self.driver.borrow_mut().take();
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    pub(crate) fn mark_dirty(&self, token: Token) {
        self.dirty.borrow_mut().push(token);
        self.knock();
    }

    pub(crate) fn push_stream(&self, stream: Rc<StreamCell>) {
        self.streams.borrow_mut().push(stream);
        self.knock();
    }

    pub(crate) fn swap_streams(&self, streams: &mut Vec<Rc<StreamCell>>) {
        core::mem::swap(&mut *self.streams.borrow_mut(), streams);
    }

    /// Takes out the streams of one connection, which has its turn.
    pub(crate) fn take_streams_of(&self, token: Token, mut take: impl FnMut(Rc<StreamCell>)) {
        let streams = &mut *self.streams.borrow_mut();
        streams.extract_if(.., |stream| stream.token == token).for_each(&mut take);
    }

    pub(crate) fn connect(&self, channel: Rc<ChannelCore>) {
        self.connects.borrow_mut().push(channel);
        self.knock();
    }

    /// Nobody drives connections here any more.
    pub(crate) fn end(&self) {
        self.over.set(true);
        self.now.set(None);
    }

    /// Whether the shard has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.over.get()
    }

    /// Whether something waits for the driver; also clears the flag.
    #[inline]
    pub(crate) fn take_news(&self) -> bool {
        self.news.replace(false)
    }

    pub(crate) fn has_news(&self) -> bool {
        self.news.get()
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

    pub(crate) fn set_driver(&self, waker: Option<Waker>) {
        *self.driver.borrow_mut() = waker;
    }

    pub(crate) fn swap_woken(&self, keys: &mut Vec<u32>) {
        core::mem::swap(&mut *self.woken.borrow_mut(), keys);
    }

    pub(crate) fn swap_dirty(&self, tokens: &mut Vec<Token>) {
        core::mem::swap(&mut *self.dirty.borrow_mut(), tokens);
    }

    pub(crate) fn take_connects(&self) -> Vec<Rc<ChannelCore>> {
        core::mem::take(&mut *self.connects.borrow_mut())
    }
}

/// Leaves the mailbox when dropped, and restores the thread's former one.
#[derive(Debug)]
pub(crate) struct Entered {
    former: Option<Rc<Local>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let former = self.former.take();
        let left = Local::replace_current(former);
        // Channels that still wait to be connected hold this mailbox, and so do streams: let go of them.
        drop(left.map(|local| (local.take_connects(), local.streams.take())));
    }
}

/// Wakes one parked call or task. On its own shard that is a push into a list; from elsewhere it
/// rings the shard's doorbell.
#[derive(Debug)]
pub(crate) struct LocalWaker {
    key: u32,
    doorbell: Arc<Doorbell>,
    /// Set from the wake to the poll, so that many wakes cost one poll.
    queued: AtomicBool,
}

impl LocalWaker {
    pub(crate) fn new(key: u32, doorbell: Arc<Doorbell>) -> Arc<Self> {
        Arc::new(Self { key, doorbell, queued: AtomicBool::new(false) })
    }

    /// The work is about to be polled: the next wake counts again.
    ///
    /// Whatever sets `queued` queues the work, too; so if it is not set here, no wake was lost. If it
    /// is set, the swap orders this poll after whatever a thread did before a wake that found it set.
    /// A plain store would not: the poll could read what that thread was about to change before the
    /// store is seen, and the thread's wake could still find the flag set.
    #[inline]
    pub(crate) fn rearm(&self) {
        if self.queued.load(Ordering::Relaxed) {
            self.queued.swap(false, Ordering::AcqRel);
        }
    }
}

impl LocalWaker {
    /// Whether it was woken since the last poll began.
    pub(crate) fn is_queued(&self) -> bool {
        self.queued.load(Ordering::Relaxed)
    }
}

impl Wake for LocalWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        if !Local::wake_here(self.key, &self.doorbell) {
            self.doorbell.ring(Order::Wake(self.key));
        }
    }
}
