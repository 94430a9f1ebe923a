//! Calls over a sharded channel.

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
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::ShardedChannel;
use super::member::ShardMember;
use super::table::{Lane, Load};
use crate::streaming::end_listeners::EndListener;
use crate::streaming::transport::{StartedOn, StreamTransport};
use crate::streaming::wire::Wire;

/// A call that counts as in flight on its lane until this is dropped.
struct InFlight {
    load: Arc<Load>,
    /// How many shards it was routed by.
    shards: u16,
}

impl InFlight {
    fn on<C>(lane: &Lane<C>, shards: u16) -> Self {
        lane.load.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { load: Arc::clone(&lane.load), shards }
    }

    /// Notes that the server has another number of shards than the call was routed by.
    fn learn(&self, outcome: &Outcome) {
        if let Ok(reply) = outcome
            && let Some(forwarded) = reply.head.forwarded
            && forwarded.shards() != self.shards
        {
            self.load.told.store(forwarded.shards(), Ordering::Relaxed);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.load.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// It is dropped when the last stream of its call has ended.
impl EndListener for InFlight {
    fn end(self: Box<Self>, _: StatusCode) {}
}

impl<C: ShardMember> Transport for ShardedChannel<C> {
    fn call<E>(
        &self,
        head: RequestHead,
        timeout: Option<Duration>,
        encode: E,
    ) -> impl Pending + use<C, E>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        self.inner.with_lane(head.key(), |lane, shards| LaneCall {
            call: lane.channel.call(head, timeout, encode),
            in_flight: InFlight::on(lane, shards),
        })
    }
}

pin_project! {
    /// A call over one of the lanes.
    struct LaneCall<P> {
        #[pin]
        call: P,
        in_flight: InFlight,
    }
}

impl<P: Pending> Future for LaneCall<P> {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let this = self.project();
        let outcome = ready!(this.call.poll(context));
        this.in_flight.learn(&outcome);
        Poll::Ready(outcome)
    }
}

impl<P: Pending> Pending for LaneCall<P> {
    fn wait(self) -> Outcome {
        let outcome = self.call.wait();
        self.in_flight.learn(&outcome);
        outcome
    }

    fn then(self, done: impl FnOnce(Outcome) + Send + 'static) {
        let in_flight = self.in_flight;
        self.call.then(move |outcome| {
            in_flight.learn(&outcome);
            drop(in_flight);
            done(outcome);
        });
    }
}

impl<C> StreamTransport for ShardedChannel<C>
where
    C: ShardMember + StreamTransport,
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
    ) -> impl Future<Output = Result<StartedOn<Self>, CallFailure>> + use<C, E>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        let (begun, in_flight) = self.inner.with_lane(head.key(), |lane, shards| {
            let begun = lane.channel.stream(name, kind, head, timeout, encode);
            (begun, InFlight::on(lane, shards))
        });
        async move {
            let mut begun = begun.await?;
            begun.listeners.push(Box::new(in_flight));
            Ok(begun)
        }
    }

    /// What sends it belongs to the call, and so to its lane.
    fn send<I, T>(&self, stream: C::Streaming<T>, begun: &mut StartedOn<Self>)
    where
        I: Encode<T> + 'static,
        T: 'static,
    {
        self.inner.table.load().any_lane().channel.send::<I, T>(stream, begun);
    }

    fn receive<T: 'static>(wire: Wire<T, <C::Call as StreamHandle>::Reader>) -> C::Streaming<T> {
        C::receive(wire)
    }

    fn block_on<F: Future>(&self, future: F) -> Result<F::Output, NotSent> {
        self.inner.table.load().any_lane().channel.block_on(future)
    }
}
