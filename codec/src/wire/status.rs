//! Status codes and the error that a handler returns.

use bytes::Bytes;
use core::fmt;
use core::time::Duration;
use std::borrow::Cow;
use std::sync::Arc;

use crate::wire::cursor::Reader;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $make:ident;)*) => {
        /// gRPC's seventeen codes, with gRPC's numbers and meanings.
        ///
        /// ```
        /// # use corewire_codec as corewire;
        /// use corewire::StatusCode;
        ///
        /// assert_eq!(StatusCode::from_number(5), Some(StatusCode::NotFound));
        /// assert_eq!(StatusCode::NotFound.to_string(), "NotFound");
        /// assert_eq!(StatusCode::from_number(17), None);
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum StatusCode {
            /// The call succeeded.
            Ok = 0,
            $($(#[$doc])* $name = $number,)*
        }

        impl StatusCode {
            /// Every code, in the order of its number.
            pub const ALL: [Self; 17] = [Self::Ok, $(Self::$name,)*];

            /// The code with this number; `None` above 16.
            #[must_use]
            pub const fn from_number(number: u8) -> Option<Self> {
                match number {
                    0 => Some(Self::Ok),
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The code's name, as in the enum.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    Self::Ok => "Ok",
                    $(Self::$name => stringify!($name),)*
                }
            }
        }

        impl Status {
            $(
                $(#[$doc])*
                #[must_use]
                pub fn $make(message: impl Into<Cow<'static, str>>) -> Self {
                    Self::new(StatusCode::$name, message)
                }
            )*
        }
    };
}

codes! {
    /// The caller cancelled the call.
    Cancelled = 1, cancelled;
    /// An error of unknown kind.
    Unknown = 2, unknown;
    /// The arguments are wrong, whatever the state of the system.
    InvalidArgument = 3, invalid_argument;
    /// The deadline passed before the call ended.
    DeadlineExceeded = 4, deadline_exceeded;
    /// What was asked for is not there.
    NotFound = 5, not_found;
    /// What the call should create already exists.
    AlreadyExists = 6, already_exists;
    /// The caller is known but may not do this.
    PermissionDenied = 7, permission_denied;
    /// A quota, a queue or a limit is used up.
    ResourceExhausted = 8, resource_exhausted;
    /// The system is not in the state that the call needs.
    FailedPrecondition = 9, failed_precondition;
    /// The call lost a race and may be tried from its start.
    Aborted = 10, aborted;
    /// Past the valid range in the system's current state.
    OutOfRange = 11, out_of_range;
    /// The method is not known or not implemented.
    Unimplemented = 12, unimplemented;
    /// An invariant of the system is broken; also what a panicking handler's caller gets.
    Internal = 13, internal;
    /// The service cannot be used now; try again after a while.
    Unavailable = 14, unavailable;
    /// Data is lost or damaged beyond repair.
    DataLoss = 15, data_loss;
    /// The caller is not known.
    Unauthenticated = 16, unauthenticated;
}

impl fmt::Display for StatusCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a call failed: a code for programs, a text for people, and optional bytes for both.
///
/// This is what a handler returns and what its caller gets back. A text longer than
/// [`Status::MESSAGE_BYTES_MAX`] is cut on the wire. Put nothing into it that the caller must not
/// see: internal causes go to the log, by [`with_log_detail`](Self::with_log_detail).
///
/// ```
/// # use corewire_codec as corewire;
/// use corewire::{Status, StatusCode};
/// use std::time::Duration;
///
/// let status = Status::unavailable("the disk is full; an hour's wait may help")
///     .with_retry_after(Duration::from_secs(3600));
/// assert_eq!(status.code(), StatusCode::Unavailable);
/// assert_eq!(status.retry_after(), Some(Duration::from_secs(3600)));
/// ```
#[derive(Clone)]
pub struct Status {
    code: StatusCode,
    message: Cow<'static, str>,
    details: Bytes,
    retry_after: Option<Duration>,
    /// Stays on this side; see [`Status::with_log_detail`].
    log_detail: Option<Arc<String>>,
}

/// Two are equal when their callers see the same; what only the log sees does not count.
impl PartialEq for Status {
    fn eq(&self, other: &Self) -> bool {
        let seen = |it: &Self| (it.code, it.retry_after);
        seen(self) == seen(other) && self.message == other.message && self.details == other.details
    }
}

impl Eq for Status {}

impl Status {
    /// The longest text on the wire, in bytes of UTF-8.
    pub const MESSAGE_BYTES_MAX: usize = 4096;

    /// A status with a code and a text. A status is a failure: [`StatusCode::Ok`] becomes
    /// [`StatusCode::Unknown`].
    #[must_use]
    pub fn new(code: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        let code = if code == StatusCode::Ok { StatusCode::Unknown } else { code };
        let (details, retry_after, log_detail) = (Bytes::new(), None, None);
        Self { code, message: message.into(), details, retry_after, log_detail }
    }

    /// Adds what the operator should know and the caller must not see: addresses, causes. It is never
    /// sent. A server that replies with this status logs it, with the method, the call and the peer.
    ///
    /// ```
    /// # use corewire_codec::Status;
    /// let status = Status::unavailable("the store cannot be reached")
    ///     .with_log_detail("cannot connect to 10.0.0.7:7000: connection refused");
    /// assert!(!status.to_string().contains("10.0.0.7"));
    /// ```
    #[must_use]
    pub fn with_log_detail(mut self, detail: impl Into<String>) -> Self {
        self.log_detail = Some(Arc::new(detail.into()));
        self
    }

    /// Adds bytes that programs on the other side understand.
    #[must_use]
    pub fn with_details(mut self, details: Bytes) -> Self {
        self.details = details;
        self
    }

    /// Tells the caller how long to wait before it tries again (whole milliseconds on the wire).
    #[doc(alias("retry", "backoff"))]
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The code.
    #[must_use]
    pub fn code(&self) -> StatusCode {
        self.code
    }

    /// The text.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The bytes that come with the text; empty when there are none.
    #[must_use]
    pub fn details(&self) -> &Bytes {
        &self.details
    }

    /// What [`with_log_detail`](Self::with_log_detail) added; `None` in a status that came from a server.
    #[must_use]
    pub fn log_detail(&self) -> Option<&str> {
        self.log_detail.as_ref().map(|detail| detail.as_str())
    }

    /// How long the server asks the caller to wait before it tries again.
    #[doc(alias("backoff"))]
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The text as it goes on the wire: cut at a character's boundary.
    pub(crate) fn wire_message(&self) -> &str {
        let end = self.message.floor_char_boundary(Self::MESSAGE_BYTES_MAX);
        self.message.get(..end).unwrap_or("")
    }

    /// Reads the body of a reply that is not `Ok` (REQ-42): text length, text, details. A body that
    /// is empty or does not follow the layout gives a status without text; the code alone is what
    /// a program relies on.
    #[must_use]
    pub fn from_body(code: StatusCode, body: &Bytes) -> Self {
        let mut reader = Reader::new(body);
        let message = reader.u16().and_then(|length| reader.bytes(usize::from(length)));
        let Some(message) = message else {
            return Self::new(code, "");
        };
        let message = String::from_utf8_lossy(message).into_owned();
        Self::new(code, message).with_details(body.slice_ref(reader.rest()))
    }
}

/// The sentence, because that is what a `main` prints that returns it, and then what the sentence leaves out: a test
/// that compares two statuses shows how they differ.
impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)?;
        if !self.details.is_empty() {
            write!(f, "; {} bytes of details", self.details.len())?;
        }
        if let Some(wait) = self.retry_after {
            write!(f, "; retry after {wait:?}")?;
        }
        self.log_detail().map_or(Ok(()), |detail| write!(f, "; for the log: {detail}"))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() {
            write!(f, "{}", self.code)
        } else {
            write!(f, "{}: {}", self.code, self.message)
        }
    }
}

impl core::error::Error for Status {}
