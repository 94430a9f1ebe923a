//! The fixed header in front of every frame but the hello (REQ-10).

use crate::wire::encoding::Encoding;
use crate::wire::rule::Rule;

/// Size of [`Header`] on the wire, in bytes.
pub const HEADER_BYTES: usize = 16;

/// What a frame is (REQ-11). The discriminant is the byte on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// A client asks for a call.
    Request = 1,
    /// A server answers a request, or opens its stream of results.
    Reply = 2,
    /// One message of a call's stream, in either direction.
    StreamData = 3,
    /// The end of a stream with a status, by either side.
    StreamEnd = 4,
    /// Permission to send more bytes on a stream or on the connection.
    Credit = 5,
    /// A client no longer wants a call.
    Cancel = 6,
    /// Asks whether the peer is still there.
    Ping = 7,
    /// The reply to a ping.
    Pong = 8,
    /// The sender takes no new calls; why, and how many it took.
    GoAway = 9,
}

impl FrameKind {
    /// Every kind, in the order of its number.
    pub const ALL: [Self; 9] = [
        Self::Request,
        Self::Reply,
        Self::StreamData,
        Self::StreamEnd,
        Self::Credit,
        Self::Cancel,
        Self::Ping,
        Self::Pong,
        Self::GoAway,
    ];

    #[inline]
    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Request,
            2 => Self::Reply,
            3 => Self::StreamData,
            4 => Self::StreamEnd,
            5 => Self::Credit,
            6 => Self::Cancel,
            7 => Self::Ping,
            8 => Self::Pong,
            9 => Self::GoAway,
            _ => return None,
        })
    }

    /// The flag bits that mean something for this kind; all others must be zero (REQ-15).
    #[must_use]
    #[inline]
    pub const fn flags(self) -> u8 {
        match self {
            Self::Request => 0b1111_1111,
            Self::Reply => 0b0110_1111,
            Self::StreamData | Self::Credit => 0b0000_0001,
            Self::StreamEnd => 0b0010_0000,
            Self::Cancel | Self::Ping | Self::Pong | Self::GoAway => 0,
        }
    }

    /// Whether the kind has a body, and so an encoding other than zero.
    #[inline]
    const fn has_encoding(self) -> bool {
        matches!(self, Self::Request | Self::Reply | Self::StreamData)
    }

    /// How many bytes may follow the header at most, whatever the limits of the connection.
    #[inline]
    const fn payload_bytes_max(self) -> u32 {
        match self {
            Self::Credit | Self::Cancel | Self::Ping | Self::Pong => 0,
            Self::GoAway => GO_AWAY_TEXT_BYTES_MAX,
            Self::Request | Self::Reply | Self::StreamData | Self::StreamEnd => u32::MAX,
        }
    }
}

/// The longest text of a go-away, in bytes (REQ-19).
const GO_AWAY_TEXT_BYTES_MAX: u32 = 1024;

/// The most that a stream end with code 0 may carry: its metadata and the length of it (REQ-51).
const GOOD_END_BYTES_MAX: u32 = 2 + 65_535;

/// The bits of a header that may be set in frames of one kind: a table, because looking them up is quicker
/// than checking every frame step by step.
#[derive(Clone, Copy)]
struct Allowed {
    payload_bytes_max: u32,
    flags: u8,
    encoding: u8,
}

impl Allowed {
    const fn of(kind: FrameKind) -> Self {
        Self {
            payload_bytes_max: kind.payload_bytes_max(),
            flags: kind.flags(),
            encoding: if kind.has_encoding() { u8::MAX } else { 0 },
        }
    }

    const NOTHING: Self = Self { payload_bytes_max: 0, flags: 0, encoding: 0 };

    /// By the byte on the wire.
    const TABLE: [Self; 10] = [
        Self::NOTHING,
        Self::of(FrameKind::Request),
        Self::of(FrameKind::Reply),
        Self::of(FrameKind::StreamData),
        Self::of(FrameKind::StreamEnd),
        Self::of(FrameKind::Credit),
        Self::of(FrameKind::Cancel),
        Self::of(FrameKind::Ping),
        Self::of(FrameKind::Pong),
        Self::of(FrameKind::GoAway),
    ];
}

