//! Bodies of fuzz targets: properties over arbitrary bytes.
//!
//! Each function takes any bytes, runs one property of the codec on them and panics when it does not
//! hold. Property tests (`tests/properties.rs`), the replay of the committed corpus
//! (`tests/corpus.rs`) and the fuzz targets (`fuzz/`) call the same functions.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "a fuzz body reports by panicking"
)]

mod frames;
mod messages;
mod replay;
mod send;
mod source;

pub use frames::cut;
pub use messages::{message_json, message_protobuf, message_speedy};
pub use replay::{assert_same_set, replay};
pub use send::send_buffer;
pub use source::Source;

use crate::buffer::recv::RecvBuffer;
use crate::wire::frame::decode_payload;
use crate::wire::frame::hello::{Hello, PREAMBLE_BYTES, VERSION};
use crate::wire::header::{FrameKind, HEADER_BYTES, Header};
use crate::wire::limits::{FrameBytes, MetadataBytes};
use crate::wire::metadata::{Metadata, MetadataBuilder};
use crate::wire::rule::Rule;
use crate::wire::status::{Status, StatusCode};
use bytes::Bytes;

/// A fuzz body.
pub type Target = fn(&[u8]);

/// Every target by the name of its file in `fuzz/fuzz_targets` and its folder in `fuzz/corpus`.
pub const TARGETS: [(&str, Target); 11] = [
    ("any_input", any_input),
    ("growth", growth),
    ("cut", cut),
    ("send_buffer", send_buffer),
    ("metadata", metadata),
    ("header", header),
    ("hello", hello),
    ("status", status),
    ("message_protobuf", message_protobuf),
    ("message_json", message_json),
    ("message_speedy", message_speedy),
];

/// The most memory that a receive buffer may own while `unread` bytes wait in it: it asks for as
/// much again or 16 KiB, the allocator may double that, and a split buffer remembers up to 64 KiB
/// of its first size.
fn capacity_bytes_max(unread: usize) -> usize {
    2 * (unread + unread.max(16 * 1024)) + 64 * 1024
}

/// Any bytes in any pieces: no panic, no frame out of nothing, parts inside the payload, errors
/// that stay, and no memory beyond what arrived.
pub fn any_input(data: &[u8]) {
    let mut source = Source::new(data);
    let step = 1 + usize::from(source.u8());
    let input = source.rest();
    hello(input);
    let mut recv = RecvBuffer::new();
    let (mut fed, mut used) = (0, 0);
    for piece in input.chunks(step) {
        let unread = recv.len();
        let room = recv.room_wanted();
        let storage = recv.storage(room);
        assert!(storage.capacity() >= unread + room);
        assert!(storage.capacity() <= capacity_bytes_max(unread));
        storage.extend_from_slice(piece);
        fed += piece.len();
        loop {
            let frame = recv.next_frame_within(FrameBytes::MIN.get(), MetadataBytes::MIN.get());
            let frame = match frame {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(rule) => {
                    assert_stays_broken(&mut recv, rule);
                    return;
                }
            };
            let payload = frame.payload;
            let entries: usize =
                payload.metadata().iter().map(|e| 3 + e.key.len() + e.value.len()).sum();
            used += HEADER_BYTES + entries + payload.body().len() + payload.attachment().len();
            assert!(used <= fed, "more came out than went in");
            assert!(payload.metadata().is_empty() || entries <= 1024);
            let body = payload.body().to_vec();
            assert_eq!(payload.into_body(), body);
        }
        assert!(recv.len() <= fed);
    }
}

fn assert_stays_broken(recv: &mut RecvBuffer, rule: Rule) {
    for _ in 0..2 {
        let again = recv.next_frame_within(FrameBytes::MIN.get(), MetadataBytes::MIN.get());
        assert_eq!(again.err(), Some(rule), "an error is final");
    }
}

/// A frame that promises up to a gibibyte and trickles in: memory follows what arrived.
pub fn growth(data: &[u8]) {
    let mut source = Source::new(data);
    let payload_bytes = source.u32() % FrameBytes::MAX.get();
    let header = Header { payload_bytes, ..EMPTY_REQUEST };
    let mut recv = RecvBuffer::new();
    recv.extend_from_slice(&header.encode());
    let mut given = 0;
    let total = usize::try_from(payload_bytes).unwrap().min(192 * 1024);
    while given < total {
        let unread = recv.len();
        let room = recv.room_wanted();
        let storage = recv.storage(room);
        let capacity = storage.capacity();
        assert!(capacity <= capacity_bytes_max(unread), "{capacity} for {unread}");
        // What is received never fills more than the room.
        let count = (1 + usize::from(source.u16())).min(room).min(total - given);
        storage.resize(unread + count, 0xa5);
        given += count;
        assert_eq!(recv.len(), HEADER_BYTES + given);
        let whole = recv.next_frame(FrameBytes::MAX.get()).unwrap().is_some();
        assert_eq!(whole, given == usize::try_from(payload_bytes).unwrap());
    }
}

const EMPTY_REQUEST: Header = Header {
    payload_bytes: 0,
    kind: FrameKind::Request,
    flags: 0,
    encoding: crate::wire::encoding::Encoding::RAW,
    detail: 0,
    call: 0,
    aux: 0,
};

