//! A dispatcher whose calls are taken note of.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use corewire_client::MethodName;
use corewire_codec::MethodId;
use corewire_engine::{Dispatch, Dispatched, Incoming, PendingCall, ReplySlot};

use crate::record::{Note, Step};
use crate::state::SimState;

/// Which handlers of a shard pend, for reports: the number and the method of each.
pub(crate) type Pending = Rc<std::cell::RefCell<std::collections::BTreeMap<u64, MethodId>>>;

/// The dispatcher of a host's shard.
pub(crate) struct Observed {
    inner: Rc<dyn Dispatch>,
    watcher: Watcher,
}

#[derive(Clone)]
struct Watcher {
    state: Rc<SimState>,
    host: usize,
    pending: Pending,
}

impl Watcher {
    fn note(&self, call: u64, method: MethodId, what: Step) {
        self.state.note(Note::Handler { host: self.host, call, method, what });
    }
}

impl Observed {
    pub(crate) fn new(
        inner: Rc<dyn Dispatch>,
        state: Rc<SimState>,
        host: usize,
        pending: Pending,
    ) -> Self {
        state.methods.borrow_mut().extend(inner.methods());
        Self { inner, watcher: Watcher { state, host, pending } }
    }
}

impl Dispatch for Observed {
    fn dispatch(
        &self,
        incoming: &mut Incoming<'_>,
        context: &mut Context<'_>,
        reply: &mut ReplySlot<'_>,
    ) -> Dispatched {
        let (watcher, method) = (&self.watcher, incoming.request.method);
        let call = watcher.state.handlers.get() + 1;
        watcher.state.handlers.set(call);
        watcher.note(call, method, Step::Begun);
        match self.inner.dispatch(incoming, context, reply) {
            Dispatched::Replied => {
                watcher.note(call, method, Step::Ended);
                Dispatched::Replied
            }
            Dispatched::Pending(inner) => {
                watcher.note(call, method, Step::Pends);
                watcher.pending.borrow_mut().insert(call, method);
                let watcher = watcher.clone();
                Dispatched::Pending(Box::pin(ObservedCall {
                    inner: Some(inner),
                    watcher,
                    call,
                    method,
                    over: false,
                }))
            }
        }
    }

    fn methods(&self) -> Vec<(MethodId, MethodName)> {
        self.inner.methods()
    }

    fn has_classes(&self) -> bool {
        self.inner.has_classes()
    }
}

/// A handler that pends.
struct ObservedCall {
    inner: Option<Pin<Box<dyn PendingCall>>>,
    watcher: Watcher,
    call: u64,
    method: MethodId,
    over: bool,
}

impl PendingCall for ObservedCall {
    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        reply: &mut ReplySlot<'_>,
    ) -> Poll<()> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else { return Poll::Ready(()) };
        let poll = inner.as_mut().poll(context, reply);
        this.over |= poll.is_ready();
        poll
    }

    fn recycle(mut self: Pin<Box<Self>>) {
        if let Some(inner) = self.inner.take() {
            inner.recycle();
        }
    }
}

impl Drop for ObservedCall {
    fn drop(&mut self) {
        self.watcher.pending.borrow_mut().remove(&self.call);
        let what = if self.over { Step::Ended } else { Step::Dropped };
        self.watcher.note(self.call, self.method, what);
    }
}
