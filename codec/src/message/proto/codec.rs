//! Protobuf as a codec of bodies.

use bytes::Bytes;

use super::field::ProtoMessage;
use super::read::Reader;
use super::write::Writer;
use crate::buffer::send::FrameWriter;
use crate::payload::codec::{Codec, Decode, DecodeError, Encode, EncodeError};
use crate::wire::encoding::CodecId;

/// The body is a protobuf message, whose tags are the numbers of the fields.
#[derive(Clone, Copy, Debug)]
pub struct Protobuf;

impl Codec for Protobuf {
    const ID: CodecId = CodecId::PROTOBUF;
}

#[diagnostic::do_not_recommend]
impl<T: ProtoMessage> Encode<T> for Protobuf {
    #[inline]
    fn encode(value: T, body: &mut FrameWriter<'_>) -> Result<(), EncodeError> {
        write(&value, body.inline())
    }
}

#[diagnostic::do_not_recommend]
impl<T: ProtoMessage> Decode<T> for Protobuf {
    #[inline]
    fn decode(body: Bytes) -> Result<T, DecodeError> {
        read(&body)
    }
}

/// Appends a message.
///
/// # Errors
///
/// A value has no encoding, or too many messages are nested.
pub fn write<T: ProtoMessage>(message: &T, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let mut writer = Writer::new(out);
    message.write_fields(&mut writer);
    writer.finish()
}

/// Reads a message that takes the whole of `body`. Its `Bytes` are slices of `body`.
///
/// # Errors
///
/// Why the body is no such message.
pub fn read<T: ProtoMessage>(body: &Bytes) -> Result<T, DecodeError> {
    T::read_fields(None, &mut Reader::new(body))
}
