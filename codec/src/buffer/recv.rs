//! The receive buffer: bytes in at the back, whole frames out at the front.
//!
//! ```text
//!            front frame (yielded)      complete or partial frames     room
//!           ┌──────────────────────────┬───────────────────────────┬──────────
//!    bytes  │ header │ payload         │ header │ payload …        │
//!           └──────────────────────────┴───────────────────────────┴──────────
//!           0                       yielded                    bytes.len()
//! ```
//!
//! `yielded` counts the bytes of the frame that was handed out last and is still in place; asking
//! for the next frame drops them. Invariant: `yielded <= bytes.len()`.

use bytes::{Buf, Bytes, BytesMut};

use core::ops::Range;

use crate::foreign::Foreign;
use crate::wire::frame::hello::Hello;
use crate::wire::header::{HEADER_BYTES, Header};
use crate::wire::rule::Rule;

/// Bytes that a buffer grows by at least when a frame is not complete.
const GROW_BYTES_MIN: usize = 16 * 1024;

const HEADER_BYTES_U32: u32 = 16;
const _: () = assert!(HEADER_BYTES_U32 as usize == HEADER_BYTES);

/// Collects what was received and yields whole frames without copying them.
///
/// An empty new buffer owns no memory. A partial frame makes the buffer grow with what has arrived,
/// not with what was announced: it asks for as many bytes again as it already holds (or 16 KiB),
/// which the allocator may round up to twice as much, so a peer cannot make it allocate by merely
/// announcing a large frame.
#[derive(Debug, Default)]
pub struct RecvBuffer {
    bytes: BytesMut,
    /// At most a header and the largest payload, [`FrameBytes::MAX`](crate::FrameBytes::MAX).
    yielded: u32,
    /// The size that the storage was made with, for a pool that keeps buffers by size.
    made_with: u32,
}

