//! What a generated client calls through, and how its calls can fail.

use corewire_codec::reply_flags;
use corewire_codec::{Decode, DecodeError, Encoding, FrameWriter, RequestHead, Status, StatusCode};
use corewire_engine::{CallFailure, Channel, NotSent, Reply};
use std::fmt;
use std::time::Duration;

use crate::MethodDescription;

/// How long a call may take when its client says nothing.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A channel with the options of its calls. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Caller {
    channel: Channel,
    timeout: Option<Duration>,
}

impl Caller {
    /// Calls over `channel`, each with a timeout of 10 s.
    #[must_use]
    pub fn new(channel: Channel) -> Self {
        Self { channel, timeout: Some(TIMEOUT) }
    }

    /// Calls that end after `timeout`, counted from when each is made.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Calls that wait for as long as their connection lives.
    #[must_use]
    pub fn without_timeout(mut self) -> Self {
        self.timeout = None;
        self
    }

    /// The channel underneath.
    #[must_use]
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Makes a call with one request and one reply. Dropping the future cancels it.
    ///
    /// # Errors
    ///
    /// Why there is no value; see [`CallError`].
    pub async fn unary<C: Decode<R>, R>(
        &self,
        method: &'static MethodDescription,
        arguments: impl FnOnce(&mut FrameWriter<'_>) -> Result<(), Status>,
    ) -> Result<R, CallError> {
        let mut head = RequestHead::new(0, method.id);
        head.encoding = Encoding::plain(method.request_codec);
        let Reply { head, body } = self.channel.call(head, self.timeout, arguments).await?;
        if head.code != StatusCode::Ok {
            let mut status = Status::from_body(head.code, &body);
            if let Some(ms) = head.retry_after_ms {
                status = status.with_retry_after(Duration::from_millis(ms.into()));
            }
            return Err(match head.flags & reply_flags::REFUSED {
                0 => CallError::Status(status),
                _ => CallError::Refused(status),
            });
        }
        if head.encoding.codec() != C::ID {
            return Err(CallError::Decode(DecodeError::unexpected_codec(
                C::ID,
                head.encoding.codec(),
            )));
        }
        C::decode(body).map_err(CallError::Decode)
    }
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
            Self::Unknown(_) | Self::DeadlineExceeded { sent: true } => true,
            Self::Status(_) | Self::Decode(_) => true,
        }
    }

    /// The failure as a status, for a handler that passes it on to its own caller.
    #[must_use]
    pub fn to_status(&self) -> Status {
        match self {
            Self::Status(status) | Self::Refused(status) => status.clone(),
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
            Self::Status(status) => status.fmt(f),
            Self::Decode(error) => write!(f, "the reply cannot be decoded: {error}"),
        }
    }
}

impl std::error::Error for CallError {}
