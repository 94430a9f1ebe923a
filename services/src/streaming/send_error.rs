//! Why a message was not sent.

use corewire_codec::Status;
use std::fmt;

/// Why a message was not sent. It carries the message.
///
/// ```
/// use corewire::{SendError, Status, StatusCode};
///
/// let error = SendError::Closed("a message");
/// assert_eq!(Status::from(error).code(), StatusCode::Cancelled);
/// assert_eq!(error.into_message(), "a message");
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError<T> {
    /// Nobody reads the stream any more, or another sender has failed it.
    Closed(T),
    /// This thread would wait for itself. Only a blocking channel's sender returns this: before its stream
    /// was given to a call that has begun, when eight messages wait; and in a call that streams both ways,
    /// when credit is used up while so much of what the server sent is unread that the server may be
    /// waiting for this side to read. Read some of it and send the message again.
    Full(T),
    /// This thread must not sleep: it drives connections. Await the send instead.
    WouldBlock(T),
}

impl<T> SendError<T> {
    /// The message.
    pub fn into_message(self) -> T {
        match self {
            Self::Closed(message) | Self::Full(message) | Self::WouldBlock(message) => message,
        }
    }

    fn text(&self) -> &'static str {
        match self {
            Self::Closed(_) => "nobody reads the stream any more",
            Self::Full(_) => "the stream takes no more before this thread reads what came",
            Self::WouldBlock(_) => "wait() would block a thread that drives connections",
        }
    }
}

corewire_codec::debug_is_display!(SendError<T>);

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl<T> std::error::Error for SendError<T> {}

impl<T> From<SendError<T>> for Status {
    fn from(error: SendError<T>) -> Self {
        match &error {
            SendError::Closed(_) => Self::cancelled(error.text()),
            SendError::Full(_) => Self::resource_exhausted(error.text()),
            SendError::WouldBlock(_) => Self::failed_precondition(error.text()),
        }
    }
}
