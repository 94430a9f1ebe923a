//! Layers that wait, at a server: each wraps a method, as the other layers do in `method.rs`.
//!
//! A future that is pending when it is first polled has the request copied out of the receive buffer; the method inside
//! begins from the copy.

use corewire_client::MethodName;
use corewire_codec::Status;
use corewire_engine::{
    Dispatched, Extensions, Incoming, OwnedCall, PendingCall, ReplySlot, Sleep, now, sleep,
};
use pin_project_lite::pin_project;
use std::any::TypeId;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

use super::spare::Spare;
use super::{AsyncLayer, CallView};
use crate::description::ServiceDescription;
use crate::server::service::{AsyncLayeredService, Service};
use crate::server::slot::{Method, Methods, ServeCall};

impl<S: Service, L: AsyncLayer> Service for AsyncLayeredService<S, L> {
    fn description(&self) -> &'static ServiceDescription {
        self.service.description()
    }

    fn register(self, methods: &mut Methods) {
        let before = methods.list.len();
        self.service.register(methods);
        methods.wrap_async(before, self.layer);
    }
}

impl Methods {
    /// Puts a layer that waits around the methods from `from` on.
    pub(crate) fn wrap_async<L: AsyncLayer>(&mut self, from: usize, layer: L) {
        self.wrap_some_async(from, layer, |_| true);
    }

    /// The same for those of them that are `chosen`.
    pub(crate) fn wrap_some_async<L: AsyncLayer>(
        &mut self,
        from: usize,
        layer: L,
        chosen: impl Fn(&Method) -> bool,
    ) {
        let layer = Rc::new(layer);
        let spare = Rc::new(Spare::default());
        self.replace_some(from, |inner| {
            let (layer, spare) = (Rc::clone(&layer), Rc::clone(&spare));
            let (inner, name) = (Rc::clone(inner), inner.name());
            chosen(&inner).then(|| Box::new(AsyncMethod { inner, layer, name, spare }) as _)
        });
    }
}

struct AsyncMethod<L: AsyncLayer> {
    inner: Rc<Method>,
    layer: Rc<L>,
    name: MethodName,
    spare: Rc<Spare<Waiting<L::Asking>>>,
}

impl<L: AsyncLayer> ServeCall for AsyncMethod<L> {
    fn call(
        &self,
        incoming: &mut Incoming<'_>,
        context: &mut Context<'_>,
        reply: &mut ReplySlot<'_>,
    ) -> Dispatched {
        let mut waiting = self.spare.take().unwrap_or_else(|| {
            Box::pin(Waiting {
                asking: None,
                call: None,
                work: None,
                ends: None,
                inner: Rc::clone(&self.inner),
                home: Rc::downgrade(&self.spare),
            })
        });
        let mut place = waiting.as_mut().project();
        // The memory may be that of a call of another method.
        place.inner.clone_from(&self.inner);
        place.asking.set(Some(self.layer.ask(&CallView::incoming(self.name, incoming))));
        match poll_asking(&mut place.asking, context) {
            Poll::Pending => {
                *place.call = Some(incoming.take());
                Dispatched::Pending(waiting)
            }
            Poll::Ready(told) => {
                self.spare.put(waiting);
                match told {
                    Ok(value) => {
                        hand_on(incoming.extensions, value);
                        self.inner.call(incoming, context, reply)
                    }
                    Err(status) => {
                        reply.refuse(&status);
                        Dispatched::Replied
                    }
                }
            }
        }
    }
}

/// Gives the handler what the layer heard; `()` would only cost memory.
fn hand_on<V: 'static>(extensions: &mut Extensions, value: V) {
    if TypeId::of::<V>() != TypeId::of::<()>() {
        extensions.insert(value);
    }
}

/// Polls the question; a future that is over is dropped at once.
fn poll_asking<A: Future>(
    asking: &mut Pin<&mut Option<A>>,
    context: &mut Context<'_>,
) -> Poll<A::Output> {
    let Some(future) = asking.as_mut().as_pin_mut() else { return Poll::Pending };
    let Poll::Ready(told) = future.poll(context) else { return Poll::Pending };
    asking.set(None);
    Poll::Ready(told)
}

pin_project! {
    /// A call that waits for its layer, and then for its handler.
    struct Waiting<A> {
        #[pin]
        asking: Option<A>,
        // What is to begin, as long as its layer is asked.
        call: Option<OwnedCall>,
        work: Option<Pin<Box<dyn PendingCall>>>,
        // A layer inside has given the call less time than its connection knows.
        #[pin]
        ends: Option<Sleep>,
        inner: Rc<Method>,
        home: Weak<Spare<Waiting<A>>>,
    }
}

impl<A, V> PendingCall for Waiting<A>
where
    A: Future<Output = Result<V, Status>> + 'static,
    V: 'static,
{
    fn poll(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        reply: &mut ReplySlot<'_>,
    ) -> Poll<()> {
        let mut this = self.project();
        if let Some(call) = this.call {
            let Poll::Ready(told) = poll_asking(&mut this.asking, context) else {
                return Poll::Pending;
            };
            let mut incoming = call.incoming();
            match told {
                Ok(value) => hand_on(incoming.extensions, value),
                Err(status) => {
                    reply.refuse(&status);
                    return Poll::Ready(());
                }
            }
            let known = incoming.deadline;
            let dispatched = this.inner.call(&mut incoming, context, reply);
            let deadline = incoming.deadline.filter(|_| incoming.deadline != known);
            *this.call = None;
            match dispatched {
                Dispatched::Replied => return Poll::Ready(()),
                Dispatched::Pending(work) => *this.work = Some(work),
            }
            let left = deadline.map(|by| by.saturating_duration_since(now()));
            this.ends.set(left.map(sleep));
        } else if let Some(work) = this.work
            && work.as_mut().poll(context, reply).is_ready()
        {
            return Poll::Ready(());
        }
        if let Some(ends) = this.ends.as_mut().as_pin_mut()
            && ends.poll(context).is_ready()
        {
            *this.work = None;
            reply.status(&Status::deadline_exceeded("the deadline passed while the handler ran"));
            return Poll::Ready(());
        }
        Poll::Pending
    }

    fn recycle(mut self: Pin<Box<Self>>) {
        let mut this = self.as_mut().project();
        if let Some(work) = this.work.take() {
            work.recycle();
        }
        (*this.call, _) = (None, this.asking.set(None));
        this.ends.set(None);
        if let Some(home) = this.home.upgrade() {
            home.put(self);
        }
    }
}
