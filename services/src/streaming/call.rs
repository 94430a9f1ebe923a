//! Calls that stream, as the generated clients make them.

use corewire_client::{MethodName, Outcome, StreamHandle};
use corewire_codec::{Decode, Encode, FrameWriter, Status, StatusCode};
use corewire_proto::StreamKind;
use pin_project_lite::pin_project;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::transport::{StartedOn, StreamTransport};
use super::wire::Wire;
use crate::client::caller::Prepare;
use crate::client::outcome::{CallError, name_method, read_outcome};
use crate::client::response::Response;
use crate::description::MethodDescription;

/// What a call that streams ends with for its caller: a value, or a stream.
pub trait ResultKind<C: StreamTransport> {
    /// What the caller gets.
    type Value;

    /// Waits for it, and takes the call when it is there.
    #[doc(hidden)]
    fn poll(
        call: &mut Option<StartedOn<C>>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Response<Self::Value>, CallError>>;
}

/// A call of which only the client streams: it ends with one reply, of `R` in the codec `D`.
pub struct OneReply<D, R>(PhantomData<fn() -> (D, R)>);

/// A call whose server streams: it ends, for now, with the stream, of `R` in the codec `D`.
pub struct ReplyStream<D, R>(PhantomData<fn() -> (D, R)>);

impl<D, R> fmt::Debug for OneReply<D, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OneReply")
    }
}

impl<D, R> fmt::Debug for ReplyStream<D, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReplyStream")
    }
}

/// What a call that is polled after its end returns.
fn over<T>() -> Poll<Result<Response<T>, CallError>> {
    Poll::Ready(Err(CallError::Reused))
}

/// The code of a call without a stream.
pub(crate) fn code_of(outcome: &Outcome) -> StatusCode {
    match outcome {
        Ok(reply) => reply.head.code,
        Err(failure) => CallError::from(failure.clone()).code(),
    }
}

impl<C: StreamTransport, D: Decode<R>, R> ResultKind<C> for OneReply<D, R> {
    type Value = R;

    fn poll(
        call: &mut Option<StartedOn<C>>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Response<R>, CallError>> {
        let Some(begun) = call else { return over() };
        let outcome = ready!(begun.handle.poll_outcome(context));
        begun.listeners.end(code_of(&outcome));
        *call = None;
        Poll::Ready(Response::read::<D>(outcome))
    }
}

impl<C: StreamTransport, D: Decode<R>, R: 'static> ResultKind<C> for ReplyStream<D, R> {
    type Value = C::Streaming<R>;

    fn poll(
        call: &mut Option<StartedOn<C>>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Response<C::Streaming<R>>, CallError>> {
        let Some(begun) = call else { return over() };
        let opened = ready!(begun.handle.poll_opened(context));
        let Some(mut begun) = call.take() else { return over() };
        Poll::Ready(match opened {
            Ok(opening) => {
                let stream = match begun.handle.into_reader() {
                    Some(reader) => C::receive(Wire::new::<D>(reader, begun.listeners)),
                    None => C::empty(),
                };
                Ok(Response::opened(stream, opening))
            }
            Err(outcome) => {
                begun.listeners.end(code_of(&outcome));
                match read_outcome::<corewire_codec::Raw, bytes::Bytes>(outcome) {
                    Ok(_) => Ok(Response::opened(C::empty(), None)),
                    Err(error) => Err(error),
                }
            }
        })
    }
}

/// The future that begins a call which streams over `C`.
pub trait BeginCall<C: StreamTransport>: Future<Output = Result<StartedOn<C>, CallError>> {}

impl<C, B> BeginCall<C> for B
where
    C: StreamTransport,
    B: Future<Output = Result<StartedOn<C>, CallError>>,
{
}

pin_project! {
    /// A prepared call that streams. It begins when it is awaited, waited for, or told to
    /// [`begin`](Self::begin), and returns when the server has answered: the value if only the client
    /// streams, the server's stream otherwise. Dropping it, or that stream, cancels the call.
    #[must_use = "a call does nothing unless it is awaited, waited for, or begun"]
    pub struct StreamingCall<C: StreamTransport, B, K> {
        channel: C,
        // `None` once it has begun.
        #[pin]
        begin: Option<B>,
        call: Option<StartedOn<C>>,
        method: &'static MethodDescription,
        kind: PhantomData<fn() -> K>,
    }
}

impl<C: StreamTransport, B, K> fmt::Debug for StreamingCall<C, B, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_begun = self.call.is_some();
        f.debug_struct("StreamingCall").field("has_begun", &has_begun).finish_non_exhaustive()
    }
}

