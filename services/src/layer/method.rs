//! Layers at a server: a method around a method.
//!
//! A layer wraps a `Method`, between the router and the slot, and is asked before anything is decoded. A call that
//! streams keeps its guard until the last stream of its server has ended.

use corewire_client::MethodName;
use corewire_codec::{Mark, StatusCode};
use corewire_engine::{Dispatched, Incoming, PendingCall, ReplySlot};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{self, Poll};

use super::spare::Spare;
use super::{CallEnd, CallView, Guard, Layer};
use crate::description::ServiceDescription;
use crate::server::service::{LayeredService, Service};
use crate::server::slot::{Method, Methods, ServeCall};

impl<S: Service, L: Layer> Service for LayeredService<S, L> {
    fn description(&self) -> &'static ServiceDescription {
        self.service.description()
    }

    fn register(self, methods: &mut Methods) {
        let before = methods.list.len();
        self.service.register(methods);
        methods.wrap(before, self.layer);
    }
}

impl Methods {
    /// Puts a layer around the methods from `from` on.
    pub(crate) fn wrap<L: Layer>(&mut self, from: usize, layer: L) {
        if let Err(wrong) = layer.check() {
            self.wrong.get_or_insert(wrong);
        }
        let layer = Rc::new(layer);
        let spare = Rc::new(Spare::default());
        self.replace(from, |inner| {
            let (layer, spare) = (Rc::clone(&layer), Rc::clone(&spare));
            let name = inner.name();
            Box::new(LayeredMethod { inner, layer, name, spare })
        });
    }
}

struct LayeredMethod<L: Layer> {
    inner: Rc<Method>,
    layer: Rc<L>,
    name: MethodName,
    spare: Rc<Spare<Guarded<L::Guard>>>,
}

impl<L: Layer> ServeCall for LayeredMethod<L> {
    fn call(
        &self,
        incoming: &mut Incoming<'_>,
        context: &mut task::Context<'_>,
        reply: &mut ReplySlot<'_>,
    ) -> Dispatched {
        let guard = match self.layer.begin(&mut CallView::incoming(self.name, incoming)) {
            Ok(guard) => guard,
            Err(status) => {
                reply.refuse(&status);
                return Dispatched::Replied;
            }
        };
        let mark = reply.mark();
        // A panic in there passes through here and drops the guard.
        match self.inner.call(incoming, context, reply) {
            Dispatched::Replied => {
                end(guard, reply, mark);
                Dispatched::Replied
            }
            Dispatched::Pending(work) => Dispatched::Pending(self.park(work, guard)),
        }
    }
}

impl<L: Layer> LayeredMethod<L> {
    fn park(
        &self,
        work: Pin<Box<dyn PendingCall>>,
        guard: L::Guard,
    ) -> Pin<Box<Guarded<L::Guard>>> {
        let mut parked = self.spare.take().unwrap_or_else(|| {
            Box::pin(Guarded { work: None, guard: None, home: Rc::downgrade(&self.spare) })
        });
        parked.work = Some(work);
        parked.guard = Some(guard);
        parked
    }
}

/// Tells a guard how its call ended, by the reply that was written behind `mark`.
#[inline]
fn end<G: Guard>(guard: G, reply: &mut ReplySlot<'_>, mark: Mark) {
    let mut end = CallEnd::new(reply.code_at(mark).unwrap_or(StatusCode::Unknown));
    guard.end(&mut end);
    if let Some(handler_us) = end.handler_us {
        reply.set_handler_us_at(mark, handler_us);
    }
}

/// A pending call, with its guard. The call goes first when both are dropped.
struct Guarded<G> {
    work: Option<Pin<Box<dyn PendingCall>>>,
    guard: Option<G>,
    home: Weak<Spare<Self>>,
}

/// The call is pinned in memory of its own, and a guard is not polled.
impl<G> Unpin for Guarded<G> {}

impl<G: Guard> PendingCall for Guarded<G> {
    fn poll(
        self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        reply: &mut ReplySlot<'_>,
    ) -> Poll<()> {
        let this = self.get_mut();
        let Some(work) = &mut this.work else { return Poll::Ready(()) };
        let mark = reply.mark();
        if work.as_mut().poll(context, reply).is_pending() {
            return Poll::Pending;
        }
        if let Some(guard) = this.guard.take() {
            end(guard, reply, mark);
        }
        Poll::Ready(())
    }

    fn recycle(mut self: Pin<Box<Self>>) {
        if let Some(work) = self.work.take() {
            work.recycle();
        }
        self.guard = None;
        if let Some(home) = self.home.upgrade() {
            home.put(self);
        }
    }
}
