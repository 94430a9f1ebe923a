//! The frames: what each header and payload say, checked as far as a single frame allows.

pub(crate) mod hello;

use core::num::NonZeroU16;
use core::ops::Range;

use crate::wire::cursor::Reader;
use crate::wire::encoding::Encoding;
use crate::wire::header::{FrameKind, Header};
use crate::wire::metadata::Metadata;
use crate::wire::method::MethodId;
use crate::wire::rule::Rule;
use crate::wire::status::StatusCode;

/// Flag bits of a request (REQ-31).
pub mod request_flags {
    /// The caller wants no reply.
    pub const ONE_WAY: u8 = 0x01;
    /// The caller will send a stream of messages.
    pub const STREAM_IN: u8 = 0x02;
    /// The caller expects a stream of messages.
    pub const STREAM_OUT: u8 = 0x04;
    /// The payload begins with the remaining timeout.
    pub const TIMEOUT: u8 = 0x08;
    /// A trace context follows.
    pub const TRACE: u8 = 0x10;
    /// A metadata block follows.
    pub const METADATA: u8 = 0x20;
    /// The payload ends with an attachment.
    pub const ATTACHMENT: u8 = 0x40;
    /// The hash of the call's key is there.
    pub const KEY: u8 = 0x80;
}

/// Flag bits of a reply (REQ-40).
pub mod reply_flags {
    /// The call was refused before its handler ran; it is safe to try it again.
    pub const REFUSED: u8 = 0x01;
    /// A stream of results follows.
    pub const STREAM: u8 = 0x02;
    /// The payload begins with how long to wait before trying again.
    pub const RETRY_AFTER: u8 = 0x04;
    /// The call belonged to another shard than the connection's; which, is there.
    pub const FORWARDED: u8 = 0x08;
    /// A metadata block follows.
    pub const METADATA: u8 = 0x20;
    /// The payload ends with an attachment.
    pub const ATTACHMENT: u8 = 0x40;
}

/// Flag bits of stream data, stream end and credit (REQ-50 to REQ-53).
pub mod stream_flags {
    /// Stream data: this is the sender's last message of the stream.
    pub const END: u8 = 0x01;
    /// Credit: it is for the connection, not for one stream.
    pub const CONNECTION: u8 = 0x01;
    /// Stream end: a metadata block comes first.
    pub const METADATA: u8 = 0x20;
}

/// W3C trace context in its binary fields: 25 bytes on the wire (REQ-22).
///
/// ```
/// # use corewire_codec as corewire;
/// use corewire::TraceContext;
///
/// let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// let trace: TraceContext = text.parse()?;
/// assert!(trace.is_sampled());
/// assert_eq!(trace.to_string(), text);
/// # Ok::<(), corewire_codec::TraceParentError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: [u8; 16],
    /// The caller's span.
    pub span_id: [u8; 8],
    /// W3C trace flags; bit 0 says that the trace is sampled.
    pub flags: u8,
}

/// A request's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// The call id: slot in the low 16 bits, generation in the high 16 (REQ-32).
    pub call: u32,
    /// What to call.
    pub method: MethodId,
    /// How the body is encoded.
    pub encoding: Encoding,
    /// Bits of [`request_flags`]; those that announce a field are set by the encoder.
    pub flags: u8,
    /// 0 (lowest) to 7 (highest); 3 is usual.
    pub priority: u8,
    /// What is left of the caller's time, in µs; zero means that it is over.
    pub timeout_us: Option<u64>,
    /// The hash of the key that the call belongs to (REQ-96). It is said only if the flags have
    /// [`KEY`](request_flags::KEY): see [`key`](Self::key).
    pub key_hash: u64,
    /// The trace that the call belongs to.
    pub trace: Option<TraceContext>,
    /// How many bytes at the end of the payload are the attachment.
    pub attachment_bytes: Option<u32>,
    /// For encoding only: the length of a metadata block that the writer puts in front of the body
    /// itself. Zero says that there is none, or that the encoder gets it as an argument.
    pub metadata_bytes: u16,
}

/// A place to read a request's fields into.
impl Default for RequestHead {
    fn default() -> Self {
        Self::new(0, MethodId(0))
    }
}

impl RequestHead {
    /// The priority of a call that says nothing about it.
    pub const PRIORITY_USUAL: u8 = 3;
    /// The greatest priority.
    pub const PRIORITY_MAX: u8 = 7;