impl RecvBuffer {
    /// An empty buffer without memory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty buffer with room for `bytes`.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        let made_with = u32::try_from(bytes).unwrap_or(u32::MAX);
        Self { bytes: BytesMut::with_capacity(bytes), yielded: 0, made_with }
    }

    /// Unread bytes: all received bytes that belong to no yielded frame.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len().saturating_sub(self.yielded as usize)
    }

    /// The room that [`with_capacity`](Self::with_capacity) was asked for, whatever happened to the
    /// storage since; 0 for a buffer made without it.
    #[must_use]
    pub fn made_with(&self) -> usize {
        self.made_with as usize
    }

    /// Whether there are no unread bytes.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops the frame that was yielded last, if it is still in place.
    #[inline]
    fn release(&mut self) {
        if self.yielded != 0 {
            self.bytes.advance((self.yielded as usize).min(self.bytes.len()));
            self.yielded = 0;
        }
    }

    /// The storage to receive into, with room for at least `room` bytes behind what it holds. Only
    /// append to it.
    #[inline]
    pub fn storage(&mut self, room: usize) -> &mut BytesMut {
        self.release();
        self.bytes.reserve(room);
        &mut self.bytes
    }

    /// Whether `room` bytes can be received without taking memory from the allocator: no slice of the
    /// storage is alive any more, or enough of it is unused.
    #[inline]
    pub fn try_room(&mut self, room: usize) -> bool {
        self.release();
        self.bytes.try_reclaim(room)
    }

    /// How many bytes can be received behind what is held, without moving anything.
    #[inline]
    pub fn room(&mut self) -> usize {
        self.release();
        self.bytes.capacity().saturating_sub(self.bytes.len())
    }

    /// Appends bytes by copying them.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.release();
        self.bytes.extend_from_slice(bytes);
    }

    /// How many bytes the partial frame at the front still lacks, as far as is known: what its header
    /// says, or the rest of the header. 0 when nothing is unread, or the frame is whole.
    #[must_use]
    pub fn lacking(&self) -> usize {
        let unread = self.bytes.get(self.yielded as usize..).unwrap_or(&[]);
        if unread.is_empty() {
            return 0;
        }
        let payload = match unread.first_chunk::<HEADER_BYTES>() {
            Some([a, b, c, d, ..]) => u32::from_le_bytes([*a, *b, *c, *d]) as usize,
            None => 0,
        };
        payload.saturating_add(HEADER_BYTES).saturating_sub(unread.len())
    }

    /// How much room the next receive should have so that the partial frame at the front can grow:
    /// what it still lacks, but no more than it already has, and at least 16 KiB.
    #[must_use]
    pub fn room_wanted(&self) -> usize {
        self.lacking().min(self.len()).max(GROW_BYTES_MIN)
    }

    /// The header that the unread bytes begin with, if all of it is here and well-formed. Does not
    /// check whether the frame is whole or within a limit.
    #[must_use]
    pub fn peek_header(&self) -> Option<Header> {
        let unread = self.bytes.get(self.yielded as usize..)?;
        Header::decode(*unread.first_chunk::<HEADER_BYTES>()?).ok()
    }

    /// The protocol that the unread bytes begin with, if it is a known protocol other than this one.
    #[must_use]
    pub fn peek_foreign(&self) -> Option<Foreign> {
        Foreign::recognise(self.bytes.get(self.yielded as usize..)?)
    }

    /// Drops the first `bytes` of the unread bytes, or all if there are fewer; returns how many.
    pub fn discard(&mut self, bytes: usize) -> usize {
        self.release();
        let bytes = bytes.min(self.bytes.len());
        self.bytes.advance(bytes);
        bytes
    }

    /// Moves the unread bytes into a buffer of exactly their size, so that this one can serve another
    /// connection. Returns an empty buffer without memory when nothing is unread.
    #[must_use]
    pub fn take_unread(&mut self) -> Self {
        self.release();
        if self.bytes.is_empty() {
            return Self::new();
        }
        let mut own = Self::with_capacity(self.bytes.len());
        self.move_unread_to(&mut own);
        own
    }

    /// Moves the unread bytes behind those of `other`, by copying them; this buffer is empty then.
    pub fn move_unread_to(&mut self, other: &mut Self) {
        self.release();
        other.extend_from_slice(&self.bytes);
        self.bytes.clear();
    }

    /// Gives back the memory if nothing is unread.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            *self = Self::new();
        }
    }

    /// The header of the next whole frame, or `None` when more bytes are needed. The frame is yielded
    /// with it: read it with [`front_request`](Self::front_request) when it is a request,
    /// [`front_reply`](Self::front_reply) when it is a reply, and [`front`](Self::front) in any case.
    ///
    /// # Errors
    ///
    /// The rule that the header breaks; as [`next_frame`](Self::next_frame).
    #[inline]
    pub fn next_header(&mut self, frame_bytes_max: u32) -> Result<Option<Header>, Rule> {
        self.release();
        let Some(header) = self.bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let header = Header::decode(*header)?;
        if header.payload_bytes > frame_bytes_max {
            return Err(Rule::FrameTooLarge);
        }
        // A frame of 4 GiB is above every limit that can be set.
        let total =
            header.payload_bytes.checked_add(HEADER_BYTES_U32).ok_or(Rule::FrameTooLarge)?;
        if total as usize > self.bytes.len() {
            return Ok(None);
        }
        self.yielded = total;
        Ok(Some(header))
    }

    /// The payload of the frame that was yielded.
    #[inline]
    pub(super) fn front_payload(&self) -> &[u8] {
        self.bytes.get(HEADER_BYTES..self.yielded as usize).unwrap_or(&[])
    }

    /// A buffer of its own with a copy of the frame that was yielded, which it has yielded as well.
    pub(super) fn copy_front(&self) -> Self {
        let front = self.bytes.get(..self.yielded as usize).unwrap_or(&[]);
        // No more than this buffer yielded, which fits.
        let yielded = u32::try_from(front.len()).unwrap_or(0);
        Self { bytes: BytesMut::from(front), yielded, made_with: 0 }
    }

    /// The frame that was yielded breaks a rule: it stays where it is.
    pub(super) fn keep_front(&mut self) {
        self.yielded = 0;
    }

    /// Splits part of the yielded payload off the buffer as a counted slice; the rest of the frame is
    /// gone.
    #[inline]
    pub(super) fn take_from_front(&mut self, part: Range<usize>) -> Bytes {
        let total = (self.yielded as usize).min(self.bytes.len());
        let end = part.end.saturating_add(HEADER_BYTES).min(total);
        let start = part.start.saturating_add(HEADER_BYTES);
        if start >= end {
            return Bytes::new();
        }
        // Cut at both ends rather than sliced: slicing would add a reference for the slice and drop
        // one of the whole.
        let mut taken = self.bytes.split_to(end);
        // No more than it was, which fits.
        self.yielded = u32::try_from(total.saturating_sub(end)).unwrap_or(0);
        taken.advance(start);
        taken.freeze()
    }

    /// The hello at the front, or `None` when more bytes are needed.
    ///
    /// # Errors
    ///
    /// The rule that the bytes break.
    pub fn next_hello(&mut self) -> Result<Option<Hello>, Rule> {
        self.release();
        let Some((hello, length)) = Hello::decode(&self.bytes)? else {
            return Ok(None);
        };
        self.bytes.advance(length.min(self.bytes.len()));
        Ok(Some(hello))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]
