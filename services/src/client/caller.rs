//! What a generated client calls through, and how its calls can fail.

use corewire_codec::reply_flags;
use corewire_codec::{Decode, DecodeError, Encoding, FrameWriter, RequestHead, Status, StatusCode};
use corewire_engine::{CallFailure, MethodName, NotSent, Outcome, Pending, Reply, Transport};
use pin_project_lite::pin_project;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::client::options::CallOptions;
use crate::client::response::ResponseCall;
use crate::server::description::MethodDescription;

/// How long a call may take when its client says nothing.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A channel with the options of its calls. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Caller<C> {
    channel: C,
    timeout: Option<Duration>,
    /// That of calls that stream: none unless it was asked for, for a stream may last.
    stream_timeout: Option<Duration>,
    /// What else its calls say; shared, for a clone is made for each call that says something.
    options: Option<Arc<CallOptions>>,
}

impl<C: Transport> Caller<C> {
    /// Calls over `channel`, each with a timeout of 10 s; those that stream have none.
    #[must_use]
    pub fn new(channel: C) -> Self {
        Self { channel, timeout: Some(TIMEOUT), stream_timeout: None, options: None }
    }

    /// Calls that end after `timeout`, counted from when each is made, those that stream as well.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.set_timeout(Some(timeout));
        self
    }

    /// Calls that wait for as long as their connection lives.
    #[must_use]
    pub fn without_timeout(mut self) -> Self {
        self.set_timeout(None);
        self
    }

    fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
        self.stream_timeout = timeout;
        if let Some(options) = &mut self.options {
            *options = Arc::new(CallOptions::clone(options).with_own_timeout(None));
        }
    }

    /// Calls over the same channel that say more. What `options` leave open stays as it was.
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
    /// each `in_context`. When the handler is dropped, so are they, on every server further on.
    #[must_use]
    pub fn in_context(&self, context: &crate::server::context::Context) -> Self
    where
        C: Clone,
    {
        self.with(CallOptions::of_context(context))
    }

    /// The timeout of calls that do not stream.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    pub(crate) fn stream_timeout(&self) -> Option<Duration> {
        self.stream_timeout
    }

    /// The head of a call, its timeout, and what writes its body with what stands around it.
    #[inline]
    pub(crate) fn prepare<E>(
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
        let mut extras = None;
        if let Some(options) = &self.options {
            timeout = options.apply(&mut head, timeout);
            extras = Some(options).filter(|options| options.has_extras()).cloned();
        }
        let encode = move |frame: &mut FrameWriter<'_>| match extras {
            None => arguments(frame),
            Some(options) => options.encode(frame, arguments),
        };
        (head, timeout, encode)
    }

    /// The channel underneath.
    #[must_use]
    pub fn channel(&self) -> &C {
        &self.channel
    }

    /// Prepares a call with one request and one reply.
    #[inline]
    pub fn unary<D: Decode<R>, R, E>(
        &self,
        method: &'static MethodDescription,
        arguments: E,
    ) -> Call<impl Pending + use<C, D, R, E>, D, R>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        let (head, timeout, encode) = self.prepare(method, self.timeout, arguments);
        let name = MethodName { service: method.service, method: method.name };
        Call { pending: self.channel.call_named(name, head, timeout, encode), types: PhantomData }
    }
}

pin_project! {
    /// A call that was prepared. It begins when it is awaited, waited for, or given a callback: these
    /// are the three ways to have its result. Dropping it cancels it, on the server as well.
    #[must_use = "a call does nothing unless it is awaited, waited for, or given a callback"]
    pub struct Call<P, D, R> {
        #[pin]
        pending: P,
        types: PhantomData<fn() -> (D, R)>,
    }
}

impl<P, D, R> fmt::Debug for Call<P, D, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").finish_non_exhaustive()
    }
}

impl<P, D, R> Call<P, D, R> {
    pub(crate) fn new(pending: P) -> Self {
        Self { pending, types: PhantomData }
    }
}

impl<P: Pending, D: Decode<R>, R> Call<P, D, R> {
    /// The same call, whose outcome then has the reply's metadata, attachment and handler time, too.
    pub fn with_response(self) -> ResponseCall<P, D, R> {
        ResponseCall::new(self.pending)
    }

    /// Blocks this thread until the call ends.
    ///
    /// A thread that drives connections must not sleep: on a shard, and for a channel of tokio within
    /// a tokio runtime, the call is not made and the error is [`NotSent::WouldBlock`].
    ///
    /// # Errors
    ///
    /// Why there is no value; see [`CallError`].
    pub fn wait(self) -> Result<R, CallError> {
        read_outcome::<D, R>(self.pending.wait())
    }

    /// Makes the call in the background and calls `done` with its result, once, on the thread that
    /// drives the connection: a `done` that takes long keeps other calls waiting. On a
    /// `blocking::Channel` that is this thread, now.
    pub fn then(self, done: impl FnOnce(Result<R, CallError>) + Send + 'static)
    where
        D: 'static,
        R: 'static,
    {
        self.pending.then(move |outcome| done(read_outcome::<D, R>(outcome)));
    }
}

impl<P: Pending, D: Decode<R>, R> Future for Call<P, D, R> {
    type Output = Result<R, CallError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().pending.poll(context).map(read_outcome::<D, R>)
    }
}