    /// A unary request with a raw body, usual priority and no optional field.
    #[must_use]
    pub const fn new(call: u32, method: MethodId) -> Self {
        Self {
            call,
            method,
            encoding: Encoding::RAW,
            flags: 0,
            priority: Self::PRIORITY_USUAL,
            timeout_us: None,
            key_hash: 0,
            trace: None,
            attachment_bytes: None,
            metadata_bytes: 0,
        }
    }

    /// The hash of the key that the call belongs to, if it is said.
    #[must_use]
    #[inline]
    pub const fn key(&self) -> Option<u64> {
        if self.flags & request_flags::KEY != 0 { Some(self.key_hash) } else { None }
    }

    /// Says the hash of the call's key, or leaves it out: a client does where the server has no use for it.
    #[inline]
    pub const fn set_key(&mut self, hash: Option<u64>) {
        match hash {
            Some(hash) => (self.flags, self.key_hash) = (self.flags | request_flags::KEY, hash),
            None => self.flags &= !request_flags::KEY,
        }
    }

    /// Whether the payload has metadata or an attachment in addition to its body.
    #[must_use]
    #[inline]
    pub const fn has_extras(&self) -> bool {
        self.flags & (request_flags::METADATA | request_flags::ATTACHMENT) != 0
    }
}

/// Where a call was run that belonged to another shard than its connection's (REQ-101).
///
/// ```
/// # mod corewire { pub use corewire_codec::*; }
/// use corewire::Forwarded;
///
/// let forwarded = Forwarded::new(2, 4).unwrap();
/// assert_eq!((forwarded.owner(), forwarded.shards()), (2, 4));
/// assert_eq!(Forwarded::new(4, 4), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwarded {
    owner: u16,
    /// More than `owner`; that it is not 0 keeps the heads of replies small.
    shards: NonZeroU16,
}

impl Forwarded {
    /// Run by `owner`, one of `shards` shards. `None` if there is no such shard.
    #[must_use]
    pub const fn new(owner: u16, shards: u16) -> Option<Self> {
        match NonZeroU16::new(shards) {
            Some(shards) if owner < shards.get() => Some(Self { owner, shards }),
            _ => None,
        }
    }

    /// The shard that owns the call's key.
    #[must_use]
    pub const fn owner(self) -> u16 {
        self.owner
    }

    /// How many shards the server has.
    #[must_use]
    pub const fn shards(self) -> u16 {
        self.shards.get()
    }
}

/// A reply's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyHead {
    /// The call that is answered.
    pub call: u32,
    /// How the call ended.
    pub code: StatusCode,
    /// How the body is encoded.
    pub encoding: Encoding,
    /// Bits of [`reply_flags`]; those that announce a field are set by the encoder.
    pub flags: u8,
    /// How long the handler took, in µs; zero when it was not measured.
    pub handler_us: u32,
    /// How long the caller should wait before it tries again, in ms. It is said only if the flags have
    /// [`RETRY_AFTER`](reply_flags::RETRY_AFTER), which is to be set with it.
    pub retry_after_ms: u32,
    /// The shard that the call was handed to, if it was not the connection's.
    pub forwarded: Option<Forwarded>,
    /// How many bytes at the end of the payload are the attachment.
    pub attachment_bytes: Option<u32>,
}

impl ReplyHead {
    /// A successful reply with a raw body and no optional field.
    #[must_use]
    pub const fn ok(call: u32) -> Self {
        Self {
            call,
            code: StatusCode::Ok,
            encoding: Encoding::RAW,
            flags: 0,
            handler_us: 0,
            retry_after_ms: 0,
            forwarded: None,
            attachment_bytes: None,
        }
    }

    /// Whether the payload has metadata or an attachment.
    #[must_use]
    #[inline]
    pub const fn has_extras(&self) -> bool {
        self.flags & (reply_flags::METADATA | reply_flags::ATTACHMENT) != 0
    }
}

/// One message of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamData {
    /// The call that the stream belongs to.
    pub call: u32,
    /// How the message is encoded.
    pub encoding: Encoding,
    /// Whether this is the sender's last message.
    pub end: bool,
}

/// The end of a stream, with a status; the payload is that of a failed reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamEnd {
    /// The call that the stream belongs to.
    pub call: u32,
    /// How the stream ended.
    pub code: StatusCode,
}

