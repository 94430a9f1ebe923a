//! What a receive buffer yields: frames whose bytes are still in it.

use bytes::Bytes;

use crate::buffer::extras::Extras;
use crate::buffer::recv::RecvBuffer;
use crate::wire::frame::{
    Head, PayloadLayout, ReplyHead, RequestHead, decode_payload, reply, request,
};
use crate::wire::header::{FrameKind, Header};
use crate::wire::metadata::Metadata;
use crate::wire::rule::Rule;

/// A whole frame at the front of a [`RecvBuffer`].
#[derive(Debug)]
pub struct Frame<'a> {
    /// What it says.
    pub head: Head,
    /// Its bytes.
    pub payload: Payload<'a>,
}

/// The bytes of one frame, still in the receive buffer: read them in place, or take them out as
/// counted slices. What is not taken is gone when the next frame is requested.
#[derive(Debug)]
pub struct Payload<'a> {
    front: &'a mut RecvBuffer,
    layout: PayloadLayout,
}

impl<'a> Payload<'a> {
    #[inline]
    pub(crate) fn new(front: &'a mut RecvBuffer, layout: PayloadLayout) -> Self {
        Self { front, layout }
    }

    /// The body, read in place.
    #[must_use]
    #[inline]
    pub fn body(&self) -> &[u8] {
        self.front.front_payload().get(self.layout.body()).unwrap_or(&[])
    }

    /// Bytes of the whole payload: fields, metadata, body and attachment.
    #[must_use]
    #[inline]
    #[allow(clippy::len_without_is_empty, reason = "an empty payload is nothing special")]
    pub fn len(&self) -> usize {
        self.front.front_payload().len()
    }

    /// The attachment, read in place.
    #[must_use]
    pub fn attachment(&self) -> &[u8] {
        self.front.front_payload().get(self.layout.attachment_start()..).unwrap_or(&[])
    }

    /// The metadata, read in place.
    #[must_use]
    pub fn metadata(&self) -> Metadata<'_> {
        let block = self.front.front_payload().get(self.layout.metadata()).unwrap_or(&[]);
        Metadata::parse(block).unwrap_or_default()
    }

    /// Takes the body out as a slice of what was received, without copying. The slice keeps the
    /// receive buffer's whole allocation alive: copy what is to be stored for long.
    #[must_use]
    #[inline]
    pub fn into_body(self) -> Bytes {
        self.front.take_from_front(self.layout.body())
    }

    /// Takes body, metadata and attachment out. Body and attachment are slices of what was received,
    /// as in [`into_body`](Self::into_body); the metadata is copied.
    #[must_use]
    #[cold]
    pub fn into_parts(self) -> (Bytes, Extras) {
        let metadata = self.metadata().to_builder();
        let (body, end) = (self.layout.body(), self.front.front_payload().len());
        let mut attachment = self.front.take_from_front(body.start..end);
        let body = attachment.split_to(body.len().min(attachment.len()));
        (body, Extras { metadata, attachment })
    }

    /// A copy of the whole frame, for a request that is not handled yet.
    #[must_use]
    #[cold]
    pub fn to_owned(&self) -> OwnedPayload {
        OwnedPayload { frame: self.front.copy_front(), layout: self.layout }
    }
}

/// The bytes of one frame, out of the receive buffer.
#[derive(Debug)]
pub struct OwnedPayload {
    frame: RecvBuffer,
    layout: PayloadLayout,
}

impl OwnedPayload {
    /// The payload, to be read or taken out as from a receive buffer.
    pub fn view(&mut self) -> Payload<'_> {
        Payload::new(&mut self.frame, self.layout)
    }
}

impl RecvBuffer {
    /// The next whole frame, or `None` when more bytes are needed. The frame yielded before is
    /// dropped. `frame_bytes_max` and the least metadata limit apply; see
    /// [`next_frame_within`](Self::next_frame_within).
    ///
    /// # Errors
    ///
    /// The rule that the bytes break. The error is final: the stream cannot be resynchronised, and
    /// every later call returns an error again.
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
        let Some(header) = self.next_header(frame_bytes_max)? else { return Ok(None) };
        self.front(header, metadata_bytes_max).map(Some)
    }

    /// The frame whose header was just returned. A frame that breaks a rule stays where it is.
    ///
    /// # Errors
    ///
    /// The rule that its payload breaks.
    pub fn front(&mut self, header: Header, metadata_bytes_max: u32) -> Result<Frame<'_>, Rule> {
        // The heads of requests and replies are large: they are not moved through one more result.
        match header.kind {
            FrameKind::Request => {
                let mut head = RequestHead::default();
                let payload = self.front_request(header, metadata_bytes_max, &mut head)?;
                Ok(Frame { head: Head::Request(head), payload })
            }
            FrameKind::Reply => {
                let (head, payload) = self.front_reply(header, metadata_bytes_max)?;
                Ok(Frame { head: Head::Reply(head), payload })
            }
            _ => {
                let read = decode_payload(header, self.front_payload(), metadata_bytes_max);
                let (head, layout) = read.inspect_err(|_| self.keep_front())?;
                Ok(Frame { head, payload: Payload::new(self, layout) })
            }
        }
    }

    /// The request whose header was just returned. Its fields are written to `head`; after an error they
    /// mean nothing.
    ///
    /// # Errors
    ///
    /// The rule that its payload breaks.
    #[inline]
    pub fn front_request(
        &mut self,
        header: Header,
        metadata_bytes_max: u32,
        head: &mut RequestHead,
    ) -> Result<Payload<'_>, Rule> {
        debug_assert!(header.kind == FrameKind::Request, "the caller looked");
        let read = request(header, self.front_payload(), metadata_bytes_max, head);
        let layout = read.inspect_err(|_| self.keep_front())?;
        Ok(Payload::new(self, layout))
    }

    /// The reply whose header was just returned.
    ///
    /// # Errors
    ///
    /// The rule that its payload breaks.
    #[inline]
    pub fn front_reply(
        &mut self,
        header: Header,
        metadata_bytes_max: u32,
    ) -> Result<(ReplyHead, Payload<'_>), Rule> {
        debug_assert!(header.kind == FrameKind::Reply, "the caller looked");
        let read = reply(header, self.front_payload(), metadata_bytes_max);
        let (head, layout) = read.inspect_err(|_| self.keep_front())?;
        Ok((head, Payload::new(self, layout)))
    }
}
