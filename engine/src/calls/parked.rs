//! The shard's parked calls: which waker belongs to which call, and polling that contains panics.

use slab::Slab;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use corewire_client::address::Peer;
use corewire_codec::{MethodId, Status};

use crate::calls::dispatch::{Dispatch, Dispatched, Incoming, Note, PendingCall, ReplySlot};
use crate::calls::observed::end_poll;
use crate::classes::ServiceClass;
use crate::net::io::Token;
use crate::shard::clock::clock;
use crate::shard::context::ShardContext;
use crate::shard::counters::ShardCounters;
use crate::shard::wakes::ShardWaker;
use crate::stream::StreamCell;
use corewire_client::log_limit::{LogLimit, Topic};
use corewire_client::panics::panic_text;

/// How many wakers of calls that are over are kept for the next ones.
const SPARE_MAX: usize = 1024;

/// What a connection keeps for a handler that pends.
#[derive(Debug)]
pub(crate) struct Parked {
    work: Pin<Box<dyn PendingCall>>,
    key: u32,
    pub(crate) method: MethodId,
    /// Bytes that the call holds, as its shard counts them.
    pub(crate) held: usize,
    /// The call's streams, if it has any.
    pub(crate) stream: Option<Rc<StreamCell>>,
}

#[derive(Debug)]
struct WakeEntry {
    /// The connection and call, once the handler pends.
    owner: Option<(Token, u32)>,
    /// The class of its method, on a shard that has several.
    class: ServiceClass,
    source: Arc<ShardWaker>,
    waker: Waker,
}

/// Wakers by key. One entry is always in stock: an inline call is polled with its waker, and only a
/// handler that pends keeps the entry. So a call that is ready at once costs no waker.
#[derive(Debug)]
pub(crate) struct ParkedCalls {
    entries: Slab<WakeEntry>,
    stock: Option<u32>,
    /// Entries of calls that are over, for the next ones that pend.
    spare: Vec<u32>,
    local: Rc<ShardContext>,
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
    pub(crate) fn new(local: Rc<ShardContext>) -> Self {
        Self { entries: Slab::new(), stock: None, spare: Vec::new(), local }
    }

    pub(crate) fn local(&self) -> &Rc<ShardContext> {
        &self.local
    }

    /// Whether any handler pends.
    pub(crate) fn has_parked(&self) -> bool {
        self.entries.len() > self.spare.len() + usize::from(self.stock.is_some())
    }

    pub(crate) fn owner(&self, key: u32) -> Option<(Token, u32)> {
        self.entries.get(key as usize)?.owner
    }

    /// The class of the call with this key.
    pub(crate) fn class(&self, key: u32) -> ServiceClass {
        self.entries.get(key as usize).map_or_else(ServiceClass::default, |entry| entry.class)
    }

    #[inline]
    fn stocked(&mut self) -> u32 {
        match self.stock {
            Some(key) => key,
            None => self.restock(),
        }
    }

    #[cold]
    fn restock(&mut self) -> u32 {
        if let Some(key) = self.spare.pop() {
            self.stock = Some(key);
            return key;
        }
        let entry = self.entries.vacant_entry();
        // Parked calls are bounded by connections times their in-flight limits; memory ends first.
        let key = u32::try_from(entry.key()).unwrap_or(u32::MAX);
        let source = ShardWaker::new(key, Arc::clone(&self.local.wakes.doorbell));
        let waker = Waker::from(Arc::clone(&source));
        entry.insert(WakeEntry { owner: None, class: ServiceClass::default(), source, waker });
        self.stock = Some(key);
        key
    }