/// The header, field by field. `detail` and `aux` belong to the kind; the files of
/// [`frame`](crate::Frame) give them names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes that follow the header. At most the limit that the receiver stated in its hello.
    pub payload_bytes: u32,
    /// What the frame is.
    pub kind: FrameKind,
    /// Bits whose meaning depends on the kind; see [`FrameKind::flags`].
    pub flags: u8,
    /// Codec and compression of the body; zero for kinds without one.
    pub encoding: Encoding,
    /// Request: priority. Reply and stream end: status code. Cancel: reason. Else zero.
    pub detail: u8,
    /// The call; for ping and pong half of the opaque value; for go-away a count.
    pub call: u32,
    /// Request: method id. Reply: handler time in µs. Credit: bytes. Go-away: rule.
    pub aux: u32,
}

impl Header {
    /// Reads a header and checks everything that needs no state, in this order: the kind is known,
    /// reserved bits are zero, and the payload is no longer than the kind allows.
    ///
    /// # Errors
    ///
    /// The rule that the header breaks.
    #[inline]
    pub fn decode(bytes: [u8; HEADER_BYTES]) -> Result<Self, Rule> {
        let [p0, p1, p2, p3, kind, flags, encoding, detail, c0, c1, c2, c3, a0, a1, a2, a3] = bytes;
        let (Some(allowed), Some(kind)) =
            (Allowed::TABLE.get(usize::from(kind)), FrameKind::from_byte(kind))
        else {
            return Err(Rule::UnknownFrameKind);
        };
        let header = Self {
            payload_bytes: u32::from_le_bytes([p0, p1, p2, p3]),
            kind,
            flags,
            encoding: Encoding::from_byte(encoding),
            detail,
            call: u32::from_le_bytes([c0, c1, c2, c3]),
            aux: u32::from_le_bytes([a0, a1, a2, a3]),
        };
        if (flags & !allowed.flags) | (encoding & !allowed.encoding) != 0 {
            return Err(Rule::ReservedBits);
        }
        if header.payload_bytes > allowed.payload_bytes_max {
            return Err(header.too_long());
        }
        Ok(header)
    }

    /// The rule that is broken by a payload longer than its kind allows.
    #[cold]
    fn too_long(&self) -> Rule {
        if self.kind == FrameKind::GoAway { Rule::BadField } else { Rule::UnexpectedPayload }
    }

    /// Checks the header of a frame that is still arriving, so that no room is made for an invalid
    /// frame: a stream end with code 0 carries metadata at most.
    ///
    /// # Errors
    ///
    /// The rule that the frame breaks.
    pub fn check_unfinished(&self) -> Result<(), Rule> {
        let good_end = self.kind == FrameKind::StreamEnd && self.detail == 0;
        if good_end && self.payload_bytes > GOOD_END_BYTES_MAX {
            return Err(Rule::UnexpectedPayload);
        }
        Ok(())
    }

    /// The header's sixteen bytes.
    #[must_use]
    #[inline]
    pub const fn encode(&self) -> [u8; HEADER_BYTES] {
        let [p0, p1, p2, p3] = self.payload_bytes.to_le_bytes();
        let [c0, c1, c2, c3] = self.call.to_le_bytes();
        let [a0, a1, a2, a3] = self.aux.to_le_bytes();
        let (kind, encoding) = (self.kind as u8, self.encoding.byte());
        [p0, p1, p2, p3, kind, self.flags, encoding, self.detail, c0, c1, c2, c3, a0, a1, a2, a3]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_bytes() {
        assert_eq!(Allowed::TABLE.len(), FrameKind::ALL.len() + 1);
        for kind in FrameKind::ALL {
            let allowed = Allowed::TABLE.get(usize::from(kind as u8)).unwrap();
            assert_eq!(allowed.flags, kind.flags(), "{kind:?}");
            assert_eq!(allowed.encoding != 0, kind.has_encoding(), "{kind:?}");
            assert_eq!(allowed.payload_bytes_max, kind.payload_bytes_max(), "{kind:?}");
        }
    }
}
