//! Calls that stream over a shard's channel.

use corewire_client::{CallFailure, MethodName, NotSent};
use corewire_codec::{Encode, FrameWriter, RequestHead, Status};
use corewire_engine::{Channel, StreamCall, StreamReader, StreamWriter, spawn};
use corewire_proto::StreamKind;
use futures_core::Stream;
use std::future::Future;
use std::time::Duration;

use super::super::end_listeners::EndListeners;
use super::super::pump::Pump;
use super::super::transport::{StartedCall, StartedOn, StreamTransport};
use super::super::wire::Wire;
use super::super::{StreamSender, Streaming};

impl StreamTransport for Channel {
    type Streaming<T: 'static> = Streaming<T>;
    type Sender<T: 'static> = StreamSender<T>;
    type Call = StreamCall;
    type Writer = StreamWriter;

    fn from_stream<T: 'static>(
        stream: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> Streaming<T> {
        <Streaming<T>>::from_stream(stream)
    }

    fn channel<T: Send + 'static>() -> (StreamSender<T>, Streaming<T>) {
        <Streaming<T>>::channel()
    }

    fn empty<T: 'static>() -> Streaming<T> {
        <Streaming<T>>::empty()
    }

    fn stream<E>(
        &self,
        _: MethodName,
        kind: StreamKind,
        head: RequestHead,
        timeout: Option<Duration>,
        encode: E,
    ) -> impl Future<Output = Result<StartedOn<Self>, CallFailure>> + use<E>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        let channel = self.clone();
        async move {
            let (handle, writer) = Self::stream(&channel, kind, head, timeout, encode).await?;
            Ok(StartedCall { handle, writer, listeners: EndListeners::default() })
        }
    }

    /// As a task of the shard alongside the call; the task ends with the call.
    fn send<I, T>(&self, stream: Streaming<T>, begun: &mut StartedOn<Self>)
    where
        I: Encode<T> + 'static,
        T: 'static,
    {
        if let Some(writer) = begun.writer.take() {
            spawn(Pump::<I, T, _, _>::new(stream, writer)).detach();
        }
    }

    fn receive<T: 'static>(wire: Wire<T, StreamReader>) -> Streaming<T> {
        Streaming::from_wire(wire)
    }

    fn block_on<F: Future>(&self, _: F) -> Result<F::Output, NotSent> {
        Err(NotSent::WouldBlock)
    }
}