    /// Makes a call and polls its handler once. A panic fails this call alone.
    #[inline]
    pub(crate) fn begin(
        &mut self,
        dispatch: &dyn Dispatch,
        incoming: &mut Incoming<'_>,
        token: Token,
        reply: &mut ReplySlot<'_>,
        counters: &ShardCounters,
    ) -> Polled {
        let key = self.stocked();
        let call = incoming.request.call;
        let Some(entry) = self.entries.get_mut(key as usize) else { return Polled::Done };
        // An earlier call that was ready at once may have left its waker woken.
        entry.source.rearm();
        let mut context = Context::from_waker(&entry.waker);
        let waits = self.local.known_waits();
        counters.current.begin(call, incoming.request.method);
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
                entry.class = self.local.classes.current();
                self.stock = None;
                note_wait(&self.local, waits, &entry.source);
                counters.calls_parked.add(1);
                let method = incoming.request.method;
                Polled::Parked(Parked { work, key, method, held: 0, stream: None })
            }
            Err(panic) => {
                counters.panics.add(1);
                reply.panicked(&*panic);
                Polled::Done
            }
        }
    }

    /// Polls a parked call again. On `Ready` the reply is written and `parked` must be given to
    /// [`end`](Self::end).
    pub(crate) fn poll(
        &mut self,
        parked: &mut Parked,
        call: u32,
        reply: &mut ReplySlot<'_>,
        counters: &ShardCounters,
    ) -> Poll<Ended> {
        let Some(entry) = self.entries.get_mut(parked.key as usize) else {
            return Poll::Ready(Ended::Panicked);
        };
        entry.source.rearm();
        let mut context = Context::from_waker(&entry.waker);
        let work = parked.work.as_mut();
        let waits = self.local.known_waits();
        counters.current.begin(call, parked.method);
        self.local.holds.note_poll();
        if self.local.observes_polls() {
            self.local.start_poll(Some(parked.method), true);
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| work.poll(&mut context, reply)));
        if self.local.observes_polls() {
            end_poll(&self.local, counters, entry.class, true);
        }
        match outcome {
            Ok(Poll::Pending) => {
                note_wait(&self.local, waits, &entry.source);
                Poll::Pending
            }
            Ok(Poll::Ready(())) => {
                finish(reply);
                Poll::Ready(Ended::Well)
            }
            Err(panic) => {
                counters.panics.add(1);
                reply.panicked(&*panic);
                Poll::Ready(Ended::Panicked)
            }
        }
    }

    /// Gives back the waker of a call that is over, and its memory to its dispatcher. Returns the call's id and what the log should say, if the handler panicked while it was dropped.
    pub(crate) fn end(
        &mut self,
        parked: Parked,
        ended: Ended,
        counters: &ShardCounters,
    ) -> Option<(u32, Box<Note>)> {
        // A late wake of this waker finds no owner, or polls the entry's next call once too often;
        // futures must tolerate spurious polls.
        let mut owner = None;
        if self.spare.len() >= SPARE_MAX {
            owner = self.entries.try_remove(parked.key as usize).and_then(|entry| entry.owner);
        } else if let Some(entry) = self.entries.get_mut(parked.key as usize) {
            owner = entry.owner.take();
            self.spare.push(parked.key);
        }
        if let Some(stream) = &parked.stream {
            stream.close();
        }
        let work = parked.work;
        let dropped = catch_unwind(AssertUnwindSafe(|| match ended {
            Ended::Well => work.recycle(),
            Ended::Panicked | Ended::Dropped => drop(work),
        }));
        if ended == Ended::Dropped {
            counters.calls_dropped.add(1);
        }
        dropped.err().map(|panic| {
            counters.panics.add(1);
            let text = format!("{} (while it was dropped)", panic_text(&*panic));
            let call = owner.map_or(0, |(_, call)| call);
            (call, Box::new(Note::Panicked(text)))
        })
    }
}

/// A handler pends. If it did not say what for, and was not woken meanwhile, it waits for something
/// that the driver knows nothing about.
#[inline]
fn note_wait(local: &ShardContext, waits: u64, source: &ShardWaker) {
    if waits == local.known_waits() && !source.is_queued() {
        local.note_foreign_wait();
    }
}

/// How a parked call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It replied.
    Well,
    /// It panicked; the reply says so.
    Panicked,
    /// Nobody wants it any more.
    Dropped,
}

/// Every call gets a reply, even if its dispatcher gave none.
#[inline]
pub(super) fn finish(reply: &mut ReplySlot<'_>) {
    if !reply.is_done() {
        forgotten(reply);
    }
}

#[cold]
fn forgotten(reply: &mut ReplySlot<'_>) {
    reply.status(&Status::internal("the dispatcher gave no reply"));
}

/// Whose call something is logged about.
#[derive(Debug)]
pub(crate) struct LoggedCall {
    pub(crate) method: MethodId,
    pub(crate) connection_id: u64,
    pub(crate) call: u32,
    pub(crate) peer: Peer,
}