impl<C: StreamTransport, B, K> StreamingCall<C, B, K> {
    fn new(channel: C, begin: B, method: &'static MethodDescription) -> Self {
        Self { channel, begin: Some(begin), call: None, method, kind: PhantomData }
    }
}

impl<C: StreamTransport, B: BeginCall<C>, K: ResultKind<C>> StreamingCall<C, B, K> {
    /// Sends the request now, and what the client streams from then on, for a caller that fills its stream
    /// before it waits for the result: `let call = call.begin().await?`, or `.begin().wait()?`.
    ///
    /// ```
    /// use corewire::{ClientShard, Placement, Server, Status, Streaming, block_on_shard};
    ///
    /// #[corewire::service]
    /// pub trait Sum {
    ///     async fn sum(&self, numbers: Streaming<u64>) -> Result<u64, Status>;
    /// }
    ///
    /// struct Adder;
    ///
    /// impl Sum for Adder {
    ///     async fn sum(&self, mut numbers: Streaming<u64>) -> Result<u64, Status> {
    ///         let mut sum = 0;
    ///         while let Some(number) = numbers.next().await {
    ///             sum += number?;
    ///         }
    ///         Ok(sum)
    ///     }
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = Server::builder()
    /// #     .address("127.0.0.1:0")
    /// #     .placement(Placement::Unpinned(1))
    /// #     .service(|_| SumServer::new(Adder))
    /// #     .start()?;
    /// # let address = server.addresses()[0].clone();
    /// # block_on_shard(ClientShard::default(), move || async move {
    /// let client = SumClient::connect(address).await?;
    /// let (mut sender, numbers) = Streaming::channel();
    /// let call = client.sum(numbers).begin().await?;
    /// for number in 1..=100 {
    ///     sender.send(number).await?;
    /// }
    /// drop(sender);
    /// assert_eq!(call.await?, 5_050);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// # })?
    /// # }
    /// ```
    #[doc(alias("client streaming"))]
    pub fn begin(self) -> BeginStreaming<C, B, K> {
        BeginStreaming { call: self }
    }

    /// The same call, but its outcome also has the metadata that came with the reply, or with the opening of
    /// the server's stream.
    pub fn with_response(self) -> StreamingResponse<C, B, K> {
        StreamingResponse { call: self }
    }

    /// Blocks this thread until the server has answered; see [`Call::wait`](crate::Call::wait).
    ///
    /// # Errors
    ///
    /// Why there is no result; see [`CallError`].
    pub fn wait(self) -> Result<K::Value, CallError> {
        let channel = self.channel.clone();
        channel.block_on(self).map_err(CallError::NotSent)?
    }

    /// Waits until the call has begun.
    fn poll_begin(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        let mut this = self.project();
        let Some(begin) = this.begin.as_mut().as_pin_mut() else { return Poll::Ready(Ok(())) };
        let begun = ready!(begin.poll(context));
        this.begin.set(None);
        *this.call = Some(begun?);
        Poll::Ready(Ok(()))
    }

    fn poll_response(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Response<K::Value>, CallError>> {
        ready!(self.as_mut().poll_begin(context))?;
        let this = self.project();
        loop {
            let response = K::poll(this.call, context);
            // `turn` lets a channel that this thread drives make progress.
            if response.is_ready() || !this.channel.turn() {
                return response.map_err(|error| name_method(error, this.method));
            }
        }
    }
}

impl<C: StreamTransport, B: BeginCall<C>, K: ResultKind<C>> Future for StreamingCall<C, B, K> {
    type Output = Result<K::Value, CallError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_response(context).map(|response| response.map(|response| response.value))
    }
}

