//! Methods of another class than the usual one: their calls say so when they begin, and those of a batch method begin later.
//!
//! The decision is made once for each method, when the shard's router is made: methods of the usual class are served as if
//! there were no others.

use corewire_codec::Status;
use corewire_engine::{Dispatched, Incoming, ReplySlot, ServiceClass, enter_class};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{self, Poll};

use super::service::{InClass, Service};
use super::slot::{Method, Methods, ServeCall};
use crate::description::ServiceDescription;
use crate::layer::{AsyncLayer, CallView};

impl<S: Service> Service for InClass<S> {
    fn description(&self) -> &'static ServiceDescription {
        self.service.description()
    }

    fn register(self, methods: &mut Methods) {
        let before = methods.list.len();
        self.service.register(methods);
        for method in methods.list.iter().skip(before) {
            // What a method says of itself counts more.
            if method.class.get().is_none() {
                method.class.set(Some(self.class));
            }
        }
    }
}

impl Methods {
    /// Methods of the service that was added last say their class, by their number. The macro's code calls it.
    #[doc(hidden)]
    pub fn classify(
        &mut self,
        description: &'static ServiceDescription,
        classes: &[(usize, ServiceClass)],
    ) {
        let first = self.list.len().saturating_sub(description.methods.len());
        for (index, class) in classes {
            if let Some(method) = self.list.get(first + index) {
                method.class.set(Some(*class));
            }
        }
    }

    /// Has the calls of methods of another class than the usual one say so. Around the layers, which run when a call does.
    pub(crate) fn serve_classes(&mut self) {
        self.wrap_some_async(0, BeginsLater, |it| it.class() == ServiceClass::Batch);
        self.replace_some(0, |inner| match inner.class() {
            ServiceClass::Normal => None,
            class => Some(Box::new(Classed { inner: Rc::clone(inner), class })),
        });
    }
}

/// A method of another class than the usual one.
struct Classed {
    inner: Rc<Method>,
    class: ServiceClass,
}

impl ServeCall for Classed {
    fn call(
        &self,
        incoming: &mut Incoming<'_>,
        context: &mut task::Context<'_>,
        reply: &mut ReplySlot<'_>,
    ) -> Dispatched {
        enter_class(self.class);
        self.inner.call(incoming, context, reply)
    }
}

/// The calls of batch methods are woken as soon as they are there, and so wait for the turn of their class.
struct BeginsLater;

impl AsyncLayer for BeginsLater {
    type Value = ();
    type Asking = Later;

    fn ask(&self, _: &CallView<'_>) -> Later {
        Later { waited: false }
    }
}

/// Pends once.
struct Later {
    waited: bool,
}

impl Future for Later {
    type Output = Result<(), Status>;

    fn poll(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Self::Output> {
        if self.waited {
            return Poll::Ready(Ok(()));
        }
        self.waited = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}
