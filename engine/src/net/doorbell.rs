//! How other threads reach a shard: a queue, and an eventfd that wakes the shard.
//!
//! This is not on any call's path: a call that stays on its shard never comes here.

use corewire_codec::MethodId;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What another thread asks a shard to do.
#[derive(Debug)]
pub(crate) enum Order {
    /// A waker of this shard was woken elsewhere: poll the work with this key.
    Wake(u32),
    /// Go on as before, but tell whoever asks that the server is not ready any more.
    LameDuck,
    /// Stop accepting, finish what is in flight within this time, then end.
    Drain(Duration),
    /// Take one turn, to show the supervisor that you can.
    Notify,
    /// The listener is back in service: look for waiting clients.
    Listen,
    /// This call keeps you from turning: say whose it was.
    Stalled(Box<StalledCall>),
}

/// The call whose handler ran when a shard stalled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StalledCall {
    pub(crate) connection: u64,
    pub(crate) call: u32,
    pub(crate) method: MethodId,
    /// For how long the shard had not turned.
    pub(crate) silent: Duration,
}

/// One shard's doorbell. Rung by any thread, answered by the shard.
#[derive(Debug)]
pub struct Doorbell {
    bell: OwnedFd,
    orders: flume::Sender<Order>,
    inbox: flume::Receiver<Order>,
    /// Whether orders may be queued: the simulator checks this at each of its steps.
    rung: AtomicBool,
}

impl Doorbell {
    /// A new bell with an empty queue.
    ///
    /// # Errors
    ///
    /// The operating system's error.
    pub(crate) fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        let (orders, inbox) = flume::unbounded();
        Ok(Self { bell, orders, inbox, rung: AtomicBool::new(false) })
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Leaves an order and rings.
    pub(crate) fn ring(&self, order: Order) {
        // The receiver lives as long as the bell, so this never fails.
        let _ = self.orders.send(order);
        self.wake();
    }

    /// Rings without an order: the shard takes a turn, and finds what was left for it elsewhere.
    pub(crate) fn wake(&self) {
        self.rung.store(true, Ordering::Relaxed);
        // Any number except zero rings. A counter that is full has been rung enough.
        let _ = rustix::io::write(&self.bell, &1u64.to_le_bytes());
    }

    /// Empties the bell's counter; to be called before the orders are taken.
    pub(crate) fn silence(&self) {
        let mut counter = [0; 8];
        let _ = rustix::io::read(&self.bell, &mut counter);
    }

    /// Whether it was rung since the shard last looked.
    pub(crate) fn has_orders(&self) -> bool {
        self.rung.load(Ordering::Relaxed)
    }

    /// Takes one order.
    pub(crate) fn take(&self) -> Option<Order> {
        let order = self.inbox.try_recv().ok();
        self.rung.store(!self.inbox.is_empty(), Ordering::Relaxed);
        order
    }
}
