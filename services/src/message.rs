//! Messages outside of calls: as bytes, as JSON, and what they are made of.
//!
//! `#[corewire::message]` ([`macro@crate::message`]) makes them.

pub use corewire_codec::message::budget::{AMPLIFICATION, DEPTH_MAX, MEMORY_FLOOR};
#[cfg(feature = "json")]
pub use corewire_codec::message::json::{codec::Json, field::JsonMessage};
#[cfg(feature = "protobuf")]
pub use corewire_codec::message::proto::{codec::Protobuf, field::ProtoMessage};
pub use corewire_codec::message::schema::{EnumSchema, Field, MessageSchema, Schema, Shape, Type};
pub use corewire_codec::message::value::Value;

#[cfg(any(feature = "protobuf", feature = "json"))]
use crate::codec::{DecodeError, EncodeError};

/// A message in the protobuf wire.
///
/// # Errors
///
/// A time is out of protobuf's range, or more than [`DEPTH_MAX`] messages are nested.
#[cfg(feature = "protobuf")]
pub fn to_protobuf<T: ProtoMessage>(message: &T) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = Vec::new();
    corewire_codec::message::proto::codec::write(message, &mut bytes)?;
    Ok(bytes)
}

/// Reads a message that takes the whole of `bytes`. Its fields of type `Bytes` are slices of them, not copied.
///
/// # Errors
///
/// Why they are no such message. Any bytes may be given: nothing panics, and memory is bounded by [`AMPLIFICATION`].
#[cfg(feature = "protobuf")]
pub fn from_protobuf<T: ProtoMessage>(bytes: &crate::Bytes) -> Result<T, DecodeError> {
    corewire_codec::message::proto::codec::read(bytes)
}

/// A message in JSON.
///
/// # Errors
///
/// A time is out of protobuf's range, or more than [`DEPTH_MAX`] messages are nested.
#[cfg(feature = "json")]
pub fn to_json<T: JsonMessage>(message: &T) -> Result<String, EncodeError> {
    let mut bytes = Vec::new();
    corewire_codec::message::json::codec::write(message, &mut bytes)?;
    // The writer appends whole texts only.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Reads a message that takes the whole of `json`.
///
/// # Errors
///
/// Why it is no such message. Any bytes may be given: nothing panics, and memory is bounded by [`AMPLIFICATION`].
#[cfg(feature = "json")]
pub fn from_json<T: JsonMessage>(json: &[u8]) -> Result<T, DecodeError> {
    corewire_codec::message::json::codec::read(json)
}
