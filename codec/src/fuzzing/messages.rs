//! Messages from arbitrary bytes: no panic, bounded memory, and what is read comes back.

use bytes::Bytes;
use serde::de::{Deserializer, MapAccess};
use speedy::{Context, LittleEndian, Readable, Reader, Writable, Writer};
use std::collections::BTreeMap;

use crate::message::budget::memory_of;
use crate::message::json::field::{self as json, JsonMessage, JsonValue, Slot};
use crate::message::json::write::Writer as JsonWriter;
use crate::message::proto::field::{self as proto, ProtoMessage, ProtoValue};
use crate::message::proto::{Wire, read::Reader as ProtoReader, write::Writer as ProtoWriter};
use crate::message::schema::{Schema, Type};
use crate::message::value::{self, Value};
use crate::payload::codec::DecodeError;

/// A message of each shape that may go wrong. This is what `#[corewire::message]` would write.
#[derive(Clone, Debug, Default, PartialEq)]
struct Node {
    value: i64,
    text: String,
    blob: Bytes,
    small: Option<u8>,
    numbers: Vec<u32>,
    children: Vec<Self>,
    next: Option<Box<Self>>,
    counts: BTreeMap<String, u64>,
}

impl Node {
    /// What it owns beside itself.
    fn memory(&self) -> usize {
        let own = self.text.len() + 4 * self.numbers.len();
        let children = self.children.iter().map(|it| size_of::<Self>() + it.memory());
        let next = self.next.iter().map(|it| size_of::<Self>() + it.memory());
        let entry = size_of::<String>() + size_of::<u64>();
        let counts = self.counts.keys().map(|key| entry + key.len());
        own + children.chain(next).chain(counts).sum::<usize>()
    }
}

impl Value for Node {
    const LEAST_BYTES: usize = 8;

    fn describe(schema: &mut Schema) -> Type {
        let name = |_: &mut Schema| "fuzzing.Node".to_owned();
        schema.message::<Self>(name, |fields| {
            fields.single::<i64>(1, ["value"; 2]).single::<String>(2, ["text"; 2]);
            fields.single::<Bytes>(3, ["blob"; 2]).optional::<u8>(4, ["small"; 2]);
            fields.list::<u32>(5, ["numbers"; 2]).list::<Self>(6, ["children"; 2]);
            fields.optional::<Box<Self>>(7, ["next"; 2]);
            fields.map::<BTreeMap<String, u64>>(8, ["counts"; 2]);
        })
    }

    fn absent(_: u32) -> Option<Self> {
        Some(Self::default())
    }

    fn is_absent(&self) -> bool {
        false
    }

    fn write_speedy<C: Context, W: ?Sized + Writer<C>>(&self, out: &mut W) -> Result<(), C::Error> {
        let _nested = value::enter::<C>()?;
        self.value.write_speedy(out)?;
        self.text.write_speedy(out)?;
        self.blob.write_speedy(out)?;
        value::write_optional(&self.small, out)?;
        value::write_list(&self.numbers, out)?;
        value::write_list(&self.children, out)?;
        value::write_optional(&self.next, out)?;
        value::write_map(&self.counts, out)
    }

    fn read_speedy<'a, C: Context, R: Reader<'a, C>>(input: &mut R) -> Result<Self, C::Error> {
        let _nested = value::enter::<C>()?;
        Ok(Self {
            value: Value::read_speedy(input)?,
            text: Value::read_speedy(input)?,
            blob: Value::read_speedy(input)?,
            small: value::read_optional(input)?,
            numbers: value::read_list(input)?,
            children: value::read_list(input)?,
            next: value::read_optional(input)?,
            counts: value::read_map(input)?,
        })
    }
}

impl<C: Context> Writable<C> for Node {
    fn write_to<W: ?Sized + Writer<C>>(&self, out: &mut W) -> Result<(), C::Error> {
        self.write_speedy(out)
    }
}

impl<'a, C: Context> Readable<'a, C> for Node {
    fn read_from<R: Reader<'a, C>>(input: &mut R) -> Result<Self, C::Error> {
        Self::read_speedy(input)
    }
}

impl ProtoValue for Node {
    const WIRE: Wire = Wire::Length;

    fn write(&self, out: &mut ProtoWriter<'_>) {
        out.nested(|out| self.write_fields(out));
    }

    fn read(before: Option<Self>, input: &mut ProtoReader<'_>) -> Result<Self, DecodeError> {
        input.nested(|input| <Self as ProtoMessage>::read_fields(before, input))
    }
}

impl ProtoMessage for Node {
    fn write_fields(&self, out: &mut ProtoWriter<'_>) {
        proto::write_single(1, &self.value, out);
        proto::write_single(2, &self.text, out);
        proto::write_single(3, &self.blob, out);
        proto::write_optional(4, &self.small, out);
        proto::write_list(5, &self.numbers, out);
        proto::write_list(6, &self.children, out);
        proto::write_optional(7, &self.next, out);
        proto::write_map(8, &self.counts, out);
    }

