//! Fields in JSON: one value, one or none, a list, a map.

use core::fmt;
use core::marker::PhantomData;
use serde::de::{
    DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor,
};

use super::write::Writer;
use crate::message::budget::{self, DEPTH_MAX};
use crate::message::value::{Key, Map, Value, entry_memory};

/// A value that has an encoding in JSON.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no encoding in the codec `JSON`",
    note = "write `#[corewire::message]` above its definition, and `#[id(n)]` before each of its fields"
)]
pub trait JsonValue: Value {
    /// Writes the value.
    fn write(&self, out: &mut Writer<'_>);

    /// Reads the value.
    ///
    /// # Errors
    ///
    /// Why the JSON is not one.
    fn read<'de, D: Deserializer<'de>>(input: D) -> Result<Self, D::Error>;
}

/// A message: an object.
pub trait JsonMessage: JsonValue {
    /// What an error calls it.
    const NAME: &'static str;

    /// Reads the fields of an object.
    ///
    /// # Errors
    ///
    /// Why it is no such message.
    fn read_fields<'de, M: MapAccess<'de>>(fields: M) -> Result<Self, M::Error>;
}

/// A key of a map, which is a string in JSON.
pub trait JsonKey: Key {
    /// Writes it as a string.
    fn write_key(&self, write: impl FnOnce(&str));

    /// Reads it from the text of a string.
    fn parse_key(text: &str) -> Option<Self>;
}

impl<T: JsonValue> JsonValue for Box<T> {
    fn write(&self, out: &mut Writer<'_>) {
        T::write(self, out);
    }

    fn read<'de, D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        charge(size_of::<T>())?;
        T::read(input).map(Self::new)
    }
}

/// Charges memory to the body, whose bound was set when its reading began.
pub(super) fn charge<E: Error>(memory: usize) -> Result<(), E> {
    budget::charge(memory, || 0).map_err(E::custom)
}

/// Reads a message.
///
/// # Errors
///
/// Why it is no such message.
pub fn read_message<'de, T: JsonMessage, D: Deserializer<'de>>(input: D) -> Result<T, D::Error> {
    struct Object<T>(PhantomData<T>);

    impl<'de, T: JsonMessage> Visitor<'de> for Object<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "an object, the message {}", T::NAME)
        }

        fn visit_map<M: MapAccess<'de>>(self, fields: M) -> Result<T, M::Error> {
            let _nested = budget::enter().map_err(M::Error::custom)?;
            T::read_fields(fields)
        }
    }

    input.deserialize_map(Object(PhantomData))
}

/// The next field of an object, by the place of its name in `names`; `usize::MAX` for one that is not there.
///
/// # Errors
///
/// The name is no string.
pub fn next<'de, M: MapAccess<'de>>(
    fields: &mut M,
    names: &[[&str; 2]],
) -> Result<Option<usize>, M::Error> {
    struct Names<'n>(&'n [[&'n str; 2]]);

    impl Visitor<'_> for Names<'_> {
        type Value = usize;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the name of a field")
        }

        fn visit_str<E>(self, name: &str) -> Result<usize, E> {
            let place = self.0.iter().position(|names| names.contains(&name));
            Ok(place.unwrap_or(usize::MAX))
        }
    }

    impl<'de> DeserializeSeed<'de> for Names<'_> {
        type Value = usize;

        fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<usize, D::Error> {
            input.deserialize_identifier(self)
        }
    }

    fields.next_key_seed(Names(names))
}

/// Skips the value of a field that is not known.
///
/// # Errors
///
/// It is no JSON.
pub fn skip<'de, M: MapAccess<'de>>(fields: &mut M) -> Result<(), M::Error> {
    fields.next_value::<IgnoredAny>().map(drop)
}

/// What was read of one field.
#[derive(Debug)]
pub struct Slot<T> {
    seen: bool,
    value: Option<T>,
}

impl<T> Slot<T> {
    /// Nothing was read yet.
    #[must_use]
    pub const fn empty() -> Self {
        Self { seen: false, value: None }
    }

    fn fill<E: Error>(&mut self, name: &str, read: Result<Option<T>, E>) -> Result<(), E> {
        match read {
            Ok(_) if self.seen => Err(E::custom(format_args!("the field `{name}` comes twice"))),
            Ok(value) => {
                self.seen = true;
                self.value = value;
                Ok(())
            }
            Err(error) => Err(E::custom(format_args!("field `{name}`: {error}"))),
        }
    }

