//! The protobuf wire: a message is a run of fields, each with its number and a kind of value.
//!
//! What official implementations leave open is decided so: a known field with another kind of value is an error that names the field,
//! where others skip it, because a wrong value must not pass as an absent one. A field that comes twice counts as protobuf says: the last
//! scalar, messages merged, lists joined. Unknown fields are skipped and not kept. Writing is canonical: fields in the order of their
//! declaration, lists of numbers packed, what is zero left out.

pub mod codec;
pub mod descriptor;
pub mod field;
pub mod read;
pub mod scalar;
pub mod write;

/// The kind of a value on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Wire {
    /// A number of 1 to 10 bytes.
    Varint = 0,
    /// 8 bytes.
    Fixed64 = 1,
    /// A length, and as many bytes.
    Length = 2,
    /// Fields up to the end of the group; no type has this kind, it is only skipped.
    GroupStart = 3,
    /// The end of a group.
    GroupEnd = 4,
    /// 4 bytes.
    Fixed32 = 5,
}

/// The highest number of a field.
pub const NUMBER_MAX: u32 = (1 << 29) - 1;