    fn read_fields(before: Option<Self>, input: &mut ProtoReader<'_>) -> Result<Self, DecodeError> {
        let mut read = before.unwrap_or_default();
        let (mut value, mut text, mut blob) = (Some(read.value), Some(read.text), Some(read.blob));
        while let Some(tag) = input.tag()? {
            match tag.number {
                1 => proto::read_one(&mut value, "value", tag, input)?,
                2 => proto::read_one(&mut text, "text", tag, input)?,
                3 => proto::read_one(&mut blob, "blob", tag, input)?,
                4 => proto::read_one(&mut read.small, "small", tag, input)?,
                5 => proto::read_list(&mut read.numbers, "numbers", tag, input)?,
                6 => proto::read_list(&mut read.children, "children", tag, input)?,
                7 => proto::read_one(&mut read.next, "next", tag, input)?,
                8 => proto::read_map(&mut read.counts, "counts", tag, input)?,
                _ => input.skip(tag)?,
            }
        }
        read.value = proto::finish(value, "value", input)?;
        read.text = proto::finish(text, "text", input)?;
        read.blob = proto::finish(blob, "blob", input)?;
        Ok(read)
    }
}

impl JsonValue for Node {
    fn write(&self, out: &mut JsonWriter<'_>) {
        out.object(|out| {
            json::write_single("value", &self.value, out);
            json::write_single("text", &self.text, out);
            json::write_single("blob", &self.blob, out);
            json::write_optional("small", &self.small, out);
            json::write_list("numbers", &self.numbers, out);
            json::write_list("children", &self.children, out);
            json::write_optional("next", &self.next, out);
            json::write_map("counts", &self.counts, out);
        });
    }

    fn read<'de, D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        json::read_message(input)
    }
}

impl JsonMessage for Node {
    const NAME: &'static str = "fuzzing.Node";

    fn read_fields<'de, M: MapAccess<'de>>(mut fields: M) -> Result<Self, M::Error> {
        const NAMES: [[&str; 2]; 8] = [
            ["value"; 2],
            ["text"; 2],
            ["blob"; 2],
            ["small"; 2],
            ["numbers"; 2],
            ["children"; 2],
            ["next"; 2],
            ["counts"; 2],
        ];
        let (mut value, mut text, mut blob) = (Slot::empty(), Slot::empty(), Slot::empty());
        let (mut small, mut numbers, mut children) = (Slot::empty(), Slot::empty(), Slot::empty());
        let (mut next, mut counts) = (Slot::empty(), Slot::empty());
        while let Some(at) = json::next(&mut fields, &NAMES)? {
            match at {
                0 => json::read_one(&mut value, "value", &mut fields)?,
                1 => json::read_one(&mut text, "text", &mut fields)?,
                2 => json::read_one(&mut blob, "blob", &mut fields)?,
                3 => json::read_one(&mut small, "small", &mut fields)?,
                4 => json::read_list(&mut numbers, "numbers", &mut fields)?,
                5 => json::read_list(&mut children, "children", &mut fields)?,
                6 => json::read_one(&mut next, "next", &mut fields)?,
                7 => json::read_map(&mut counts, "counts", &mut fields)?,
                _ => json::skip(&mut fields)?,
            }
        }
        Ok(Self {
            value: json::finish(value, "value")?,
            text: json::finish(text, "text")?,
            blob: json::finish(blob, "blob")?,
            small: small.into_value(),
            numbers: numbers.into_value().unwrap_or_default(),
            children: children.into_value().unwrap_or_default(),
            next: next.into_value(),
            counts: counts.into_value().unwrap_or_default(),
        })
    }
}

/// Any bytes as protobuf.
pub fn message_protobuf(data: &[u8]) {
    use crate::message::proto::codec::{read, write};
    let Ok(node) = read::<Node>(&Bytes::copy_from_slice(data)) else { return };
    // `Bytes` are slices of the body.
    assert!(node.memory() <= memory_of(data.len()));
    let mut out = Vec::new();
    write(&node, &mut out).expect("what was read can be written");
    let again = read::<Node>(&Bytes::from(out.clone())).expect("what was written can be read");
    assert_eq!(again, node);
    let mut canonical = Vec::new();
    write(&again, &mut canonical).expect("as before");
    assert_eq!(canonical, out);
}

/// Any bytes as JSON.
pub fn message_json(data: &[u8]) {
    use crate::message::json::codec::{read, write};
    let Ok(node) = read::<Node>(data) else { return };
    assert!(node.memory() <= memory_of(data.len()));
    let mut out = Vec::new();
    write(&node, &mut out).expect("what was read can be written");
    assert_eq!(read::<Node>(&out).expect("what was written can be read"), node);
}

/// Any bytes as speedy.
pub fn message_speedy(data: &[u8]) {
    let (read, used) = Node::read_with_length_from_buffer_with_ctx(LittleEndian {}, data);
    let Ok(node) = read else { return };
    assert!(node.memory() <= memory_of(data.len()));
    let out = node.write_to_vec().expect("what was read can be written");
    // Of equal keys of a map the last counts.
    assert!(out.len() <= used);
    assert_eq!(Node::read_from_buffer(&out).expect("what was written can be read"), node);
}