/// Permission to send more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit {
    /// The stream's call, or `None` for the whole connection.
    pub call: Option<u32>,
    /// How many more bytes.
    pub bytes: u32,
}

/// Why a caller cancels (REQ-55).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CancelReason {
    /// Nobody waits for the call any more.
    Dropped = 0,
    /// The caller's deadline passed.
    Deadline = 1,
}

/// The sender takes no new calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoAway {
    /// Requests that the sender took on this connection, modulo 2³². Later ones were not run.
    pub accepted: u32,
    /// The [`Rule`] that the receiver broke; zero when it broke none.
    pub rule: u32,
}

/// What a frame says, without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// A client asks for a call.
    Request(RequestHead),
    /// A server answers a request.
    Reply(ReplyHead),
    /// A message of a stream.
    StreamData(StreamData),
    /// The end of a stream.
    StreamEnd(StreamEnd),
    /// Permission to send more.
    Credit(Credit),
    /// A call is no longer wanted.
    Cancel {
        /// The call.
        call: u32,
        /// Why.
        reason: CancelReason,
    },
    /// Asks whether the peer is still there, with eight bytes to send back.
    Ping(u64),
    /// The reply to a ping.
    Pong(u64),
    /// No new calls. The payload's body is a text for people.
    GoAway(GoAway),
}

/// Where the parts of a payload lie, as offsets from its first byte. What is behind the body is the
/// attachment. Four small numbers, because each call moves a layout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PayloadLayout {
    metadata_start: u32,
    metadata_end: u32,
    body_start: u32,
    body_end: u32,
}

impl PayloadLayout {
    /// A body from `start` to `end`, without metadata.
    #[inline]
    const fn of_body(start: u32, end: u32) -> Self {
        Self { metadata_start: 0, metadata_end: 0, body_start: start, body_end: end }
    }

    /// The metadata block.
    #[must_use]
    #[inline]
    pub const fn metadata(&self) -> Range<usize> {
        self.metadata_start as usize..self.metadata_end as usize
    }

    /// The body.
    #[must_use]
    #[inline]
    pub const fn body(&self) -> Range<usize> {
        self.body_start as usize..self.body_end as usize
    }

    /// Where the attachment begins; it ends with the payload.
    #[must_use]
    #[inline]
    pub const fn attachment_start(&self) -> usize {
        self.body_end as usize
    }
}

/// Reads the fields in front of a payload's body and checks them.
///
/// `metadata_bytes_max` is the limit that this side stated.
///
/// # Errors
///
/// The rule that the frame breaks.
pub fn decode_payload(
    header: Header,
    payload: &[u8],
    metadata_bytes_max: u32,
) -> Result<(Head, PayloadLayout), Rule> {
    let mut fields = Fields { reader: Reader::new(payload), total: payload.len() };
    match header.kind {
        FrameKind::Request => {
            let mut head = RequestHead::new(header.call, MethodId(header.aux));
            request(header, payload, metadata_bytes_max, &mut head)
                .map(|layout| (Head::Request(head), layout))
        }
        FrameKind::Reply => reply(header, payload, metadata_bytes_max)
            .map(|(head, layout)| (Head::Reply(head), layout)),
        FrameKind::StreamData => {
            let end = header.flags & stream_flags::END != 0;
            zero(header.detail == 0 && header.aux == 0)?;
            let data = StreamData { call: header.call, encoding: header.encoding, end };
            Ok((Head::StreamData(data), fields.layout(0..0, 0)))
        }
        FrameKind::StreamEnd => {
            zero(header.aux == 0)?;
            let code = StatusCode::from_number(header.detail).ok_or(Rule::BadField)?;
            let metadata =
                fields.metadata(header.flags & stream_flags::METADATA != 0, metadata_bytes_max)?;
            if code == StatusCode::Ok && !fields.reader.is_empty() {
                return Err(Rule::UnexpectedPayload);
            }
            let end = StreamEnd { call: header.call, code };
            Ok((Head::StreamEnd(end), fields.layout(metadata, 0)))
        }
        _ => control(header, payload).map(|head| (head, fields.layout(0..0, 0))),
    }
}

