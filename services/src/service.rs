//! A service on one shard: its methods, and how a call becomes a future without allocating.

use bytes::Bytes;
use corewire_codec::{DecodeError, Encode, Extras, Payload, Status, read_argument};
use corewire_engine::{Dispatched, Incoming, PendingCall, ReplySlot};
use pin_project_lite::pin_project;
use speedy::{LittleEndian, Readable};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{self, Poll};
use std::time::Instant;

use crate::answer::Answer;
use crate::layer::{Layer, LayeredService};
use crate::{Context, MethodDescription, ServiceDescription};

/// Finished slots that a method keeps for its next calls. More calls than this may pend at once;
/// their memory is then given back.
pub(crate) const SPARE_SLOTS_MAX: usize = 1024;

/// Something that serves calls on one shard. `#[corewire::service]` makes one from a trait.
pub trait Service: 'static {
    /// What it offers.
    fn description(&self) -> &'static ServiceDescription;

    /// Adds its methods.
    fn register(self, methods: &mut Methods);

    /// The same service with a layer around all its methods, inside those of the server. See
    /// [`layer`](crate::layer).
    fn layer<L: Layer>(self, layer: L) -> LayeredService<Self, L>
    where
        Self: Sized,
    {
        LayeredService::new(self, layer)
    }
}

/// The methods of one shard, as they are collected.
#[derive(Debug, Default)]
pub struct Methods {
    pub(crate) list: Vec<Rc<dyn Method>>,
    /// What the first layer said whose settings are wrong.
    pub(crate) wrong: Option<String>,
}

impl Methods {
    /// Adds a method with one request and one reply.
    ///
    /// `begin` reads the arguments and answers the handler's future, or the status that the caller
    /// gets instead. The future is polled once at once; most are ready then, and cost no allocation.
    pub fn unary<C, R, F, B>(&mut self, description: &'static MethodDescription, begin: B)
    where
        C: Encode<R> + 'static,
        R: 'static,
        F: Future<Output: Answer<Value = R>> + 'static,
        B: Fn(&mut IncomingCall<'_, '_>) -> Result<F, Status> + 'static,
    {
        let spare = Rc::new(Spare { last: Cell::default(), more: RefCell::default() });
        let unary = Unary { description, begin, spare, codec: PhantomData::<fn(C, R)> };
        self.list.push(Rc::new(unary));
    }
}

/// A method, whatever its types.
pub(crate) trait Method {
    fn description(&self) -> &'static MethodDescription;

    fn call(
        &self,
        incoming: &mut Incoming<'_>,
        context: &mut task::Context<'_>,
        reply: &mut ReplySlot<'_>,
    ) -> Dispatched;
}

impl fmt::Debug for dyn Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let description = self.description();
        write!(f, "{}/{}", description.service, description.name)
    }
}

/// A call whose arguments are to be read.
#[derive(Debug)]
pub struct IncomingCall<'a, 'b> {
    pub(crate) incoming: &'a mut Incoming<'b>,
    /// What came beside a body that was taken out.
    pub(crate) extras: Option<Box<Extras>>,
}

impl IncomingCall<'_, '_> {
    /// The arguments, to be read in order.
    #[inline]
    pub fn arguments(&mut self) -> Arguments<'_> {
        Arguments { rest: self.incoming.payload.as_ref().map_or(&[], Payload::body) }
    }

    /// What the handler may know about the call. It takes metadata and attachment along, if there are
    /// any, and the arguments must have been read by then.
    #[must_use]
    pub fn context(&mut self) -> Context {
        if self.incoming.request.has_extras() {
            drop(self.detach());
        }
        let extras = self.extras.take();
        Context::new(self.incoming, extras)
    }

    /// Takes the request out of the receive buffer: its body, if it was not taken before. What is
    /// beside it is kept for the context.
    #[cold]
    fn detach(&mut self) -> Bytes {
        let Some(payload) = self.incoming.payload.take() else { return Bytes::new() };
        let (body, extras) = payload.into_parts();
        self.extras = Some(Box::new(extras));
        body
    }

    /// The body as it came: a slice of what was received, not copied. It keeps one of the
    /// shard's receive buffers (132 KiB unless configured otherwise) alive: copy what is to be kept for long.
    #[inline]
    pub fn raw_body(&mut self) -> Bytes {
        if self.incoming.request.has_extras() {
            return self.detach();
        }
        self.incoming.payload.take().map(Payload::into_body).unwrap_or_default()
    }
}

/// The arguments of a call, speedy-encoded one after the other.
#[derive(Debug)]
pub struct Arguments<'a> {
    rest: &'a [u8],
}

