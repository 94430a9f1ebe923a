//! JSON as a codec of bodies.

use bytes::Bytes;
use core::fmt::Display;

use super::field::JsonMessage;
use super::write::Writer;
use crate::buffer::send::FrameWriter;
use crate::message::budget;
use crate::payload::codec::{Codec, Decode, DecodeError, Encode, EncodeError};
use crate::wire::encoding::CodecId;

/// The body is a JSON object, as proto3 maps messages.
#[derive(Clone, Copy, Debug)]
pub struct Json;

impl Codec for Json {
    const ID: CodecId = CodecId::JSON;
}

#[diagnostic::do_not_recommend]
impl<T: JsonMessage> Encode<T> for Json {
    fn encode(value: T, body: &mut FrameWriter<'_>) -> Result<(), EncodeError> {
        write(&value, body.inline())
    }
}

#[diagnostic::do_not_recommend]
impl<T: JsonMessage> Decode<T> for Json {
    fn decode(body: Bytes) -> Result<T, DecodeError> {
        read(&body)
    }
}

/// Appends a message.
///
/// # Errors
///
/// A value has no encoding, or too many messages are nested.
pub fn write<T: JsonMessage>(message: &T, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let mut writer = Writer::new(out);
    message.write(&mut writer);
    writer.finish()
}

/// Reads a message that takes the whole of `body`.
///
/// # Errors
///
/// Why the body is no such message.
pub fn read<T: JsonMessage>(body: &[u8]) -> Result<T, DecodeError> {
    let _reading = budget::begin(body.len());
    let mut input = serde_json::Deserializer::from_slice(body);
    let message = T::read(&mut input).map_err(told)?;
    input.end().map_err(told)?;
    Ok(message)
}

#[cold]
fn told(error: impl Display) -> DecodeError {
    DecodeError::new(error)
}
