//! JSON as proto3 maps it: names in camelCase, bytes in base64, 64-bit integers as strings when written and either way when read,
//! enums by name, times as texts.
//!
//! What has its default value is not written. Read are also names as they are in Rust, integers as strings or with a fraction of
//! zero, base64 of both alphabets, and enums by number. `null` is absent. Fields that are not known are skipped; one that comes twice is an error.

pub mod codec;
pub mod field;
pub mod scalar;
pub mod times;
pub mod write;
