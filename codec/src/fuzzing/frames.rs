//! A stream of frames, cut anywhere, is the same stream of frames.

use bytes::Bytes;

use super::source::{Source, flatten};
use crate::buffer::recv::RecvBuffer;
use crate::buffer::send::SendBuffer;
use crate::wire::encoding::Encoding;
use crate::wire::frame::{
    CancelReason, Credit, Forwarded, GoAway, Head, ReplyHead, RequestHead, StreamData, StreamEnd,
    TraceContext, reply_flags, request_flags,
};
use crate::wire::limits::{FrameBytes, MetadataBytes};
use crate::wire::metadata::MetadataBuilder;
use crate::wire::method::MethodId;
use crate::wire::status::StatusCode;

/// What went into a frame and must come out of it.
struct Sent {
    head: Head,
    metadata: Vec<u8>,
    body: Vec<u8>,
    attachment: Vec<u8>,
}

impl From<Head> for Sent {
    fn from(head: Head) -> Self {
        Self { head, metadata: Vec::new(), body: Vec::new(), attachment: Vec::new() }
    }
}

/// Writes a few frames of all kinds, feeds them in pieces of any size, and reads them back: in
/// place, taken out, and by turns.
pub fn cut(data: &[u8]) {
    let mut source = Source::new(data);
    let mut out = SendBuffer::new();
    let mut sent = Vec::new();
    for _ in 0..1 + source.below(12) {
        sent.push(put_frame(&mut source, &mut out));
    }
    let wire = flatten(&out);
    let pieces = source.rest();
    read_back(&wire, pieces, &sent, |_| false);
    read_back(&wire, pieces, &sent, |_| true);
    read_back(&wire, pieces, &sent, |index| index % 2 == 0);
}

fn read_back(wire: &[u8], pieces: &[u8], sent: &[Sent], take: impl Fn(usize) -> bool) {
    let mut pieces = Source::new(pieces);
    let mut recv = RecvBuffer::new();
    let mut taken: Vec<(usize, Bytes)> = Vec::new();
    let (mut rest, mut count) = (wire, 0);
    loop {
        loop {
            let frame = recv.next_frame_within(FrameBytes::MIN.get(), MetadataBytes::MAX.get());
            let Some(frame) = frame.expect("what the writer made is well formed") else { break };
            let expected = &sent[count];
            assert_eq!(frame.head, expected.head);
            assert_eq!(frame.payload.body(), expected.body);
            assert_eq!(frame.payload.attachment(), expected.attachment);
            let mut metadata = MetadataBuilder::new();
            for entry in frame.payload.metadata().iter() {
                metadata.insert(entry.key, entry.value).unwrap();
            }
            assert_eq!(metadata.as_bytes(), expected.metadata);
            if take(count) {
                taken.push((count, frame.payload.into_body()));
            }
            count += 1;
        }
        if rest.is_empty() {
            break;
        }
        // One byte at a time for a while, then larger steps; the rest at once when choices end.
        let step = if pieces.is_empty() { rest.len() } else { piece_bytes(&mut pieces) };
        let (front, back) = rest.split_at(step.min(rest.len()));
        recv.extend_from_slice(front);
        rest = back;
    }
    assert_eq!(count, sent.len());
    assert!(recv.is_empty());
    // What was taken out is not disturbed by what came after it.
    for (index, body) in taken {
        assert_eq!(body, sent[index].body);
    }
}

fn piece_bytes(pieces: &mut Source<'_>) -> usize {
    let (scale, size) = (pieces.u8(), usize::from(pieces.u8()));
    1 + if scale < 128 { size % 20 } else { size * 37 }
}

fn put_frame(source: &mut Source<'_>, out: &mut SendBuffer) -> Sent {
    let call = source.u32();
    match source.below(10) {
        0 | 1 => put_request(source, out, call),
        2 | 3 => put_reply(source, out, call),
        4 => {
            let encoding = Encoding::from_byte(source.u8());
            let data = StreamData { call, encoding, end: source.flag() };
            let body = source.body();
            let mut writer = out.stream_data(&data);
            writer.put_bytes(Bytes::copy_from_slice(&body));
            writer.finish(FrameBytes::MIN.get()).unwrap();
            Sent { body, ..Head::StreamData(data).into() }
        }
        5 => {
            let metadata = metadata(source);
            out.stream_end(call, None, metadata.as_ref(), u32::MAX, u32::MAX);
            let head = Head::StreamEnd(StreamEnd { call, code: StatusCode::Ok });
            let metadata = metadata.map_or_else(Vec::new, |block| block.as_bytes().to_vec());
            Sent { metadata, ..head.into() }
        }
        6 => {
            let call = source.flag().then_some(call);
            let credit = Credit { call, bytes: source.u32().max(1) };
            out.credit(&credit);
            Head::Credit(credit).into()
        }
        7 => {
            let reason = if source.flag() { CancelReason::Deadline } else { CancelReason::Dropped };
            out.cancel(call, reason);
            Head::Cancel { call, reason }.into()
        }
        8 => {
            let opaque = source.u64();
            if source.flag() {
                out.ping(opaque);
                Head::Ping(opaque).into()
            } else {
                out.pong(opaque);
                Head::Pong(opaque).into()
            }
        }
        _ => {
            let go_away = GoAway { accepted: call, rule: source.u32() };
            let text = String::from_utf8_lossy(source.bytes(90)).into_owned();
            out.go_away(&go_away, &text);
            Sent { body: text.into_bytes(), ..Head::GoAway(go_away).into() }
        }
    }
}

