//! Who waits for the calls of a shard's channel: futures on the shard, each of which has a place in a table.
//!
//! A place belongs to the future and to the core. It is free again when both have left it: the core when it has told the
//! outcome, the future when it has taken that or was dropped.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use corewire_client::core::channel::{ConnectionId, PendingCall, Waiter, WriteBody};
use corewire_client::failure::{CallFailure, NotSent};
use corewire_client::transport::Outcome;
use corewire_codec::{EncodedBody, FrameWriter, Limits, Status};
use slab::Slab;

use crate::stream::CoreEnd;

/// The most payload that can come before a body: timeout, trace, the lengths of attachment and metadata.
const FIELDS_BYTES_MAX: usize = 8 + 25 + 4 + 2;

/// Where a call is in flight: its connection, and its id on the wire.
pub(crate) type Begun = (ConnectionId, u32);

#[derive(Debug)]
enum Place {
    /// The call has no outcome yet.
    Waiting { waker: Waker, begun: Option<Begun> },
    /// The future has not taken the outcome yet.
    Done(Outcome),
    /// The future was dropped.
    Abandoned,
}

/// The calls of one channel.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    places: RefCell<Slab<Place>>,
}

impl Calls {
    /// A place for a call whose future is woken through this waker, and who waits for it in the core.
    #[inline]
    pub(super) fn open(self: &Rc<Self>, waker: Waker) -> (usize, Caller) {
        let key = self.places.borrow_mut().insert(Place::Waiting { waker, begun: None });
        (key, Caller::Call(CallPlace { calls: Some(Rc::clone(self)), key }))
    }

    /// How many calls have a place.
    pub(super) fn len(&self) -> usize {
        self.places.borrow().len()
    }

    /// Takes the outcome, if the call has ended; the place is free then.
    #[inline]
    pub(super) fn poll(&self, key: usize, context: &Context<'_>) -> Poll<Outcome> {
        let places = &mut *self.places.borrow_mut();
        match places.get_mut(key) {
            Some(Place::Waiting { waker, .. }) => {
                waker.clone_from(context.waker());
                Poll::Pending
            }
            Some(Place::Done(_)) => match places.remove(key) {
                Place::Done(outcome) => Poll::Ready(outcome),
                Place::Waiting { .. } | Place::Abandoned => Poll::Pending,
            },
            // The future leaves its place only once.
            Some(Place::Abandoned) | None => Poll::Pending,
        }
    }

    /// The future is dropped. Returns where its call is in flight, if it was begun, unless it has ended.
    pub(super) fn abandon(&self, key: usize) -> Option<Option<Begun>> {
        let former = {
            let mut places = self.places.borrow_mut();
            core::mem::replace(places.get_mut(key)?, Place::Abandoned)
        };
        match former {
            Place::Waiting { begun, .. } => Some(begun),
            Place::Done(_) | Place::Abandoned => {
                self.remove(key);
                None
            }
        }
    }

    fn remove(&self, key: usize) {
        let place = self.places.borrow_mut().try_remove(key);
        // What is dropped with it may be anything.
        drop(place);
    }

    /// The call has ended.
    #[allow(clippy::inline_always, reason = "an outcome is large, and would be copied")]
    #[inline(always)]
    fn complete(&self, key: usize, outcome: Outcome) {
        let mut places = self.places.borrow_mut();
        let Some(place) = places.get_mut(key) else { return };
        match core::mem::replace(place, Place::Done(outcome)) {
            Place::Waiting { waker, .. } => {
                drop(places);
                waker.wake();
            }
            Place::Abandoned => {
                drop(places);
                self.remove(key);
            }
            Place::Done(_) => {}
        }
    }
}

/// A call's place, as the core has it. Dropped without an outcome, it tells that its request was not written.
#[derive(Debug)]
pub(crate) struct CallPlace {
    /// `None` once the outcome is told.
    calls: Option<Rc<Calls>>,
    key: usize,
}

impl CallPlace {
    #[inline]
    fn complete(mut self, outcome: Outcome) {
        if let Some(calls) = self.calls.take() {
            calls.complete(self.key, outcome);
        }
    }
}

impl Drop for CallPlace {
    #[inline]
    fn drop(&mut self) {
        if let Some(calls) = self.calls.take() {
            drop_unwritten(&calls, self.key);
        }
    }
}

/// The future was dropped before, or the code that writes its request has panicked.
#[cold]
fn drop_unwritten(calls: &Calls, key: usize) {
    let why = "the code that writes the request panicked".to_owned();
    calls.complete(key, Err(CallFailure::NotSent(NotSent::Encode(why))));
}

/// Who waits for a call on a shard.
#[derive(Debug)]
pub(crate) enum Caller {
    Call(CallPlace),
    /// The ends of a call that streams.
    Stream(CoreEnd),
}

/// A body that waits with its call.
#[derive(Debug)]
pub(crate) struct KeptBody(pub(super) EncodedBody);

impl WriteBody for KeptBody {
    fn write_to(self, frame: &mut FrameWriter<'_>) -> Result<(), NotSent> {
        self.0.write_to(frame);
        Ok(())
    }
}

impl Waiter for Caller {
    type Body = KeptBody;
    type Stream = CoreEnd;
    type Hold = ();

    const DRIVES: bool = false;

    fn is_abandoned(&self) -> bool {
        match self {
            Self::Call(CallPlace { calls, key }) => calls.as_ref().is_none_or(|calls| {
                matches!(calls.places.borrow().get(*key), Some(Place::Abandoned) | None)
            }),
            Self::Stream(CoreEnd(cell)) => cell.is_abandoned(),
        }
    }

    /// What every server accepts before its hello was read (REQ-7).
    fn may_precede_hello(call: &PendingCall<Self>) -> bool {
        let bytes = call.body.0.len().saturating_add(FIELDS_BYTES_MAX);
        bytes <= Limits::EARLY.frame_bytes.get() as usize
            && u32::from(call.head.metadata_bytes) <= Limits::EARLY.metadata_bytes.get()
    }

    #[inline]
    fn handle_begun(&mut self, connection: ConnectionId, call: u32) {
        if let Self::Call(CallPlace { calls: Some(calls), key }) = self
            && let Some(Place::Waiting { begun, .. }) = calls.places.borrow_mut().get_mut(*key)
        {
            *begun = Some((connection, call));
        }
    }

    #[inline]
    fn stream(&self) -> Option<&CoreEnd> {
        match self {
            Self::Call(_) => None,
            Self::Stream(end) => Some(end),
        }
    }

    fn end_stream(self, failure: Option<Status>) {
        if let Self::Stream(CoreEnd(cell)) = self {
            cell.end_incoming(failure);
            cell.finish(None);
        }
    }

    #[inline]
    fn complete(self, outcome: Outcome) {
        match self {
            Self::Call(place) => place.complete(outcome),
            Self::Stream(CoreEnd(cell)) => cell.finish(Some(outcome)),
        }
    }
}
