//! Layers at a client: a channel around a channel.

use corewire_codec::{FrameWriter, RequestHead, Status};
use corewire_engine::{CallFailure, MethodName, NotSent, Outcome, Pending, Transport};
use pin_project_lite::pin_project;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::{CallEnd, CallView, Guard, Layer};
use crate::CallError;

/// A channel of any kind with a layer around its calls. Clones share the layer.
///
/// The layer is asked when a call begins, that is when it is first polled, waited for, or given a
/// callback. Its guards must be `Send`, for a callback may run on another thread.
#[derive(Debug)]
pub struct LayeredChannel<C, L> {
    channel: C,
    layer: Arc<L>,
}

impl<C, L> LayeredChannel<C, L> {
    /// Calls over `channel`, with `layer` around each.
    #[must_use]
    pub fn new(channel: C, layer: L) -> Self {
        Self { channel, layer: Arc::new(layer) }
    }

    /// The channel inside.
    #[must_use]
    pub fn channel(&self) -> &C {
        &self.channel
    }
}

impl<C: Clone, L> Clone for LayeredChannel<C, L> {
    fn clone(&self) -> Self {
        Self { channel: self.channel.clone(), layer: Arc::clone(&self.layer) }
    }
}

impl<C, L> Transport for LayeredChannel<C, L>
where
    C: Transport + Clone,
    L: Layer<Guard: Send>,
{
    fn call<E>(
        &self,
        head: RequestHead,
        timeout: Option<Duration>,
        encode: E,
    ) -> impl Pending + use<C, L, E>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        self.call_named(MethodName { service: "", method: "" }, head, timeout, encode)
    }

    fn call_named<E>(
        &self,
        name: MethodName,
        head: RequestHead,
        timeout: Option<Duration>,
        encode: E,
    ) -> impl Pending + use<C, L, E>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        let channel = self.channel.clone();
        let make = move |head, timeout| channel.call_named(name, head, timeout, encode);
        let layer = Arc::clone(&self.layer);
        LayeredCall::New { call: Some(NewCall { layer, name, head, timeout, make }) }
    }
}

/// A call whose layer was not asked yet.
struct NewCall<L, M> {
    layer: Arc<L>,
    name: MethodName,
    head: RequestHead,
    timeout: Option<Duration>,
    make: M,
}

impl<L: Layer, M, P> NewCall<L, M>
where
    M: FnOnce(RequestHead, Option<Duration>) -> P,
{
    fn begin(mut self) -> Result<(P, L::Guard), CallFailure> {
        let mut view = CallView::outgoing(self.name, &self.head, &mut self.timeout);
        match self.layer.begin(&mut view) {
            Ok(guard) => Ok(((self.make)(self.head, self.timeout), guard)),
            Err(status) => Err(CallFailure::NotSent(NotSent::TurnedAway(status))),
        }
    }
}

/// Tells a guard how its call ended.
fn end<G: Guard>(guard: G, outcome: &Outcome) {
    let code = match outcome {
        Ok(reply) => reply.head.code,
        Err(failure) => CallError::from(failure.clone()).code(),
    };
    guard.end(&mut CallEnd::new(code));
}

/// What a call answers that is polled after its end.
fn over() -> Outcome {
    let why = "the call has ended already".to_owned();
    Err(CallFailure::NotSent(NotSent::NoConnection(why)))
}

pin_project! {
    /// A call with its guard. The call goes first when both are dropped.
    #[project = Stage]
    enum LayeredCall<L, M, P, G> {
        New { call: Option<NewCall<L, M>> },
        Running { #[pin] call: P, guard: Option<G> },
    }
}

impl<L, M, P> Future for LayeredCall<L, M, P, L::Guard>
where
    L: Layer,
    M: FnOnce(RequestHead, Option<Duration>) -> P,
    P: Pending,
{
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        if let Stage::New { call } = self.as_mut().project() {
            let Some(call) = call.take() else { return Poll::Ready(over()) };
            match call.begin() {
                Ok((call, guard)) => self.set(Self::Running { call, guard: Some(guard) }),
                Err(failure) => return Poll::Ready(Err(failure)),
            }
        }
        let Stage::Running { call, guard } = self.project() else { return Poll::Ready(over()) };
        let outcome = ready!(call.poll(context));
        if let Some(guard) = guard.take() {
            end(guard, &outcome);
        }
        Poll::Ready(outcome)
    }
}

impl<L, M, P> Pending for LayeredCall<L, M, P, L::Guard>
where
    L: Layer<Guard: Send>,
    M: FnOnce(RequestHead, Option<Duration>) -> P + 'static,
    P: Pending,
{
    fn wait(self) -> Outcome {
        let Self::New { call: Some(call) } = self else { return over() };
        let (call, guard) = call.begin()?;
        let outcome = call.wait();
        end(guard, &outcome);
        outcome
    }

    fn then(self, done: impl FnOnce(Outcome) + Send + 'static) {
        let Self::New { call: Some(call) } = self else { return done(over()) };
        match call.begin() {
            Ok((call, guard)) => call.then(move |outcome| {
                end(guard, &outcome);
                done(outcome);
            }),
            Err(failure) => done(Err(failure)),
        }
    }
}
