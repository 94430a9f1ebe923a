//! An error of the operating system in a form that can be copied, compared and counted.

use core::fmt;
use core::num::NonZeroU16;
use std::io;

/// What the operating system said about a socket: the error's kind, and its number if it has one.
///
/// ```
/// # use corewire_proto as corewire;
/// use corewire::TransportError;
/// use std::io;
///
/// let error = TransportError::from(&io::Error::from(io::ErrorKind::ConnectionReset));
/// assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransportError {
    kind: io::ErrorKind,
    /// Linux's are below 4,096; a connection keeps this, and should be small.
    code: Option<NonZeroU16>,
}

impl TransportError {
    /// The error's kind.
    #[must_use]
    pub const fn kind(self) -> io::ErrorKind {
        self.kind
    }

    /// The system's number for the error (`errno`); `None` for one that the system did not report.
    #[must_use]
    pub fn code(self) -> Option<i32> {
        self.code.map(|code| code.get().into())
    }

    /// What to do about it, where that is known.
    #[must_use]
    pub fn remedy(self) -> Option<&'static str> {
        match self.code() {
            Some(EMFILE) => Some(
                "raise this process's limit on descriptors with ulimit -n, or LimitNOFILE= in a systemd unit",
            ),
            Some(ENFILE) => {
                Some("raise the host's limit on open files with the sysctl fs.file-max")
            }
            Some(ENOMEM | ENOBUFS) => Some(
                "the kernel has no memory for another socket; free some, or raise the sysctl net.ipv4.tcp_mem",
            ),
            Some(EACCES | EPERM) => Some(
                "check the permissions: a port below 1024 needs CAP_NET_BIND_SERVICE, a Unix socket write access to its path, and a firewall may forbid the address",
            ),
            _ => None,
        }
    }
}

// Linux's numbers on all architectures that std supports there except mips and sparc, where a remedy may be
// missing.
const EPERM: i32 = 1;
const ENOMEM: i32 = 12;
const EACCES: i32 = 13;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const ENOBUFS: i32 = 105;

impl From<io::ErrorKind> for TransportError {
    fn from(kind: io::ErrorKind) -> Self {
        Self { kind, code: None }
    }
}

impl From<&io::Error> for TransportError {
    fn from(error: &io::Error) -> Self {
        let code = error.raw_os_error().and_then(|code| u16::try_from(code).ok());
        Self { kind: error.kind(), code: code.and_then(NonZeroU16::new) }
    }
}

impl From<TransportError> for io::Error {
    fn from(error: TransportError) -> Self {
        error.code().map_or_else(|| error.kind.into(), Self::from_raw_os_error)
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from(*self).fmt(f)?;
        self.remedy().map_or(Ok(()), |remedy| write!(f, "; {remedy}"))
    }
}

corewire_codec::debug_is_display!(TransportError);

impl core::error::Error for TransportError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_its_number_and_names_its_remedy() {
        let error = TransportError::from(&io::Error::from_raw_os_error(EMFILE));
        assert_eq!(error.code(), Some(24));
        assert_eq!(io::Error::from(error).raw_os_error(), Some(24));
        let text = error.to_string();
        assert!(text.starts_with("Too many open files (os error 24); "), "{text}");
        assert!(text.contains("ulimit -n") && text.contains("LimitNOFILE"), "{text}");
        let reset = TransportError::from(io::ErrorKind::ConnectionReset);
        assert_eq!((reset.to_string().as_str(), reset.remedy()), ("connection reset", None));
    }
}
