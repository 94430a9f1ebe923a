//! Values of fields, and speedy's encoding of them.
//!
//! The bytes are those of speedy 0.8's own derive for the same struct, with these differences: an enum is its number and not its
//! place, a message without fields takes a byte, and times have one form on all platforms. Lists are read with a bound on
//! what they take in memory.

use bytes::Bytes;
use core::hash::Hash;
use speedy::{Context, Error, Reader, Writer};
use std::collections::{BTreeMap, HashMap};

use super::budget;
use super::schema::{Schema, Type};

/// What can stand in a field of a message: scalars, `String`, `Bytes` and `Vec<u8>`, `Duration` and `SystemTime`, `Box`es of
/// these, and messages.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a field of a message",
    label = "has no number in any schema",
    note = "write `#[corewire::message]` above its definition, and `#[id(n)]` before each of its fields"
)]
pub trait Value: Sized + 'static {
    /// The fewest bytes that a value takes in speedy's encoding; never 0.
    const LEAST_BYTES: usize;

    /// Adds the type to a schema, with all that it is made of.
    fn describe(schema: &mut Schema) -> Type;

    /// What stands for a value that was not sent: zero, nothing, a message of such values. `None` if there is no such
    /// value, as for enums with data. `depth` is how deep messages may still nest.
    fn absent(depth: u32) -> Option<Self>;

    /// Whether codecs that name their fields leave this one out, because the reader assumes it.
    fn is_absent(&self) -> bool;

    /// Writes the value in speedy's encoding.
    ///
    /// # Errors
    ///
    /// A length above `u32::MAX`, a time out of range, or an error of the writer.
    fn write_speedy<C: Context, W: ?Sized + Writer<C>>(&self, out: &mut W) -> Result<(), C::Error>;

    /// Reads a value in speedy's encoding.
    ///
    /// # Errors
    ///
    /// Why the bytes are not one.
    fn read_speedy<'a, C: Context, R: Reader<'a, C>>(input: &mut R) -> Result<Self, C::Error>;
}

/// A scalar that is a map's key: integers, `bool`, `String`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the key of a map in a message",
    note = "keys are `String`, `bool` and integers"
)]
pub trait Key: Value + Eq + Hash + Ord {}

/// An error with a sentence of its own, as speedy reports it.
#[cold]
pub fn fault(text: impl core::fmt::Display) -> Error {
    Error::custom(text)
}

/// The error for an enum's number that is not known.
#[cold]
pub fn unknown_number(number: u32, name: &str) -> Error {
    Error::custom(format!("{number} is no value of {name}"))
}

macro_rules! scalars {
    ($($scalar:ident $write:ident $read:ident $name:ident)*) => { $(
        impl Value for $scalar {
            const LEAST_BYTES: usize = size_of::<Self>();

            fn describe(_: &mut Schema) -> Type {
                Type::$name
            }

            fn absent(_: u32) -> Option<Self> {
                Some(Self::default())
            }

            #[inline]
            fn is_absent(&self) -> bool {
                self.to_le_bytes() == Self::default().to_le_bytes()
            }

            #[inline]
            fn write_speedy<C: Context, W: ?Sized + Writer<C>>(&self, out: &mut W) -> Result<(), C::Error> {
                out.$write(*self)
            }

            #[inline]
            fn read_speedy<'a, C: Context, R: Reader<'a, C>>(input: &mut R) -> Result<Self, C::Error> {
                input.$read()
            }
        }
    )* };
}

scalars! {
    u8 write_u8 read_u8 U8
    u16 write_u16 read_u16 U16
    u32 write_u32 read_u32 U32
    u64 write_u64 read_u64 U64
    i8 write_i8 read_i8 I8
    i16 write_i16 read_i16 I16
    i32 write_i32 read_i32 I32
    i64 write_i64 read_i64 I64
    f32 write_f32 read_f32 F32
    f64 write_f64 read_f64 F64
}

macro_rules! keys {
    ($($key:ident)*) => { $(impl Key for $key {})* };
}

keys! { u8 u16 u32 u64 i8 i16 i32 i64 bool String }

impl Value for bool {
    const LEAST_BYTES: usize = 1;

    fn describe(_: &mut Schema) -> Type {
        Type::Bool
    }

    fn absent(_: u32) -> Option<Self> {
        Some(false)
    }

    #[inline]
    fn is_absent(&self) -> bool {
        !*self
    }

    #[inline]
    fn write_speedy<C: Context, W: ?Sized + Writer<C>>(&self, out: &mut W) -> Result<(), C::Error> {
        out.write_u8(u8::from(*self))
    }

