//! What a message type is made of, at run time, and its fingerprint.

use core::any::TypeId;
use std::collections::HashMap;

/// The type of a field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Type {
    /// `bool`.
    Bool,
    /// `u8`, for protobuf a `uint32`.
    U8,
    /// `u16`, for protobuf a `uint32`.
    U16,
    /// `u32`.
    U32,
    /// `u64`.
    U64,
    /// `i8`, for protobuf an `int32`.
    I8,
    /// `i16`, for protobuf an `int32`.
    I16,
    /// `i32`.
    I32,
    /// `i64`.
    I64,
    /// `f32`.
    F32,
    /// `f64`.
    F64,
    /// `String`.
    String,
    /// `Bytes` or `Vec<u8>`.
    Bytes,
    /// `Duration`, a `google.protobuf.Duration`.
    Duration,
    /// `SystemTime`, a `google.protobuf.Timestamp`.
    Timestamp,
    /// A variant without data, a `google.protobuf.Empty`.
    Empty,
    /// A message: its place in [`Schema::messages`].
    Message(usize),
    /// An enum without data: its place in [`Schema::enums`].
    Enum(usize),
}

/// How many values a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shape {
    /// One.
    Single,
    /// One or none.
    Optional,
    /// Any number.
    List,
    /// Any number, by keys of this type.
    Map(Type),
}

/// A field of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Field {
    /// Its number.
    pub number: u32,
    /// Its name, as in Rust.
    pub name: &'static str,
    /// Its name in JSON.
    pub json_name: &'static str,
    /// How many values it holds.
    pub shape: Shape,
    /// What they are.
    pub ty: Type,
}

/// A message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MessageSchema {
    /// Its name with its package: `notes.v1.Note`.
    pub name: String,
    /// Whether exactly one of its fields is there: an enum with data.
    pub is_one_of: bool,
    /// Its fields, in the order of their declaration.
    pub fields: Vec<Field>,
    /// The numbers that no field may have, from and to.
    pub reserved: &'static [(u32, u32)],
}

/// An enum without data.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EnumSchema {
    /// Its name with its package.
    pub name: String,
    /// Its values, in the order of their declaration.
    pub values: &'static [(u32, &'static str)],
    /// Whether it keeps numbers that it does not know.
    pub keeps_unknown: bool,
}

/// A type with all that it is made of.
#[derive(Clone, Debug)]
pub struct Schema {
    pub(super) root: Type,
    pub(super) messages: Vec<MessageSchema>,
    pub(super) enums: Vec<EnumSchema>,
    pub(super) known: HashMap<TypeId, Type>,
}

impl Schema {
    /// The type that it is the schema of.
    #[must_use]
    pub const fn root(&self) -> Type {
        self.root
    }

    /// All messages that the type is made of, each before those in its fields.
    #[must_use]
    pub fn messages(&self) -> &[MessageSchema] {
        &self.messages
    }

    /// All enums without data that the type is made of.
    #[must_use]
    pub fn enums(&self) -> &[EnumSchema] {
        &self.enums
    }

    /// The name of a type of this schema, as protobuf has it.
    #[must_use]
    pub fn name_of(&self, ty: Type) -> &str {
        match ty {
            Type::Bool => "bool",
            Type::U8 | Type::U16 | Type::U32 => "uint32",
            Type::U64 => "uint64",
            Type::I8 | Type::I16 | Type::I32 => "int32",
            Type::I64 => "int64",
            Type::F32 => "float",
            Type::F64 => "double",
            Type::String => "string",
            Type::Bytes => "bytes",
            Type::Duration => "google.protobuf.Duration",
            Type::Timestamp => "google.protobuf.Timestamp",
            Type::Empty => "google.protobuf.Empty",
            Type::Message(at) => self.messages.get(at).map_or("", |it| &it.name),
            Type::Enum(at) => self.enums.get(at).map_or("", |it| &it.name),
        }
    }

    /// The name of a generic message: its own and that of each argument, `Page_Note`.
    #[must_use]
    pub fn generic_name(&self, name: &str, arguments: &[Type]) -> String {
        let mut whole = name.to_owned();
        for &argument in arguments {
            whole.push('_');
            whole.push_str(&self.name_of(argument).replace('.', "_"));
        }
        whole
    }

    /// A number for all that decides what the bytes of the type mean: the order of fields, their numbers, shapes and types, down
    /// to the last message. Two types with equal fingerprints have the same speedy encoding. Names do not count, so a
    /// renamed field changes nothing. It is the same on every machine and in every build.
    ///
    /// It tells versions of a service apart. It is no protection against somebody who looks for a collision.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Hash::new();
        hash.ty(self.root);
        for message in &self.messages {
            hash.word(if message.is_one_of { 2 } else { 1 });
            hash.word(u64::try_from(message.fields.len()).unwrap_or(u64::MAX));
            for field in &message.fields {
                hash.word(u64::from(field.number));
                match field.shape {
                    Shape::Single => hash.word(0),
                    Shape::Optional => hash.word(1),
                    Shape::List => hash.word(2),
                    Shape::Map(key) => {
                        hash.word(3);
                        hash.ty(key);
                    }
                }
                hash.ty(field.ty);
            }
        }
        for described in &self.enums {
            hash.word(3);
            hash.word(u64::try_from(described.values.len()).unwrap_or(u64::MAX));
            for &(number, _) in described.values {
                hash.word(u64::from(number));
            }
        }
        hash.0
    }
}

/// FNV-1a, 64 bits, over words of eight bytes, the lowest first.
struct Hash(u64);

impl Hash {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn word(&mut self, word: u64) {
        for byte in word.to_le_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// These numbers are part of every fingerprint and never change.
    fn ty(&mut self, ty: Type) {
        let (number, place) = match ty {
            Type::Bool => (1, 0),
            Type::U8 => (2, 0),
            Type::U16 => (3, 0),
            Type::U32 => (4, 0),
            Type::U64 => (5, 0),
            Type::I8 => (6, 0),
            Type::I16 => (7, 0),
            Type::I32 => (8, 0),
            Type::I64 => (9, 0),
            Type::F32 => (10, 0),
            Type::F64 => (11, 0),
            Type::String => (12, 0),
            Type::Bytes => (13, 0),
            Type::Duration => (14, 0),
            Type::Timestamp => (15, 0),
            Type::Empty => (16, 0),
            Type::Message(at) => (17, at),
            Type::Enum(at) => (18, at),
        };
        self.word(number);
        self.word(u64::try_from(place).unwrap_or(u64::MAX));
    }
}