/// Any sixteen bytes are a header that encodes to the same bytes, or break a rule that they show.
/// Any payload behind a good header is read within its bounds.
pub fn header(data: &[u8]) {
    let Some((first, payload)) = data.split_first_chunk::<HEADER_BYTES>() else {
        return;
    };
    let kind = FrameKind::ALL.into_iter().find(|kind| *kind as u8 == first[4]);
    match Header::decode(*first) {
        Ok(header) => {
            assert_eq!(header.encode(), *first);
            assert_eq!(header.flags & !header.kind.flags(), 0, "reserved bits are refused");
            let payload_bytes = u32::try_from(payload.len()).unwrap();
            let header = Header { payload_bytes, ..header };
            if let Ok((_, layout)) = decode_payload(header, payload, MetadataBytes::MAX.get()) {
                assert!(layout.metadata().end <= layout.body().start);
                assert!(layout.body().start <= layout.body().end);
                assert_eq!(layout.body().end, layout.attachment_start());
                assert!(layout.attachment_start() <= payload.len());
                assert!(Metadata::parse(&payload[layout.metadata()]).is_some());
            }
        }
        Err(Rule::UnknownFrameKind) => assert_eq!(kind, None),
        Err(Rule::ReservedBits) => {
            let kind = kind.unwrap();
            assert!(first[5] & !kind.flags() != 0 || first[6] != 0);
        }
        Err(Rule::UnexpectedPayload) => assert_ne!(first[..4], [0; 4]),
        Err(rule) => panic!("a header alone cannot break {rule}"),
    }
}

/// Any bytes are a hello, the beginning of one, or break a rule; a hello survives its round trip,
/// and every beginning of it asks for more.
pub fn hello(data: &[u8]) {
    let Ok(Some((hello, length))) = Hello::decode(data) else {
        return;
    };
    assert!(length >= PREAMBLE_BYTES && length <= data.len());
    assert_eq!(hello.version, VERSION);
    for cut in [0, 1, 3, PREAMBLE_BYTES - 1, length - 1] {
        assert_eq!(Hello::decode(&data[..cut]), Ok(None), "cut at {cut}");
    }
    let mut again = Vec::new();
    hello.encode(&mut again);
    let Ok(Some((read, used))) = Hello::decode(&again) else {
        panic!("our own hello does not decode");
    };
    assert_eq!(used, again.len());
    assert_eq!(read, hello);
}

/// A block that parses is rebuilt to the same bytes by the builder; what the builder takes comes
/// back; what it refuses leaves no trace.
pub fn metadata(data: &[u8]) {
    if let Some(parsed) = Metadata::parse(data) {
        let mut builder = MetadataBuilder::new();
        let mut full = false;
        for entry in parsed.iter() {
            full |= builder.insert(entry.key, entry.value).is_err();
            assert!(full || parsed.value(entry.key).is_some());
        }
        // Only a block longer than any frame can carry is refused.
        assert!(full == (data.len() > usize::from(u16::MAX)));
        assert!(full || builder.as_bytes() == data);
        assert_eq!(parsed.is_empty(), data.is_empty());
    }
    let mut source = Source::new(data);
    let mut builder = MetadataBuilder::new();
    let mut model: Vec<(String, Vec<u8>)> = Vec::new();
    while !source.is_empty() {
        let key = String::from_utf8_lossy(source.bytes(12)).to_ascii_lowercase();
        let key = if source.flag() { format!("{key}-bin") } else { key };
        let value = source.bytes(64);
        let before = builder.as_bytes().len();
        match builder.insert(&key, value) {
            Ok(()) => model.push((key, value.to_vec())),
            Err(_) => assert_eq!(builder.as_bytes().len(), before),
        }
    }
    let parsed = Metadata::parse(builder.as_bytes()).expect("what the builder makes parses");
    let read: Vec<_> =
        parsed.iter().map(|entry| (entry.key.to_owned(), entry.value.to_vec())).collect();
    assert_eq!(read, model);
}

/// Any body of a failed reply gives a status, and any status comes back from the wire except for
/// what it says it cuts.
pub fn status(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    for code in StatusCode::ALL {
        let read = Status::from_body(code, &body);
        assert_ne!(read.code(), StatusCode::Ok);
        assert!(read.details().len() <= data.len());
    }
    let mut source = Source::new(data);
    let code = StatusCode::ALL[source.below(17)];
    let text = String::from_utf8_lossy(source.bytes(255)).repeat(1 + source.below(60));
    let details = Bytes::copy_from_slice(source.rest());
    let sent = Status::new(code, text).with_details(details);
    let mut out = crate::buffer::send::SendBuffer::new();
    out.status(&crate::wire::frame::ReplyHead::ok(9), &sent, FrameBytes::MIN.get());
    let wire = source::flatten(&out);
    let mut recv = RecvBuffer::new();
    recv.extend_from_slice(&wire);
    let frame = recv.next_frame(FrameBytes::MIN.get()).unwrap().unwrap();
    let crate::wire::frame::Head::Reply(head) = frame.head else { panic!("a status is a reply") };
    let read = Status::from_body(head.code, &frame.payload.into_body());
    assert_eq!(read.code(), sent.code());
    assert!(sent.message().starts_with(read.message()));
    let whole = sent.message().len() <= Status::MESSAGE_BYTES_MAX;
    assert!(!whole || read.message() == sent.message());
    assert!(read.message().len() + 4 > sent.message().len().min(Status::MESSAGE_BYTES_MAX));
    let fits = 2 + read.message().len() + sent.details().len() <= 64 * 1024;
    assert_eq!(read.details().len(), if fits { sent.details().len() } else { 0 });
}