pin_project! {
    /// The beginning of a call that streams; it returns the call, in flight.
    ///
    /// ```
    /// # use corewire::{ClientShard, Placement, Server, Status, Streaming, block_on_shard};
    /// # #[corewire::service]
    /// # pub trait Numbers {
    /// #     async fn count(&self, from: u64) -> Result<Streaming<u64>, Status>;
    /// #     async fn sum(&self, numbers: Streaming<u64>) -> Result<u64, Status>;
    /// # }
    /// # struct Counter;
    /// # impl Numbers for Counter {
    /// #     async fn count(&self, from: u64) -> Result<Streaming<u64>, Status> {
    /// #         Ok(Streaming::from_stream(futures_lite::stream::iter((from..from + 2).map(Ok))))
    /// #     }
    /// #     async fn sum(&self, mut numbers: Streaming<u64>) -> Result<u64, Status> {
    /// #         let mut sum = 0;
    /// #         while let Some(number) = numbers.next().await {
    /// #             sum += number?;
    /// #         }
    /// #         Ok(sum)
    /// #     }
    /// # }
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = Server::builder()
    /// #     .address("127.0.0.1:0")
    /// #     .placement(Placement::Unpinned(1))
    /// #     .service(|_| NumbersServer::new(Counter))
    /// #     .start()?;
    /// # let address = server.addresses()[0].clone();
    /// use corewire::blocking;
    ///
    /// let client = NumbersClient::new(blocking::Channel::connect(address)?);
    /// let (mut sender, numbers) = blocking::Streaming::channel();
    /// let sum = client.sum(numbers).begin().wait()?; // in flight; `.begin().await` elsewhere
    /// sender.send(42)?;
    /// drop(sender);
    /// assert_eq!(sum.wait()?, 42);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use = "a call does not begin unless this is awaited or waited for"]
    pub struct BeginStreaming<C: StreamTransport, B, K> {
        #[pin]
        call: StreamingCall<C, B, K>,
    }
}

impl<C: StreamTransport, B, K> fmt::Debug for BeginStreaming<C, B, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BeginStreaming").finish_non_exhaustive()
    }
}

impl<C: StreamTransport, B: BeginCall<C>, K: ResultKind<C>> BeginStreaming<C, B, K> {
    /// Blocks this thread until the call has begun.
    ///
    /// # Errors
    ///
    /// Why it has not; see [`CallError`].
    pub fn wait(self) -> Result<StreamingCall<C, B, K>, CallError> {
        let channel = self.call.channel.clone();
        channel.block_on(self).map_err(CallError::NotSent)?
    }
}

impl<C: StreamTransport, B: BeginCall<C>, K: ResultKind<C>> Future for BeginStreaming<C, B, K> {
    type Output = Result<StreamingCall<C, B, K>, CallError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut call = self.project().call;
        ready!(call.as_mut().poll_begin(context))?;
        let this = call.project();
        let (channel, call, method) = (this.channel.clone(), this.call.take(), *this.method);
        Poll::Ready(Ok(StreamingCall { channel, begin: None, call, method, kind: PhantomData }))
    }
}

pin_project! {
    /// A call that streams and whose outcome is a whole [`Response`].
    ///
    /// ```
    /// # use corewire::{ClientShard, Placement, Server, Status, Streaming, block_on_shard};
    /// # #[corewire::service]
    /// # pub trait Numbers {
    /// #     async fn count(&self, from: u64) -> Result<Streaming<u64>, Status>;
    /// #     async fn sum(&self, numbers: Streaming<u64>) -> Result<u64, Status>;
    /// # }
    /// # struct Counter;
    /// # impl Numbers for Counter {
    /// #     async fn count(&self, from: u64) -> Result<Streaming<u64>, Status> {
    /// #         Ok(Streaming::from_stream(futures_lite::stream::iter((from..from + 2).map(Ok))))
    /// #     }
    /// #     async fn sum(&self, mut numbers: Streaming<u64>) -> Result<u64, Status> {
    /// #         let mut sum = 0;
    /// #         while let Some(number) = numbers.next().await {
    /// #             sum += number?;
    /// #         }
    /// #         Ok(sum)
    /// #     }
    /// # }
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = Server::builder()
    /// #     .address("127.0.0.1:0")
    /// #     .placement(Placement::Unpinned(1))
    /// #     .service(|_| NumbersServer::new(Counter))
    /// #     .start()?;
    /// # let address = server.addresses()[0].clone();
    /// use corewire::blocking;
    ///
    /// let client = NumbersClient::new(blocking::Channel::connect(address)?);
    /// let numbers = blocking::Streaming::from_items([Ok(40), Ok(2)]);
    /// let response = client.sum(numbers).with_response().wait()?;
    /// assert_eq!(response.value, 42);
    /// assert!(response.metadata().is_empty());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use = "a call does nothing unless it is awaited or waited for"]
    pub struct StreamingResponse<C: StreamTransport, B, K> {
        #[pin]
        call: StreamingCall<C, B, K>,
    }
}

