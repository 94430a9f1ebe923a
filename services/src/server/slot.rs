//! A method and the room for its calls' futures. A trait with many methods has many of these.
//!
//! What is generic over a method's future is compiled for each method, so it is limited to [`Slot`]: begin, poll, give
//! back. All else is compiled once, or once for each service. A call makes one indirect call, to its slot, and
//! allocates nothing where a former call's slot is free.

use corewire_client::MethodName;
use corewire_codec::{Encode, Status};
use corewire_engine::{Dispatched, Incoming, PendingCall, ReplySlot, ServiceClass, offload};
use pin_project_lite::pin_project;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{self, Poll};
use std::time::Instant;

use crate::client::one_way::NoReply;
use crate::clock;
use crate::description::{MethodDescription, ServiceDescription};
use crate::server::answer::Answer;
use crate::server::blocking::Offloaded;
use crate::server::incoming::{IncomingCall, KeyOf};

/// Finished slots that a method keeps for its next calls. More calls than this may be pending at
/// once; their memory is then given back.
pub(crate) const SPARE_SLOTS_MAX: usize = 1024;

/// How a service of the type `S` makes room for a call of one of its methods.
pub type MakeSlot<S> = fn(Room<'_, S>) -> Handler;

/// The place for a call's handler that a method is to fill; see [`Methods::serve`].
pub struct Room<'a, S> {
    service: &'a Rc<S>,
    home: &'a Weak<Method>,
}

/// Room for the handlers of a method, one at a time.
pub struct Handler(Pin<Box<dyn Handle>>);

impl<S> fmt::Debug for Room<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").finish_non_exhaustive()
    }
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler").finish_non_exhaustive()
    }
}

/// The methods of one shard, as they are collected.
#[derive(Debug, Default)]
pub struct Methods {
    pub(crate) list: Vec<Rc<Method>>,
    /// The error of the first layer whose settings are wrong.
    pub(crate) wrong: Option<String>,
}

impl Methods {
    /// Adds all methods of a service: for each method of its description, in order, the function that makes room for
    /// a call; and how those that have a key read it, by their number in the description. The macro's code calls it.
    #[doc(hidden)]
    pub fn serve<S: 'static>(
        &mut self,
        description: &'static ServiceDescription,
        service: &Rc<S>,
        methods: &[MakeSlot<S>],
        keys: &[(usize, KeyOf)],
    ) {
        self.list.reserve(methods.len());
        for (index, (description, make)) in description.methods.iter().zip(methods).enumerate() {
            let key_of = keys.iter().find(|(keyed, _)| *keyed == index).map(|(_, key_of)| *key_of);
            self.add(description, service, *make, key_of);
        }
    }

    /// Adds one method.
    pub(crate) fn add<S: 'static>(
        &mut self,
        description: &'static MethodDescription,
        service: &Rc<S>,
        make: MakeSlot<S>,
        key_of: Option<KeyOf>,
    ) {
        let make = Box::new(Maker { service: Rc::clone(service), make });
        self.add_handler(description, make, key_of);
    }

    fn add_handler(
        &mut self,
        description: &'static MethodDescription,
        make: Box<dyn Make>,
        key_of: Option<KeyOf>,
    ) {
        self.list.push(Rc::new_cyclic(|this| Method {
            description,
            key_of,
            class: Cell::default(),
            serve: Serve::Handler(Handlers {
                make,
                this: Weak::clone(this),
                last: Cell::default(),
                more: RefCell::default(),
            }),
        }));
    }

    /// Puts another way to serve them in the place of the methods from `from` on.
    pub(crate) fn replace(
        &mut self,
        from: usize,
        serve: impl Fn(Rc<Method>) -> Box<dyn ServeCall>,
    ) {
        self.replace_some(from, |inner| Some(serve(Rc::clone(inner))));
    }

    /// The same, where there is another way.
    pub(crate) fn replace_some(
        &mut self,
        from: usize,
        serve: impl Fn(&Rc<Method>) -> Option<Box<dyn ServeCall>>,
    ) {
        for place in self.list.iter_mut().skip(from) {
            if let Some(serve) = serve(place) {
                let Method { description, key_of, ref class, .. } = **place;
                let (class, serve) = (class.clone(), Serve::Other(serve));
                *place = Rc::new(Method { description, key_of, class, serve });
            }
        }
    }
}

impl<S: 'static> Room<'_, S> {
    /// Room for a method with one request and one reply.
    ///
    /// `begin` reads the arguments and returns the handler's future, or the status that the caller
    /// gets instead. The future is polled once immediately; most are ready then, and cost no allocation.
    /// `begin` captures nothing: it is given the service.
    pub fn unary<C, R, F, B>(self, _: PhantomData<C>, begin: B) -> Handler
    where
        C: Encode<R> + 'static,
        R: 'static,
        F: Future<Output: Answer<Value = R>> + 'static,
        B: Fn(&Rc<S>, &mut IncomingCall<'_, '_>) -> Result<F, Status> + 'static,
    {
        let (service, home) = self.keep();
        let codec = PhantomData::<fn(C, R)>;
        Handler::new(Slot { service, begin, future: None, parked: None, home, codec })
    }

