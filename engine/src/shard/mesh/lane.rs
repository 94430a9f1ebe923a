//! One shard's two rings to and from another one.

use corewire_proto::canary::{Bug, is_planted};
use rtrb::{Consumer, Producer, PushError, RingBuffer};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::task::{Context, Poll, Waker};

use super::parcel::Boxed;

/// How many parcels of one lane may be away at once and are to come back.
pub(super) const AWAY_MAX: usize = 1024;

/// How many parcels of all lanes a shard takes in one turn: its connections have their turn, too.
pub(super) const TAKEN_AT_ONCE: usize = 512;

/// A ring's size: all rings of a shard together have about this many places, and each at least [`RING_MIN`].
const RINGS: usize = 8192;
const RING_MIN: usize = 64;
const RING_MAX: usize = 2048;

/// How much lanes take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Places of each ring.
    pub(crate) ring: usize,
    /// Parcels of one lane that may be away at once and are to come back.
    pub(crate) away_max: usize,
    /// Parcels of all lanes that a shard takes in one turn.
    pub(crate) taken_at_once: usize,
}

impl Sizes {
    /// Those of a server with this many shards.
    pub(super) fn of(shards: usize) -> Self {
        let ring = (RINGS / shards.max(1)).clamp(RING_MIN, RING_MAX);
        Self { ring, away_max: AWAY_MAX, taken_at_once: TAKEN_AT_ONCE }
    }
}

/// The way to one other shard and back.
pub(super) struct Lane {
    out: RefCell<Producer<Boxed>>,
    inbox: RefCell<Consumer<Boxed>>,
    /// What found the ring full.
    backlog: RefCell<VecDeque<Boxed>>,
    /// Parcels that are there and are to come back.
    away: Cell<usize>,
    away_max: usize,
    /// Tasks that wait until fewer are away, in the order in which they came.
    queue: RefCell<BTreeMap<u64, Waker>>,
    /// The next number in the queue.
    next_number: Cell<u64>,
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("away", &self.away.get()).finish_non_exhaustive()
    }
}

/// The lanes of each of `count` shards: `[me][other]`. A shard has one to itself as well, so that numbers are places.
pub(super) fn lanes(count: usize, sizes: Sizes) -> Vec<Vec<Lane>> {
    let mut outs: Vec<Vec<Option<Producer<Boxed>>>> = Vec::new();
    // inboxes[to] has one from each shard, in order, because the outer loop goes over senders.
    let mut inboxes: Vec<Vec<Consumer<Boxed>>> = (0..count).map(|_| Vec::new()).collect();
    for from in 0..count {
        let mut row = Vec::with_capacity(count);
        for (to, inbox) in inboxes.iter_mut().enumerate() {
            let (out, taken) = RingBuffer::new(if from == to { 1 } else { sizes.ring });
            row.push(Some(out));
            inbox.push(taken);
        }
        outs.push(row);
    }
    let pair = |(row, inbox): (Vec<Option<Producer<Boxed>>>, Vec<Consumer<Boxed>>)| {
        let lanes = row.into_iter().flatten().zip(inbox);
        lanes.map(|(out, inbox)| Lane::new(out, inbox, sizes.away_max)).collect()
    };
    outs.into_iter().zip(inboxes).map(pair).collect()
}

impl Lane {
    fn new(out: Producer<Boxed>, inbox: Consumer<Boxed>, away_max: usize) -> Self {
        Self {
            out: RefCell::new(out),
            inbox: RefCell::new(inbox),
            backlog: RefCell::default(),
            away: Cell::new(0),
            away_max,
            queue: RefCell::default(),
            next_number: Cell::new(0),
        }
    }

