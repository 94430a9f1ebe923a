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

use crate::frame::{Frame, Payload, decode_payload};
use crate::{HEADER_BYTES, Header, Hello, Rule};

/// Bytes that a buffer grows by at least when a frame is not complete.
const GROW_BYTES_MIN: usize = 16 * 1024;

/// Collects what was received and yields whole frames without copying them.
///
/// An empty new buffer owns no memory. A partial frame makes the buffer grow with what has arrived,
/// not with what was announced: it asks for as many bytes again as it already holds (or 16 KiB),
/// which the allocator may round up to twice as much, so a peer cannot make it allocate by promises.
#[derive(Debug, Default)]
pub struct RecvBuffer {
    bytes: BytesMut,
    yielded: usize,
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
        Self { bytes: BytesMut::with_capacity(bytes), yielded: 0 }
    }

    /// Unread bytes: all that were received and belong to no frame that was yielded.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len().saturating_sub(self.yielded)
    }

    /// Bytes of storage that are held, used or not; what was split off counts no more.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Whether nothing is unread.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops the frame that was yielded last, if it is still in place.
    fn release(&mut self) {
        if self.yielded != 0 {
            self.bytes.advance(self.yielded.min(self.bytes.len()));
            self.yielded = 0;
        }
    }

    /// The storage to receive into, with room for at least `room` bytes behind what it holds. Only
    /// append to it.
    pub fn storage(&mut self, room: usize) -> &mut BytesMut {
        self.release();
        self.bytes.reserve(room);
        &mut self.bytes
    }

    /// Whether `room` bytes can be received without taking memory from the allocator: no slice of the
    /// storage is alive any more, or enough of it is unused.
    pub fn try_room(&mut self, room: usize) -> bool {
        self.release();
        self.bytes.try_reclaim(room)
    }

    /// Appends bytes by copying them.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.release();
        self.bytes.extend_from_slice(bytes);
    }

    /// How much room the next receive should have so that the partial frame at the front can grow:
    /// what it still lacks, but no more than it already has, and at least 16 KiB.
    #[must_use]
    pub fn room_wanted(&self) -> usize {
        let unread = self.bytes.get(self.yielded..).unwrap_or(&[]);
        let lacking = unread.first_chunk::<4>().map_or(0, |length| {
            let payload = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
            payload.saturating_add(HEADER_BYTES).saturating_sub(unread.len())
        });
        lacking.min(unread.len()).max(GROW_BYTES_MIN)
    }

    /// Moves the unread bytes into a buffer of their own, sized for them, so that this one can serve
    /// another connection. Answers an empty buffer without memory when nothing is unread.
    #[must_use]
    pub fn take_unread(&mut self) -> Self {
        self.release();
        if self.bytes.is_empty() {
            return Self::new();
        }
        let mut own = Self::with_capacity(self.bytes.len().saturating_add(self.room_wanted()));
        own.bytes.extend_from_slice(&self.bytes);
        self.bytes.clear();
        own
    }

    /// Gives back the memory if nothing is unread.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            *self = Self::new();
        }
    }

    /// The next whole frame, or `None` when more bytes are needed. The frame yielded before is
    /// dropped. `frame_bytes_max` and the least metadata limit apply; see
    /// [`next_frame_within`](Self::next_frame_within).
    ///
    /// # Errors
    ///
    /// The rule that the bytes break. The error is final: the stream cannot be resynchronised, and
    /// every later call answers an error again.
    pub fn next_frame(&mut self, frame_bytes_max: u32) -> Result<Option<Frame<'_>>, Rule> {
        self.next_frame_within(frame_bytes_max, u32::from(u16::MAX))
    }

    /// As [`next_frame`](Self::next_frame), with this side's limit on metadata.
    ///
    /// # Errors
    ///
    /// As [`next_frame`](Self::next_frame).
    #[inline]
    pub fn next_frame_within(
        &mut self,
        frame_bytes_max: u32,
        metadata_bytes_max: u32,
    ) -> Result<Option<Frame<'_>>, Rule> {
        self.release();
        let Some((header, rest)) = self.bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let header = Header::decode(*header)?;
        if header.payload_bytes > frame_bytes_max {
            return Err(Rule::FrameTooLarge);
        }
        let payload_bytes = usize::try_from(header.payload_bytes).unwrap_or(usize::MAX);
        let Some(payload) = rest.get(..payload_bytes) else {
            return Ok(None);
        };
        let (head, layout) = decode_payload(header, payload, metadata_bytes_max)?;
        self.yielded = HEADER_BYTES.saturating_add(payload_bytes);
        Ok(Some(Frame { head, payload: Payload::new(FrontFrame { buffer: self }, layout) }))
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

/// The yielded frame's place in the buffer.
#[derive(Debug)]
pub(crate) struct FrontFrame<'a> {
    buffer: &'a mut RecvBuffer,
}

impl FrontFrame<'_> {
    pub(crate) fn payload(&self) -> &[u8] {
        self.buffer.bytes.get(HEADER_BYTES..self.buffer.yielded).unwrap_or(&[])
    }

    /// Splits the payload off the buffer as a counted slice.
    pub(crate) fn into_bytes(self) -> Bytes {
        let total = self.buffer.yielded.min(self.buffer.bytes.len());
        self.buffer.yielded = 0;
        let mut frame = self.buffer.bytes.split_to(total);
        frame.advance(HEADER_BYTES.min(frame.len()));
        frame.freeze()
    }
}
