//! Writes the protobuf wire at the end of a `Vec`.

use super::Wire;
use crate::message::budget::{DEPTH_MAX, Exceeded};
use crate::payload::codec::EncodeError;

/// Appends protobuf. A fault is kept until [`Writer::finish`], so that writing needs no checks.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    depth: u32,
    fault: Option<String>,
}

impl<'a> Writer<'a> {
    /// Appends to `out`.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, depth: 0, fault: None }
    }

    /// Ends the writing.
    ///
    /// # Errors
    ///
    /// The first fault; what was written is then of no use.
    pub fn finish(self) -> Result<(), EncodeError> {
        self.fault.map_or(Ok(()), |reason| Err(EncodeError::new(reason)))
    }

    /// Says that a value has no encoding.
    #[cold]
    pub fn fail(&mut self, reason: impl core::fmt::Display) {
        self.fault.get_or_insert_with(|| reason.to_string());
    }

    /// A number of 1 to 10 bytes.
    #[inline]
    pub fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.out.push(low_bits(value) | 0x80);
            value >>= 7;
        }
        self.out.push(low_bits(value));
    }

    /// The beginning of a field.
    #[inline]
    pub fn tag(&mut self, number: u32, wire: Wire) {
        self.varint((u64::from(number) << 3) | u64::from(wire as u8));
    }

    /// Bytes as they are.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// A length, and as many bytes.
    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.varint(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        self.raw(bytes);
    }

    /// A length, and what `body` writes. Most are shorter than 128 bytes, for which one byte of length is left free; what
    /// is longer is moved once.
    #[inline]
    pub fn nested(&mut self, body: impl FnOnce(&mut Self)) {
        if self.depth >= DEPTH_MAX || self.fault.is_some() {
            return self.fail(Exceeded::Depth);
        }
        self.depth = self.depth.saturating_add(1);
        self.packed(body);
        self.depth = self.depth.saturating_sub(1);
    }

    /// As [`Writer::nested`], for what is no message and cannot nest.
    #[inline]
    pub fn packed(&mut self, body: impl FnOnce(&mut Self)) {
        let at = self.out.len();
        self.out.push(0);
        body(self);
        let length = self.out.len().saturating_sub(at).saturating_sub(1);
        match u8::try_from(length) {
            Ok(short) if short < 0x80 => {
                if let Some(place) = self.out.get_mut(at) {
                    *place = short;
                }
            }
            _ => self.widen(at, length),
        }
    }

    /// Makes room for a length of more than one byte.
    fn widen(&mut self, at: usize, length: usize) {
        let mut bytes = Vec::with_capacity(10);
        Writer::new(&mut bytes).varint(u64::try_from(length).unwrap_or(u64::MAX));
        self.out.splice(at..at.saturating_add(1), bytes);
    }
}

#[inline]
#[allow(clippy::cast_possible_truncation, reason = "seven bits fit")]
const fn low_bits(value: u64) -> u8 {
    (value & 0x7f) as u8
}