impl<C: StreamTransport, B, K> fmt::Debug for StreamingResponse<C, B, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamingResponse").finish_non_exhaustive()
    }
}

impl<C: StreamTransport, B: BeginCall<C>, K: ResultKind<C>> StreamingResponse<C, B, K> {
    /// Blocks this thread until the server has answered; see [`Call::wait`](crate::Call::wait).
    ///
    /// # Errors
    ///
    /// Why there is no result; see [`CallError`].
    pub fn wait(self) -> Result<Response<K::Value>, CallError> {
        let channel = self.call.channel.clone();
        channel.block_on(self).map_err(CallError::NotSent)?
    }
}

impl<C: StreamTransport, B: BeginCall<C>, K: ResultKind<C>> Future for StreamingResponse<C, B, K> {
    type Output = Result<Response<K::Value>, CallError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll_response(context)
    }
}

impl<C: StreamTransport> Prepare<'_, C> {
    fn begin<E>(
        &self,
        kind: StreamKind,
        method: &'static MethodDescription,
        arguments: E,
    ) -> impl BeginCall<C> + use<C, E>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        let (head, timeout, encode) = self.head(method, self.stream_timeout(), arguments);
        let name = MethodName { service: method.service, method: method.name };
        let begun = self.caller.channel().stream(name, kind, head, timeout, encode);
        async move { Ok(begun.await?) }
    }

    /// The same, with a stream that is sent.
    fn begin_with<I, T, E>(
        &self,
        kind: StreamKind,
        method: &'static MethodDescription,
        stream: C::Streaming<T>,
        arguments: E,
    ) -> impl BeginCall<C> + use<C, I, T, E>
    where
        I: Encode<T> + 'static,
        T: 'static,
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        let (channel, begun) = (self.caller.channel().clone(), self.begin(kind, method, arguments));
        async move {
            let mut begun = begun.await?;
            channel.send::<I, T>(stream, &mut begun);
            Ok(begun)
        }
    }

    /// Prepares a call of which the client streams: values of `T` in the codec `I`, for one reply of `R` in
    /// `D`.
    pub fn client_stream<I, T, D, R, E>(
        &self,
        _: PhantomData<I>,
        method: &'static MethodDescription,
        stream: C::Streaming<T>,
        arguments: E,
    ) -> StreamingCall<C, impl BeginCall<C> + use<C, I, T, D, R, E>, OneReply<D, R>>
    where
        I: Encode<T> + 'static,
        T: 'static,
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        let begin = self.begin_with::<I, T, E>(StreamKind::Client, method, stream, arguments);
        StreamingCall::new(self.caller.channel().clone(), begin, method)
    }

    /// Prepares a call of which the server streams.
    pub fn server_stream<D, R, E>(
        &self,
        method: &'static MethodDescription,
        arguments: E,
    ) -> StreamingCall<C, impl BeginCall<C> + use<C, D, R, E>, ReplyStream<D, R>>
    where
        R: 'static,
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        let begin = self.begin(StreamKind::Server, method, arguments);
        StreamingCall::new(self.caller.channel().clone(), begin, method)
    }

    /// Prepares a call of which both sides stream. What the client streams is sent from the beginning on, even
    /// while this waits for the handler's answer.
    pub fn bidirectional<I, T, D, R, E>(
        &self,
        _: PhantomData<I>,
        method: &'static MethodDescription,
        stream: C::Streaming<T>,
        arguments: E,
    ) -> StreamingCall<C, impl BeginCall<C> + use<C, I, T, D, R, E>, ReplyStream<D, R>>
    where
        I: Encode<T> + 'static,
        T: 'static,
        R: 'static,
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        let kind = StreamKind::Bidirectional;
        let begin = self.begin_with::<I, T, E>(kind, method, stream, arguments);
        StreamingCall::new(self.caller.channel().clone(), begin, method)
    }
}
