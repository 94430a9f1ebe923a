//! How calls and connects fail, and whether a call may have run.
//!
//! Every call that got no reply says whether it may have run. The kinds of channels differ only in the codes, never
//! in this. `services/tests/outcomes.rs` has a test of each row for each kind of channel; rows with another file
//! have theirs there.
//!
//! | what happened | told as | may have run |
//! |---|---|---|
//! | no address, the connect failed or took too long, the back-off runs | `NotSent` (`NoConnection`) | no |
//! | the deadline passed while it waited for the connection or for a slot | `DeadlineExceeded`, not sent | no |
//! | too many waited already | `NotSent` (`QueueFull`) | no |
//! | the server's go-away did not count it | `Refused` | no |
//! | the server replied with REFUSED | `Refused`, with its status | no |
//! | sent, then the connection was reset, ended, broke a rule, or brought no hello | `Unknown` | yes |
//! | the server's go-away counted it, and then the connection ended | `Unknown` | yes |
//! | the deadline passed in flight | `DeadlineExceeded`, sent | yes |
//! | the server's drain, or a connection's grace, was over | `Status` (`Unavailable`) | yes |
//! | the channel was closed (`closing.rs`) | `NotSent` (`Closed`) | no |
//! | the caller polled it again after its end (`caller_faults.rs`) | `Reused` | yes |
//! | it cannot be encoded, or is too large (`shells.rs`, `encoders.rs`) | `NotSent` (`Encode`, `TooLarge`) | no |
//!
//! Calls on a shard's channel go out right behind its own hello, so a server that accepts and says nothing leaves
//! them unknown. Tokio and blocking channels wait for the server's hello, so there such a call is not sent.

use corewire_codec::{FrameTooLarge, Status};
use corewire_codec::{Limits, RequestHead};
use corewire_proto::CloseReason;

/// Why a call has no reply. Each variant says whether the call may have run.
///
/// `Debug` shows the same sentence as `Display`, because that is what a `main` prints that returns it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallFailure {
    /// Nothing of the call was sent. It is always safe to try again.
    NotSent(NotSent),
    /// The server said that it did not run the call. It is always safe to try again.
    Refused,
    /// The call was sent, and then the connection ended: it may have run.
    Unknown(CloseReason),
    /// The caller's deadline passed. `sent` tells whether the call may have run.
    DeadlineExceeded {
        /// Whether the request had been handed to the connection.
        sent: bool,
    },
    /// A bug in the calling code: the call was polled again after it had ended, or waited for after it had
    /// been polled. This says nothing about the call itself, which may have run: its outcome is the one
    /// that was returned before.
    Reused,
}

impl CallFailure {
    /// The failure of a call on a connection whose server has said that it takes no more calls.
    pub fn going_away(server: &crate::address::Address) -> Self {
        Self::NotSent(NotSent::going_away(server))
    }
}

impl NotSent {
    /// The connection's server has said that it takes no more calls.
    pub fn going_away(server: &crate::address::Address) -> Self {
        Self::NoConnection(format!(
            "the server at {server} is shutting down; its calls are finished first"
        ))
    }
}

/// Why a connect failed: an error of the operating system, which has a number, or one of our own.
pub fn connect_failure(error: &std::io::Error) -> CloseReason {
    match error.kind() {
        _ if error.raw_os_error().is_some() => CloseReason::Transport(error.into()),
        std::io::ErrorKind::TimedOut => CloseReason::ConnectTimeout,
        std::io::ErrorKind::NotFound => CloseReason::NameUnknown,
        _ => CloseReason::Transport(error.into()),
    }
}

/// The sentences of [`CallFailure`]; a `CallError` of the `corewire` crate has the same.
impl std::fmt::Display for CallFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotSent(why) => write!(f, "not sent: {why}"),
            Self::Refused => f.write_str("the server went away before it ran the call"),
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
        }
    }
}

impl std::error::Error for CallFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotSent(why) => Some(why),
            Self::Refused | Self::Unknown(_) | Self::DeadlineExceeded { .. } | Self::Reused => None,
        }
    }
}

/// Why nothing was sent.
///
/// `Debug` shows the same sentence as `Display`, because that is what a `main` prints that returns it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotSent {
    /// There is no connection; the text says since when and why.
    NoConnection(String),
    /// Too many calls wait already.
    QueueFull,
    /// The request is larger than the server accepts.
    TooLarge(FrameTooLarge),
    /// The request's metadata block is larger than the server accepts.
    MetadataTooLarge {
        /// The block's size in bytes.
        bytes: u16,
        /// What the server accepts.
        max: u32,
    },
    /// The arguments cannot be encoded.
    Encode(String),
    /// A layer of the client turned the call away, for this reason.
    TurnedAway(Status),
    /// The channel was closed.
    Closed,
    /// The code does not run on a shard of the engine.
    NotOnShard,
    /// The thread that would block has to deliver the reply itself, or serves other calls.
    WouldBlock,
    /// The code does not run within a tokio runtime.
    NoRuntime,
}

/// Checks that the server accepts this much metadata: it would end the connection over more.
///
/// # Errors
///
/// [`NotSent::MetadataTooLarge`], with what the server accepts.
#[inline]
pub fn check_metadata(head: &RequestHead, limits: &Limits) -> Result<(), NotSent> {
    let (bytes, max) = (head.metadata_bytes, limits.metadata_bytes.get());
    if u32::from(bytes) <= max { Ok(()) } else { Err(NotSent::MetadataTooLarge { bytes, max }) }
}

impl std::fmt::Display for NotSent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoConnection(why) => f.write_str(why),
            Self::QueueFull => f.write_str("too many calls wait on this channel already"),
            Self::TooLarge(error) => error.fmt(f),
            Self::MetadataTooLarge { bytes, max } => {
                write!(f, "the metadata has {bytes} bytes; the peer accepts at most {max}")
            }
            Self::Encode(why) => f.write_str(why),
            Self::TurnedAway(status) => status.fmt(f),
            Self::Closed => f.write_str("the channel was closed"),
            Self::WouldBlock => f.write_str(
                "wait() would block a thread that drives connections; await the call instead",
            ),
            Self::NoRuntime => f.write_str(
                "a channel that tokio drives is made within a tokio runtime; none is here",
            ),
            Self::NotOnShard => f.write_str(
                "channels work on the shard that made them; run this code with corewire::block_on_shard",
            ),
        }
    }
}

/// Why a channel could not be made, or has no connection.
///
/// `Debug` shows the same sentence as `Display`, because that is what a `main` prints that returns it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address is invalid; the text says why.
    Address(String),
    /// A setting is outside its range; the text says which one, its value, and what is allowed.
    Setting(String),
    /// No connection could be made.
    NotConnected(NotSent),
}

impl std::fmt::Display for ConnectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(why) | Self::Setting(why) => f.write_str(why),
            Self::NotConnected(why) => why.fmt(f),
        }
    }
}

corewire_codec::debug_is_display!(CallFailure, NotSent, ConnectError);

/// For a handler that connects with `?`: its caller is not told where to, or why it failed. The log is.
impl From<ConnectError> for Status {
    fn from(error: ConnectError) -> Self {
        let told = "a service that this call needs could not be connected to";
        Self::unavailable(told).with_log_detail(error.to_string())
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotConnected(why) => Some(why),
            Self::Address(_) | Self::Setting(_) => None,
        }
    }
}

impl std::error::Error for NotSent {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::TooLarge(error) => Some(error),
            Self::TurnedAway(status) => Some(status),
            _ => None,
        }
    }
}