    /// Puts a parcel into the ring, or behind others into the backlog if that is full. Returns whether it is in the ring.
    pub(super) fn push(&self, parcel: Boxed) -> bool {
        let backlog = &mut *self.backlog.borrow_mut();
        if !backlog.is_empty() && !is_planted(Bug::OvertakenParcel) {
            backlog.push_back(parcel);
            return false;
        }
        match self.out.borrow_mut().push(parcel) {
            Ok(()) => true,
            Err(PushError::Full(parcel)) => {
                backlog.push_back(parcel);
                false
            }
        }
    }

    pub(super) fn has_backlog(&self) -> bool {
        !self.backlog.borrow().is_empty()
    }

    /// Moves what it can into the ring; returns whether it moved anything.
    pub(super) fn push_backlog(&self) -> bool {
        let backlog = &mut *self.backlog.borrow_mut();
        let mut moved = false;
        while let Some(parcel) = backlog.pop_front() {
            if let Err(PushError::Full(parcel)) = self.out.borrow_mut().push(parcel) {
                backlog.push_front(parcel);
                break;
            }
            moved = true;
        }
        moved
    }

    /// What arrived first.
    #[inline]
    pub(super) fn pop(&self) -> Option<Boxed> {
        self.inbox.borrow_mut().pop().ok()
    }

    /// Waits until one more may be away. Whoever comes when there is room has it, so that one who waits and is not polled keeps
    /// nobody. `number` is the place in the queue of who waits, to be kept from poll to poll
    /// and given to [`leave_queue`](Self::leave_queue) in the end.
    pub(super) fn poll_room(&self, number: &mut Option<u64>, context: &Context<'_>) -> Poll<()> {
        if self.away.get() < self.away_max {
            return Poll::Ready(());
        }
        let number =
            *number.get_or_insert_with(|| self.next_number.replace(self.next_number.get() + 1));
        // Cloning a waker and dropping one may run code that comes back here: not while the queue is borrowed.
        let waker = context.waker().clone();
        let former = self.queue.borrow_mut().insert(number, waker);
        drop(former);
        Poll::Pending
    }

    /// Who had this number waits no more. If it was woken and makes no use of the room, the next one may.
    pub(super) fn leave_queue(&self, number: u64) {
        let waker = self.queue.borrow_mut().remove(&number);
        let was_woken = waker.is_none();
        drop(waker);
        if was_woken && self.away.get() < self.away_max {
            self.wake_next();
        }
    }

    fn wake_next(&self) {
        let next = self.queue.borrow_mut().pop_first();
        if let Some((_, waker)) = next {
            waker.wake();
        }
    }

    /// How many are away and are to come back.
    pub(super) fn away(&self) -> usize {
        self.away.get()
    }

    /// How many wait because the ring is full.
    pub(super) fn unsent(&self) -> usize {
        self.backlog.borrow().len()
    }

    /// How many have arrived and were not taken.
    pub(super) fn arrived(&self) -> usize {
        self.inbox.borrow().slots()
    }

    /// How many wait for room.
    pub(super) fn waiting(&self) -> usize {
        self.queue.borrow().len()
    }

    /// Whether nothing is away or waits.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.away.get() == 0 && self.waiting() == 0 && !self.has_backlog()
    }

    pub(super) fn note_away(&self) {
        self.away.set(self.away.get() + 1);
    }

    /// One is back: a task that waited may go on.
    pub(super) fn note_back(&self) {
        let away = self.away.get().saturating_sub(1);
        self.away.set(away);
        self.wake_next();
        if away == self.away_max / 2 {
            // Some of those that were woken may not be polled; nobody waits for them.
            let queue = core::mem::take(&mut *self.queue.borrow_mut());
            queue.into_values().for_each(Waker::wake);
        }
    }

    /// The other shard is gone: nothing comes back, and nothing more is sent.
    pub(super) fn lose(&self) {
        self.away.set(0);
        let unsent = core::mem::take(&mut *self.backlog.borrow_mut());
        let queue = core::mem::take(&mut *self.queue.borrow_mut());
        queue.into_values().for_each(Waker::wake);
        drop(unsent);
    }
}