    /// Room for a method that never gets a reply. Its handlers are polled, kept and dropped like others.
    pub fn one_way<F, B>(self, begin: B) -> Handler
    where
        F: Future<Output = Result<(), Status>> + 'static,
        B: Fn(&Rc<S>, &mut IncomingCall<'_, '_>) -> Result<F, Status> + 'static,
    {
        self.unary(PhantomData::<NoReply>, begin)
    }

    /// Room for a method whose handler is a closure for a thread beside the shards.
    ///
    /// `begin` reads the arguments and returns the closure, or the status that the caller gets instead.
    pub fn blocking<C, R, W, B>(self, _: PhantomData<C>, begin: B) -> Handler
    where
        C: Encode<R> + 'static,
        R: Send + 'static,
        W: FnOnce() -> Result<R, Status> + Send + 'static,
        B: Fn(&Rc<S>, &mut IncomingCall<'_, '_>) -> Result<W, Status> + 'static,
    {
        self.unary(PhantomData::<C>, move |service, call| {
            begin(service, call).map(|work| Offloaded(offload(work)))
        })
    }

    /// Room for one that never gets a reply.
    pub fn blocking_one_way<W, B>(self, begin: B) -> Handler
    where
        W: FnOnce() -> Result<(), Status> + Send + 'static,
        B: Fn(&Rc<S>, &mut IncomingCall<'_, '_>) -> Result<W, Status> + 'static,
    {
        self.blocking(PhantomData::<NoReply>, begin)
    }

    pub(crate) fn keep(self) -> (Rc<S>, Weak<Method>) {
        (Rc::clone(self.service), Weak::clone(self.home))
    }
}

impl Handler {
    pub(crate) fn new(handle: impl Handle + 'static) -> Self {
        Self(Box::pin(handle))
    }
}

/// Makes room for calls of one method.
trait Make {
    fn make(&self, home: &Weak<Method>) -> Handler;
}

struct Maker<S> {
    service: Rc<S>,
    make: MakeSlot<S>,
}

impl<S> Make for Maker<S> {
    fn make(&self, home: &Weak<Method>) -> Handler {
        (self.make)(Room { service: &self.service, home })
    }
}

/// A method, whatever its types.
pub(crate) struct Method {
    pub(crate) description: &'static MethodDescription,
    /// How its calls give their key, if it has one.
    pub(crate) key_of: Option<KeyOf>,
    /// Its class, if anybody said.
    pub(crate) class: Cell<Option<ServiceClass>>,
    serve: Serve,
}

enum Serve {
    Handler(Handlers),
    Other(Box<dyn ServeCall>),
}

/// Another way to serve the calls of a method: a layer's.
pub(crate) trait ServeCall {
    fn call(
        &self,
        incoming: &mut Incoming<'_>,
        context: &mut task::Context<'_>,
        reply: &mut ReplySlot<'_>,
    ) -> Dispatched;
}

impl Method {
    /// Its name and that of its service.
    pub(crate) fn name(&self) -> MethodName {
        MethodName { service: self.description.service, method: self.description.name }
    }

    /// Its class.
    pub(crate) fn class(&self) -> ServiceClass {
        self.class.get().unwrap_or_default()
    }

    #[inline]
    pub(crate) fn call(
        &self,
        incoming: &mut Incoming<'_>,
        context: &mut task::Context<'_>,
        reply: &mut ReplySlot<'_>,
    ) -> Dispatched {
        match &self.serve {
            Serve::Handler(handlers) => handlers.call(incoming, context, reply),
            Serve::Other(other) => other.call(incoming, context, reply),
        }
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.description.service, self.description.name)
    }
}

/// Room for one handler, whatever its types are.
pub(crate) trait Handle: PendingCall {
    /// Reads the arguments, makes the handler's future and polls it. When it is ready, the room is free again.
    fn begin(
        self: Pin<&mut Self>,
        incoming: &mut Incoming<'_>,
        context: &mut task::Context<'_>,
        reply: &mut ReplySlot<'_>,
    ) -> Poll<()>;

    /// The method that it belongs to.
    fn home(&self) -> &Weak<Method>;
}

type SlotBox = Pin<Box<dyn Handle>>;

/// The handlers of a method: how to make room for one, and the room of calls that are over. The one used last has a
/// place of its own, because a method whose handlers are never pending needs no other.
struct Handlers {
    make: Box<dyn Make>,
    this: Weak<Method>,
    last: Cell<Option<SlotBox>>,
    more: RefCell<Vec<SlotBox>>,
}

