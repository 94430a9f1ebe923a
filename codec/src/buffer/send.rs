//! The send buffer: many frames gathered into few writes.
//!
//! Small bodies are appended to one contiguous run of bytes; a large body is kept as the counted
//! slice it came as and woven in at its place, so that it is never copied.
//!
//! ```text
//!   inline   │hdr│body│hdr│body│hdr│   ┊   │hdr│body│
//!   shared                         └ 64 KiB ┘
//!   on wire  │hdr│body│hdr│body│hdr│ 64 KiB │hdr│body│
//! ```

mod amend;
mod body;
mod retract;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use core::fmt;
use core::time::Duration;
use std::collections::VecDeque;
use std::io::IoSlice;

pub use amend::Mark;
pub use body::EncodedBody;

use crate::wire::encoding::Encoding;
use crate::wire::frame::hello::Hello;
use crate::wire::frame::{CancelReason, Credit, GoAway, ReplyHead, RequestHead, StreamData};
use crate::wire::frame::{reply_flags, request_flags, stream_flags};
use crate::wire::header::{FrameKind, HEADER_BYTES, Header};
use crate::wire::metadata::MetadataBuilder;
use crate::wire::status::{Status, StatusCode};

/// Bodies from this size on are woven in as they are; smaller ones are copied, which is cheaper
/// than one more slice in a gathered write and does not keep a receive buffer alive.
pub const SHARE_BYTES_MIN: usize = 4 * 1024;

/// Memory that an emptied buffer keeps for its next frames.
const KEEP_BYTES_MAX: usize = 256 * 1024;

/// Once this many written bytes lie in front of the waiting ones, the waiting ones move to the front.
const COMPACT_BYTES_MIN: usize = 64 * 1024;

/// A frame was larger than the receiver accepts. Nothing of it was put into the buffer.
///
/// ```
/// # mod corewire {
/// #     pub use bytes::Bytes;
/// #     pub use corewire_codec::*;
/// #     pub mod codec { pub use corewire_codec::{FrameWriter as BodyWriter, *}; }
/// # }
/// use corewire::codec::FrameTooLarge;
///
/// fn excess(error: &FrameTooLarge) -> usize {
///     error.bytes.saturating_sub(error.max as usize)
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FrameTooLarge {
    /// The payload's size.
    pub bytes: usize,
    /// What the receiver accepts.
    pub max: u32,
}

impl fmt::Display for FrameTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the frame has {} bytes; the peer accepts at most {}", self.bytes, self.max)
    }
}

crate::debug_is_display!(FrameTooLarge);

impl core::error::Error for FrameTooLarge {}

/// A large body and its place: how many inline bytes go before it.
#[derive(Debug)]
struct BodySlice {
    at: usize,
    bytes: Bytes,
}

impl Woven {
    /// The count of all bytes, and the body that goes next.
    fn front_mut(&mut self) -> Option<(&mut usize, &mut BodySlice)> {
        Some((&mut self.bytes, self.bodies.front_mut()?))
    }
}

/// Frames waiting to be written.
///
/// An empty new buffer owns no memory. Invariants: `sent <= whole_from <= inline.len()`; the places in
/// `woven` ascend; no shared slice is empty.
#[derive(Debug, Default)]
pub struct SendBuffer {
    inline: Vec<u8>,
    /// Inline bytes that are written already.
    sent: usize,
    /// Where in `inline` the first frame begins that is still wholly unwritten.
    whole_from: usize,
    /// Made by the first large body. Boxed because every idle connection has a send buffer.
    woven: Option<Box<Woven>>,
}

/// The large bodies waiting to be written.
#[derive(Debug, Default)]
struct Woven {
    bodies: VecDeque<BodySlice>,
    /// The sum of their bytes.
    bytes: usize,
}