    /// What was read.
    pub fn into_value(self) -> Option<T> {
        self.value
    }
}

/// A value that may be `null`, by a way to read it.
struct Nullable<F, T>(F, PhantomData<T>);

/// A way to read a value.
trait Read<'de, T> {
    fn read<D: Deserializer<'de>>(self, input: D) -> Result<T, D::Error>;
}

impl<'de, T, F: Read<'de, T>> DeserializeSeed<'de> for Nullable<F, T> {
    type Value = Option<T>;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Option<T>, D::Error> {
        input.deserialize_option(self)
    }
}

impl<'de, T, F: Read<'de, T>> Visitor<'de> for Nullable<F, T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or null")
    }

    fn visit_none<E>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, input: D) -> Result<Option<T>, D::Error> {
        self.0.read(input).map(Some)
    }
}

struct One;

impl<'de, T: JsonValue> Read<'de, T> for One {
    fn read<D: Deserializer<'de>>(self, input: D) -> Result<T, D::Error> {
        T::read(input)
    }
}

impl<'de, T: JsonValue> DeserializeSeed<'de> for Element<T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<T, D::Error> {
        T::read(input)
    }
}

struct Element<T>(PhantomData<T>);

/// Reads a field with one value, or with one or none.
///
/// # Errors
///
/// Why the JSON is not one.
pub fn read_one<'de, T: JsonValue, M: MapAccess<'de>>(
    slot: &mut Slot<T>,
    name: &str,
    fields: &mut M,
) -> Result<(), M::Error> {
    let read = fields.next_value_seed(Nullable(One, PhantomData));
    slot.fill(name, read)
}

/// Reads a variant without data.
///
/// # Errors
///
/// It is no object.
pub fn read_unit<'de, M: MapAccess<'de>>(
    slot: &mut Slot<()>,
    name: &str,
    fields: &mut M,
) -> Result<(), M::Error> {
    struct Empty;

    impl<'de> Read<'de, ()> for Empty {
        fn read<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
            input.deserialize_map(self)
        }
    }

    impl<'de> Visitor<'de> for Empty {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an empty object")
        }

        fn visit_map<M: MapAccess<'de>>(self, mut fields: M) -> Result<(), M::Error> {
            while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(())
        }
    }

    let read = fields.next_value_seed(Nullable(Empty, PhantomData));
    slot.fill(name, read)
}

/// The value of a field that always has one.
///
/// # Errors
///
/// The field was not sent, and nothing can stand for it.
pub fn finish<T: JsonValue, E: Error>(slot: Slot<T>, name: &str) -> Result<T, E> {
    slot.value
        .or_else(|| T::absent(DEPTH_MAX))
        .ok_or_else(|| E::custom(format_args!("the field `{name}` is missing")))
}

/// Reads a list.
///
/// # Errors
///
/// Why the JSON is not one, or that it would take too much memory.
pub fn read_list<'de, T: JsonValue, M: MapAccess<'de>>(
    slot: &mut Slot<Vec<T>>,
    name: &str,
    fields: &mut M,
) -> Result<(), M::Error> {
    struct List<T>(PhantomData<T>);

    impl<'de, T: JsonValue> Read<'de, Vec<T>> for List<T> {
        fn read<D: Deserializer<'de>>(self, input: D) -> Result<Vec<T>, D::Error> {
            input.deserialize_seq(self)
        }
    }

    impl<'de, T: JsonValue> Visitor<'de> for List<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<S: SeqAccess<'de>>(self, mut elements: S) -> Result<Vec<T>, S::Error> {
            let mut list = Vec::new();
            while let Some(element) = elements.next_element_seed(Element(PhantomData))? {
                charge(size_of::<T>())?;
                list.push(element);
            }
            Ok(list)
        }
    }

    let read = fields.next_value_seed(Nullable(List(PhantomData), PhantomData));
    slot.fill(name, read)
}