/// The value that a reply carries, or why there is none.
#[inline]
pub(crate) fn read_outcome<D: Decode<R>, R>(outcome: Outcome) -> Result<R, CallError> {
    let Reply { head, body, .. } = outcome?;
    if head.code != StatusCode::Ok {
        let mut status = match head.encoding.check_compression() {
            Ok(()) => Status::from_body(head.code, &body),
            // The code is in the header; the rest cannot be read.
            Err(error) => {
                Status::new(head.code, format!("what the server says cannot be read: {error}"))
            }
        };
        if let Some(ms) = head.retry_after_ms {
            status = status.with_retry_after(Duration::from_millis(ms.into()));
        }
        return Err(match head.flags & reply_flags::REFUSED {
            0 => CallError::Status(status),
            _ => CallError::Refused(status),
        });
    }
    head.encoding.check(D::ID).map_err(|error| CallError::Decode(error.into()))?;
    D::decode(body).map_err(CallError::Decode)
}

/// Why a call gave no value. [`may_have_run`](Self::may_have_run) tells whether it is safe to make
/// it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// Nothing of the call was sent.
    NotSent(NotSent),
    /// The server did not run it, and says why.
    Refused(Status),
    /// It was sent, and then the connection ended; nobody knows.
    Unknown(String),
    /// The caller's time is over.
    DeadlineExceeded {
        /// Whether the call was sent, and may have run.
        sent: bool,
    },
    /// A fault of the calling code: the call was polled again after it had ended, or waited for after it
    /// had been polled. This says nothing about the call, which may have run; its outcome is the one that
    /// was returned before.
    Reused,
    /// The server answered with a failure: the handler's own status, or that of a call whose arguments
    /// cannot be read, whose time was over, or whose handler panicked.
    Status(Status),
    /// It ran, and its reply is not of the expected type.
    Decode(DecodeError),
}

impl CallError {
    /// Whether the handler may have run, in part or whole. If not, making the call again cannot
    /// make anything happen twice.
    #[must_use]
    pub fn may_have_run(&self) -> bool {
        match self {
            Self::NotSent(_) | Self::Refused(_) | Self::DeadlineExceeded { sent: false } => false,
            Self::Unknown(_) | Self::DeadlineExceeded { sent: true } | Self::Reused => true,
            Self::Status(_) | Self::Decode(_) => true,
        }
    }

    /// The failure as a status, for a handler that passes it on to its own caller.
    #[must_use]
    pub fn to_status(&self) -> Status {
        match self {
            Self::Status(status) | Self::Refused(status) => status.clone(),
            Self::NotSent(NotSent::TurnedAway(status)) => status.clone(),
            Self::NotSent(NotSent::QueueFull | NotSent::MetadataTooLarge { .. }) => {
                Status::resource_exhausted(self.to_string())
            }
            Self::NotSent(NotSent::WouldBlock) | Self::Reused => {
                Status::failed_precondition(self.to_string())
            }
            Self::NotSent(_) | Self::Unknown(_) => Status::unavailable(self.to_string()),
            Self::DeadlineExceeded { .. } => Status::deadline_exceeded(self.to_string()),
            Self::Decode(_) => Status::internal(self.to_string()),
        }
    }

    /// The status code that describes the failure.
    #[must_use]
    pub fn code(&self) -> StatusCode {
        self.to_status().code()
    }
}

impl From<CallFailure> for CallError {
    fn from(failure: CallFailure) -> Self {
        match failure {
            CallFailure::NotSent(why) => Self::NotSent(why),
            CallFailure::Refused => {
                Self::Refused(Status::unavailable("the server went away before it ran the call"))
            }
            CallFailure::Unknown(reason) => Self::Unknown(reason.to_string()),
            CallFailure::DeadlineExceeded { sent } => Self::DeadlineExceeded { sent },
            CallFailure::Reused => Self::Reused,
        }
    }
}

impl From<CallError> for Status {
    fn from(error: CallError) -> Self {
        error.to_status()
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent(why) => write!(f, "not sent: {why}"),
            Self::Refused(status) => write!(f, "refused before it ran: {status}"),
            Self::Unknown(reason) => write!(f, "sent, but the outcome is unknown: {reason}"),
            Self::DeadlineExceeded { sent: true } => {
                f.write_str("the deadline passed before the reply came")
            }
            Self::DeadlineExceeded { sent: false } => {
                f.write_str("the deadline passed before the call was sent")
            }
            Self::Reused => f.write_str(
                "the call was polled after its end, or waited for after it was polled; its outcome is the one returned before",
            ),
            Self::Status(status) => status.fmt(f),
            Self::Decode(error) => write!(f, "the reply cannot be decoded: {error}"),
        }
    }
}

impl std::error::Error for CallError {}