impl SendBuffer {
    /// An empty buffer without memory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes waiting to be written.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        let inline = self.inline.len().wrapping_sub(self.sent);
        self.woven.as_ref().map_or(inline, |woven| inline.saturating_add(woven.bytes))
    }

    /// Whether nothing is waiting to be written.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.sent == self.inline.len() && self.is_contiguous()
    }

    /// The bytes that go next, as one slice: all of them unless a large body waits.
    #[must_use]
    #[inline]
    pub fn first_chunk(&self) -> &[u8] {
        match self.shared().next() {
            None => self.inline.get(self.sent..).unwrap_or(&[]),
            Some(shared) if shared.at > self.sent => {
                self.inline.get(self.sent..shared.at).unwrap_or(&[])
            }
            Some(shared) => &shared.bytes,
        }
    }

    /// Whether one slice holds everything.
    #[must_use]
    #[inline]
    pub fn is_contiguous(&self) -> bool {
        self.woven.as_ref().is_none_or(|woven| woven.bodies.is_empty())
    }

    /// The large bodies that wait, in order.
    fn shared(&self) -> impl Iterator<Item = &BodySlice> {
        self.woven.iter().flat_map(|woven| &woven.bodies)
    }

    /// Fills `slices` with what goes next, in order, up to `max` bytes; returns how many were filled.
    pub fn chunks<'a>(&'a self, slices: &mut [IoSlice<'a>], max: usize) -> usize {
        let mut filled = 0usize;
        let mut left = max;
        let mut at = self.sent;
        let mut put = |bytes: &'a [u8]| -> bool {
            let bytes = bytes.get(..left).unwrap_or(bytes);
            if bytes.is_empty() {
                return left > 0;
            }
            let Some(slot) = slices.get_mut(filled) else {
                return false;
            };
            *slot = IoSlice::new(bytes);
            filled = filled.saturating_add(1);
            left = left.saturating_sub(bytes.len());
            true
        };
        for shared in self.shared() {
            let before = self.inline.get(at..shared.at).unwrap_or(&[]);
            if !put(before) || !put(&shared.bytes) {
                return filled;
            }
            at = shared.at;
        }
        put(self.inline.get(at..).unwrap_or(&[]));
        filled
    }

    /// Drops the first `count` bytes, which have been written. More than [`len`](Self::len) empties
    /// the buffer.
    #[inline]
    pub fn advance(&mut self, count: usize) {
        // Most writes take everything, and most buffers have no large body.
        if self.is_contiguous() && count >= self.len() {
            self.reset();
        } else {
            self.advance_by(count);
        }
    }

    fn advance_by(&mut self, mut count: usize) {
        if count < self.len() {
            self.pass_frames(count);
        }
        while count > 0 {
            let woven = self.woven.as_deref_mut();
            let Some((woven, front)) = woven.and_then(Woven::front_mut) else {
                self.sent = self.sent.saturating_add(count).min(self.inline.len());
                break;
            };
            let inline = front.at.saturating_sub(self.sent);
            if count < inline {
                self.sent = self.sent.saturating_add(count);
                break;
            }
            self.sent = self.sent.saturating_add(inline);
            count = count.saturating_sub(inline);
            let taken = count.min(front.bytes.len());
            bytes::Buf::advance(&mut front.bytes, taken);
            *woven = woven.saturating_sub(taken);
            count = count.saturating_sub(taken);
            if !front.bytes.is_empty() {
                break;
            }
            self.woven.as_mut().map(|woven| woven.bodies.pop_front());
        }
        if self.is_empty() {
            self.reset();
        } else if self.sent >= COMPACT_BYTES_MIN && self.sent >= self.inline.len() / 2 {
            self.compact();
        }
    }

    /// Moves the waiting bytes to the front. A peer that reads slowly but steadily never lets the
    /// buffer run empty; without this it would keep every byte that was ever written. At most as
    /// many bytes are moved as were written since the last time.
    fn compact(&mut self) {
        self.inline.drain(..self.sent.min(self.inline.len()));
        for shared in self.woven.iter_mut().flat_map(|woven| &mut woven.bodies) {
            shared.at = shared.at.saturating_sub(self.sent);
        }
        self.whole_from = self.whole_from.saturating_sub(self.sent);
        self.sent = 0;
    }

    /// Drops everything that is waiting; keeps some memory for later.
    pub fn clear(&mut self) {
        self.woven = None;
        self.reset();
    }

    fn reset(&mut self) {
        self.inline.clear();
        self.sent = 0;
        self.whole_from = 0;
        if self.inline.capacity() > KEEP_BYTES_MAX {
            self.inline.shrink_to(KEEP_BYTES_MAX);
        }
    }

    /// Gives back the memory if nothing waits.
    #[inline]
    pub fn shrink(&mut self) {
        let owns = self.inline.capacity() != 0 || self.woven.is_some();
        if owns && self.is_empty() {
            *self = Self::new();
        }
    }

    /// Gives back the memory if nothing waits and it is more than this many bytes.
    pub fn shrink_above(&mut self, bytes: usize) {
        if self.inline.capacity() > bytes {
            self.shrink();
        }
    }

    /// Appends a hello, which is the first of a connection's bytes.
    pub fn hello(&mut self, hello: &Hello) {
        hello.encode(&mut self.inline);
        // A hello has no frame header and can never be taken back.
        self.whole_from = self.inline.len();
    }

    /// Begins a request. Write its body, then any attachment, and finish it through the returned
    /// writer.
    #[inline]
    pub fn request(
        &mut self,
        head: &RequestHead,
        metadata: Option<&MetadataBuilder>,
    ) -> FrameWriter<'_> {
        let mut flags = head.flags;
        set(&mut flags, request_flags::TIMEOUT, head.timeout_us.is_some());
        set(&mut flags, request_flags::TRACE, head.trace.is_some());
        let written_by_caller = head.metadata_bytes != 0;
        set(&mut flags, request_flags::METADATA, metadata.is_some() || written_by_caller);
        set(&mut flags, request_flags::ATTACHMENT, head.attachment_bytes.is_some());
        let writer = self.begin(&Header {
            payload_bytes: 0,
            kind: FrameKind::Request,
            flags,
            encoding: head.encoding,
            detail: head.priority,
            call: head.call,
            aux: head.method.0,
        });
        let out = &mut writer.buffer.inline;
        if let Some(timeout_us) = head.timeout_us {
            out.extend_from_slice(&timeout_us.to_le_bytes());
        }
        if flags & request_flags::KEY != 0 {
            out.extend_from_slice(&head.key_hash.to_le_bytes());
        }
        if let Some(trace) = head.trace {
            out.extend_from_slice(&trace.trace_id);
            out.extend_from_slice(&trace.span_id);
            out.push(trace.flags);
        }
        if let Some(bytes) = head.attachment_bytes {
            out.extend_from_slice(&bytes.to_le_bytes());
        }
        if written_by_caller && metadata.is_none() {
            out.extend_from_slice(&head.metadata_bytes.to_le_bytes());
        }
        put_metadata(out, metadata);
        writer
    }

    /// Begins a reply. Write its body, then any attachment, and finish it through the returned writer.
    #[inline]
    pub fn reply(
        &mut self,
        head: &ReplyHead,
        metadata: Option<&MetadataBuilder>,
    ) -> FrameWriter<'_> {
        let mut flags = head.flags;
        set(&mut flags, reply_flags::FORWARDED, head.forwarded.is_some());
        set(&mut flags, reply_flags::METADATA, metadata.is_some());
        set(&mut flags, reply_flags::ATTACHMENT, head.attachment_bytes.is_some());
        let writer = self.begin(&Header {
            payload_bytes: 0,
            kind: FrameKind::Reply,
            flags,
            encoding: head.encoding,
            detail: head.code as u8,
            call: head.call,
            aux: head.handler_us,
        });
        let out = &mut writer.buffer.inline;
        if flags & reply_flags::RETRY_AFTER != 0 {
            out.extend_from_slice(&head.retry_after_ms.to_le_bytes());
        }
        if let Some(forwarded) = head.forwarded {
            out.extend_from_slice(&forwarded.owner().to_le_bytes());
            out.extend_from_slice(&forwarded.shards().to_le_bytes());
        }
        if let Some(bytes) = head.attachment_bytes {
            out.extend_from_slice(&bytes.to_le_bytes());
        }
        put_metadata(out, metadata);
        writer
    }

    /// Appends the reply of a call that failed. `flags` are bits of
    /// [`reply_flags`].
    ///
    /// Details that do not fit into the receiver's `frame_bytes_max` are left out.
    pub fn status(&mut self, head: &ReplyHead, status: &Status, frame_bytes_max: u32) {
        let wait = status.retry_after();
        let mut flags = head.flags & !reply_flags::RETRY_AFTER;
        set(&mut flags, reply_flags::RETRY_AFTER, wait.is_some());
        let head = ReplyHead {
            code: status.code(),
            encoding: Encoding::RAW,
            flags,
            retry_after_ms: wait.map_or(0, whole_ms),
            attachment_bytes: None,
            ..*head
        };
        let mut writer = self.reply(&head, None);
        put_status(&mut writer, status, true);
        if writer.finish(frame_bytes_max).is_err() {
            // The least frame limit is 64 KiB, so the text alone always fits.
            let mut writer = self.reply(&head, None);
            put_status(&mut writer, status, false);
            let _ = writer.finish(u32::MAX);
        }
    }

    /// Begins a message of a stream. Write its body and finish it through the returned writer.
    pub fn stream_data(&mut self, data: &StreamData) -> FrameWriter<'_> {
        self.begin(&Header {
            payload_bytes: 0,
            kind: FrameKind::StreamData,
            flags: if data.end { stream_flags::END } else { 0 },
            encoding: data.encoding,
            detail: 0,
            call: data.call,
            aux: 0,
        })
    }

    /// Appends the end of a stream: with the status it failed with, or `Ok`.
    ///
    /// `frame_bytes_max` and `metadata_bytes_max` are the receiver's limits. Metadata over its limit is
    /// left out; so are the status's details, and then the metadata, when the frame would be too large.
    pub fn stream_end(
        &mut self,
        call: u32,
        failure: Option<&Status>,
        metadata: Option<&MetadataBuilder>,
        frame_bytes_max: u32,
        metadata_bytes_max: u32,
    ) {
        let fits = |metadata: &&MetadataBuilder| {
            u32::try_from(metadata.as_bytes().len()).is_ok_and(|bytes| bytes <= metadata_bytes_max)
        };
        let metadata = metadata.filter(fits);
        let code = failure.map_or(StatusCode::Ok, Status::code);
        // The least frame limit is 64 KiB, so the text alone always fits.
        for (metadata, details) in [(metadata, true), (metadata, false), (None, false)] {
            let mut flags = 0;
            set(&mut flags, stream_flags::METADATA, metadata.is_some());
            let (kind, encoding) = (FrameKind::StreamEnd, Encoding::RAW);
            let detail = code as u8;
            let header = Header { payload_bytes: 0, kind, flags, encoding, detail, call, aux: 0 };
            let mut writer = self.begin(&header);
            put_metadata(&mut writer.buffer.inline, metadata);
            if let Some(status) = failure {
                put_status(&mut writer, status, details);
            }
            if writer.finish(frame_bytes_max).is_ok() {
                return;
            }
        }
    }

    /// Appends a grant of credit.
    pub fn credit(&mut self, credit: &Credit) {
        let flags = if credit.call.is_some() { 0 } else { stream_flags::CONNECTION };
        self.control(FrameKind::Credit, flags, 0, credit.call.unwrap_or(0), credit.bytes);
    }

    /// Appends a cancel.
    pub fn cancel(&mut self, call: u32, reason: CancelReason) {
        self.control(FrameKind::Cancel, 0, reason as u8, call, 0);
    }

    /// Appends a ping.
    pub fn ping(&mut self, opaque: u64) {
        let (low, high) = halves(opaque);
        self.control(FrameKind::Ping, 0, 0, low, high);
    }

    /// Appends a pong.
    pub fn pong(&mut self, opaque: u64) {
        let (low, high) = halves(opaque);
        self.control(FrameKind::Pong, 0, 0, low, high);
    }

    /// Appends a go-away with a text for people, cut at 1,024 bytes.
    pub fn go_away(&mut self, go_away: &GoAway, text: &str) {
        let mut writer = self.begin(&Header {
            payload_bytes: 0,
            kind: FrameKind::GoAway,
            flags: 0,
            encoding: Encoding::RAW,
            detail: 0,
            call: go_away.accepted,
            aux: go_away.rule,
        });
        let end = text.floor_char_boundary(1024);
        writer.put_slice(text.get(..end).unwrap_or("").as_bytes());
        let _ = writer.finish(u32::MAX);
    }

    fn control(&mut self, kind: FrameKind, flags: u8, detail: u8, call: u32, aux: u32) {
        let encoding = Encoding::RAW;
        let header = Header { payload_bytes: 0, kind, flags, encoding, detail, call, aux };
        self.inline.extend_from_slice(&header.encode());
    }

    #[inline]
    fn begin(&mut self, header: &Header) -> FrameWriter<'_> {
        let start = self.inline.len();
        self.inline.extend_from_slice(&header.encode());
        FrameWriter {
            start,
            shared_before: self.woven.as_ref().map_or(0, |woven| woven.bodies.len()),
            shared_bytes: 0,
            buffer: self,
        }
    }
}

