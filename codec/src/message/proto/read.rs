//! Reads the protobuf wire: any bytes, without a panic, and with memory for no more than arrived.

use bytes::Bytes;

use super::{NUMBER_MAX, Wire};
use crate::message::budget::{DEPTH_MAX, Exceeded, memory_of};
use crate::payload::codec::DecodeError;

/// The beginning of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// The field's number, 1 to [`NUMBER_MAX`].
    pub number: u32,
    /// What follows.
    pub wire: Wire,
}

/// Reads one body.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    whole: &'a Bytes,
    depth: u32,
    memory: usize,
}

impl<'a> Reader<'a> {
    /// Reads `whole`, of which `Bytes` fields become slices.
    #[must_use]
    pub fn new(whole: &'a Bytes) -> Self {
        Self { rest: whole, whole, depth: 0, memory: memory_of(whole.len()) }
    }

    /// How deep messages may still nest.
    #[must_use]
    pub const fn depth_left(&self) -> u32 {
        DEPTH_MAX.saturating_sub(self.depth)
    }

    /// Whether everything was read, of this body or of the value that is being read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Charges memory to the body.
    ///
    /// # Errors
    ///
    /// The body would take too much.
    #[inline]
    pub fn charge(&mut self, memory: usize) -> Result<(), DecodeError> {
        match self.memory.checked_sub(memory) {
            Some(left) => {
                self.memory = left;
                Ok(())
            }
            None => Err(DecodeError::new(Exceeded::Memory)),
        }
    }

    /// The next field, or `None` at the end.
    ///
    /// # Errors
    ///
    /// The bytes begin no field.
    #[inline]
    pub fn tag(&mut self) -> Result<Option<Tag>, DecodeError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let wire = match key & 7 {
            0 => Wire::Varint,
            1 => Wire::Fixed64,
            2 => Wire::Length,
            3 => Wire::GroupStart,
            4 => Wire::GroupEnd,
            5 => Wire::Fixed32,
            other => return Err(bad_wire(other)),
        };
        match u32::try_from(key >> 3) {
            Ok(number @ 1..=NUMBER_MAX) => Ok(Some(Tag { number, wire })),
            _ => Err(DecodeError::new("a field's number is not between 1 and 536,870,911")),
        }
    }

    /// A number of 1 to 10 bytes.
    ///
    /// # Errors
    ///
    /// It is cut, or needs more than 64 bits.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        if let [first, rest @ ..] = self.rest
            && *first < 0x80
        {
            self.rest = rest;
            return Ok(u64::from(*first));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for (shift, at) in (0..70).step_by(7).zip(0_usize..) {
            let Some(&byte) = self.rest.get(at) else { return Err(cut()) };
            // The tenth byte holds the 64th bit only.
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                self.rest = self.rest.get(at.saturating_add(1)..).unwrap_or(&[]);
                return Ok(value);
            }
        }
        Err(DecodeError::new("a number has more than 64 bits"))
    }

    /// This many bytes.
    ///
    /// # Errors
    ///
    /// There are fewer.
    #[inline]
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else { return Err(cut()) };
        self.rest = rest;
        Ok(taken)
    }

    /// As many bytes as the type has.
    ///
    /// # Errors
    ///
    /// There are fewer.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let Some((taken, rest)) = self.rest.split_first_chunk::<N>() else { return Err(cut()) };
        self.rest = rest;
        Ok(*taken)
    }

    /// A length, and as many bytes.
    ///
    /// # Errors
    ///
    /// There are fewer.
    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.varint()?;
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    /// A length, and as many bytes, as a slice of the body.
    ///
    /// # Errors
    ///
    /// There are fewer.
    #[inline]
    pub fn shared(&mut self) -> Result<Bytes, DecodeError> {
        let bytes = self.bytes()?;
        Ok(self.whole.slice_ref(bytes))
    }

    /// A length, and what `body` reads from as many bytes.
    ///
    /// # Errors
    ///
    /// Those of `body`; too many are nested; bytes are left.
    #[inline]
    pub fn nested<T>(
        &mut self,
        body: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        if self.depth >= DEPTH_MAX {
            return Err(DecodeError::new(Exceeded::Depth));
        }
        self.depth = self.depth.saturating_add(1);
        let value = self.packed(body)?;
        self.depth = self.depth.saturating_sub(1);
        Ok(value)
    }

    /// As [`Reader::nested`], for what is no message and cannot nest.
    ///
    /// # Errors
    ///
    /// Those of `body`; bytes are left.
    #[inline]
    pub fn packed<T>(
        &mut self,
        body: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let inner = self.bytes()?;
        let outer = core::mem::replace(&mut self.rest, inner);
        let value = body(self)?;
        match self.rest.len() {
            0 => {
                self.rest = outer;
                Ok(value)
            }
            left => Err(DecodeError::left_over(left)),
        }
    }

    /// Skips what follows the beginning of a field that is not known.
    ///
    /// # Errors
    ///
    /// It is cut, or a group that does not end or nests too deep.
    pub fn skip(&mut self, tag: Tag) -> Result<(), DecodeError> {
        match tag.wire {
            Wire::Varint => self.varint().map(drop),
            Wire::Fixed64 => self.take(8).map(drop),
            Wire::Length => self.bytes().map(drop),
            Wire::Fixed32 => self.take(4).map(drop),
            Wire::GroupEnd => Err(DecodeError::new("a group ends that did not begin")),
            Wire::GroupStart => self.skip_group(tag.number),
        }
    }

    /// Skips a group, without recursion.
    fn skip_group(&mut self, number: u32) -> Result<(), DecodeError> {
        let mut open = vec![number];
        while let Some(&innermost) = open.last() {
            let Some(tag) = self.tag()? else { return Err(cut()) };
            match tag.wire {
                Wire::GroupStart if open.len() >= DEPTH_MAX as usize => {
                    return Err(DecodeError::new(Exceeded::Depth));
                }
                Wire::GroupStart => open.push(tag.number),
                Wire::GroupEnd if tag.number == innermost => drop(open.pop()),
                Wire::GroupEnd => return Err(DecodeError::new("a group ends inside of another")),
                _ => self.skip(tag)?,
            }
        }
        Ok(())
    }
}

#[cold]
fn cut() -> DecodeError {
    DecodeError::new("the message is cut off")
}

#[cold]
fn bad_wire(number: u64) -> DecodeError {
    DecodeError::new(format!("{number} is no kind of value"))
}
