//! How a body is serialised and compressed: two four-bit numbers in one byte of the header.

use core::fmt;

/// A four-bit number on the wire. Some values have names; the others show as `$kind` and the number.
macro_rules! four_bit_number {
    (
        $(#[$doc:meta])*
        $name:ident, $kind:literal, $($(#[$about:meta])* $constant:ident = $number:literal $text:literal)*
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(u8);

        impl $name {
            $($(#[$about])* pub const $constant: Self = Self($number);)*

            #[doc = concat!("The ", $kind, " with this number; `None` above 15.")]
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

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self {
                    $(Self::$constant => f.write_str($text),)*
                    Self(number) => write!(f, concat!($kind, " {}"), number),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self, f)
            }
        }
    };
}

four_bit_number! {
    /// The number of a payload codec on the wire, 0 to 15 (REQ-12).
    ///
    /// ```
    /// # mod corewire {
    /// #     pub use bytes::Bytes;
    /// #     pub use corewire_codec::*;
    /// #     pub mod codec { pub use corewire_codec::{FrameWriter as BodyWriter, *}; }
    /// # }
    /// use corewire::CodecId;
    ///
    /// assert_eq!(CodecId::new(1), Some(CodecId::SPEEDY));
    /// assert_eq!(CodecId::RAW.number(), 0);
    /// ```
    CodecId, "codec",
    /// The body is the value itself: no encoding at all.
    RAW = 0 "raw"
    /// The body is `speedy` 0.8, little-endian; the default of generated services.
    SPEEDY = 1 "speedy"
    /// Reserved for Protocol Buffers.
    PROTOBUF = 2 "protobuf"
    /// Reserved for JSON.
    JSON = 3 "json"
}

four_bit_number! {
    /// The number of a compression on the wire, 0 to 15 (REQ-13).
    CompressionId, "compression",
    /// The body is not compressed.
    NONE = 0 "none"
    /// Reserved for LZ4.
    LZ4 = 1 "lz4"
    /// Reserved for Zstandard.
    ZSTD = 2 "zstd"
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

    /// Checks that a body comes in the one encoding that its reader takes: this codec, without
    /// compression. Code that decodes a body, or passes it on, calls this first: for requests, replies
    /// and messages of streams alike. It costs one comparison.
    ///
    /// # Errors
    ///
    /// What the body is encoded as, and what it should be.
    #[inline]
    pub fn check(self, wanted: CodecId) -> Result<(), UnexpectedEncoding> {
        if self.0 == wanted.0 { Ok(()) } else { Err(UnexpectedEncoding { wanted, got: self }) }
    }

    /// Checks that a body is not compressed, where its codec does not matter: no version of this crate
    /// reads a compression yet.
    ///
    /// # Errors
    ///
    /// How the body is compressed.
    #[inline]
    pub fn check_compression(self) -> Result<(), UnexpectedEncoding> {
        self.check(self.codec())
    }
}

/// A body in a different codec than its reader takes, or in a compression that is not offered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct UnexpectedEncoding {
    wanted: CodecId,
    got: Encoding,
}

impl fmt::Display for UnexpectedEncoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (codec, compression) = (self.got.codec(), self.got.compression());
        if codec != self.wanted {
            write!(f, "the body is encoded as {codec}, not as {}", self.wanted)?;
            if compression != CompressionId::NONE {
                write!(f, ", and compressed as {compression}")?;
            }
            return Ok(());
        }
        write!(
            f,
            "the body is compressed as {compression}, which is not offered here; send it without compression"
        )
    }
}

crate::debug_is_display!(UnexpectedEncoding);

impl core::error::Error for UnexpectedEncoding {}

impl fmt::Debug for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.codec(), self.compression())
    }
}