fn control(header: Header, payload: &[u8]) -> Result<Head, Rule> {
    let opaque = u64::from(header.call) | (u64::from(header.aux) << 32);
    Ok(match header.kind {
        FrameKind::Credit => {
            let connection = header.flags & stream_flags::CONNECTION != 0;
            zero(header.detail == 0 && (!connection || header.call == 0))?;
            if header.aux == 0 {
                return Err(Rule::BadCredit);
            }
            let call = (!connection).then_some(header.call);
            Head::Credit(Credit { call, bytes: header.aux })
        }
        FrameKind::Cancel => {
            zero(header.aux == 0)?;
            let reason = match header.detail {
                0 => CancelReason::Dropped,
                1 => CancelReason::Deadline,
                _ => return Err(Rule::BadField),
            };
            Head::Cancel { call: header.call, reason }
        }
        FrameKind::Ping => {
            zero(header.detail == 0)?;
            Head::Ping(opaque)
        }
        FrameKind::Pong => {
            zero(header.detail == 0)?;
            Head::Pong(opaque)
        }
        // Only go-away is left; the four kinds with bodies were told apart by the caller.
        _ => {
            zero(header.detail == 0)?;
            // Its length was checked with the header.
            if core::str::from_utf8(payload).is_err() {
                return Err(Rule::BadField);
            }
            Head::GoAway(GoAway { accepted: header.call, rule: header.aux })
        }
    })
}

/// A request's fields, written to `head`: it is large, and passing it by value copies it each time. The
/// usual ones, with nothing but a timeout in front of the body, are read right here; the rest is kept
/// out of the way of the callers that inline this.
#[inline]
pub(crate) fn request(
    header: Header,
    payload: &[u8],
    metadata_bytes_max: u32,
    head: &mut RequestHead,
) -> Result<PayloadLayout, Rule> {
    const RARE: u8 = request_flags::KEY
        | request_flags::TRACE
        | request_flags::METADATA
        | request_flags::ATTACHMENT;
    if header.detail > RequestHead::PRIORITY_MAX {
        return Err(Rule::BadField);
    }
    *head = RequestHead {
        call: header.call,
        method: MethodId(header.aux),
        encoding: header.encoding,
        flags: header.flags,
        priority: header.detail,
        timeout_us: None,
        key_hash: 0,
        trace: None,
        attachment_bytes: None,
        metadata_bytes: 0,
    };
    let mut start = 0;
    if header.flags & request_flags::TIMEOUT != 0 {
        let timeout = payload.first_chunk::<8>().ok_or(Rule::TruncatedPayload)?;
        head.timeout_us = Some(u64::from_le_bytes(*timeout));
        start = 8;
    }
    if header.flags & RARE != 0 {
        return request_with_fields(head, payload, metadata_bytes_max);
    }
    Ok(PayloadLayout::of_body(start, header.payload_bytes))
}

#[cold]
fn request_with_fields(
    head: &mut RequestHead,
    payload: &[u8],
    metadata_bytes_max: u32,
) -> Result<PayloadLayout, Rule> {
    let mut fields = Fields { reader: Reader::new(payload), total: payload.len() };
    let flags = head.flags;
    let has = |flag: u8| flags & flag != 0;
    if has(request_flags::TIMEOUT) {
        fields.reader.u64().ok_or(Rule::TruncatedPayload)?;
    }
    if has(request_flags::KEY) {
        head.key_hash = fields.reader.u64().ok_or(Rule::TruncatedPayload)?;
    }
    head.trace = match has(request_flags::TRACE) {
        true => Some(fields.trace()?),
        false => None,
    };
    let attachment_bytes = fields.attachment_bytes(has(request_flags::ATTACHMENT))?;
    let metadata = fields.metadata(has(request_flags::METADATA), metadata_bytes_max)?;
    head.attachment_bytes = attachment_bytes;
    fields.checked_layout(metadata, attachment_bytes)
}

/// A reply's fields; see [`request`].
#[inline]
pub(crate) fn reply(
    header: Header,
    payload: &[u8],
    metadata_bytes_max: u32,
) -> Result<(ReplyHead, PayloadLayout), Rule> {
    const RARE: u8 = reply_flags::RETRY_AFTER
        | reply_flags::FORWARDED
        | reply_flags::METADATA
        | reply_flags::ATTACHMENT;
    let head = ReplyHead {
        call: header.call,
        code: StatusCode::from_number(header.detail).ok_or(Rule::BadField)?,
        encoding: header.encoding,
        flags: header.flags,
        handler_us: header.aux,
        retry_after_ms: 0,
        forwarded: None,
        attachment_bytes: None,
    };
    if header.flags & RARE != 0 {
        return reply_with_fields(head, payload, metadata_bytes_max);
    }
    Ok((head, PayloadLayout::of_body(0, header.payload_bytes)))
}

