//! Scalars, texts, bytes and times in protobuf.

use bytes::Bytes;
use core::time::Duration;
use std::time::SystemTime;

use super::Wire;
use super::field::{ProtoMessage, ProtoValue, read_one, write_single};
use super::read::Reader;
use super::write::Writer;
use crate::message::time::{
    BAD_DURATION, BAD_TIME, duration_of, duration_parts, time_of, time_parts,
};
use crate::payload::codec::DecodeError;

/// Numbers whose protobuf type is as wide: of more bits the lowest count, as protobuf says.
macro_rules! wide {
    ($($scalar:ident)*) => { $(
        impl ProtoValue for $scalar {
            const WIRE: Wire = Wire::Varint;

            #[inline]
            #[allow(clippy::cast_lossless, clippy::cast_sign_loss, trivial_numeric_casts, reason = "negative numbers take all 64 bits on the wire")]
            fn write(&self, out: &mut Writer<'_>) {
                out.varint(*self as i64 as u64);
            }

            #[inline]
            #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, trivial_numeric_casts, reason = "the lowest bits count")]
            fn read(_: Option<Self>, input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(input.varint()? as Self)
            }
        }
    )* };
}

wide! { i32 i64 }

/// Numbers without a sign.
macro_rules! unsigned {
    ($($scalar:ident)*) => { $(
        impl ProtoValue for $scalar {
            const WIRE: Wire = Wire::Varint;

            #[inline]
            fn write(&self, out: &mut Writer<'_>) {
                out.varint(u64::from(*self));
            }

            #[inline]
            #[allow(clippy::cast_possible_truncation, trivial_numeric_casts, reason = "the lowest bits count")]
            fn read(_: Option<Self>, input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(input.varint()? as Self)
            }
        }
    )* };
}

unsigned! { u32 u64 }

/// Numbers that protobuf has no type for: what does not fit is an error.
macro_rules! narrow {
    ($($scalar:ident in $wide:ident)*) => { $(
        impl ProtoValue for $scalar {
            const WIRE: Wire = Wire::Varint;

            #[inline]
            fn write(&self, out: &mut Writer<'_>) {
                $wide::from(*self).write(out);
            }

            #[inline]
            fn read(_: Option<Self>, input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                let wide = <$wide as ProtoValue>::read(None, input)?;
                wide.try_into().map_err(|_| out_of_range(i64::from(wide), stringify!($scalar)))
            }
        }
    )* };
}

narrow! { u8 in u32 u16 in u32 i8 in i32 i16 in i32 }

#[cold]
fn out_of_range(number: i64, name: &str) -> DecodeError {
    DecodeError::new(format!("{number} does not fit into {name}"))
}

macro_rules! floats {
    ($($scalar:ident $wire:ident)*) => { $(
        impl ProtoValue for $scalar {
            const WIRE: Wire = Wire::$wire;

            #[inline]
            fn write(&self, out: &mut Writer<'_>) {
                out.raw(&self.to_le_bytes());
            }

            #[inline]
            fn read(_: Option<Self>, input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                input.array().map(Self::from_le_bytes)
            }
        }
    )* };
}

floats! { f32 Fixed32 f64 Fixed64 }

impl ProtoValue for bool {
    const WIRE: Wire = Wire::Varint;

    #[inline]
    fn write(&self, out: &mut Writer<'_>) {
        out.varint(u64::from(*self));
    }

    #[inline]
    fn read(_: Option<Self>, input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(input.varint()? != 0)
    }
}

impl ProtoValue for String {
    const WIRE: Wire = Wire::Length;

    #[inline]
    fn write(&self, out: &mut Writer<'_>) {
        out.bytes(self.as_bytes());
    }

    #[inline]
    fn read(_: Option<Self>, input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match core::str::from_utf8(input.bytes()?) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(DecodeError::new("a text is not UTF-8")),
        }
    }
}

impl ProtoValue for Vec<u8> {
    const WIRE: Wire = Wire::Length;

    #[inline]
    fn write(&self, out: &mut Writer<'_>) {
        out.bytes(self);
    }

    #[inline]
    fn read(_: Option<Self>, input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        input.bytes().map(<[u8]>::to_vec)
    }
}

/// Read without a copy: it is a slice of the body, and keeps it alive.
impl ProtoValue for Bytes {
    const WIRE: Wire = Wire::Length;

    #[inline]
    fn write(&self, out: &mut Writer<'_>) {
        out.bytes(self);
    }

    #[inline]
    fn read(_: Option<Self>, input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        input.shared()
    }
}

/// Writes seconds and nanoseconds as the fields 1 and 2.
fn write_parts(parts: Option<(i64, u32)>, fault: &str, out: &mut Writer<'_>) {
    match parts {
        Some((seconds, nanos)) => {
            write_single(1, &seconds, out);
            write_single(2, &nanos, out);
        }
        None => out.fail(fault),
    }
}

/// Reads seconds and nanoseconds into those that were there before.
fn read_parts(
    before: Option<(i64, u32)>,
    input: &mut Reader<'_>,
) -> Result<(i64, i64), DecodeError> {
    let (before, nanos_before) = before.unwrap_or_default();
    let (mut seconds, mut nanos) = (Some(before), i32::try_from(nanos_before).ok());
    while let Some(tag) = input.tag()? {
        match tag.number {
            1 => read_one(&mut seconds, "seconds", tag, input)?,
            2 => read_one(&mut nanos, "nanos", tag, input)?,
            _ => input.skip(tag)?,
        }
    }
    Ok((seconds.unwrap_or(0), i64::from(nanos.unwrap_or(0))))
}

macro_rules! times {
    ($($time:ident)*) => { $(
        impl ProtoValue for $time {
            const WIRE: Wire = Wire::Length;

            fn write(&self, out: &mut Writer<'_>) {
                out.nested(|out| self.write_fields(out));
            }

            fn read(before: Option<Self>, input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                input.nested(|input| Self::read_fields(before, input))
            }
        }
    )* };
}

times! { Duration SystemTime }

impl ProtoMessage for Duration {
    fn write_fields(&self, out: &mut Writer<'_>) {
        let parts = duration_parts(*self);
        let parts = parts.and_then(|(seconds, nanos)| Some((i64::try_from(seconds).ok()?, nanos)));
        write_parts(parts, BAD_DURATION, out);
    }

    fn read_fields(before: Option<Self>, input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let before = before.and_then(duration_parts);
        let before =
            before.and_then(|(seconds, nanos)| Some((i64::try_from(seconds).ok()?, nanos)));
        let (seconds, nanos) = read_parts(before, input)?;
        duration_of(seconds, nanos).ok_or_else(|| DecodeError::new(BAD_DURATION))
    }
}

impl ProtoMessage for SystemTime {
    fn write_fields(&self, out: &mut Writer<'_>) {
        write_parts(time_parts(*self), BAD_TIME, out);
    }

    fn read_fields(before: Option<Self>, input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (seconds, nanos) = read_parts(before.and_then(time_parts), input)?;
        time_of(seconds, nanos).ok_or_else(|| DecodeError::new(BAD_TIME))
    }
}
