//! Streams over a shard's channel.

use corewire_client::{CallFailure, MethodName, NotSent};
use corewire_codec::{Decode, Encode, FrameWriter, RequestHead, Status};
use corewire_engine::{Channel, StreamCall, StreamReader, StreamWriter, spawn};
use corewire_proto::StreamKind;
use futures_core::Stream;
use std::future::Future;
use std::time::Duration;

use super::pump::Pump;
use super::wire::Wire;
use super::{
    Begun, BegunOn, SendError, SendStream, StreamSender, StreamTransport, Streaming, Watch,
};

impl StreamTransport for Channel {
    type Streaming<T: 'static> = Streaming<T>;
    type Sender<T: 'static> = StreamSender<T>;
    type Call = StreamCall;
    type Writer = StreamWriter;

    fn from_stream<T: 'static>(
        stream: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> Streaming<T> {
        Streaming::from_stream(stream)
    }

    fn channel<T: Send + 'static>() -> (StreamSender<T>, Streaming<T>) {
        Streaming::channel()
    }

    fn empty<T: 'static>() -> Streaming<T> {
        Streaming::empty()
    }

    fn stream<E>(
        &self,
        _: MethodName,
        kind: StreamKind,
        head: RequestHead,
        timeout: Option<Duration>,
        encode: E,
    ) -> impl Future<Output = Result<BegunOn<Self>, CallFailure>> + use<E>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        let channel = self.clone();
        async move {
            let (handle, writer) = Self::stream(&channel, kind, head, timeout, encode).await?;
            Ok(Begun { handle, writer, watch: Watch::default() })
        }
    }

    /// As a task of the shard alongside the call; the task ends with the call.
    fn send<I, T>(&self, stream: Streaming<T>, begun: &mut BegunOn<Self>)
    where
        I: Encode<T> + 'static,
        T: 'static,
    {
        if let Some(writer) = begun.writer.take() {
            spawn(Pump::<I, T, _, _>::new(stream, writer)).detach();
        }
    }

    fn receive<D, R>(reader: StreamReader, watch: Watch) -> Streaming<R>
    where
        D: Decode<R>,
        R: 'static,
    {
        Streaming::from_wire(Wire::new::<D>(reader, watch))
    }

    fn block_on<F: Future>(&self, _: F) -> Result<F::Output, NotSent> {
        Err(NotSent::WouldBlock)
    }
}

impl<T> SendStream<T> for StreamSender<T> {
    fn send(&mut self, message: T) -> impl Future<Output = Result<(), SendError<T>>> {
        Self::send(self, message)
    }

    fn fail(self, status: Status) {
        Self::fail(self, status);
    }

    fn is_closed(&self) -> bool {
        Self::is_closed(self)
    }
}