#[cold]
fn reply_with_fields(
    mut head: ReplyHead,
    payload: &[u8],
    metadata_bytes_max: u32,
) -> Result<(ReplyHead, PayloadLayout), Rule> {
    let mut fields = Fields { reader: Reader::new(payload), total: payload.len() };
    let has = |flag: u8| head.flags & flag != 0;
    head.retry_after_ms = match has(reply_flags::RETRY_AFTER) {
        true => fields.reader.u32().ok_or(Rule::TruncatedPayload)?,
        false => 0,
    };
    head.forwarded = match has(reply_flags::FORWARDED) {
        true => Some(fields.forwarded()?),
        false => None,
    };
    let attachment_bytes = fields.attachment_bytes(has(reply_flags::ATTACHMENT))?;
    let metadata = fields.metadata(has(reply_flags::METADATA), metadata_bytes_max)?;
    head.attachment_bytes = attachment_bytes;
    fields.checked_layout(metadata, attachment_bytes).map(|layout| (head, layout))
}

fn zero(holds: bool) -> Result<(), Rule> {
    if holds { Ok(()) } else { Err(Rule::ReservedBits) }
}

/// The optional fields in front of a body, in the order of the wire.
struct Fields<'a> {
    reader: Reader<'a>,
    total: usize,
}

impl Fields<'_> {
    /// Bytes read so far.
    fn position(&self) -> usize {
        self.total.saturating_sub(self.reader.rest().len())
    }

    fn trace(&mut self) -> Result<TraceContext, Rule> {
        let trace_id = self.reader.array().ok_or(Rule::TruncatedPayload)?;
        let span_id = self.reader.array().ok_or(Rule::TruncatedPayload)?;
        let flags = self.reader.u8().ok_or(Rule::TruncatedPayload)?;
        Ok(TraceContext { trace_id, span_id, flags })
    }

    fn forwarded(&mut self) -> Result<Forwarded, Rule> {
        let owner = self.reader.u16().ok_or(Rule::TruncatedPayload)?;
        let shards = self.reader.u16().ok_or(Rule::TruncatedPayload)?;
        Forwarded::new(owner, shards).ok_or(Rule::BadField)
    }

    fn attachment_bytes(&mut self, present: bool) -> Result<Option<u32>, Rule> {
        match present {
            true => self.reader.u32().map(Some).ok_or(Rule::TruncatedPayload),
            false => Ok(None),
        }
    }

    fn metadata(&mut self, present: bool, max: u32) -> Result<Range<usize>, Rule> {
        if !present {
            return Ok(0..0);
        }
        let bytes = self.reader.u16().ok_or(Rule::TruncatedPayload)?;
        let start = self.position();
        let block = self.reader.bytes(usize::from(bytes)).ok_or(Rule::TruncatedPayload)?;
        if u32::from(bytes) > max || Metadata::parse(block).is_none() {
            return Err(Rule::BadMetadata);
        }
        Ok(start..self.position())
    }

    /// The layout when the last `attachment` bytes are the attachment and the rest is the body.
    /// Payloads are measured by a u32 on the wire, so their offsets fit.
    fn layout(&self, metadata: Range<usize>, attachment: usize) -> PayloadLayout {
        let small = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        PayloadLayout {
            metadata_start: small(metadata.start),
            metadata_end: small(metadata.end),
            body_start: small(self.position()),
            body_end: small(self.total.saturating_sub(attachment)),
        }
    }

    fn checked_layout(
        &self,
        metadata: Range<usize>,
        attachment_bytes: Option<u32>,
    ) -> Result<PayloadLayout, Rule> {
        let attachment = usize::try_from(attachment_bytes.unwrap_or(0)).unwrap_or(usize::MAX);
        if attachment > self.reader.rest().len() {
            return Err(Rule::TruncatedPayload);
        }
        Ok(self.layout(metadata, attachment))
    }
}
