//! How a call ended, as its caller reads it.

use corewire_client::{CallFailure, NotSent, Outcome, Reply};
use corewire_codec::{Decode, DecodeError, Status, StatusCode, reply_flags};
use std::fmt;
use std::time::Duration;

use crate::description::MethodDescription;

/// The value that a reply carries, or why there is none.
#[inline]
pub(crate) fn read_named<D: Decode<R>, R>(
    outcome: Outcome,
    method: &MethodDescription,
) -> Result<R, CallError> {
    read_outcome::<D, R>(outcome).map_err(|error| name_method(error, method))
}

/// Names the method that the server does not have: the server knows only its number.
#[cold]
pub(crate) fn name_method(error: CallError, method: &MethodDescription) -> CallError {
    match error {
        CallError::Refused(status) if status.code() == StatusCode::Unimplemented => {
            let (service, name, told) = (method.service, method.name, status.message());
            let text = format!("{service}/{name}: {told}");
            CallError::Refused(Status::unimplemented(text).with_details(status.details().clone()))
        }
        other => other,
    }
}

/// The same, where the method is not known.
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
        if head.flags & reply_flags::RETRY_AFTER != 0 {
            status = status.with_retry_after(Duration::from_millis(head.retry_after_ms.into()));
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
///
/// `Debug` shows the same sentence as `Display`, because that is what a `main` prints that returns it.
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
/// use corewire::{CallError, Channel, ChannelConfig, NotSent, StatusCode};
///
/// server.stop();
/// assert_eq!(server.ended().await.shards_lost, 0);
///
/// // Nobody listens any more.
/// let client = echo::EchoClient::new(Channel::new(&address, ChannelConfig::default())?);
/// let error = client.echo(corewire::Bytes::new()).await.unwrap_err();
/// assert!(matches!(error, CallError::NotSent(NotSent::NoConnection(_))));
/// assert!(!error.may_have_run()); // safe to try again
/// assert_eq!(error.code(), StatusCode::Unavailable);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// # })?
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallError {
    /// Nothing of the call was sent.
    NotSent(NotSent),
    /// The server did not run it, and says why.
    Refused(Status),
    /// It was sent, and then the connection ended; whether it ran is unknown.
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
    #[doc(alias("retry", "idempotent", "safe to retry"))]
    #[must_use]
    pub fn may_have_run(&self) -> bool {
        match self {
            Self::NotSent(_) | Self::Refused(_) | Self::DeadlineExceeded { sent: false } => false,
            Self::Unknown(_) | Self::DeadlineExceeded { sent: true } | Self::Reused => true,
            Self::Status(_) | Self::Decode(_) => true,
        }
    }

    /// The failure as a status, for a handler that passes it on to its own caller; `?` does the same.
    ///
    /// The caller gets the code and a text that says nothing about the server behind: no address, no
    /// cause. The whole text is the status's [`log_detail`](Status::log_detail), which is logged
    /// where a handler replies with it. A status that the handler behind returned
    /// ([`Self::Status`]) was written for callers, and is passed on as it is.
    #[must_use]
    pub fn to_status(&self) -> Status {
        let told = match self {
            Self::Status(status) | Self::NotSent(NotSent::TurnedAway(status)) => {
                return status.clone();
            }
            Self::Refused(_) => "a service that this call needs refused its part",
            Self::NotSent(_) => "a service that this call needs could not be called",
            Self::Unknown(_) => "the connection to a service that this call needs was lost",
            Self::DeadlineExceeded { .. } => "a service that this call needs did not reply in time",
            Self::Reused => "a fault of the service: it used a call again after its end",
            Self::Decode(_) => "the reply of a service that this call needs cannot be read",
        };
        let status = Status::new(self.code(), told).with_log_detail(self.to_string());
        match self {
            // When to try again is for the caller to know.
            Self::Refused(refused) => match refused.retry_after() {
                Some(wait) => status.with_retry_after(wait),
                None => status,
            },
            _ => status,
        }
    }

    /// The status code that describes the failure.
    #[must_use]
    pub fn code(&self) -> StatusCode {
        match self {
            Self::Status(status)
            | Self::Refused(status)
            | Self::NotSent(NotSent::TurnedAway(status)) => status.code(),
            Self::NotSent(NotSent::QueueFull | NotSent::MetadataTooLarge { .. }) => {
                StatusCode::ResourceExhausted
            }
            Self::NotSent(NotSent::WouldBlock) | Self::Reused => StatusCode::FailedPrecondition,
            Self::NotSent(_) | Self::Unknown(_) => StatusCode::Unavailable,
            Self::DeadlineExceeded { .. } => StatusCode::DeadlineExceeded,
            Self::Decode(_) => StatusCode::Internal,
        }
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
            // One that was added later than this: nothing is known about it.
            other => Self::Unknown(other.to_string()),
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
            Self::DeadlineExceeded { sent } => CallFailure::DeadlineExceeded { sent: *sent }.fmt(f),
            Self::Reused => CallFailure::Reused.fmt(f),
            Self::Status(status) => status.fmt(f),
            Self::Decode(error) => write!(f, "the reply cannot be decoded: {error}"),
        }
    }
}

corewire_codec::debug_is_display!(CallError);

impl std::error::Error for CallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotSent(why) => Some(why),
            Self::Refused(status) | Self::Status(status) => Some(status),
            Self::Decode(error) => Some(error),
            Self::Unknown(_) | Self::DeadlineExceeded { .. } | Self::Reused => None,
        }
    }
}
