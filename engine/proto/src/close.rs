//! Why a connection ended.

use core::fmt;

use corewire_codec::{Foreign, Rule};

use crate::transport_error::TransportError;

/// Why a connection ended, by who caused it. A closed set, fit for counters.
///
/// ```
/// # use corewire_proto as corewire;
/// use corewire::CloseReason;
///
/// assert!(!CloseReason::Drained.is_fault());
/// assert!(CloseReason::ConnectTimeout.is_fault());
/// assert_eq!(CloseReason::PeerLeft.to_string(), "the peer closed the connection");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer broke a rule of the protocol; it was told which.
    PeerMisbehaved(Rule),
    /// The peer speaks another protocol: a probe, or a client that was given the wrong port. It was told
    /// that this is Corewire (rule 1).
    Foreign(Foreign),
    /// The peer says that this side broke a rule. `None` is a rule that this version does not know.
    BlamedByPeer(Option<Rule>),
    /// The peer closed its side.
    PeerLeft,
    /// The operating system reports an error of the transport.
    Transport(TransportError),
    /// The server's name has no address, or could not be looked up.
    NameUnknown,
    /// No connection could be made, or no hello came back, in time.
    ConnectTimeout,
    /// A graceful end: everything was answered.
    Drained,
    /// The drain deadline passed with work left.
    DrainDeadline,
    /// This side no longer wants the connection.
    LocallyClosed,
}

impl CloseReason {
    /// Whether an operator should look at it.
    #[must_use]
    pub const fn is_fault(self) -> bool {
        !matches!(self, Self::PeerLeft | Self::Foreign(_) | Self::Drained | Self::LocallyClosed)
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PeerMisbehaved(rule) => write!(f, "the peer broke {rule}"),
            Self::Foreign(foreign) => write!(f, "the peer speaks {foreign}, not Corewire"),
            Self::BlamedByPeer(Some(rule)) => {
                write!(f, "the peer says that this side broke {rule}")
            }
            Self::BlamedByPeer(None) => {
                f.write_str("the peer says that this side broke a rule unknown here")
            }
            Self::PeerLeft => f.write_str("the peer closed the connection"),
            Self::Transport(error) => write!(f, "the transport failed: {error}"),
            Self::NameUnknown => {
                f.write_str("the server's name could not be looked up, or has no address")
            }
            Self::ConnectTimeout => f.write_str("no connection, or no hello, in time"),
            Self::Drained => f.write_str("drained: every call was answered"),
            Self::DrainDeadline => f.write_str("the drain deadline passed with calls left"),
            Self::LocallyClosed => f.write_str("closed by this side"),
        }
    }
}