impl LoggedCall {
    /// Logs what the caller is not told, with the names of the dispatcher's methods.
    #[cold]
    pub(crate) fn log(&self, note: &Note, dispatch: &dyn Dispatch, log: &LogLimit) {
        let topic = match note {
            Note::Panicked(_) => Topic::HANDLER_PANIC,
            Note::Failed(_) => Topic::LOG_DETAIL,
        };
        if !log.admit(topic, clock()) {
            return;
        }
        let known = dispatch.methods().into_iter().find(|(id, _)| *id == self.method);
        let method = known.map_or_else(|| self.method.to_string(), |(_, name)| name.to_string());
        let call = format_args!("{:x}-{:x}", self.connection_id, self.call);
        let peer = self.peer;
        match note {
            Note::Panicked(panic) => {
                tracing::error!(%method, %call, %peer, panic, "a handler panicked; its caller gets Internal");
            }
            Note::Failed(status) => {
                let (code, detail) = (status.code().name(), status.log_detail());
                let told = status.message();
                tracing::warn!(%method, %call, %peer, code, told, detail, "a call failed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::doorbell::{Doorbell, Order};
    use corewire_codec::{Head, Raw, RecvBuffer, RequestHead, SendBuffer};
    use corewire_proto::ShardId;
    use std::cell::RefCell;

    /// Wakes its own waker and replies at once if the call's id is even; else it pends.
    #[derive(Default)]
    struct WakesAndReplies {
        pending: RefCell<Option<Waker>>,
    }

    struct Never;

    impl PendingCall for Never {
        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReplySlot<'_>) -> Poll<()> {
            Poll::Pending
        }

        fn recycle(self: Pin<Box<Self>>) {}
    }

    impl Dispatch for WakesAndReplies {
        fn dispatch(
            &self,
            call: &mut Incoming<'_>,
            context: &mut Context<'_>,
            reply: &mut ReplySlot<'_>,
        ) -> Dispatched {
            if call.request.call.is_multiple_of(2) {
                context.waker().wake_by_ref();
                reply.send::<Raw, _>(bytes::Bytes::new());
                return Dispatched::Replied;
            }
            *self.pending.borrow_mut() = Some(context.waker().clone());
            Dispatched::Pending(Box::pin(Never))
        }
    }

    fn begin(calls: &mut ParkedCalls, dispatch: &WakesAndReplies, call: u32) -> Polled {
        let mut out = SendBuffer::new();
        let frame = out.request(&RequestHead::new(call, MethodId(1)), None);
        frame.finish(1024).expect("small");
        let mut recv = RecvBuffer::new();
        recv.extend_from_slice(out.first_chunk());
        let frame = recv.next_frame(1024).expect("well formed").expect("whole");
        let Head::Request(request) = frame.head else { panic!("a request was written") };
        let mut incoming = Incoming {
            request: &request,
            payload: Some(frame.payload),
            deadline: None,
            peer: Peer::Unix,
            shard: ShardId(0),
            connection_id: 0,
            streams: None,
            metadata_bytes_max: 1024,
            hears_forwards: false,
            extensions: &mut crate::calls::extensions::Extensions::default(),
        };
        let mut replies = SendBuffer::new();
        let mut reply = ReplySlot::new(&mut replies, call, 1024);
        let token = Token::connection(0, 1);
        calls.begin(dispatch, &mut incoming, token, &mut reply, &ShardCounters::default())
    }

    #[test]
    fn a_wake_left_by_a_call_that_was_ready_does_not_swallow_the_next_ones() {
        let doorbell = Arc::new(Doorbell::new().expect("an eventfd"));
        let mut calls = ParkedCalls::new(ShardContext::new(Arc::clone(&doorbell)));
        let dispatch = WakesAndReplies::default();
        assert!(matches!(begin(&mut calls, &dispatch, 0), Polled::Done));
        while doorbell.take().is_some() {}
        let Polled::Parked(parked) = begin(&mut calls, &dispatch, 1) else { panic!("it pends") };
        let waker = dispatch.pending.borrow_mut().take().expect("it keeps its waker");
        waker.wake();
        // This thread is no shard's, so the wake comes through the doorbell.
        assert!(matches!(doorbell.take(), Some(Order::Wake(key)) if key == parked.key));
        calls.end(parked, Ended::Dropped, &ShardCounters::default());
    }
}
