//! What a generated client calls through, and how its calls can fail.

use corewire_client::{MethodName, Pending, Transport};
use corewire_codec::{Decode, Encoding, FrameWriter, RequestHead, Status};
use pin_project_lite::pin_project;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::client::options::CallOptions;
use crate::client::outcome::{CallError, read_named};
use crate::client::response::ResponseCall;
use crate::description::MethodDescription;

/// How long a call may take when its client says nothing.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A channel with the options of its calls. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Caller<C> {
    channel: C,
    timeout: Option<Duration>,
    /// The timeout of calls that stream: none unless it was asked for, because a stream may last long.
    stream_timeout: Option<Duration>,
    /// Further options of its calls; shared, because a clone is made for each call that has some.
    options: Option<Arc<CallOptions>>,
}

impl<C: Transport> Caller<C> {
    /// Calls over `channel`, each with a timeout of 10 s from its start to its reply; those that stream have
    /// none.
    #[must_use]
    pub fn new(channel: C) -> Self {
        Self { channel, timeout: Some(TIMEOUT), stream_timeout: None, options: None }
    }

    /// Calls that end after `timeout`, counted from when each is made. It applies to calls that stream, too.
    #[doc(alias("deadline"))]
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self
    where
        C: Clone,
    {
        self.with_own_timeout(Some(timeout))
    }

    /// Calls that wait for as long as their connection lives.
    #[must_use]
    pub fn without_timeout(&self) -> Self
    where
        C: Clone,
    {
        self.with_own_timeout(None)
    }

    fn with_own_timeout(&self, timeout: Option<Duration>) -> Self
    where
        C: Clone,
    {
        let without = |options: &Arc<CallOptions>| {
            Arc::new(CallOptions::clone(options).with_own_timeout(None))
        };
        Self {
            channel: self.channel.clone(),
            timeout,
            stream_timeout: timeout,
            options: self.options.as_ref().map(without),
        }
    }

    /// Calls over the same channel with these options. What `options` leave open stays as it was.
    #[must_use]
    pub fn with(&self, options: CallOptions) -> Self
    where
        C: Clone,
    {
        let options = match &self.options {
            Some(base) => options.over(base),
            None => options,
        };
        Self {
            channel: self.channel.clone(),
            timeout: self.timeout,
            stream_timeout: self.stream_timeout,
            options: Some(Arc::new(options)),
        }
    }

    /// Calls on behalf of a handler's own caller: they inherit what is left of its time when they are
    /// made (their own timeout may be shorter), its priority, and its trace with a new span, one for
    /// each `in_context`. Metadata is passed on when
    /// [`CallOptions::metadata_of`] asks for it. When the handler is dropped, so are they, on every server further down.
    #[doc(alias("propagation", "deadline", "tracing"))]
    #[must_use]
    pub fn in_context(&self, context: &crate::context::Context) -> Self
    where
        C: Clone,
    {
        self.with(CallOptions::of_context(context))
    }

    /// The channel underneath.
    #[must_use]
    pub fn channel(&self) -> &C {
        &self.channel
    }

    /// Prepares a call of a method without a key.
    #[inline]
    #[must_use]
    pub fn call(&self) -> Prepare<'_, C> {
        Prepare { caller: self, key: None }
    }

    /// Prepares a call whose key has this hash.
    #[inline]
    #[must_use]
    pub fn keyed(&self, key: u64) -> Prepare<'_, C> {
        Prepare { caller: self, key: Some(key) }
    }
}

/// What prepares one call: by whom, and with which key.
#[derive(Debug)]
pub struct Prepare<'a, C> {
    pub(crate) caller: &'a Caller<C>,
    /// The hash of the call's key, if its method has one.
    key: Option<u64>,
}

