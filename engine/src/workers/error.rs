//! Why work was not done.

use corewire_codec::Status;
use std::fmt;

/// Why [`offload`](crate::offload) gave no result.
///
/// As a [`Status`], `?` in a handler makes it the call's failure.
///
/// ```
/// # use corewire_engine as corewire;
/// use corewire::OffloadError;
///
/// let told = OffloadError::Full.to_string();
/// assert_eq!(told, "the server is overloaded: too much work waits for its threads");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OffloadError {
    /// As much work waits as may wait; this did not begin. `ResourceExhausted` for the caller.
    Full,
    /// The system gave no thread, and there was none before; the work did not begin. `ResourceExhausted` for the
    /// caller.
    NoThread,
    /// The work panicked. The log has the panic's message, the caller gets `Internal` without it.
    Panicked,
}

impl fmt::Display for OffloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the server is overloaded: too much work waits for its threads",
            Self::NoThread => "the server is overloaded: the system gave it no further thread",
            Self::Panicked => "the work panicked",
        })
    }
}

impl std::error::Error for OffloadError {}

impl From<OffloadError> for Status {
    fn from(error: OffloadError) -> Self {
        match error {
            OffloadError::Full | OffloadError::NoThread => {
                Self::resource_exhausted(error.to_string())
            }
            OffloadError::Panicked => Self::internal(error.to_string()),
        }
    }
}
