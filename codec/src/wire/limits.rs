//! The limits that each side states in its hello, as types that cannot hold a value out of range.

use core::fmt;

/// A value outside the range of a limit.
///
/// ```
/// # mod corewire { pub use corewire_codec::LimitOutOfRange; pub mod codec { pub use corewire_codec::InFlight; } }
/// use corewire::{LimitOutOfRange, codec::InFlight};
///
/// let LimitOutOfRange { value, min, max, .. } = InFlight::new(1).unwrap_err();
/// assert_eq!((value, min, max), (1, 16, 32_768));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitOutOfRange {
    /// The limit's name, as the documentation and the builders call it.
    pub name: &'static str,
    /// What was asked for.
    pub value: u64,
    /// The least allowed value.
    pub min: u64,
    /// The greatest allowed value.
    pub max: u64,
}

impl fmt::Display for LimitOutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, value, min, max } = self;
        write!(f, "{name} is {value}; it must be between {min} and {max}")
    }
}

crate::debug_is_display!(LimitOutOfRange);

impl core::error::Error for LimitOutOfRange {}

macro_rules! limit {
    ($(#[$doc:meta])* $name:ident = $label:literal, $min:expr, $recommended:expr, $max:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u32);

        impl $name {
            /// The least value.
            pub const MIN: Self = Self($min);
            /// The greatest value.
            pub const MAX: Self = Self($max);
            /// What to use unless a measurement says otherwise.
            pub const RECOMMENDED: Self = Self($recommended);

            /// A checked value.
            ///
            /// # Errors
            ///
            /// The value, with the range, when it lies outside.
            pub const fn new(value: u32) -> Result<Self, LimitOutOfRange> {
                if value >= $min && value <= $max {
                    Ok(Self(value))
                } else {
                    Err(LimitOutOfRange { name: $label, value: value as u64, min: $min, max: $max })
                }
            }

            /// The bare number, in the unit of the name.
            #[must_use]
            pub const fn get(self) -> u32 {
                self.0
            }
        }

        #[cfg(feature = "serde")]
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_u32(self.0)
            }
        }

        #[cfg(feature = "serde")]
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                Self::new(u32::deserialize(from)?).map_err(serde::de::Error::custom)
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::RECOMMENDED
            }
        }

        const _: () = assert!($min <= $recommended && $recommended <= $max);
    };
}