impl Handlers {
    #[inline]
    fn call(
        &self,
        incoming: &mut Incoming<'_>,
        context: &mut task::Context<'_>,
        reply: &mut ReplySlot<'_>,
    ) -> Dispatched {
        // The slot is taken out while the handler runs: a handler may call this method again.
        let mut slot = self.last.take().unwrap_or_else(|| self.further_slot());
        match slot.as_mut().begin(incoming, context, reply) {
            Poll::Ready(()) => {
                self.put_back(slot);
                Dispatched::Replied
            }
            Poll::Pending => Dispatched::Pending(slot),
        }
    }

    #[inline(never)]
    fn further_slot(&self) -> SlotBox {
        let spare = self.more.borrow_mut().pop();
        spare.unwrap_or_else(|| self.make.make(&self.this).0)
    }

    #[inline]
    fn put_back(&self, slot: SlotBox) {
        if let Some(other) = self.last.replace(Some(slot)) {
            self.put_aside(other);
        }
    }

    #[cold]
    fn put_aside(&self, slot: SlotBox) {
        let mut more = self.more.borrow_mut();
        if more.len() < SPARE_SLOTS_MAX {
            more.push(slot);
        }
    }
}

/// Takes back the slot of a handler that was pending, if its method is still there.
fn recycle(slot: SlotBox) {
    if let Some(method) = slot.home().upgrade()
        && let Serve::Handler(handlers) = &method.serve
    {
        handlers.put_back(slot);
    }
}

pin_project! {
    /// Room for one handler's future. It is filled, polled and emptied in place, and goes back to
    /// its method's spare ones: a method in steady state allocates nothing.
    struct Slot<S, B, F, C, R> {
        service: Rc<S>,
        begin: B,
        #[pin]
        future: Option<F>,
        // When the handler was first pending; its time is measured from then.
        parked: Option<Instant>,
        home: Weak<Method>,
        codec: PhantomData<fn(C, R)>,
    }
}

/// Tells the caller how long its handler took, if it was pending.
#[cold]
fn tell_time(parked: &mut Option<Instant>, reply: &mut ReplySlot<'_>) {
    if let Some(parked) = parked.take() {
        let handler_us = u32::try_from(clock::since(parked).as_micros()).unwrap_or(u32::MAX);
        reply.set_handler_us(handler_us.max(1));
    }
}

#[cold]
pub(crate) fn refuse_arguments(status: &Status, reply: &mut ReplySlot<'_>) -> Poll<()> {
    reply.status(status);
    Poll::Ready(())
}

/// A handler is pending for the first time.
fn park(parked: &mut Option<Instant>) -> Poll<()> {
    *parked = Some(clock::now());
    Poll::Pending
}

impl<S, B, F, C, R> Handle for Slot<S, B, F, C, R>
where
    C: Encode<R> + 'static,
    R: 'static,
    F: Future<Output: Answer<Value = R>> + 'static,
    S: 'static,
    B: Fn(&Rc<S>, &mut IncomingCall<'_, '_>) -> Result<F, Status> + 'static,
{
    fn begin(
        self: Pin<&mut Self>,
        incoming: &mut Incoming<'_>,
        context: &mut task::Context<'_>,
        reply: &mut ReplySlot<'_>,
    ) -> Poll<()> {
        let mut this = self.project();
        match (this.begin)(this.service, &mut IncomingCall { incoming, extras: None }) {
            Ok(future) => this.future.set(Some(future)),
            Err(status) => return refuse_arguments(&status, reply),
        }
        let Some(future) = this.future.as_mut().as_pin_mut() else { return Poll::Ready(()) };
        let Poll::Ready(outcome) = future.poll(context) else { return park(this.parked) };
        this.future.set(None);
        outcome.give::<C>(reply);
        Poll::Ready(())
    }

    fn home(&self) -> &Weak<Method> {
        &self.home
    }
}

impl<S, B, F, C, R> PendingCall for Slot<S, B, F, C, R>
where
    C: Encode<R> + 'static,
    R: 'static,
    F: Future<Output: Answer<Value = R>> + 'static,
    S: 'static,
    B: Fn(&Rc<S>, &mut IncomingCall<'_, '_>) -> Result<F, Status> + 'static,
{
    fn poll(
        self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        reply: &mut ReplySlot<'_>,
    ) -> Poll<()> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else { return Poll::Ready(()) };
        let Poll::Ready(outcome) = future.poll(context) else { return Poll::Pending };
        this.future.set(None);
        tell_time(this.parked, reply);
        outcome.give::<C>(reply);
        Poll::Ready(())
    }

    fn recycle(self: Pin<Box<Self>>) {
        recycle(self);
    }
}
