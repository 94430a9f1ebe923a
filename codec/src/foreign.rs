//! Other protocols, recognised by their first bytes (REQ-8).

use core::fmt;

use crate::wire::frame::hello::MAGIC;

/// A protocol that is not Corewire, as far as its first bytes tell.
///
/// ```
/// # mod corewire {
/// #     pub use bytes::Bytes;
/// #     pub use corewire_codec::*;
/// #     pub mod codec { pub use corewire_codec::{FrameWriter as BodyWriter, *}; }
/// # }
/// use corewire::codec::Foreign;
///
/// let who = Foreign::recognise(b"GET / HTTP/1.1");
/// assert!(matches!(who, Some(Foreign::Http1)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Foreign {
    /// An upper-case ASCII letter: an HTTP/1 request or response.
    Http1,
    /// The connection preface of HTTP/2, with or without TLS before it.
    Http2,
    /// A handshake of TLS.
    Tls,
}

impl Foreign {
    /// Which protocol the first bytes of a connection belong to. `None` if they may be Corewire's, or
    /// belong to no protocol known here.
    #[must_use]
    pub fn recognise(first: &[u8]) -> Option<Self> {
        match first {
            [first, ..] if *first == MAGIC[0] => None,
            [b'P', b'R', b'I', b' ', ..] => Some(Self::Http2),
            [b'A'..=b'Z', ..] => Some(Self::Http1),
            [0x16, ..] => Some(Self::Tls),
            _ => None,
        }
    }

    /// The protocol's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1",
            Self::Http2 => "HTTP/2",
            Self::Tls => "TLS",
        }
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// REQ-8.
    #[test]
    fn protocols_are_told_by_their_first_bytes() {
        let cases = [
            (&b"GET / HTTP/1.1\r\n"[..], Some(Foreign::Http1)),
            (b"H", Some(Foreign::Http1)),
            (b"PRI * HTTP/2.0\r\n", Some(Foreign::Http2)),
            (b"\x16\x03\x01", Some(Foreign::Tls)),
            (b"\xc7WRE", None),
            (b"get", None),
            (b"\0\0", None),
            (b"", None),
        ];
        for (first, protocol) in cases {
            assert_eq!(Foreign::recognise(first), protocol, "{first:?}");
        }
    }
}
