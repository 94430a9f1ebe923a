//! What a request or a reply may carry in addition to its body.

use bytes::Bytes;

use crate::buffer::send::FrameWriter;
use crate::wire::metadata::MetadataBuilder;

/// Metadata and an attachment, in memory of their own. Most calls have neither.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// Small named values; an empty block is not sent.
    pub metadata: MetadataBuilder,
    /// Raw bytes behind the body; none when empty. From [`SHARE_BYTES_MIN`](crate::SHARE_BYTES_MIN)
    /// on they are sent without being copied, and those that were received are a slice of the receive
    /// buffer.
    pub attachment: Bytes,
}

impl Extras {
    /// Whether there is neither metadata nor an attachment.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.metadata.is_empty() && self.attachment.is_empty()
    }

    /// The metadata as a frame takes it, if there is any.
    #[must_use]
    pub fn metadata(&self) -> Option<&MetadataBuilder> {
        Some(&self.metadata).filter(|metadata| !metadata.is_empty())
    }

    /// The attachment's length as a head states it. A length that no frame can hold becomes the
    /// greatest number, so that the frame is rejected as too large.
    #[must_use]
    pub fn attachment_bytes(&self) -> Option<u32> {
        let bytes = u32::try_from(self.attachment.len()).unwrap_or(u32::MAX);
        Some(bytes).filter(|&bytes| bytes != 0)
    }

    /// Appends the attachment behind the body.
    pub fn write_attachment(&self, frame: &mut FrameWriter<'_>) {
        frame.put_bytes(self.attachment.clone());
    }
}