/// Reads a map.
///
/// # Errors
///
/// Why the JSON is not one, or that it would take too much memory.
pub fn read_map<'de, T, M>(slot: &mut Slot<T>, name: &str, fields: &mut M) -> Result<(), M::Error>
where
    T: Map<Key: JsonKey, Value: JsonValue>,
    M: MapAccess<'de>,
{
    struct Entries<T>(PhantomData<T>);
    struct KeyOf<T>(PhantomData<T>);

    impl<'de, T: JsonKey> DeserializeSeed<'de> for KeyOf<T> {
        type Value = T;

        fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<T, D::Error> {
            input.deserialize_str(self)
        }
    }

    impl<T: JsonKey> Visitor<'_> for KeyOf<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a key")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            T::parse_key(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
        }
    }

    impl<'de, T: Map<Key: JsonKey, Value: JsonValue>> Read<'de, T> for Entries<T> {
        fn read<D: Deserializer<'de>>(self, input: D) -> Result<T, D::Error> {
            input.deserialize_map(self)
        }
    }

    impl<'de, T: Map<Key: JsonKey, Value: JsonValue>> Visitor<'de> for Entries<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object, the entries of a map")
        }

        fn visit_map<M: MapAccess<'de>>(self, mut entries: M) -> Result<T, M::Error> {
            let mut map = T::default();
            while let Some(key) = entries.next_key_seed(KeyOf(PhantomData))? {
                charge(entry_memory::<T>())?;
                let value = entries.next_value_seed(Element(PhantomData))?;
                if !map.put(key, value) {
                    return Err(M::Error::custom("a key comes twice"));
                }
            }
            Ok(map)
        }
    }

    let read = fields.next_value_seed(Nullable(Entries(PhantomData), PhantomData));
    slot.fill(name, read)
}

/// Writes a field with one value, unless its reader assumes it.
pub fn write_single<T: JsonValue>(name: &str, value: &T, out: &mut Writer<'_>) {
    if !value.is_absent() {
        write_always(name, value, out);
    }
}

/// Writes a field with one value.
pub fn write_always<T: JsonValue>(name: &str, value: &T, out: &mut Writer<'_>) {
    out.field(name, |out| value.write(out));
}

/// Writes a variant without data.
pub fn write_unit(name: &str, out: &mut Writer<'_>) {
    out.field(name, |out| out.object(|_| ()));
}

/// Writes a field with one value or none.
pub fn write_optional<T: JsonValue>(name: &str, value: &Option<T>, out: &mut Writer<'_>) {
    if let Some(value) = value {
        write_always(name, value, out);
    }
}

/// Writes a list, unless it is empty.
pub fn write_list<T: JsonValue>(name: &str, values: &[T], out: &mut Writer<'_>) {
    if !values.is_empty() {
        out.field(name, |out| {
            out.list(|out| values.iter().for_each(|value| out.element(|out| value.write(out))));
        });
    }
}

/// Writes a map, unless it is empty.
pub fn write_map<T>(name: &str, map: &T, out: &mut Writer<'_>)
where
    T: Map<Key: JsonKey, Value: JsonValue>,
{
    if map.count() > 0 {
        out.field(name, |out| {
            out.object(|out| {
                for (key, value) in map.entries() {
                    key.write_key(|key| out.field(key, |out| value.write(out)));
                }
            });
        });
    }
}

/// The number of an enum, by one of its names or as a number.
///
/// # Errors
///
/// It is neither, or a name that is not known.
pub fn read_enum<'de, D: Deserializer<'de>>(
    names: &[(u32, &str)],
    input: D,
) -> Result<i64, D::Error> {
    struct Names<'n>(&'n [(u32, &'n str)]);

    impl Visitor<'_> for Names<'_> {
        type Value = i64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the name or the number of an enum's value")
        }

        fn visit_str<E: Error>(self, name: &str) -> Result<i64, E> {
            let known = self.0.iter().find(|(_, known)| *known == name);
            match known {
                Some(&(number, _)) => Ok(i64::from(number)),
                None => Err(E::invalid_value(Unexpected::Str(name), &self)),
            }
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<i64, E> {
            i64::try_from(number).map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
        }

        fn visit_i64<E>(self, number: i64) -> Result<i64, E> {
            Ok(number)
        }
    }

    input.deserialize_any(Names(names))
}

/// Takes a variant that was read.
///
/// # Errors
///
/// There was one before.
pub fn set_variant<T, E: Error>(slot: &mut Option<T>, value: T, name: &str) -> Result<(), E> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(E::custom(format_args!("two variants of {name} were sent"))),
    }
}

/// The error for an enum with data of which no known variant was sent.
#[cold]
pub fn no_variant<E: Error>(name: &str) -> E {
    E::custom(format_args!("no variant of {name} that is known here was sent"))
}

/// The error for an enum's number that is not known.
#[cold]
pub fn unknown_number<E: Error>(number: i64, name: &str) -> E {
    E::custom(format_args!("{number} is no value of {name}"))
}
