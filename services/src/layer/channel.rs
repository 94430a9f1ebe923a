//! Layers at a client: a channel around a channel.

use corewire_client::{
    CallFailure, MethodName, NotSent, Outcome, Pending, StreamHandle, Transport,
};
use corewire_codec::{Encode, FrameWriter, RequestHead, Status, StatusCode};
use corewire_proto::StreamKind;
use futures_core::Stream;
use pin_project_lite::pin_project;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::{CallEnd, CallView, Guard, Layer};
use crate::client::outcome::CallError;
use crate::streaming::end_listeners::EndListener;
use crate::streaming::transport::{StartedOn, StreamTransport};
use crate::streaming::wire::Wire;

/// A channel of any kind with a layer around its calls. Clones share the layer.
///
/// The layer is asked when a call begins, that is when it is first polled, waited for, or given a
/// callback. Its guards must be `Send`, because a callback may run on another thread.
///
/// ```
/// # use corewire::{ClientShard, Placement, Server, block_on_shard, echo};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = Server::builder()
/// #     .address("127.0.0.1:0")
/// #     .placement(Placement::Unpinned(1))
/// #     .service(|_| echo::EchoServer::new(echo::Echoer))
/// #     .start()?;
/// # let address = server.addresses()[0].clone();
/// # block_on_shard(ClientShard::default(), move || async move {
/// use corewire::layer::{LayeredChannel, Log, TimeLimit};
/// use corewire::{Bytes, Channel};
/// use std::time::Duration;
///
/// let layers = (Log::new(), TimeLimit::at_most(Duration::from_secs(2)));
/// let channel = LayeredChannel::new(Channel::connect(&address).await?, layers);
/// let client = echo::EchoClient::new(channel);
/// assert_eq!(client.echo(Bytes::from_static(b"hi")).await?, "hi");
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// # })?
/// # }
/// ```
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

/// Tells a guard how its streaming call ended.
impl<G: Guard + Send> EndListener for G {
    fn end(self: Box<Self>, code: StatusCode) {
        (*self).end(&mut CallEnd::new(code));
    }
}

/// A layer is asked when a call that streams begins, and its guard lives until the last stream of the call
/// has ended, or was dropped.
impl<C, L> StreamTransport for LayeredChannel<C, L>
where
    C: StreamTransport,
    L: Layer<Guard: Send>,
{
    type Streaming<T: 'static> = C::Streaming<T>;
    type Sender<T: 'static> = C::Sender<T>;
    type Call = C::Call;
    type Writer = C::Writer;

    fn from_stream<T: 'static>(
        stream: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> C::Streaming<T> {
        C::from_stream(stream)
    }

    fn channel<T: Send + 'static>() -> (C::Sender<T>, C::Streaming<T>) {
        C::channel()
    }

    fn empty<T: 'static>() -> C::Streaming<T> {
        C::empty()
    }

    fn stream<E>(
        &self,
        name: MethodName,
        kind: StreamKind,
        head: RequestHead,
        timeout: Option<Duration>,
        encode: E,
    ) -> impl Future<Output = Result<StartedOn<Self>, CallFailure>> + use<C, L, E>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        let (channel, layer) = (self.channel.clone(), Arc::clone(&self.layer));
        async move {
            let make = |head, timeout| channel.stream(name, kind, head, timeout, encode);
            let (begun, guard) = NewCall { layer, name, head, timeout, make }.begin()?;
            match begun.await {
                Ok(mut begun) => {
                    begun.listeners.push(Box::new(guard));
                    Ok(begun)
                }
                Err(failure) => {
                    end(guard, &Err(failure.clone()));
                    Err(failure)
                }
            }
        }
    }

    fn send<I, T>(&self, stream: C::Streaming<T>, begun: &mut StartedOn<Self>)
    where
        I: Encode<T> + 'static,
        T: 'static,
    {
        self.channel.send::<I, T>(stream, begun);
    }

    fn receive<T: 'static>(wire: Wire<T, <C::Call as StreamHandle>::Reader>) -> C::Streaming<T> {
        C::receive(wire)
    }

    fn turn(&self) -> bool {
        self.channel.turn()
    }

    fn block_on<F: Future>(&self, future: F) -> Result<F::Output, NotSent> {
        self.channel.block_on(future)
    }
}

/// A call whose layer has not been asked yet.
struct NewCall<L, M> {
    layer: Arc<L>,
    name: MethodName,
    head: RequestHead,
    timeout: Option<Duration>,
    make: M,
}

impl<L, M, P> NewCall<L, M>
where
    L: Layer,
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
            let Some(call) = call.take() else { return Poll::Ready(Err(CallFailure::Reused)) };
            match call.begin() {
                Ok((call, guard)) => self.set(Self::Running { call, guard: Some(guard) }),
                Err(failure) => return Poll::Ready(Err(failure)),
            }
        }
        let Stage::Running { call, guard } = self.project() else {
            return Poll::Ready(Err(CallFailure::Reused));
        };
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
        let Self::New { call: Some(call) } = self else { return Err(CallFailure::Reused) };
        let (call, guard) = call.begin()?;
        let outcome = call.wait();
        end(guard, &outcome);
        outcome
    }

    fn then(self, done: impl FnOnce(Outcome) + Send + 'static) {
        let Self::New { call: Some(call) } = self else { return done(Err(CallFailure::Reused)) };
        match call.begin() {
            Ok((call, guard)) => call.then(move |outcome| {
                end(guard, &outcome);
                done(outcome);
            }),
            Err(failure) => done(Err(failure)),
        }
    }
}