limit! {
    /// The largest payload of a frame that this side accepts, in bytes (64 KiB to 1 GiB).
    ///
    /// It bounds what one peer can make this side hold for one frame; the receive buffer grows only
    /// as bytes arrive. At the limit the peer gets a go-away (REQ-16).
    ///
    /// ```
    /// # mod corewire { pub mod codec { pub use corewire_codec::FrameBytes; } }
    /// use corewire::codec::FrameBytes;
    ///
    /// assert_eq!(FrameBytes::new(1_048_576)?.get(), 1_048_576);
    /// assert!(FrameBytes::new(1_000).is_err()); // less than 64 KiB
    /// # Ok::<(), corewire_codec::LimitOutOfRange>(())
    /// ```
    FrameBytes = "frame_bytes", 64 * 1024, 16 * 1024 * 1024, 1 << 30
}
limit! {
    /// Calls in flight that this side accepts on one connection, in calls (16 to 32,768): the upper
    /// half of the slots that a call id can name never occurs on the wire.
    ///
    /// A connection's table of pending calls grows up to this many entries of some 64 bytes.
    ///
    /// ```
    /// # mod corewire { pub mod codec { pub use corewire_codec::InFlight; } }
    /// use corewire::codec::InFlight;
    ///
    /// assert_eq!(InFlight::new(256)?.get(), 256);
    /// assert!(InFlight::new(1).is_err()); // less than 16
    /// # Ok::<(), corewire_codec::LimitOutOfRange>(())
    /// ```
    InFlight = "in_flight", 16, 4_096, 32_768
}
limit! {
    /// Bytes that a peer may send on one stream before it is granted more (16 KiB to 1 GiB). No
    /// more than a quarter of the connection's credit takes effect: see [`Limits::stream_window`].
    ///
    /// ```
    /// # mod corewire { pub mod codec { pub use corewire_codec::StreamCredit; } }
    /// use corewire::codec::StreamCredit;
    ///
    /// assert_eq!(StreamCredit::new(65_536)?.get(), 65_536);
    /// assert!(StreamCredit::new(1_000).is_err()); // less than 16 KiB
    /// # Ok::<(), corewire_codec::LimitOutOfRange>(())
    /// ```
    StreamCredit = "stream_credit", 16 * 1024, 256 * 1024, 1 << 30
}
limit! {
    /// Bytes that a peer may send on all streams of a connection before it is granted more
    /// (64 KiB to 1 GiB).
    ///
    /// ```
    /// # mod corewire { pub mod codec { pub use corewire_codec::ConnectionCredit; } }
    /// use corewire::codec::ConnectionCredit;
    ///
    /// assert_eq!(ConnectionCredit::new(1_048_576)?.get(), 1_048_576);
    /// assert!(ConnectionCredit::new(1_000).is_err()); // less than 64 KiB
    /// # Ok::<(), corewire_codec::LimitOutOfRange>(())
    /// ```
    ConnectionCredit = "connection_credit", 64 * 1024, 16 * 1024 * 1024, 1 << 30
}
limit! {
    /// The largest metadata block of a frame that this side accepts, in bytes (1 KiB to 65,535).
    ///
    /// ```
    /// # mod corewire { pub mod codec { pub use corewire_codec::MetadataBytes; } }
    /// use corewire::codec::MetadataBytes;
    ///
    /// assert_eq!(MetadataBytes::new(4_096)?.get(), 4_096);
    /// assert!(MetadataBytes::new(100).is_err()); // less than 1 KiB
    /// # Ok::<(), corewire_codec::LimitOutOfRange>(())
    /// ```
    MetadataBytes = "metadata_bytes", 1024, 16 * 1024, 65_535
}

/// All limits of one side of a connection.
///
/// ```
/// # mod corewire {
/// #     pub use corewire_codec::Limits;
/// #     pub mod codec { pub use corewire_codec::{FrameBytes, InFlight}; }
/// # }
/// use corewire::Limits;
/// use corewire::codec::{FrameBytes, InFlight};
///
/// let limits = Limits {
///     frame_bytes: FrameBytes::new(1024 * 1024)?,
///     in_flight: InFlight::new(256)?,
///     ..Limits::default()
/// };
/// assert_eq!(limits.frame_bytes.get(), 1_048_576);
///
/// let error = FrameBytes::new(1).unwrap_err();
/// assert_eq!(error.to_string(), "frame_bytes is 1; it must be between 65536 and 1073741824");
/// # Ok::<(), corewire_codec::LimitOutOfRange>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct Limits {
    /// Largest frame payload accepted.
    pub frame_bytes: FrameBytes,
    /// Calls in flight accepted.
    pub in_flight: InFlight,
    /// Initial credit of a stream.
    pub stream_credit: StreamCredit,
    /// Initial credit of the connection.
    pub connection_credit: ConnectionCredit,
    /// Largest metadata block accepted.
    pub metadata_bytes: MetadataBytes,
}

impl Limits {
    /// The initial credit of a stream as it is stated and kept: at most a quarter of the connection's,
    /// so that one stream whose reader stalls cannot use up what all of them share (REQ-70).
    #[must_use]
    pub const fn stream_window(&self) -> u32 {
        let (stream, quarter) = (self.stream_credit.get(), self.connection_credit.get() / 4);
        if stream < quarter { stream } else { quarter }
    }

    /// What every peer may assume before it has read the other side's hello (REQ-7): the least
    /// value of each limit.
    pub const EARLY: Self = Self {
        frame_bytes: FrameBytes::MIN,
        in_flight: InFlight::MIN,
        stream_credit: StreamCredit::MIN,
        connection_credit: ConnectionCredit::MIN,
        metadata_bytes: MetadataBytes::MIN,
    };
}
