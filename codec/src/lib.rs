//! Corewire's wire format, without any I/O.
//!
//! This crate turns bytes into frames and frames into bytes. It opens no socket, reads no clock,
//! starts no thread and contains no `unsafe`. What a frame *means* (is this id in flight? may this
//! peer send it now?) is the business of `corewire-proto`; `docs/PROTOCOL.md` specifies every byte
//! and numbers the requirements that the comments here cite as `REQ-n`.
//!
//! ```text
//!   bytes in ──▶ RecvBuffer ──▶ Frame { head, payload }        (bodies are slices of what came in)
//!   bytes out ◀── SendBuffer ◀── FrameWriter ◀── head, body    (many frames, one gathered write)
//! ```
//!
//! # One frame
//!
//! ```text
//!  0        4    5     6        7       8        12       16
//!  ┌────────┬────┬─────┬────────┬───────┬────────┬────────┬─────────────────────────┐
//!  │payload │kind│flags│encoding│detail │call id │  aux   │ payload …               │
//!  │bytes   │    │     │        │       │        │        │                         │
//!  └────────┴────┴─────┴────────┴───────┴────────┴────────┴─────────────────────────┘
//! ```
//!
//! # Example
//!
//! ```
//! use corewire_codec::{Head, MethodId, RecvBuffer, RequestHead, SendBuffer};
//!
//! let mut out = SendBuffer::new();
//! let request = RequestHead::new(7, MethodId::of("Echo", "echo"));
//! let mut frame = out.request(&request, None);
//! frame.put_slice(b"hello");
//! frame.finish(1 << 20)?;
//!
//! let mut input = RecvBuffer::new();
//! input.extend_from_slice(out.first_chunk());
//! let frame = input.next_frame(1 << 20).expect("well formed").expect("complete");
//! assert!(matches!(frame.head, Head::Request(r) if r.call == 7));
//! assert_eq!(frame.payload.body(), b"hello");
//! # Ok::<(), corewire_codec::FrameTooLarge>(())
//! ```
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod buffer;
mod error_text;
mod foreign;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
#[doc(hidden)]
pub mod message;
mod payload;
mod range;
#[cfg(feature = "serde")]
#[doc(hidden)]
pub mod settings;
mod wire;

pub use buffer::extras::Extras;
pub use buffer::received::{Frame, OwnedPayload, Payload};
pub use buffer::recv::RecvBuffer;
pub use buffer::send::{
    EncodedBody, FrameTooLarge, FrameWriter, Mark, SHARE_BYTES_MIN, SendBuffer,
};
pub use foreign::Foreign;
pub use payload::codec::{
    Codec, Decode, DecodeError, Encode, EncodeError, Raw, Speedy, read_argument, write_argument,
};
pub use range::{OutOfRange, Range, Setting};
pub use wire::encoding::{CodecId, CompressionId, Encoding, UnexpectedEncoding};
pub use wire::frame::hello::{Feature, Hello, HelloRecords, MAGIC, PREAMBLE_BYTES, Role, VERSION};
pub use wire::frame::{
    CancelReason, Credit, Forwarded, GoAway, Head, PayloadLayout, ReplyHead, RequestHead,
    StreamData, StreamEnd, TraceContext, decode_payload, reply_flags, request_flags, stream_flags,
};
pub use wire::header::{FrameKind, HEADER_BYTES, Header};
pub use wire::limits::{
    ConnectionCredit, FrameBytes, InFlight, LimitOutOfRange, Limits, MetadataBytes, StreamCredit,
};
pub use wire::metadata::{Metadata, MetadataBuilder, MetadataEntry, MetadataError};
pub use wire::method::MethodId;
pub use wire::rule::Rule;
pub use wire::status::{Status, StatusCode};
pub use wire::trace::TraceParentError;
