//! The shard's parked calls: which waker belongs to which call, and polling that cannot hurt others.

use slab::Slab;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use corewire_codec::Status;

use crate::counters::ShardCounters;
use crate::dispatch::{Dispatch, Dispatched, Incoming, PendingCall, ReplySlot};
use crate::doorbell::Doorbell;
use crate::io::Token;
use crate::local::CallWaker;

/// Wakers of calls that are over, kept for the next ones.
const SPARE_MAX: usize = 1024;

/// What a connection keeps for a handler that pends.
#[derive(Debug)]
pub(crate) struct Parked {
    work: Pin<Box<dyn PendingCall>>,
    key: u32,
}

#[derive(Debug)]
struct WakeEntry {
    /// The connection and call, once the handler pends.
    owner: Option<(Token, u32)>,
    source: Arc<CallWaker>,
    waker: Waker,
}

/// Wakers by key. One entry is always in stock: an inline call is polled with its waker, and only a
/// handler that pends takes the entry with it. So a call that is ready at once costs no waker.
#[derive(Debug)]
pub(crate) struct ParkedCalls {
    entries: Slab<WakeEntry>,
    stock: Option<u32>,
    /// Entries of calls that are over, for the next ones that pend.
    spare: Vec<u32>,
    doorbell: Arc<Doorbell>,
}

/// How a call's poll went.
#[derive(Debug)]
pub(crate) enum Polled {
    /// The reply is written.
    Done,
    /// The handler pends.
    Parked(Parked),
}

impl ParkedCalls {
    pub(crate) fn new(doorbell: Arc<Doorbell>) -> Self {
        Self { entries: Slab::new(), stock: None, spare: Vec::new(), doorbell }
    }

    /// Whether any handler pends.
    pub(crate) fn has_parked(&self) -> bool {
        self.entries.len() > self.spare.len() + usize::from(self.stock.is_some())
    }

    pub(crate) fn owner(&self, key: u32) -> Option<(Token, u32)> {
        self.entries.get(key as usize)?.owner
    }

    fn stocked(&mut self) -> u32 {
        if let Some(key) = self.stock {
            return key;
        }
        if let Some(key) = self.spare.pop() {
            self.stock = Some(key);
            return key;
        }
        let entry = self.entries.vacant_entry();
        // Parked calls are bounded by connections times their in-flight limits; memory ends first.
        let key = u32::try_from(entry.key()).unwrap_or(u32::MAX);
        let source = CallWaker::new(key, Arc::clone(&self.doorbell));
        let waker = Waker::from(Arc::clone(&source));
        entry.insert(WakeEntry { owner: None, source, waker });
        self.stock = Some(key);
        key
    }

    /// Makes a call and polls its handler once. A panic fails this call alone.
    #[inline]
    pub(crate) fn begin(
        &mut self,
        dispatch: &dyn Dispatch,
        incoming: Incoming<'_>,
        token: Token,
        reply: &mut ReplySlot<'_>,
        counters: &ShardCounters,
    ) -> Polled {
        let key = self.stocked();
        let call = incoming.request.call;
        let Some(entry) = self.entries.get_mut(key as usize) else { return Polled::Done };
        // An earlier call that was ready at once may have left its wake behind.
        entry.source.rearm();
        let mut context = Context::from_waker(&entry.waker);
        let outcome =
            catch_unwind(AssertUnwindSafe(|| dispatch.dispatch(incoming, &mut context, reply)));
        counters.calls.add(1);
        match outcome {
            Ok(Dispatched::Replied) => {
                finish(reply);
                Polled::Done
            }
            Ok(Dispatched::Pending(work)) => {
                entry.owner = Some((token, call));
                self.stock = None;
                counters.calls_parked.add(1);
                Polled::Parked(Parked { work, key })
            }
            Err(_) => {
                panicked(reply, counters);
                Polled::Done
            }
        }
    }

    /// Polls a parked call again. On `Ready` the reply is written and `parked` must be given to
    /// [`end`](Self::end).
    pub(crate) fn poll(
        &mut self,
        parked: &mut Parked,
        reply: &mut ReplySlot<'_>,
        counters: &ShardCounters,
    ) -> Poll<Ended> {
        let Some(entry) = self.entries.get_mut(parked.key as usize) else {
            return Poll::Ready(Ended::Panicked);
        };
        entry.source.rearm();
        let mut context = Context::from_waker(&entry.waker);
        let work = parked.work.as_mut();
        match catch_unwind(AssertUnwindSafe(|| work.poll(&mut context, reply))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) => {
                finish(reply);
                Poll::Ready(Ended::Well)
            }
            Err(_) => {
                panicked(reply, counters);
                Poll::Ready(Ended::Panicked)
            }
        }
    }

    /// Gives back the waker of a call that is over, and its memory to whom it came from.
    pub(crate) fn end(&mut self, parked: Parked, ended: Ended, counters: &ShardCounters) {
        // A late wake of this waker finds no owner, or polls the entry's next call once too often,
        // which every future must bear.
        if self.spare.len() >= SPARE_MAX {
            self.entries.try_remove(parked.key as usize);
        } else if let Some(entry) = self.entries.get_mut(parked.key as usize) {
            entry.owner = None;
            self.spare.push(parked.key);
        }
        let work = parked.work;
        let dropped = catch_unwind(AssertUnwindSafe(|| match ended {
            Ended::Well => work.recycle(),
            Ended::Panicked | Ended::Dropped => drop(work),
        }));
        if dropped.is_err() {
            counters.panics.add(1);
            tracing::error!("a handler panicked while it was dropped");
        }
        if ended == Ended::Dropped {
            counters.calls_dropped.add(1);
        }
    }
}

/// How a parked call came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It replied.
    Well,
    /// It panicked; the reply says so.
    Panicked,
    /// Nobody wants it any more.
    Dropped,
}

/// Every call gets a reply, also one whose dispatcher forgot.
fn finish(reply: &mut ReplySlot<'_>) {
    if !reply.is_done() {
        reply.status(&Status::internal("the dispatcher gave no reply"));
    }
}

#[cold]
fn panicked(reply: &mut ReplySlot<'_>, counters: &ShardCounters) {
    counters.panics.add(1);
    tracing::error!("a handler panicked; its caller gets Internal");
    reply.status(&Status::internal("the handler panicked"));
}
