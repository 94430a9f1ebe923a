//! Payload codecs: how values become bodies. A codec is a type; a service picks one per method.

use bytes::Bytes;
use core::fmt;
use speedy::{LittleEndian, Readable, Writable};

use crate::buffer::send::FrameWriter;
use crate::wire::encoding::{CodecId, UnexpectedEncoding};
use crate::wire::status::Status;

/// A way to serialise values, with its number on the wire.
///
/// ```
/// # mod corewire {
/// #     pub use bytes::Bytes;
/// #     pub use corewire_codec::*;
/// #     pub mod codec { pub use corewire_codec::{FrameWriter as BodyWriter, *}; }
/// # }
/// use corewire::CodecId;
/// use corewire::codec::{Codec, Raw, Speedy};
///
/// assert_eq!((Raw::ID, Speedy::ID), (CodecId::RAW, CodecId::SPEEDY));
/// ```
pub trait Codec {
    /// The number in the header.
    const ID: CodecId;
}

/// A codec that can write a `T`.
///
/// ```
/// # mod corewire {
/// #     pub use bytes::Bytes;
/// #     pub use corewire_codec::*;
/// #     pub mod codec { pub use corewire_codec::{FrameWriter as BodyWriter, *}; }
/// # }
/// use corewire::CodecId;
/// use corewire::codec::{BodyWriter, Codec, Encode, EncodeError};
///
/// /// Text is its own bytes.
/// struct Text;
///
/// impl Codec for Text {
///     const ID: CodecId = CodecId::RAW;
/// }
///
/// impl Encode<String> for Text {
///     fn encode(value: String, body: &mut BodyWriter<'_>) -> Result<(), EncodeError> {
///         body.put_slice(value.as_bytes());
///         Ok(())
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{T}` cannot cross the wire: it has no encoding in the codec `{Self}`",
    label = "has no encoding",
    note = "write `#[derive(speedy::Readable, speedy::Writable)]` above its definition; all that it contains needs the same"
)]
pub trait Encode<T>: Codec {
    /// Appends `value` to the frame's body.
    ///
    /// # Errors
    ///
    /// Why the value has no encoding; the frame must then be dropped unfinished.
    fn encode(value: T, body: &mut FrameWriter<'_>) -> Result<(), EncodeError>;
}

/// A codec that can read a `T`.
///
/// ```
/// # mod corewire {
/// #     pub use bytes::Bytes;
/// #     pub use corewire_codec::*;
/// #     pub mod codec { pub use corewire_codec::{FrameWriter as BodyWriter, *}; }
/// # }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use corewire::Bytes;
/// use corewire::codec::{Decode, Speedy};
///
/// let number: u32 = Speedy::decode(Bytes::from_static(&[7, 0, 0, 0]))?;
/// assert_eq!(number, 7);
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{T}` cannot cross the wire: it has no encoding in the codec `{Self}`",
    label = "has no encoding",
    note = "write `#[derive(speedy::Readable, speedy::Writable)]` above its definition; all that it contains needs the same"
)]
pub trait Decode<T>: Codec {
    /// Reads a whole body.
    ///
    /// # Errors
    ///
    /// Why the body is not a `T`; bytes left over are an error.
    fn decode(body: Bytes) -> Result<T, DecodeError>;
}

/// The body is the value: [`Bytes`], neither copied nor interpreted.
///
/// ```
/// # mod corewire {
/// #     pub use bytes::Bytes;
/// #     pub use corewire_codec::*;
/// #     pub mod codec { pub use corewire_codec::{FrameWriter as BodyWriter, *}; }
/// # }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use corewire::Bytes;
/// use corewire::codec::{Decode, Raw};
///
/// assert_eq!(Raw::decode(Bytes::from_static(b"as it is"))?, "as it is");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Raw;

impl Codec for Raw {
    const ID: CodecId = CodecId::RAW;
}

impl Encode<Bytes> for Raw {
    #[inline]
    fn encode(value: Bytes, body: &mut FrameWriter<'_>) -> Result<(), EncodeError> {
        body.put_bytes(value);
        Ok(())
    }
}

impl Decode<Bytes> for Raw {
    #[inline]
    fn decode(body: Bytes) -> Result<Bytes, DecodeError> {
        Ok(body)
    }
}

/// The body is `speedy`'s encoding of the value, little-endian.
///
/// speedy checks every length against the least that this many elements take on the wire. Two kinds
/// of argument defeat that, so keep them out of services that strangers can reach: recursive types
/// (there is no depth limit, and the stack overflows), and lists of elements that take little or
/// nothing on the wire but much in memory, such as `Vec<()>` or `Vec<Option<[u8; 1024]>>`.
///
/// A type of your own needs speedy's derives; the crate `speedy` 0.8 is a dependency of yours then.
///
/// ```
/// use speedy::{Readable, Writable};
///
/// #[derive(Readable, Writable)]
/// pub struct Order {
///     pub id: u64,
///     pub articles: Vec<String>,
///     pub delivery: Delivery,
/// }
///
/// #[derive(Readable, Writable)]
/// pub enum Delivery {
///     PickUp,
///     Courier { street: String },
/// }
/// # fn travels<T>() where corewire_codec::Speedy: corewire_codec::Encode<T> + corewire_codec::Decode<T> {}
/// # travels::<Order>();
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Speedy;

