//! What code on a shard reaches without going through the driver: the thread's own mailbox.
//!
//! A handler's waker, a client's channel and the driver all run on one thread, but never at the same
//! place of it. They meet here, in cells that are borrowed for single statements.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::Instant;

use crate::channel::ChannelCore;
use crate::doorbell::{Doorbell, Order};
use crate::io::Token;

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
    /// Channels that want a connection.
    connects: RefCell<Vec<Rc<ChannelCore>>>,
    /// The driver's waker while it sleeps.
    driver: RefCell<Option<Waker>>,
    /// Whether anything above was filled since the driver looked.
    news: Cell<bool>,
    /// How often tasks of this shard were polled.
    polls: Cell<u64>,
    /// The time of the driver's last turn, while it is the time still.
    now: Cell<Option<Instant>>,
}

impl Local {
    pub(crate) fn new(doorbell: Arc<Doorbell>) -> Rc<Self> {
        Rc::new(Self {
            doorbell,
            woken: RefCell::default(),
            dirty: RefCell::default(),
            connects: RefCell::default(),
            driver: RefCell::default(),
            news: Cell::new(false),
            polls: Cell::new(0),
            now: Cell::new(None),
        })
    }

    /// Makes this the thread's mailbox until the guard is dropped.
    pub(crate) fn enter(self: &Rc<Self>) -> Entered {
        CURRENT.with(|current| current.replace(Some(Rc::clone(self))));
        Entered
    }

    /// The thread's mailbox, if it is a shard's.
    pub(crate) fn current() -> Option<Rc<Self>> {
        CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
    }

    /// Makes another mailbox the thread's, or none; answers the one before. A simulation has the
    /// shards of many threads on one.
    #[cfg(feature = "sim")]
    pub(crate) fn swap_current(local: Option<Rc<Self>>) -> Option<Rc<Self>> {
        CURRENT.with(|current| current.replace(local))
    }

    fn knock(&self) {
        self.news.set(true);
        let driver = self.driver.borrow_mut().take();
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    pub(crate) fn wake_call(&self, key: u32) {
        self.woken.borrow_mut().push(key);
        self.knock();
    }

    pub(crate) fn mark_dirty(&self, token: Token) {
        self.dirty.borrow_mut().push(token);
        self.knock();
    }

    pub(crate) fn connect(&self, channel: Rc<ChannelCore>) {
        self.connects.borrow_mut().push(channel);
        self.knock();
    }

    /// Whether something waits for the driver; the question is answered once.
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

    /// The time, at most as old as what ran since the driver's turn: good enough for a deadline, and
    /// it saves a clock read per call.
    #[inline]
    pub(crate) fn now(&self) -> Instant {
        self.now.get().unwrap_or_else(Instant::now)
    }

    pub(crate) fn count_poll(&self) {
        self.polls.set(self.polls.get().wrapping_add(1));
    }

    /// How often tasks of this shard were polled. If it grows while the driver yields, others are
    /// at work, and the driver must not block the thread.
    pub(crate) fn polls(&self) -> u64 {
        self.polls.get()
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

/// Leaves the mailbox when dropped.
#[derive(Debug)]
pub(crate) struct Entered;

impl Drop for Entered {
    fn drop(&mut self) {
        let left = CURRENT.try_with(|current| current.replace(None)).ok().flatten();
        // Channels that still wait to be connected hold this mailbox: let go of them.
        drop(left.map(|local| local.take_connects()));
    }
}

/// Wakes one call's handler. On its own shard that is a push into a list; from elsewhere it rings
/// the shard's doorbell.
#[derive(Debug)]
pub(crate) struct CallWaker {
    key: u32,
    doorbell: Arc<Doorbell>,
    /// Set from the wake to the poll, so that many wakes cost one poll.
    queued: AtomicBool,
}

impl CallWaker {
    pub(crate) fn new(key: u32, doorbell: Arc<Doorbell>) -> Arc<Self> {
        Arc::new(Self { key, doorbell, queued: AtomicBool::new(false) })
    }

    /// The handler is about to be polled: the next wake counts again.
    pub(crate) fn rearm(&self) {
        self.queued.store(false, Ordering::Release);
    }
}

impl Wake for CallWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        match Local::current() {
            Some(local) if Arc::ptr_eq(&local.doorbell, &self.doorbell) => {
                local.wake_call(self.key)
            }
            _ => self.doorbell.ring(Order::Wake(self.key)),
        }
    }
}
