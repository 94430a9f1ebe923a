//! A schema as a protobuf `FileDescriptorProto`, which every protobuf library takes.

use std::collections::BTreeSet;

use super::Wire;
use super::write::Writer;
use crate::message::schema::{EnumSchema, Field, MessageSchema, Schema, Shape, Type};
use crate::payload::codec::EncodeError;

impl Schema {
    /// The messages and enums of the schema as an encoded `google.protobuf.FileDescriptorProto` with this file name.
    ///
    /// # Errors
    ///
    /// The types are in different packages, or two of them have the same name.
    pub fn file_descriptor(&self, file: &str) -> Result<Vec<u8>, EncodeError> {
        let package = self.package()?;
        let mut bytes = Vec::new();
        let mut out = Writer::new(&mut bytes);
        text(1, file, &mut out);
        text(2, package, &mut out);
        for (dependency, used) in self.dependencies() {
            if used {
                text(3, dependency, &mut out);
            }
        }
        for message in self.messages() {
            part(4, &mut out, |out| self.describe_message(message, out));
        }
        for described in self.enums() {
            part(5, &mut out, |out| describe_enum(described, out));
        }
        text(12, "proto3", &mut out);
        out.finish()?;
        Ok(bytes)
    }

    /// The one package of all types.
    fn package(&self) -> Result<&str, EncodeError> {
        let names = self.messages().iter().map(|it| it.name.as_str());
        let names = names.chain(self.enums().iter().map(|it| it.name.as_str()));
        let mut first = None;
        let mut seen = BTreeSet::new();
        for name in names {
            let (package, _) = split(name);
            if *first.get_or_insert(package) != package {
                let first = first.unwrap_or_default();
                return Err(EncodeError::new(format!(
                    "a file has one package, but the types are in `{first}` and `{package}`"
                )));
            }
            if !seen.insert(name) {
                return Err(EncodeError::new(format!(
                    "two types have the name `{name}`; give one of them another by `name = \"…\"`"
                )));
            }
        }
        Ok(first.unwrap_or_default())
    }

    fn dependencies(&self) -> [(&'static str, bool); 3] {
        let uses = |ty| {
            let mut fields = self.messages().iter().flat_map(|it| &it.fields);
            self.root() == ty || fields.any(|field| field.ty == ty)
        };
        [
            ("google/protobuf/duration.proto", uses(Type::Duration)),
            ("google/protobuf/empty.proto", uses(Type::Empty)),
            ("google/protobuf/timestamp.proto", uses(Type::Timestamp)),
        ]
    }

    fn describe_message(&self, message: &MessageSchema, out: &mut Writer<'_>) {
        let (_, name) = split(&message.name);
        text(1, name, out);
        let mut one_ofs = Vec::new();
        if message.is_one_of {
            one_ofs.push("kind".to_owned());
        }
        for field in &message.fields {
            // A scalar that may be absent is, by convention, alone in a `oneof`.
            let is_alone = field.shape == Shape::Optional && !is_message(field.ty);
            let one_of = match () {
                () if message.is_one_of => Some(0),
                () if is_alone => Some(u64::try_from(one_ofs.len()).unwrap_or(u64::MAX)),
                () => None,
            };
            if is_alone {
                one_ofs.push(format!("_{}", field.name));
            }
            part(2, out, |out| self.describe_field(message, field, one_of, out));
        }
        for field in &message.fields {
            if let Shape::Map(key) = field.shape {
                part(3, out, |out| {
                    text(1, &entry_name(field), out);
                    for (number, name, ty) in [(1, "key", key), (2, "value", field.ty)] {
                        part(2, out, |out| {
                            text(1, name, out);
                            number_field(3, number, out);
                            number_field(4, 1, out);
                            self.describe_type(ty, out);
                            text(10, name, out);
                        });
                    }
                    part(7, out, |out| number_field(7, 1, out));
                });
            }
        }
        for one_of in &one_ofs {
            part(8, out, |out| text(1, one_of, out));
        }
        for &(from, to) in message.reserved {
            part(9, out, |out| {
                number_field(1, u64::from(from), out);
                number_field(2, u64::from(to).saturating_add(1), out);
            });
        }
    }

    fn describe_field(
        &self,
        message: &MessageSchema,
        field: &Field,
        one_of: Option<u64>,
        out: &mut Writer<'_>,
    ) {
        text(1, field.name, out);
        number_field(3, u64::from(field.number), out);
        let is_list = matches!(field.shape, Shape::List | Shape::Map(_));
        number_field(4, if is_list { 3 } else { 1 }, out);
        if matches!(field.shape, Shape::Map(_)) {
            number_field(5, 11, out);
            text(6, &format!(".{}.{}", message.name, entry_name(field)), out);
        } else {
            self.describe_type(field.ty, out);
        }
        if let Some(one_of) = one_of {
            number_field(9, one_of, out);
        }
        text(10, field.json_name, out);
        if one_of.is_some() && !message.is_one_of {
            number_field(17, 1, out);
        }
    }

    fn describe_type(&self, ty: Type, out: &mut Writer<'_>) {
        let number = match ty {
            Type::F64 => 1,
            Type::F32 => 2,
            Type::I64 => 3,
            Type::U64 => 4,
            Type::I8 | Type::I16 | Type::I32 => 5,
            Type::Bool => 8,
            Type::String => 9,
            Type::Duration | Type::Timestamp | Type::Empty | Type::Message(_) => 11,
            Type::Bytes => 12,
            Type::U8 | Type::U16 | Type::U32 => 13,
            Type::Enum(_) => 14,
        };
        number_field(5, number, out);
        if matches!(number, 11 | 14) {
            text(6, &format!(".{}", self.name_of(ty)), out);
        }
    }
}

fn describe_enum(described: &EnumSchema, out: &mut Writer<'_>) {
    text(1, split(&described.name).1, out);
    // proto3 wants the value 0 first.
    let (zero, others): (Vec<_>, Vec<_>) = described.values.iter().partition(|(n, _)| *n == 0);
    for (number, name) in zero.into_iter().chain(others) {
        part(2, out, |out| {
            text(1, name, out);
            number_field(2, u64::from(number), out);
        });
    }
}

const fn is_message(ty: Type) -> bool {
    matches!(ty, Type::Duration | Type::Timestamp | Type::Empty | Type::Message(_))
}

/// The name of the message of a map's entries, as protobuf wants it: `a_b` gives `ABEntry`.
fn entry_name(field: &Field) -> String {
    let mut name = String::new();
    let mut upper = true;
    for character in field.name.chars() {
        match character {
            '_' => upper = true,
            other if upper => {
                name.push(other.to_ascii_uppercase());
                upper = false;
            }
            other => name.push(other),
        }
    }
    name.push_str("Entry");
    name
}

/// Package and name.
fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('.').unwrap_or(("", name))
}

fn text(number: u32, value: &str, out: &mut Writer<'_>) {
    if !value.is_empty() {
        out.tag(number, Wire::Length);
        out.bytes(value.as_bytes());
    }
}

fn number_field(number: u32, value: u64, out: &mut Writer<'_>) {
    out.tag(number, Wire::Varint);
    out.varint(value);
}

fn part(number: u32, out: &mut Writer<'_>, body: impl FnOnce(&mut Writer<'_>)) {
    out.tag(number, Wire::Length);
    out.nested(body);
}