mod tests {
    use super::*;
    use crate::buffer::send::SendBuffer;
    use crate::wire::header::FrameKind;

    fn pings(count: u64) -> Vec<u8> {
        let mut out = SendBuffer::new();
        (0..count).for_each(|value| out.ping(value));
        out.first_chunk().to_vec()
    }

    fn request_header(payload_bytes: u32) -> [u8; HEADER_BYTES] {
        let (kind, encoding) = (FrameKind::Request, crate::wire::encoding::Encoding::RAW);
        Header { payload_bytes, kind, flags: 0, encoding, detail: 0, call: 0, aux: 0 }.encode()
    }

    /// What is lent for a turn is handed back empty; the rest moves with its connection.
    #[test]
    fn unread_bytes_move_and_the_lent_buffer_keeps_its_memory() {
        let mut lent = RecvBuffer::with_capacity(64 * 1024);
        lent.extend_from_slice(&pings(3));
        lent.extend_from_slice(&request_header(100));
        assert!(lent.next_frame(1000).unwrap().is_some());
        let mut own = lent.take_unread();
        // The frame that was yielded is read; the other two pings and the partial frame moved.
        assert_eq!((own.len(), lent.len()), (3 * HEADER_BYTES, 0));
        assert!(lent.storage(0).capacity() >= 60 * 1024);
        assert!(own.next_frame(1000).unwrap().is_some());
        assert!(own.next_frame(1000).unwrap().is_some());
        assert!(own.next_frame(1000).unwrap().is_none());
        own.extend_from_slice(&[7; 100]);
        assert_eq!(own.next_frame(1000).unwrap().unwrap().payload.body(), [7; 100]);
        let nothing = lent.take_unread();
        assert_eq!(nothing.bytes.capacity(), 0);
    }

    #[test]
    fn a_read_buffer_gives_its_memory_back() {
        let mut recv = RecvBuffer::new();
        assert_eq!(recv.bytes.capacity(), 0);
        recv.extend_from_slice(&pings(2));
        recv.shrink();
        assert_eq!(recv.len(), 2 * HEADER_BYTES, "what is unread stays");
        assert!(recv.next_frame(0).unwrap().is_some() && recv.next_frame(0).unwrap().is_some());
        assert!(recv.is_empty(), "a frame that was yielded is read");
        recv.shrink();
        assert_eq!(recv.bytes.capacity(), 0);
    }

    /// The room doubles with what is there, and is what the frame lacks when that is less.
    #[test]
    fn room_follows_what_arrived() {
        let mut recv = RecvBuffer::new();
        assert_eq!(recv.room_wanted(), GROW_BYTES_MIN);
        recv.extend_from_slice(&request_header(1 << 30));
        assert_eq!(recv.room_wanted(), GROW_BYTES_MIN);
        recv.extend_from_slice(&[0; 40_000]);
        assert_eq!(recv.room_wanted(), 40_000 + HEADER_BYTES);
        let mut recv = RecvBuffer::new();
        recv.extend_from_slice(&request_header(60_000));
        recv.extend_from_slice(&[0; 40_000]);
        assert_eq!(recv.room_wanted(), 20_000);
    }

    #[test]
    fn what_a_frame_lacks_is_what_its_header_says() {
        let mut recv = RecvBuffer::with_capacity(1000);
        assert_eq!((recv.lacking(), recv.room(), recv.made_with()), (0, 1000, 1000));
        let header = request_header(100);
        recv.extend_from_slice(&header[..10]);
        assert_eq!((recv.lacking(), recv.room()), (6, 990), "the rest of the header");
        recv.extend_from_slice(&header[10..]);
        assert_eq!(recv.lacking(), 100);
        recv.extend_from_slice(&[1; 99]);
        assert_eq!((recv.lacking(), recv.room()), (1, 885));
        recv.extend_from_slice(&[1; 1]);
        assert_eq!(recv.lacking(), 0);
        // A frame that was yielded is not at the front any more.
        recv.extend_from_slice(&request_header(7));
        assert!(recv.next_frame(100).unwrap().is_some());
        assert_eq!((recv.lacking(), recv.len()), (7, HEADER_BYTES));
        let mut other = RecvBuffer::with_capacity(64);
        recv.move_unread_to(&mut other);
        assert_eq!((recv.len(), other.len(), other.lacking()), (0, HEADER_BYTES, 7));
    }
}