    #[inline]
    fn read_speedy<'a, C: Context, R: Reader<'a, C>>(input: &mut R) -> Result<Self, C::Error> {
        Ok(input.read_u8()? != 0)
    }
}

impl Value for String {
    const LEAST_BYTES: usize = 4;

    fn describe(_: &mut Schema) -> Type {
        Type::String
    }

    fn absent(_: u32) -> Option<Self> {
        Some(Self::new())
    }

    #[inline]
    fn is_absent(&self) -> bool {
        self.is_empty()
    }

    #[inline]
    fn write_speedy<C: Context, W: ?Sized + Writer<C>>(&self, out: &mut W) -> Result<(), C::Error> {
        write_length(self.len(), out)?;
        out.write_bytes(self.as_bytes())
    }

    #[inline]
    fn read_speedy<'a, C: Context, R: Reader<'a, C>>(input: &mut R) -> Result<Self, C::Error> {
        let bytes = Vec::<u8>::read_speedy(input)?;
        Self::from_utf8(bytes).map_err(|_| fault("a text is not UTF-8").into())
    }
}

impl Value for Vec<u8> {
    const LEAST_BYTES: usize = 4;

    fn describe(_: &mut Schema) -> Type {
        Type::Bytes
    }

    fn absent(_: u32) -> Option<Self> {
        Some(Self::new())
    }

    #[inline]
    fn is_absent(&self) -> bool {
        self.is_empty()
    }

    #[inline]
    fn write_speedy<C: Context, W: ?Sized + Writer<C>>(&self, out: &mut W) -> Result<(), C::Error> {
        write_length(self.len(), out)?;
        out.write_bytes(self)
    }

    #[inline]
    fn read_speedy<'a, C: Context, R: Reader<'a, C>>(input: &mut R) -> Result<Self, C::Error> {
        let length = read_length(input, 1)?;
        input.read_vec(length)
    }
}

impl Value for Bytes {
    const LEAST_BYTES: usize = 4;

    fn describe(_: &mut Schema) -> Type {
        Type::Bytes
    }

    fn absent(_: u32) -> Option<Self> {
        Some(Self::new())
    }

    #[inline]
    fn is_absent(&self) -> bool {
        self.is_empty()
    }

    #[inline]
    fn write_speedy<C: Context, W: ?Sized + Writer<C>>(&self, out: &mut W) -> Result<(), C::Error> {
        write_length(self.len(), out)?;
        out.write_bytes(self)
    }

    #[inline]
    fn read_speedy<'a, C: Context, R: Reader<'a, C>>(input: &mut R) -> Result<Self, C::Error> {
        Ok(Self::from(Vec::<u8>::read_speedy(input)?))
    }
}

impl<T: Value> Value for Box<T> {
    const LEAST_BYTES: usize = T::LEAST_BYTES;

    fn describe(schema: &mut Schema) -> Type {
        T::describe(schema)
    }

    fn absent(depth: u32) -> Option<Self> {
        T::absent(depth).map(Self::new)
    }

    #[inline]
    fn is_absent(&self) -> bool {
        T::is_absent(self)
    }

    #[inline]
    fn write_speedy<C: Context, W: ?Sized + Writer<C>>(&self, out: &mut W) -> Result<(), C::Error> {
        T::write_speedy(self, out)
    }

    #[inline]
    fn read_speedy<'a, C: Context, R: Reader<'a, C>>(input: &mut R) -> Result<Self, C::Error> {
        charge(input, size_of::<T>())?;
        T::read_speedy(input).map(Self::new)
    }
}

/// Enters a message that is being read.
///
/// # Errors
///
/// Too many are nested.
#[inline]
pub fn enter<C: Context>() -> Result<budget::Nested, C::Error> {
    budget::enter().map_err(|exceeded| fault(exceeded).into())
}

/// Charges memory that a value takes beside its place in what holds it.
#[inline]
fn charge<'a, C: Context, R: Reader<'a, C>>(input: &R, memory: usize) -> Result<(), C::Error> {
    budget::charge(memory, || rest_at_least(input)).map_err(|exceeded| fault(exceeded).into())
}

/// How many bytes are left, from below and within a factor of two.
#[cold]
fn rest_at_least<'a, C: Context, R: Reader<'a, C>>(input: &R) -> usize {
    let mut known = 0;
    let mut wanted = 1_usize;
    while input.can_read_at_least(wanted) == Some(true) {
        known = wanted;
        let Some(twice) = wanted.checked_mul(2) else { break };
        wanted = twice;
    }
    known
}

#[inline]
fn write_length<C: Context, W: ?Sized + Writer<C>>(
    length: usize,
    out: &mut W,
) -> Result<(), C::Error> {
    match u32::try_from(length) {
        Ok(length) => out.write_u32(length),
        Err(_) => Err(fault("a list or text has more than 4,294,967,295 elements").into()),
    }
}

