//! What was woken on a shard, and the wakers that say so.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use crate::net::doorbell::{Doorbell, Order};

/// Set in the keys of tasks; the other keys are those of parked calls.
pub(crate) const TASK: u32 = 1 << 31;

thread_local! {
    static HERE: RefCell<Option<Rc<Wakes>>> = const { RefCell::new(None) };
}

/// The work of one shard that wants to be polled.
#[derive(Debug)]
pub(crate) struct Wakes {
    pub(crate) doorbell: Arc<Doorbell>,
    /// Keys of parked calls.
    calls: RefCell<Vec<u32>>,
    /// Keys of tasks, in the order in which they were woken.
    tasks: RefCell<VecDeque<u32>>,
    /// The driver's waker while it sleeps.
    driver: RefCell<Option<Waker>>,
    /// Whether something was left for the driver since it looked, other than tasks.
    news: Cell<bool>,
}

impl Wakes {
    pub(crate) fn new(doorbell: Arc<Doorbell>) -> Rc<Self> {
        Rc::new(Self {
            doorbell,
            calls: RefCell::default(),
            tasks: RefCell::default(),
            driver: RefCell::default(),
            news: Cell::new(false),
        })
    }

    /// Says which shard's work is woken on this thread without its doorbell.
    pub(crate) fn replace_here(wakes: Option<Rc<Self>>) {
        let former = HERE.try_with(|here| here.replace(wakes));
        drop(former);
    }

    /// Wakes the work with this key if this thread is that of the shard with this doorbell.
    #[inline]
    fn wake_here(key: u32, doorbell: &Arc<Doorbell>) -> bool {
        let here = HERE.try_with(|here| match &*here.borrow() {
            Some(wakes) if Arc::ptr_eq(&wakes.doorbell, doorbell) => {
                wakes.wake_key(key);
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
            self.calls.borrow_mut().push(key);
            self.news.set(true);
        } else {
            self.tasks.borrow_mut().push_back(key & !TASK);
        }
        self.wake_driver();
    }

    /// Something was left for the driver.
    pub(crate) fn note_news(&self) {
        self.news.set(true);
        self.wake_driver();
    }

    /// Something was left for the driver, which need not be told unless it sleeps.
    pub(crate) fn note_if_asleep(&self) {
        if self.driver.borrow().is_some() {
            self.note_news();
        }
    }

    #[inline]
    fn wake_driver(&self) {
        let driver = self.driver.borrow_mut().take();
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// Whether something waits for the driver; also clears the flag.
    #[inline]
    pub(crate) fn take_news(&self) -> bool {
        self.news.replace(false)
    }

    pub(crate) fn has_news(&self) -> bool {
        self.news.get()
    }

    pub(crate) fn set_driver(&self, waker: Option<Waker>) {
        *self.driver.borrow_mut() = waker;
    }

    pub(crate) fn swap_calls(&self, keys: &mut Vec<u32>) {
        core::mem::swap(&mut *self.calls.borrow_mut(), keys);
    }

    /// How many tasks want to be polled.
    pub(crate) fn ready_tasks(&self) -> usize {
        self.tasks.borrow().len()
    }

    /// The key of the task that was woken first.
    pub(crate) fn pop_task(&self) -> Option<u32> {
        self.tasks.borrow_mut().pop_front()
    }
}

/// Wakes one parked call or task. On its own shard that is a push into a list; from elsewhere it
/// rings the shard's doorbell.
#[derive(Debug)]
pub(crate) struct ShardWaker {
    key: u32,
    doorbell: Arc<Doorbell>,
    /// Set from the wake to the poll, so that many wakes cost one poll.
    queued: AtomicBool,
}

impl ShardWaker {
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

impl ShardWaker {
    /// Whether it was woken since the last poll began.
    pub(crate) fn is_queued(&self) -> bool {
        self.queued.load(Ordering::Relaxed)
    }
}

impl Wake for ShardWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        if !Wakes::wake_here(self.key, &self.doorbell) {
            self.doorbell.ring(Order::Wake(self.key));
        }
    }
}