fn whole_ms(wait: Duration) -> u32 {
    u32::try_from(wait.as_millis()).unwrap_or(u32::MAX)
}

fn set(flags: &mut u8, flag: u8, on: bool) {
    if on {
        *flags |= flag;
    } else {
        *flags &= !flag;
    }
}

fn halves(value: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
}

fn put_metadata(out: &mut Vec<u8>, metadata: Option<&MetadataBuilder>) {
    if let Some(metadata) = metadata {
        // A builder never holds more than a u16 can say.
        let bytes = u16::try_from(metadata.as_bytes().len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&bytes.to_le_bytes());
        out.extend_from_slice(metadata.as_bytes());
    }
}

fn put_status(writer: &mut FrameWriter<'_>, status: &Status, details: bool) {
    let text = status.wire_message();
    let bytes = u16::try_from(text.len()).unwrap_or(0);
    writer.put_slice(&bytes.to_le_bytes());
    writer.put_slice(text.as_bytes());
    if details {
        writer.put_bytes(status.details().clone());
    }
}

/// One frame under construction. Dropped without [`finish`](Self::finish), it leaves no trace.
///
/// ```
/// # mod corewire {
/// #     pub use bytes::Bytes;
/// #     pub use corewire_codec::*;
/// #     pub mod codec { pub use corewire_codec::{FrameWriter as BodyWriter, *}; }
/// # }
/// use corewire::codec::BodyWriter;
///
/// /// Writes a length and the text, as an encoder of one's own may.
/// fn write(text: &str, body: &mut BodyWriter<'_>) {
///     let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
///     body.put_slice(&length.to_le_bytes());
///     body.put_slice(text.as_bytes());
/// }
/// ```
#[derive(Debug)]
pub struct FrameWriter<'a> {
    buffer: &'a mut SendBuffer,
    /// Where the frame's header begins in `inline`.
    start: usize,
    shared_before: usize,
    shared_bytes: usize,
}

