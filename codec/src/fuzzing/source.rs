//! Reads choices out of arbitrary bytes; past their end every choice is zero.

use std::io::IoSlice;

use crate::buffer::send::SendBuffer;

/// Arbitrary bytes as choices.
#[derive(Debug)]
pub struct Source<'a> {
    rest: &'a [u8],
}

impl<'a> Source<'a> {
    /// Choices out of `data`.
    pub fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    /// Whether all bytes are used up.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// All bytes that no choice was made of yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next byte.
    pub fn u8(&mut self) -> u8 {
        let Some((&first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        first
    }

    /// Two bytes.
    pub fn u16(&mut self) -> u16 {
        u16::from(self.u8()) | (u16::from(self.u8()) << 8)
    }

    /// Four bytes.
    pub fn u32(&mut self) -> u32 {
        u32::from(self.u16()) | (u32::from(self.u16()) << 16)
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> u64 {
        u64::from(self.u32()) | (u64::from(self.u32()) << 32)
    }

    /// One bit of a byte.
    pub fn flag(&mut self) -> bool {
        self.u8() & 1 != 0
    }

    /// A number below `count`, which is 1 to 256.
    pub fn below(&mut self, count: usize) -> usize {
        usize::from(self.u8()) % count
    }

    /// Up to `max` bytes, as many as the next byte says.
    pub fn bytes(&mut self, max: usize) -> &'a [u8] {
        let count = self.below(max + 1).min(self.rest.len());
        let (front, rest) = self.rest.split_at(count);
        self.rest = rest;
        front
    }

    /// A body: mostly a few of the bytes themselves, now and then one that is large enough to be
    /// shared instead of copied.
    pub fn body(&mut self) -> Vec<u8> {
        match self.below(4) {
            3 => vec![self.u8(); 3 * 1024 + usize::from(self.u16() % 6000)],
            _ => self.bytes(40).to_vec(),
        }
    }
}

/// Everything that waits in a send buffer, as one run of bytes.
pub(super) fn flatten(out: &SendBuffer) -> Vec<u8> {
    let mut slices = vec![IoSlice::new(&[]); 256];
    let filled = out.chunks(&mut slices, usize::MAX);
    let bytes: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
    assert_eq!(bytes.len(), out.len(), "256 slices hold everything that a target makes");
    bytes
}
