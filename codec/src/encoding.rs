//! How a body is serialised and compressed: two four-bit numbers in one byte of the header.

use core::fmt;

/// The number of a payload codec on the wire, 0 to 15 (REQ-12).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CodecId(u8);

impl CodecId {
    /// The body is the value itself: no encoding at all.
    pub const RAW: Self = Self(0);
    /// The body is `speedy` 0.8, little-endian; the default of generated services.
    pub const SPEEDY: Self = Self(1);
    /// Reserved for Protocol Buffers.
    pub const PROTOBUF: Self = Self(2);
    /// Reserved for JSON.
    pub const JSON: Self = Self(3);

    /// The codec with this number; `None` above 15.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number < 16 { Some(Self(number)) } else { None }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl fmt::Debug for CodecId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::RAW => f.write_str("raw"),
            Self::SPEEDY => f.write_str("speedy"),
            Self::PROTOBUF => f.write_str("protobuf"),
            Self::JSON => f.write_str("json"),
            Self(number) => write!(f, "codec {number}"),
        }
    }
}

impl fmt::Display for CodecId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The number of a compression on the wire, 0 to 15 (REQ-13).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CompressionId(u8);

impl CompressionId {
    /// The body is not compressed.
    pub const NONE: Self = Self(0);
    /// Reserved for LZ4.
    pub const LZ4: Self = Self(1);
    /// Reserved for Zstandard.
    pub const ZSTD: Self = Self(2);

    /// The compression with this number; `None` above 15.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number < 16 { Some(Self(number)) } else { None }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl fmt::Debug for CompressionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NONE => f.write_str("none"),
            Self::LZ4 => f.write_str("lz4"),
            Self::ZSTD => f.write_str("zstd"),
            Self(number) => write!(f, "compression {number}"),
        }
    }
}

impl fmt::Display for CompressionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Codec and compression of one body, as the header carries them: codec in the low four bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Encoding(u8);

impl Encoding {
    /// Raw and not compressed; also what frames without a body carry.
    pub const RAW: Self = Self(0);

    /// Joins a codec and a compression.
    #[must_use]
    pub const fn new(codec: CodecId, compression: CompressionId) -> Self {
        Self(codec.0 | (compression.0 << 4))
    }

    /// A codec without compression.
    #[must_use]
    pub const fn plain(codec: CodecId) -> Self {
        Self(codec.0)
    }

    /// The byte of the header. Every byte is valid: an unknown number is answered per call, not
    /// per connection (REQ-14).
    #[must_use]
    pub const fn from_byte(byte: u8) -> Self {
        Self(byte)
    }

    /// The byte for the header.
    #[must_use]
    pub const fn byte(self) -> u8 {
        self.0
    }

    /// How the body is serialised.
    #[must_use]
    pub const fn codec(self) -> CodecId {
        CodecId(self.0 & 0x0f)
    }

    /// How the serialised body is compressed.
    #[must_use]
    pub const fn compression(self) -> CompressionId {
        CompressionId(self.0 >> 4)
    }
}

impl fmt::Debug for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.codec(), self.compression())
    }
}