impl FrameWriter<'_> {
    /// Appends bytes to the body by copying them.
    #[inline]
    pub fn put_slice(&mut self, bytes: &[u8]) {
        self.buffer.inline.extend_from_slice(bytes);
    }

    /// Appends bytes to the body; from [`SHARE_BYTES_MIN`] on without copying them.
    #[inline]
    pub fn put_bytes(&mut self, bytes: Bytes) {
        if bytes.len() < SHARE_BYTES_MIN {
            self.put_slice(&bytes);
            return;
        }
        self.shared_bytes = self.shared_bytes.saturating_add(bytes.len());
        let woven = self.buffer.woven.get_or_insert_default();
        woven.bytes = woven.bytes.saturating_add(bytes.len());
        woven.bodies.push_back(BodySlice { at: self.buffer.inline.len(), bytes });
    }

    /// The run of bytes that the body is appended to, for encoders that write into a `Vec`. Only
    /// append to it.
    #[inline]
    pub fn inline(&mut self) -> &mut Vec<u8> {
        &mut self.buffer.inline
    }

    /// Bytes of payload so far, fields in front of the body included.
    #[must_use]
    #[inline]
    pub fn payload_bytes(&self) -> usize {
        let body = self.start.saturating_add(HEADER_BYTES);
        self.buffer.inline.len().saturating_sub(body).saturating_add(self.shared_bytes)
    }

    /// Ends the frame and states its length.
    ///
    /// # Errors
    ///
    /// The frame is larger than the receiver's `frame_bytes_max`; it was taken out again.
    #[inline]
    pub fn finish(self, frame_bytes_max: u32) -> Result<(), FrameTooLarge> {
        let bytes = self.payload_bytes();
        let length = u32::try_from(bytes).ok().filter(|&length| length <= frame_bytes_max);
        let Some(length) = length else {
            return Err(FrameTooLarge { bytes, max: frame_bytes_max });
        };
        let field =
            self.buffer.inline.get_mut(self.start..).and_then(|rest| rest.first_chunk_mut());
        if let Some(field) = field {
            *field = length.to_le_bytes();
        }
        // There is nothing to undo.
        core::mem::forget(self);
        Ok(())
    }
}

impl Drop for FrameWriter<'_> {
    fn drop(&mut self) {
        self.buffer.inline.truncate(self.start);
        if let Some(woven) = &mut self.buffer.woven {
            woven.bodies.truncate(self.shared_before);
            woven.bytes = woven.bytes.saturating_sub(self.shared_bytes);
        }
    }
}