impl<C: Transport> Prepare<'_, C> {
    /// The timeout of calls that do not stream.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.caller.timeout
    }

    pub(crate) fn stream_timeout(&self) -> Option<Duration> {
        self.caller.stream_timeout
    }

    /// The head of a call, its timeout, and a closure that writes metadata, body and attachment.
    #[inline]
    pub(crate) fn head<E>(
        &self,
        method: &'static MethodDescription,
        mut timeout: Option<Duration>,
        arguments: E,
    ) -> (
        RequestHead,
        Option<Duration>,
        impl FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + use<C, E>,
    )
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        let mut head = RequestHead::new(0, method.id);
        head.encoding = Encoding::plain(method.request_codec);
        if self.key.is_some() {
            head.set_key(self.key);
        }
        let mut extras = None;
        if let Some(options) = &self.caller.options {
            timeout = options.apply(&mut head, timeout);
            extras = Some(options).filter(|options| options.has_extras()).cloned();
        }
        let encode = move |frame: &mut FrameWriter<'_>| match extras {
            None => arguments(frame),
            Some(options) => options.encode(frame, arguments),
        };
        (head, timeout, encode)
    }

    /// Prepares a call with one request and one reply.
    #[inline]
    pub fn unary<D, R, E>(
        &self,
        method: &'static MethodDescription,
        arguments: E,
    ) -> Call<impl Pending + use<C, D, R, E>, D, R>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        let (head, timeout, encode) = self.head(method, self.timeout(), arguments);
        let name = MethodName { service: method.service, method: method.name };
        Call::new(self.caller.channel.call_named(name, head, timeout, encode), method)
    }
}

pin_project! {
    /// A call that was prepared. It begins when it is awaited, waited for, or given a callback: these
    /// are the three ways to get its result. Dropping it cancels it, on the server as well.
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
    /// use corewire::{Bytes, echo::EchoClient};
    ///
    /// // Awaited:
    /// let client = EchoClient::connect(&address).await?;
    /// assert_eq!(client.echo(Bytes::from_static(b"one")).await?, "one");
    ///
    /// // Dropped before its end: it is cancelled, and gives way to the other one.
    /// let first = futures_lite::future::or(
    ///     async { client.echo(Bytes::from_static(b"two")).await },
    ///     async { std::future::pending().await },
    /// );
    /// assert_eq!(first.await?, "two");
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// # })?
    /// # }
    /// ```
    #[must_use = "a call does nothing unless it is awaited, waited for, or given a callback"]
    pub struct Call<P, D, R> {
        #[pin]
        pending: P,
        method: &'static MethodDescription,
        types: PhantomData<fn() -> (D, R)>,
    }
}

impl<P, D, R> fmt::Debug for Call<P, D, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").finish_non_exhaustive()
    }
}

impl<P, D, R> Call<P, D, R> {
    pub(crate) fn new(pending: P, method: &'static MethodDescription) -> Self {
        Self { pending, method, types: PhantomData }
    }
}

impl<P: Pending, D: Decode<R>, R> Call<P, D, R> {
    /// The same call, but its outcome also has the reply's metadata, attachment and handler time.
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
    /// let client = echo::EchoClient::connect(&address).await?;
    /// let reply = client.echo(corewire::Bytes::from_static(b"hi")).with_response().await?;
    /// assert_eq!(reply.value, "hi");
    /// assert!(reply.metadata().is_empty());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// # })?
    /// # }
    /// ```
    #[doc(alias("headers", "trailers"))]
    pub fn with_response(self) -> ResponseCall<P, D, R> {
        ResponseCall::new(self.pending, self.method)
    }

    /// Blocks this thread until the call ends.
    ///
    /// A thread that drives connections must not sleep: on a shard, and for a channel of tokio within
    /// a tokio runtime, the call is not made and the error is [`NotSent::WouldBlock`](crate::NotSent::WouldBlock).
    ///
    /// # Errors
    ///
    /// Why there is no value; see [`CallError`].
    #[doc(alias("block_on", "blocking"))]
    pub fn wait(self) -> Result<R, CallError> {
        read_named::<D, R>(self.pending.wait(), self.method)
    }

    /// Makes the call in the background and calls `done` with its result, once, on the thread that
    /// drives the connection: a `done` that takes long keeps other calls waiting. On a
    /// `blocking::Channel` that is this thread, now.
    #[doc(alias("callback"))]
    pub fn then(self, done: impl FnOnce(Result<R, CallError>) + Send + 'static)
    where
        D: 'static,
        R: 'static,
    {
        let method = self.method;
        self.pending.then(move |outcome| done(read_named::<D, R>(outcome, method)));
    }
}

impl<P: Pending, D: Decode<R>, R> Future for Call<P, D, R> {
    type Output = Result<R, CallError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let method = *this.method;
        this.pending.poll(context).map(|outcome| read_named::<D, R>(outcome, method))
    }
}
