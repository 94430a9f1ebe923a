//! Fields in protobuf: one value, one or none, a list, a map.

use super::Wire;
use super::read::{Reader, Tag};
use super::write::Writer;
use crate::message::value::{Map, Value, entry_memory};
use crate::payload::codec::DecodeError;

/// A value that has an encoding in protobuf.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no encoding in the codec `protobuf`",
    note = "write `#[corewire::message]` above its definition, and `#[id(n)]` before each of its fields"
)]
pub trait ProtoValue: Value {
    /// The kind of the value on the wire.
    const WIRE: Wire;

    /// Writes the value, without its field's number.
    fn write(&self, out: &mut Writer<'_>);

    /// Reads the value. Where the field was there `before`, a message is merged into what it was then.
    ///
    /// # Errors
    ///
    /// Why the bytes are not one.
    fn read(before: Option<Self>, input: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

/// A message: a run of fields.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no message, which the codec `protobuf` takes",
    note = "write `#[corewire::message]` above its definition, and `#[id(n)]` before each of its fields"
)]
pub trait ProtoMessage: ProtoValue {
    /// Writes the fields.
    fn write_fields(&self, out: &mut Writer<'_>);

    /// Reads fields up to the end, into what was there `before`.
    ///
    /// # Errors
    ///
    /// Why the bytes are no such message.
    fn read_fields(before: Option<Self>, input: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

impl<T: ProtoValue> ProtoValue for Box<T> {
    const WIRE: Wire = T::WIRE;

    fn write(&self, out: &mut Writer<'_>) {
        T::write(self, out);
    }

    fn read(before: Option<Self>, input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        input.charge(size_of::<T>())?;
        T::read(before.map(|it| *it), input).map(Self::new)
    }
}

/// Writes a field with one value, unless its reader assumes it.
#[inline]
pub fn write_single<T: ProtoValue>(number: u32, value: &T, out: &mut Writer<'_>) {
    if !value.is_absent() {
        write_always(number, value, out);
    }
}

/// Writes a field with one value.
#[inline]
pub fn write_always<T: ProtoValue>(number: u32, value: &T, out: &mut Writer<'_>) {
    out.tag(number, T::WIRE);
    value.write(out);
}

/// Writes a variant without data.
#[inline]
pub fn write_unit(number: u32, out: &mut Writer<'_>) {
    out.tag(number, Wire::Length);
    out.bytes(&[]);
}

/// Writes a field with one value or none.
#[inline]
pub fn write_optional<T: ProtoValue>(number: u32, value: &Option<T>, out: &mut Writer<'_>) {
    if let Some(value) = value {
        write_always(number, value, out);
    }
}

/// Writes a list: numbers packed, others one by one.
#[inline]
pub fn write_list<T: ProtoValue>(number: u32, values: &[T], out: &mut Writer<'_>) {
    if T::WIRE == Wire::Length {
        for value in values {
            write_always(number, value, out);
        }
    } else if !values.is_empty() {
        out.tag(number, Wire::Length);
        out.packed(|out| values.iter().for_each(|value| value.write(out)));
    }
}

/// Writes a map: each entry is a message of key and value.
pub fn write_map<M>(number: u32, map: &M, out: &mut Writer<'_>)
where
    M: Map<Key: ProtoValue, Value: ProtoValue>,
{
    for (key, value) in map.entries() {
        out.tag(number, Wire::Length);
        out.nested(|out| {
            write_always(1, key, out);
            write_always(2, value, out);
        });
    }
}

/// Reads a field with one value, or with one or none.
///
/// # Errors
///
/// Why the bytes are not one.
#[inline]
pub fn read_one<T: ProtoValue>(
    slot: &mut Option<T>,
    name: &str,
    tag: Tag,
    input: &mut Reader<'_>,
) -> Result<(), DecodeError> {
    let read = match tag.wire == T::WIRE {
        true => T::read(slot.take(), input),
        false => Err(other_wire(tag.wire, T::WIRE)),
    };
    *slot = Some(read.map_err(|error| error.in_field(name))?);
    Ok(())
}

/// Reads a variant without data.
///
/// # Errors
///
/// Why the bytes are not one.
pub fn read_unit(name: &str, tag: Tag, input: &mut Reader<'_>) -> Result<(), DecodeError> {
    if tag.wire != Wire::Length {
        return Err(other_wire(tag.wire, Wire::Length).in_field(name));
    }
    let skipped = input.nested(|input| {
        while let Some(tag) = input.tag()? {
            input.skip(tag)?;
        }
        Ok(())
    });
    skipped.map_err(|error| error.in_field(name))
}

/// The value of a field that always has one.
///
/// # Errors
///
/// The field was not sent, and nothing can stand for it.
#[inline]
pub fn finish<T: ProtoValue>(
    slot: Option<T>,
    name: &str,
    input: &Reader<'_>,
) -> Result<T, DecodeError> {
    match slot {
        Some(value) => Ok(value),
        None => T::absent(input.depth_left()).ok_or_else(|| missing(name)),
    }
}

/// Reads one element of a list, or some that are packed.
///
/// # Errors
///
/// Why the bytes are not one, or that the list would take too much memory.
#[inline]
pub fn read_list<T: ProtoValue>(
    list: &mut Vec<T>,
    name: &str,
    tag: Tag,
    input: &mut Reader<'_>,
) -> Result<(), DecodeError> {
    let read = if tag.wire == T::WIRE {
        push(list, input)
    } else if tag.wire == Wire::Length {
        input.packed(|input| {
            while !input.is_empty() {
                push(list, input)?;
            }
            Ok(())
        })
    } else {
        Err(other_wire(tag.wire, T::WIRE))
    };
    read.map_err(|error| error.in_field(name))
}

#[inline]
fn push<T: ProtoValue>(list: &mut Vec<T>, input: &mut Reader<'_>) -> Result<(), DecodeError> {
    input.charge(size_of::<T>())?;
    list.push(T::read(None, input)?);
    Ok(())
}

/// Reads one entry of a map.
///
/// # Errors
///
/// Why the bytes are not one, or that the map would take too much memory.
pub fn read_map<M>(
    map: &mut M,
    name: &str,
    tag: Tag,
    input: &mut Reader<'_>,
) -> Result<(), DecodeError>
where
    M: Map<Key: ProtoValue, Value: ProtoValue>,
{
    if tag.wire != Wire::Length {
        return Err(other_wire(tag.wire, Wire::Length).in_field(name));
    }
    let entry = input.nested(|input| {
        input.charge(entry_memory::<M>())?;
        let (mut key, mut value) = (None, None);
        while let Some(tag) = input.tag()? {
            match tag.number {
                1 => read_one(&mut key, "key", tag, input)?,
                2 => read_one(&mut value, "value", tag, input)?,
                _ => input.skip(tag)?,
            }
        }
        Ok((finish(key, "key", input)?, finish(value, "value", input)?))
    });
    let (key, value) = entry.map_err(|error| error.in_field(name))?;
    map.put(key, value);
    Ok(())
}

/// The error for an enum with data of which no known variant was sent.
#[cold]
pub fn no_variant(name: &str) -> DecodeError {
    DecodeError::new(format!("no variant of {name} that is known here was sent"))
}

/// The error for an enum's number that is not known.
#[cold]
pub fn unknown_number(number: i64, name: &str) -> DecodeError {
    DecodeError::new(format!("{number} is no value of {name}"))
}

#[cold]
fn missing(name: &str) -> DecodeError {
    DecodeError::new(format!("the field `{name}` is missing"))
}

#[cold]
fn other_wire(got: Wire, wanted: Wire) -> DecodeError {
    DecodeError::new(format!("it comes as {got:?} where {wanted:?} is expected"))
}
