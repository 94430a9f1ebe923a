//! Taking back frames that are waiting to be written but no longer wanted, or changing them.
//!
//! The buffer keeps no list of its frames. It knows where the first wholly unwritten frame begins, and walks
//! from there by the lengths in the headers. Only a write that takes a part of the buffer, and
//! [`SendBuffer::retract`] itself, pay for that.

use bytes::Bytes;

use super::SendBuffer;
use crate::wire::frame::request_flags;
use crate::wire::header::{FrameKind, HEADER_BYTES, Header};

/// Where a frame ends: the inline byte behind it, and how many large bodies are in front of that.
#[derive(Clone, Copy)]
struct Place {
    inline: usize,
    bodies: usize,
}

impl SendBuffer {
    /// Takes out the frames that `is_unwanted` picks, and returns how many bytes those were. It is asked about
    /// each frame of which no byte was written yet, in order; a partly written frame must be written to its
    /// end.
    ///
    /// It looks at every waiting frame, and moves the bytes behind the first one that it takes out. No
    /// frame may be under construction.
    #[cold]
    pub fn retract(&mut self, mut is_unwanted: impl FnMut(&Header) -> bool) -> usize {
        let waiting = self.len();
        let mut from = self.first_whole();
        let mut kept = from.inline;
        while let Some((header, to)) = self.frame_at_place(from) {
            let unwanted = is_unwanted(&header);
            let moved_by = from.inline.saturating_sub(kept);
            let bodies = self.woven.iter_mut().flat_map(|woven| &mut woven.bodies);
            let bodies = bodies.skip(from.bodies).take(to.bodies.saturating_sub(from.bodies));
            if unwanted {
                // Emptied here, and dropped below: their places must not move during the walk.
                bodies.for_each(|body| body.bytes = Bytes::new());
            } else {
                if moved_by > 0 {
                    bodies.for_each(|body| body.at = body.at.saturating_sub(moved_by));
                    self.inline.copy_within(from.inline..to.inline, kept);
                }
                kept = kept.saturating_add(to.inline.saturating_sub(from.inline));
            }
            from = to;
        }
        if kept == from.inline {
            return 0;
        }
        // The walk ends at the end of the last frame.
        self.inline.truncate(kept);
        if let Some(woven) = &mut self.woven {
            woven.bodies.retain(|body| !body.bytes.is_empty());
            woven.bytes = woven.bodies.iter().map(|body| body.bytes.len()).sum();
        }
        if self.is_empty() {
            self.reset();
        }
        waiting.saturating_sub(self.len())
    }

    /// Updates the timeouts of the wholly unwritten requests that have one: `left_us` returns what is left of
    /// a call's time in µs, or `None` to keep what the request says.
    #[cold]
    pub fn restate_timeouts(&mut self, mut left_us: impl FnMut(&Header) -> Option<u64>) {
        let mut from = self.first_whole();
        while let Some((header, to)) = self.frame_at_place(from) {
            if header.kind == FrameKind::Request
                && header.flags & request_flags::TIMEOUT != 0
                && let Some(left) = left_us(&header)
                && let Some(fields) = self.inline.get_mut(from.inline..to.inline)
                && let Some(field) =
                    fields.get_mut(HEADER_BYTES..).and_then(|rest| rest.first_chunk_mut())
            {
                *field = left.to_le_bytes();
            }
            from = to;
        }
    }

    /// The first `count` bytes are about to be written and others stay: finds the first frame that stays
    /// whole.
    #[cold]
    pub(super) fn pass_frames(&mut self, count: usize) {
        let mut at = self.first_whole();
        let bodies = self.shared().take(at.bodies).map(|body| body.bytes.len());
        let inline = at.inline.saturating_sub(self.sent);
        let mut passed = bodies.fold(inline, usize::saturating_add);
        while passed < count {
            let Some((header, end)) = self.frame_at_place(at) else {
                // Bytes that are not a frame cannot be taken out.
                at.inline = self.inline.len();
                break;
            };
            passed = passed.saturating_add(HEADER_BYTES);
            passed = passed.saturating_add(header.payload_bytes as usize);
            at = end;
        }
        self.whole_from = at.inline;
    }

    /// Where the first wholly unwritten frame begins.
    fn first_whole(&self) -> Place {
        let inline = self.whole_from;
        // A large body placed where a frame begins belongs to the frame before.
        let bodies = self
            .woven
            .as_ref()
            .map_or(0, |woven| woven.bodies.partition_point(|body| body.at <= inline));
        Place { inline, bodies }
    }

    /// The header of the frame that begins at this place, and where it ends.
    fn frame_at_place(&self, from: Place) -> Option<(Header, Place)> {
        let bytes = self.inline.get(from.inline..)?.first_chunk::<HEADER_BYTES>()?;
        let header = Header::decode(*bytes).ok()?;
        let mut left = header.payload_bytes as usize;
        let mut end = Place { inline: from.inline.saturating_add(HEADER_BYTES), ..from };
        for body in self.shared().skip(from.bodies) {
            let in_front = body.at.saturating_sub(end.inline);
            if left <= in_front {
                break;
            }
            end.inline = body.at;
            end.bodies = end.bodies.saturating_add(1);
            left = left.saturating_sub(in_front).saturating_sub(body.bytes.len());
        }
        end.inline = end.inline.saturating_add(left);
        (end.inline <= self.inline.len()).then_some((header, end))
    }
}
