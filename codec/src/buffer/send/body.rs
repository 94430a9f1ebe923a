//! A body that is encoded away from the connection that will send it.

use super::{BodySlice, FrameWriter, SendBuffer};

/// A request's body, encoded on the thread that makes the call, to be put into a frame on the thread
/// that owns the connection. Large bodies stay the counted slices that they came as.
#[derive(Debug, Default)]
pub struct EncodedBody(SendBuffer);

impl EncodedBody {
    /// Encodes a body with the function that would write it into a frame.
    ///
    /// # Errors
    ///
    /// The error that `encode` returns.
    pub fn encode<E>(
        encode: impl FnOnce(&mut FrameWriter<'_>) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut buffer = SendBuffer::new();
        // There is no header in front, and nothing to take back once the body is whole.
        let mut writer =
            FrameWriter { start: 0, shared_before: 0, shared_bytes: 0, buffer: &mut buffer };
        encode(&mut writer)?;
        core::mem::forget(writer);
        Ok(Self(buffer))
    }

    /// Its size in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends it to a frame: small parts by copying them, large ones as they are.
    pub fn write_to(self, frame: &mut FrameWriter<'_>) {
        let SendBuffer { inline, woven, .. } = self.0;
        let mut from = 0;
        for BodySlice { at, bytes } in woven.map(|woven| woven.bodies).unwrap_or_default() {
            frame.put_slice(inline.get(from..at).unwrap_or(&[]));
            frame.put_bytes(bytes);
            from = at;
        }
        frame.put_slice(inline.get(from..).unwrap_or(&[]));
    }
}

impl SendBuffer {
    /// Appends whole frames that were written into another buffer, of which nothing was sent: small parts by copying them, large
    /// bodies as they are.
    pub fn append(&mut self, frames: Self) {
        let Self { inline, woven, .. } = frames;
        let offset = self.inline.len();
        self.inline.extend_from_slice(&inline);
        let Some(more) = woven.filter(|woven| !woven.bodies.is_empty()) else { return };
        let woven = self.woven.get_or_insert_default();
        woven.bytes = woven.bytes.saturating_add(more.bytes);
        let moved = more.bodies.into_iter();
        woven
            .bodies
            .extend(moved.map(|body| BodySlice { at: body.at.saturating_add(offset), ..body }));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::buffer::recv::RecvBuffer;
    use crate::wire::frame::RequestHead;
    use crate::wire::method::MethodId;
    use bytes::Bytes;

    #[test]
    fn a_body_is_the_same_on_either_way() {
        let parts: [Bytes; 4] =
            [vec![1; 10].into(), vec![2; 5000].into(), vec![3; 7].into(), vec![4; 9000].into()];
        let write = |frame: &mut FrameWriter<'_>| {
            parts.iter().for_each(|part| frame.put_bytes(part.clone()));
            Ok::<_, ()>(())
        };
        let body = EncodedBody::encode(write).unwrap();
        assert_eq!(body.len(), 14_017);
        let mut out = SendBuffer::new();
        let mut frame = out.request(&RequestHead::new(1, MethodId(2)), None);
        body.write_to(&mut frame);
        frame.finish(1 << 20).unwrap();
        let mut recv = RecvBuffer::new();
        while !out.is_empty() {
            recv.extend_from_slice(out.first_chunk());
            out.advance(out.first_chunk().len());
        }
        let frame = recv.next_frame(1 << 20).unwrap().unwrap();
        assert_eq!(frame.payload.body(), parts.concat());
    }

    #[test]
    fn frames_of_another_buffer_follow_those_that_are_there() {
        let large = Bytes::from(vec![7; 9000]);
        let write = |out: &mut SendBuffer, call: u32, body: Bytes| {
            let mut frame = out.request(&RequestHead::new(call, MethodId(2)), None);
            frame.put_bytes(body);
            frame.finish(1 << 20).unwrap();
        };
        let (mut out, mut other) = (SendBuffer::new(), SendBuffer::new());
        write(&mut out, 1, large.clone());
        write(&mut out, 2, Bytes::from_static(b"small"));
        write(&mut other, 3, Bytes::from_static(b"other"));
        write(&mut other, 4, large.clone());
        let bytes = out.len() + other.len();
        out.append(other);
        assert_eq!(out.len(), bytes);
        let mut recv = RecvBuffer::new();
        while !out.is_empty() {
            recv.extend_from_slice(out.first_chunk());
            out.advance(out.first_chunk().len());
        }
        for body in [&large[..], b"small", b"other", &large[..]] {
            let frame = recv.next_frame(1 << 20).unwrap().unwrap();
            assert_eq!(frame.payload.body(), body);
        }
    }
}