impl Codec for Speedy {
    const ID: CodecId = CodecId::SPEEDY;
}

#[diagnostic::do_not_recommend]
impl<T: Writable<LittleEndian>> Encode<T> for Speedy {
    #[inline]
    fn encode(value: T, body: &mut FrameWriter<'_>) -> Result<(), EncodeError> {
        write_argument(&value, body)
    }
}

#[diagnostic::do_not_recommend]
impl<T> Decode<T> for Speedy
where
    T: for<'a> Readable<'a, LittleEndian>,
{
    #[inline]
    fn decode(body: Bytes) -> Result<T, DecodeError> {
        let mut rest: &[u8] = &body;
        let value = read_argument(&mut rest)?;
        if rest.is_empty() { Ok(value) } else { Err(DecodeError::left_over(rest.len())) }
    }
}

/// Appends one speedy value to a body; a method's arguments are written one after the other.
///
/// # Errors
///
/// Why the value has no encoding.
#[inline]
pub fn write_argument<T>(value: &T, body: &mut FrameWriter<'_>) -> Result<(), EncodeError>
where
    T: Writable<LittleEndian> + ?Sized,
{
    value
        .write_to_stream_with_ctx(LittleEndian {}, body.inline())
        .map_err(|error| EncodeError { reason: error.to_string() })
}

impl FrameWriter<'_> {
    /// Appends one speedy argument of a call.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` with the argument's name when the value has no encoding.
    #[inline]
    pub fn argument<T>(&mut self, name: &str, value: &T) -> Result<(), Status>
    where
        T: Writable<LittleEndian> + ?Sized,
    {
        write_argument(value, self)
            .map_err(|error| Status::invalid_argument(format!("argument `{name}`: {error}")))
    }

    /// Appends the only, raw argument of a call.
    #[inline]
    pub fn raw(&mut self, body: Bytes) {
        self.put_bytes(body);
    }
}

/// Reads one speedy value from the front of `rest` and moves `rest` behind it.
///
/// # Errors
///
/// Why the bytes are not a `T`.
#[inline]
pub fn read_argument<T>(rest: &mut &[u8]) -> Result<T, DecodeError>
where
    T: for<'a> Readable<'a, LittleEndian>,
{
    let (value, used) = T::read_with_length_from_buffer_with_ctx(LittleEndian {}, rest);
    let value = value.map_err(|error| DecodeError { reason: error.to_string() })?;
    *rest = rest.get(used..).unwrap_or(&[]);
    Ok(value)
}

/// A value that has no encoding.
///
/// ```
/// # mod corewire {
/// #     pub use bytes::Bytes;
/// #     pub use corewire_codec::*;
/// #     pub mod codec { pub use corewire_codec::{FrameWriter as BodyWriter, *}; }
/// # }
/// use corewire::Status;
/// use corewire::codec::EncodeError;
///
/// fn told(error: &EncodeError) -> Status {
///     Status::internal(error.to_string())
/// }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct EncodeError {
    reason: String,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the value cannot be encoded: {}", self.reason)
    }
}

impl EncodeError {
    /// The error with this reason.
    #[cold]
    #[cfg(any(feature = "protobuf", feature = "json"))]
    pub(crate) fn new(reason: impl fmt::Display) -> Self {
        Self { reason: reason.to_string() }
    }
}

crate::debug_is_display!(EncodeError, DecodeError);

impl core::error::Error for EncodeError {}

/// Bytes that are not the value they should be.
///
/// ```
/// # mod corewire {
/// #     pub use bytes::Bytes;
/// #     pub use corewire_codec::*;
/// #     pub mod codec { pub use corewire_codec::{FrameWriter as BodyWriter, *}; }
/// # }
/// use corewire::Bytes;
/// use corewire::codec::{Decode, DecodeError, Speedy};
///
/// let read: Result<u32, DecodeError> = Speedy::decode(Bytes::from_static(&[7]));
/// assert!(read.is_err());
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct DecodeError {
    reason: String,
}

impl DecodeError {
    /// The error with this reason.
    #[cold]
    #[cfg(any(feature = "protobuf", feature = "json"))]
    pub(crate) fn new(reason: impl fmt::Display) -> Self {
        Self { reason: reason.to_string() }
    }

    /// The error, with the field of a message in which it is.
    #[cold]
    #[cfg(feature = "protobuf")]
    pub(crate) fn in_field(self, name: &str) -> Self {
        Self { reason: format!("field `{name}`: {}", self.reason) }
    }

    /// The error for bytes behind the last value.
    #[must_use]
    pub fn left_over(bytes: usize) -> Self {
        Self { reason: format!("{bytes} bytes are left over behind the last value") }
    }
}

/// A body in a different encoding than the agreed one.
impl From<UnexpectedEncoding> for DecodeError {
    #[cold]
    fn from(error: UnexpectedEncoding) -> Self {
        Self { reason: error.to_string() }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl core::error::Error for DecodeError {}
