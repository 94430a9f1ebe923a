//! Messages: values with numbered fields, which one definition carries over every codec.
//!
//! `#[corewire::message]` writes what a type needs to be one; this module holds what the written code calls. A
//! [`Value`](value::Value) stands in a field: a scalar, a text, bytes, a time, or another message. A field holds one value, an
//! optional one, a list or a map of them; each codec has a file with a function for each of these shapes.
//!
//! - `value.rs`: speedy, positional: fields one after the other, in the order of their declaration.
//! - `proto/`: the protobuf wire, by field number. Reader and writer are sans-I/O and know nothing of types.
//! - `json/`: proto3's JSON mapping.
//! - `schema.rs`: what a type is made of, its fingerprint, and its protobuf descriptor.
//!
//! # Hostile bytes
//!
//! A decoder nests [`DEPTH_MAX`](budget::DEPTH_MAX) messages at most, and what it decodes takes at most [`AMPLIFICATION`](budget::AMPLIFICATION) times the bytes of the
//! body plus [`MEMORY_FLOOR`](budget::MEMORY_FLOOR). No element takes no bytes, so no length can promise more elements than bytes follow.

pub mod budget;
pub mod describe;
#[cfg(feature = "json")]
pub mod json;
#[cfg(feature = "protobuf")]
pub mod proto;
pub mod schema;
pub mod time;
pub mod value;