/// Reads a length of elements of which each takes at least `least` bytes.
#[inline]
fn read_length<'a, C: Context, R: Reader<'a, C>>(
    input: &mut R,
    least: usize,
) -> Result<usize, C::Error> {
    let length = usize::try_from(input.read_u32()?).unwrap_or(usize::MAX);
    match input.can_read_at_least(length.saturating_mul(least)) {
        Some(true) => Ok(length),
        _ => Err(fault("a length promises more than follows").into()),
    }
}

/// Writes an optional value.
///
/// # Errors
///
/// As its value's.
#[inline]
pub fn write_optional<C: Context, W: ?Sized + Writer<C>, T: Value>(
    value: &Option<T>,
    out: &mut W,
) -> Result<(), C::Error> {
    match value {
        None => out.write_u8(0),
        Some(value) => {
            out.write_u8(1)?;
            value.write_speedy(out)
        }
    }
}

/// Reads an optional value.
///
/// # Errors
///
/// Why the bytes are not one.
#[inline]
pub fn read_optional<'a, C: Context, R: Reader<'a, C>, T: Value>(
    input: &mut R,
) -> Result<Option<T>, C::Error> {
    if input.read_u8()? == 0 { Ok(None) } else { T::read_speedy(input).map(Some) }
}

/// Writes a list.
///
/// # Errors
///
/// As its values', and a length above `u32::MAX`.
#[inline]
pub fn write_list<C: Context, W: ?Sized + Writer<C>, T: Value>(
    values: &[T],
    out: &mut W,
) -> Result<(), C::Error> {
    write_length(values.len(), out)?;
    values.iter().try_for_each(|value| value.write_speedy(out))
}

/// Reads a list.
///
/// # Errors
///
/// Why the bytes are not one, or that it would take too much memory.
#[inline]
pub fn read_list<'a, C: Context, R: Reader<'a, C>, T: Value>(
    input: &mut R,
) -> Result<Vec<T>, C::Error> {
    let length = read_length(input, T::LEAST_BYTES)?;
    charge(input, length.saturating_mul(size_of::<T>()))?;
    let mut values = Vec::with_capacity(length);
    for _ in 0..length {
        values.push(T::read_speedy(input)?);
    }
    Ok(values)
}

/// A map of a message.
pub trait Map: Default {
    /// Its keys.
    type Key: Key;
    /// Its values.
    type Value: Value;

    /// How many entries there are.
    fn count(&self) -> usize;

    /// The entries, in any order.
    fn entries(&self) -> impl Iterator<Item = (&Self::Key, &Self::Value)>;

    /// Puts an entry in place of one with the same key. Whether there was none.
    fn put(&mut self, key: Self::Key, value: Self::Value) -> bool;
}

macro_rules! maps {
    ($($map:ident)*) => { $(
        impl<K: Key, V: Value> Map for $map<K, V> {
            type Key = K;
            type Value = V;

            fn count(&self) -> usize {
                self.len()
            }

            fn entries(&self) -> impl Iterator<Item = (&K, &V)> {
                self.iter()
            }

            fn put(&mut self, key: K, value: V) -> bool {
                self.insert(key, value).is_none()
            }
        }
    )* };
}

maps! { HashMap BTreeMap }

/// What an entry of a map takes in memory, about.
pub(crate) const fn entry_memory<M: Map>() -> usize {
    2_usize.saturating_mul(size_of::<M::Key>().saturating_add(size_of::<M::Value>()))
}

/// Writes a map.
///
/// # Errors
///
/// As its values', and a length above `u32::MAX`.
pub fn write_map<C: Context, W: ?Sized + Writer<C>, M: Map>(
    map: &M,
    out: &mut W,
) -> Result<(), C::Error> {
    write_length(map.count(), out)?;
    map.entries().try_for_each(|(key, value)| {
        key.write_speedy(out)?;
        value.write_speedy(out)
    })
}

/// Reads a map; of equal keys the last counts.
///
/// # Errors
///
/// Why the bytes are not one, or that it would take too much memory.
pub fn read_map<'a, C: Context, R: Reader<'a, C>, M: Map>(input: &mut R) -> Result<M, C::Error> {
    let least = M::Key::LEAST_BYTES.saturating_add(M::Value::LEAST_BYTES);
    let length = read_length(input, least)?;
    charge(input, length.saturating_mul(entry_memory::<M>()))?;
    let mut map = M::default();
    for _ in 0..length {
        let key = M::Key::read_speedy(input)?;
        map.put(key, M::Value::read_speedy(input)?);
    }
    Ok(map)
}
