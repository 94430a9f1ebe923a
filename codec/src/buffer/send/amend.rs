//! Reading and amending the reply that was just appended, for the code that wraps a handler.

use super::SendBuffer;
use crate::wire::header::{FrameKind, HEADER_BYTES};
use crate::wire::status::StatusCode;

/// A place between two frames of a [`SendBuffer`]; valid until some of it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(usize);

const KIND: usize = 4;
const DETAIL: usize = 7;
const AUX: usize = 12;

impl SendBuffer {
    /// Where the next frame will begin.
    #[must_use]
    #[inline]
    pub fn mark(&self) -> Mark {
        Mark(self.inline.len())
    }

    fn frame_at(&mut self, mark: Mark) -> Option<&mut [u8; HEADER_BYTES]> {
        self.inline.get_mut(mark.0..)?.first_chunk_mut()
    }

    /// The code of the reply, or of the stream's end, that was appended at `mark`.
    #[must_use]
    pub fn code_at(&mut self, mark: Mark) -> Option<StatusCode> {
        let header = self.frame_at(mark)?;
        let kinds = [FrameKind::Reply as u8, FrameKind::StreamEnd as u8];
        if !kinds.contains(header.get(KIND)?) {
            return None;
        }
        StatusCode::from_number(*header.get(DETAIL)?)
    }

    /// States how long the handler took, in the reply that was appended at `mark`; does nothing when
    /// there is none.
    pub fn set_handler_us_at(&mut self, mark: Mark, handler_us: u32) {
        let Some(header) = self.frame_at(mark) else { return };
        if header.get(KIND) == Some(&(FrameKind::Reply as u8))
            && let Some(aux) = header.get_mut(AUX..).and_then(|rest| rest.first_chunk_mut())
        {
            *aux = handler_us.to_le_bytes();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::buffer::recv::RecvBuffer;
    use crate::wire::frame::{Head, ReplyHead};

    #[test]
    fn the_reply_at_a_mark_is_amended_and_nothing_else() {
        let mut out = SendBuffer::new();
        out.ping(1);
        let mark = out.mark();
        assert_eq!(out.code_at(mark), None);
        out.set_handler_us_at(mark, 9);
        let head = ReplyHead { code: StatusCode::NotFound, ..ReplyHead::ok(7) };
        out.reply(&head, None).finish(1024).unwrap();
        let other = out.mark();
        out.ping(2);
        assert_eq!(out.code_at(mark), Some(StatusCode::NotFound));
        assert_eq!(out.code_at(other), None);
        out.set_handler_us_at(mark, 1234);
        out.set_handler_us_at(other, 99);
        let mut recv = RecvBuffer::new();
        recv.extend_from_slice(out.first_chunk());
        let mut heads = Vec::new();
        while let Some(frame) = recv.next_frame(1024).unwrap() {
            heads.push(frame.head);
        }
        let reply = Head::Reply(ReplyHead { handler_us: 1234, ..head });
        assert_eq!(heads, [Head::Ping(1), reply, Head::Ping(2)]);
    }
}
