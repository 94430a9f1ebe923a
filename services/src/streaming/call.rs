//! Calls that stream, as the generated clients make them.

use corewire_codec::{Decode, Encode, FrameWriter, RequestHead, Status};
use corewire_engine::{
    CallFailure, Channel, StreamCall, StreamKind, StreamWriter, Transport, spawn,
};
use std::future::{Future, poll_fn};
use std::time::Duration;

use super::pump::Pump;
use super::{Streaming, failure};
use crate::MethodDescription;
use crate::caller::{CallError, Caller, read_outcome};

/// A call that streams, and its writer if the client sends.
type Begun = Result<(StreamCall, Option<StreamWriter>), CallFailure>;

/// A channel that carries streams: [`Channel`], on a shard. The others carry unary and
/// one-way calls.
#[diagnostic::on_unimplemented(
    message = "streams are carried by `corewire::Channel`, on a shard, and not by `{Self}`",
    note = "run the code that streams with `corewire::block_on_shard`, or in a handler"
)]
pub trait StreamTransport: Transport {
    /// Begins a call that streams; ready when its request is written.
    fn stream<E>(
        &self,
        kind: StreamKind,
        head: RequestHead,
        timeout: Option<Duration>,
        encode: E,
    ) -> impl Future<Output = Begun> + use<Self, E>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static;
}

impl StreamTransport for Channel {
    fn stream<E>(
        &self,
        kind: StreamKind,
        head: RequestHead,
        timeout: Option<Duration>,
        encode: E,
    ) -> impl Future<Output = Begun> + use<E>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        let channel = self.clone();
        async move { Self::stream(&channel, kind, head, timeout, encode).await }
    }
}

/// Sends a stream beside its call, as a task of the shard, which ends with the call.
fn send<I: Encode<T> + 'static, T: 'static>(stream: Streaming<T>, writer: Option<StreamWriter>) {
    if let Some(writer) = writer {
        let mut pump = Pump::<I, T>::new(stream, writer);
        spawn(poll_fn(move |context| pump.poll(context))).detach();
    }
}

impl<C: StreamTransport> Caller<C> {
    fn begin<E>(
        &self,
        kind: StreamKind,
        method: &'static MethodDescription,
        arguments: E,
    ) -> impl Future<Output = Begun> + use<C, E>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        let (head, timeout, encode) = self.prepare(method, self.stream_timeout(), arguments);
        self.channel().stream(kind, head, timeout, encode)
    }

    /// A call of which the client streams: values of `T` in the codec `I`, for one reply of `R` in `D`.
    /// Dropping the future cancels the call.
    ///
    /// # Errors
    ///
    /// The future answers why there is no result; see [`CallError`].
    pub fn client_stream<I, T, D, R, E>(
        &self,
        method: &'static MethodDescription,
        stream: Streaming<T>,
        arguments: E,
    ) -> impl Future<Output = Result<R, CallError>> + use<C, I, T, D, R, E>
    where
        I: Encode<T> + 'static,
        T: 'static,
        D: Decode<R>,
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        let begun = self.begin(StreamKind::Client, method, arguments);
        async move {
            let (mut call, writer) = begun.await?;
            send::<I, T>(stream, writer);
            read_outcome::<D, R>(poll_fn(|context| call.poll_outcome(context)).await)
        }
    }

    /// A call of which the server streams. It answers when the handler has, with its stream or its failure.
    /// Dropping the future, or what it answers, cancels the call.
    ///
    /// # Errors
    ///
    /// The future answers why there is no result; see [`CallError`].
    pub fn server_stream<D, R, E>(
        &self,
        method: &'static MethodDescription,
        arguments: E,
    ) -> impl Future<Output = Result<Streaming<R>, CallError>> + use<C, D, R, E>
    where
        D: Decode<R>,
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        let begun = self.begin(StreamKind::Server, method, arguments);
        async move {
            let (call, _) = begun.await?;
            read_stream::<D, R>(call).await
        }
    }

    /// A call of which both sides stream. What the client streams is sent from the beginning on, also
    /// while this waits for the handler's answer.
    ///
    /// # Errors
    ///
    /// The future answers why there is no result; see [`CallError`].
    pub fn bidirectional<I, T, D, R, E>(
        &self,
        method: &'static MethodDescription,
        stream: Streaming<T>,
        arguments: E,
    ) -> impl Future<Output = Result<Streaming<R>, CallError>> + use<C, I, T, D, R, E>
    where
        I: Encode<T> + 'static,
        T: 'static,
        D: Decode<R>,
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        let begun = self.begin(StreamKind::Bidirectional, method, arguments);
        async move {
            let (call, writer) = begun.await?;
            send::<I, T>(stream, writer);
            read_stream::<D, R>(call).await
        }
    }
}

async fn read_stream<D: Decode<R>, R>(mut call: StreamCall) -> Result<Streaming<R>, CallError> {
    match poll_fn(|context| call.poll_opened(context)).await {
        Ok(()) => Ok(call.into_reader().map_or_else(Streaming::empty, Streaming::from_reader::<D>)),
        Err(outcome) => match failure(outcome) {
            Some(error) => Err(error),
            None => Ok(Streaming::empty()),
        },
    }
}