impl Arguments<'_> {
    /// Reads the next argument.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` with the argument's name.
    #[inline]
    pub fn read<T>(&mut self, name: &str) -> Result<T, Status>
    where
        T: for<'b> Readable<'b, LittleEndian>,
    {
        read_argument(&mut self.rest).map_err(|error| bad_argument(name, &error))
    }

    /// Ends the reading.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` when bytes are left: the caller's method takes other arguments.
    #[inline]
    pub fn finish(self) -> Result<(), Status> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(bad_argument("arguments", &DecodeError::left_over(left))),
        }
    }
}

#[cold]
fn bad_argument(name: &str, error: &DecodeError) -> Status {
    Status::invalid_argument(format!("argument `{name}`: {error}"))
}

type SlotBox<F, C, R> = Pin<Box<Slot<F, C, R>>>;

/// Slots of calls that are over. The one that was used last has a place of its own, for a method
/// whose handlers never pend needs no other.
struct Spare<F, C, R> {
    last: Cell<Option<SlotBox<F, C, R>>>,
    more: RefCell<Vec<SlotBox<F, C, R>>>,
}

impl<F, C, R> Spare<F, C, R> {
    #[inline]
    fn take(&self) -> Option<SlotBox<F, C, R>> {
        self.last.take().or_else(|| self.more.borrow_mut().pop())
    }

    #[inline]
    fn put_back(&self, slot: SlotBox<F, C, R>) {
        if let Some(other) = self.last.replace(Some(slot)) {
            self.put_aside(other);
        }
    }

    #[cold]
    fn put_aside(&self, slot: SlotBox<F, C, R>) {
        let mut more = self.more.borrow_mut();
        if more.len() < SPARE_SLOTS_MAX {
            more.push(slot);
        }
    }
}

struct Unary<B, F, C, R> {
    description: &'static MethodDescription,
    begin: B,
    spare: Rc<Spare<F, C, R>>,
    codec: PhantomData<fn(C, R)>,
}

pin_project! {
    /// Room for one handler's future. It is filled, polled and emptied in place, and goes back to
    /// its method's spare ones: a method in steady state allocates nothing.
    struct Slot<F, C, R> {
        #[pin]
        future: Option<F>,
        // When the handler first pended; its time is measured from then.
        parked: Option<Instant>,
        home: Weak<Spare<F, C, R>>,
        codec: PhantomData<fn(C, R)>,
    }
}

impl<F, C, R> Slot<F, C, R>
where
    C: Encode<R>,
    F: Future<Output: Answer<Value = R>>,
{
    #[inline]
    fn step(
        self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        reply: &mut ReplySlot<'_>,
    ) -> Poll<()> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else { return Poll::Ready(()) };
        let Poll::Ready(outcome) = future.poll(context) else { return Poll::Pending };
        this.future.set(None);
        if let Some(parked) = this.parked.take() {
            reply.set_handler_us(
                u32::try_from(parked.elapsed().as_micros()).unwrap_or(u32::MAX).max(1),
            );
        }
        outcome.give::<C>(reply);
        Poll::Ready(())
    }
}

impl<F, C, R> PendingCall for Slot<F, C, R>
where
    C: Encode<R>,
    F: Future<Output: Answer<Value = R>>,
{
    fn poll(
        self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        reply: &mut ReplySlot<'_>,
    ) -> Poll<()> {
        self.step(context, reply)
    }

    fn recycle(self: Pin<Box<Self>>) {
        if let Some(spare) = self.home.upgrade() {
            spare.put_back(self);
        }
    }
}

impl<B, F, C, R> Method for Unary<B, F, C, R>
where
    C: Encode<R> + 'static,
    R: 'static,
    F: Future<Output: Answer<Value = R>> + 'static,
    B: Fn(&mut IncomingCall<'_, '_>) -> Result<F, Status>,
{
    fn description(&self) -> &'static MethodDescription {
        self.description
    }

    fn call(
        &self,
        incoming: &mut Incoming<'_>,
        context: &mut task::Context<'_>,
        reply: &mut ReplySlot<'_>,
    ) -> Dispatched {
        let future = match (self.begin)(&mut IncomingCall { incoming, extras: None }) {
            Ok(future) => future,
            Err(status) => {
                reply.status(&status);
                return Dispatched::Replied;
            }
        };
        // The borrow ends before the handler runs: a handler may call this method again.
        let mut slot = self.spare.take().unwrap_or_else(|| {
            let home = Rc::downgrade(&self.spare);
            Box::pin(Slot { future: None, parked: None, home, codec: PhantomData })
        });
        slot.as_mut().project().future.set(Some(future));
        match slot.as_mut().step(context, reply) {
            Poll::Ready(()) => {
                self.spare.put_back(slot);
                Dispatched::Replied
            }
            Poll::Pending => {
                *slot.as_mut().project().parked = Some(Instant::now());
                Dispatched::Pending(slot)
            }
        }
    }
}