fn put_request(source: &mut Source<'_>, out: &mut SendBuffer, call: u32) -> Sent {
    let attachment = if source.flag() { Some(source.body()) } else { None };
    let mut head = RequestHead {
        encoding: Encoding::from_byte(source.u8()),
        flags: source.u8() & 0x07,
        priority: source.u8() % 8,
        timeout_us: source.flag().then(|| source.u64()),
        attachment_bytes: attachment.as_ref().map(|bytes| u32::try_from(bytes.len()).unwrap()),
        ..RequestHead::new(call, MethodId(source.u32()))
    };
    head.set_key(source.flag().then(|| source.u64()));
    head.trace = source.flag().then(|| TraceContext {
        trace_id: (u128::from(source.u64()) << 64 | u128::from(source.u64())).to_le_bytes(),
        span_id: source.u64().to_le_bytes(),
        flags: source.u8(),
    });
    let metadata = metadata(source);
    let body = source.body();
    let mut writer = out.request(&head, metadata.as_ref());
    writer.put_bytes(Bytes::copy_from_slice(&body));
    writer.put_bytes(Bytes::copy_from_slice(attachment.as_deref().unwrap_or(&[])));
    writer.finish(FrameBytes::MIN.get()).unwrap();
    let bits = [
        (request_flags::TIMEOUT, head.timeout_us.is_some()),
        (request_flags::TRACE, head.trace.is_some()),
        (request_flags::METADATA, metadata.is_some()),
        (request_flags::ATTACHMENT, attachment.is_some()),
    ];
    head.flags |= announced(&bits);
    sent(Head::Request(head), metadata.as_ref(), body, attachment)
}

fn put_reply(source: &mut Source<'_>, out: &mut SendBuffer, call: u32) -> Sent {
    let attachment = if source.flag() { Some(source.body()) } else { None };
    let mut head = ReplyHead {
        code: StatusCode::ALL[source.below(17)],
        encoding: Encoding::from_byte(source.u8()),
        flags: source.u8() & 0x03,
        handler_us: source.u32(),
        retry_after_ms: 0,
        forwarded: source.flag().then(|| forwarded(source)).flatten(),
        attachment_bytes: attachment.as_ref().map(|bytes| u32::try_from(bytes.len()).unwrap()),
        ..ReplyHead::ok(call)
    };
    if source.flag() {
        head.flags |= reply_flags::RETRY_AFTER;
        head.retry_after_ms = source.u32();
    }
    let metadata = metadata(source);
    let body = source.body();
    let mut writer = out.reply(&head, metadata.as_ref());
    writer.put_bytes(Bytes::copy_from_slice(&body));
    writer.put_bytes(Bytes::copy_from_slice(attachment.as_deref().unwrap_or(&[])));
    writer.finish(FrameBytes::MIN.get()).unwrap();
    let bits = [
        (reply_flags::FORWARDED, head.forwarded.is_some()),
        (reply_flags::METADATA, metadata.is_some()),
        (reply_flags::ATTACHMENT, attachment.is_some()),
    ];
    head.flags |= announced(&bits);
    sent(Head::Reply(head), metadata.as_ref(), body, attachment)
}

fn forwarded(source: &mut Source<'_>) -> Option<Forwarded> {
    let owner = source.u16() % u16::MAX;
    let more = source.u16() % (u16::MAX - owner);
    Forwarded::new(owner, owner + more + 1)
}

/// The bits that the encoder must have set by itself.
fn announced(bits: &[(u8, bool)]) -> u8 {
    bits.iter().filter(|(_, present)| *present).map(|(bit, _)| bit).sum()
}

fn sent(
    head: Head,
    metadata: Option<&MetadataBuilder>,
    body: Vec<u8>,
    attachment: Option<Vec<u8>>,
) -> Sent {
    let metadata = metadata.map_or_else(Vec::new, |block| block.as_bytes().to_vec());
    Sent { head, metadata, body, attachment: attachment.unwrap_or_default() }
}

fn metadata(source: &mut Source<'_>) -> Option<MetadataBuilder> {
    if !source.flag() {
        return None;
    }
    let mut builder = MetadataBuilder::new();
    for _ in 0..source.below(4) {
        let key = ["trace-bin", "tenant", "a.b_c-9", "x-bin"][source.below(4)];
        // A value that its key does not allow is left out; the block stays well formed.
        let _ = builder.insert(key, source.bytes(30));
    }
    Some(builder)
}
