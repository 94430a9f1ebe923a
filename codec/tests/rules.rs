//! Each rule that a single frame or hello can break, one test a rule, with its requirement of
//! `docs/PROTOCOL.md`. The rules that need a connection's state are tested in `corewire-proto`.
#![allow(clippy::unwrap_used, reason = "tests")]

use corewire_codec::{
    CodecId, CompressionId, Encoding, FrameKind, Head, Header, Hello, MethodId, RecvBuffer, Rule,
    StatusCode, VERSION, reply_flags, request_flags, stream_flags,
};

const FRAME_BYTES_MAX: u32 = 1 << 16;
const METADATA_BYTES_MAX: u32 = 1024;

/// A frame byte by byte: kind, flags, encoding, detail, call, aux, payload.
fn raw(
    kind: u8,
    flags: u8,
    encoding: u8,
    detail: u8,
    call: u32,
    aux: u32,
    payload: &[u8],
) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_le_bytes().to_vec();
    bytes.extend_from_slice(&[kind, flags, encoding, detail]);
    bytes.extend_from_slice(&call.to_le_bytes());
    bytes.extend_from_slice(&aux.to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

fn decode(bytes: &[u8]) -> Result<Option<Head>, Rule> {
    let mut recv = RecvBuffer::new();
    recv.extend_from_slice(bytes);
    let frame = recv.next_frame_within(FRAME_BYTES_MAX, METADATA_BYTES_MAX);
    Ok(frame?.map(|frame| frame.head))
}

fn breaks(rule: Rule, bytes: &[u8]) {
    assert_eq!(decode(bytes), Err(rule), "{bytes:02x?}");
}

fn good(bytes: &[u8]) -> Head {
    decode(bytes).unwrap().unwrap()
}

fn hello(version: u8, role: u8, records: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xc7, b'W', b'R', b'E', version, role];
    bytes.extend_from_slice(&u16::try_from(records.len()).unwrap().to_le_bytes());
    bytes.extend_from_slice(records);
    bytes
}

fn record(number: u16, data: &[u8]) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend_from_slice(&u16::try_from(data.len()).unwrap().to_le_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// REQ-1, rule 1: found at the first wrong byte, without waiting for more.
#[test]
fn not_corewire() {
    for bytes in [&b"G"[..], b"PRI * HTTP/2.0", b"\x16\x03\x01", b"\xc7WRX", b"\xc8"] {
        assert_eq!(Hello::decode(bytes), Err(Rule::NotCorewire));
    }
    for beginning in [&b""[..], b"\xc7", b"\xc7WR", b"\xc7WRE\x01\x00\x00"] {
        assert_eq!(Hello::decode(beginning), Ok(None));
    }
}

/// REQ-2, rule 2: a version that is not ours is judged as soon as its byte is there, and nothing behind
/// it is read: neither the role nor the length of the records.
#[test]
fn another_version_is_judged_before_its_role() {
    for (version, role) in [(2, 0), (0, 1), (255, 7)] {
        let bytes = hello(version, role, &[0xff; 40]);
        for end in 5..bytes.len() {
            assert_eq!(Hello::decode(&bytes[..end]), Err(Rule::UnknownVersion), "{end} bytes");
        }
        assert_eq!(Hello::decode(&bytes[..4]), Ok(None));
    }
    assert_eq!(Hello::decode(b"\xc7WRE\x02\x07\xff\xff"), Err(Rule::UnknownVersion));
}

/// REQ-3, REQ-4, rule 3: role, length and records of a hello.
#[test]
fn broken_hello() {
    let broken = |bytes: &[u8]| assert_eq!(Hello::decode(bytes), Err(Rule::BrokenHello));
    broken(&hello(VERSION, 2, &[]));
    broken(&[0xc7, b'W', b'R', b'E', VERSION, 2]);
    broken(&hello(VERSION, 0, &vec![0; 4097]));
    // A record that ends in its number, in its length, in its data.
    broken(&hello(VERSION, 0, &[1]));
    broken(&hello(VERSION, 0, &[1, 0, 4]));
    broken(&hello(VERSION, 0, &[1, 0, 4, 0, 0, 0, 1]));
    // Number zero, a number twice, numbers that descend.
    broken(&hello(VERSION, 0, &record(0, &[])));
    broken(&hello(VERSION, 0, &[record(6, &[1, 0]), record(6, &[1, 0])].concat()));
    broken(&hello(VERSION, 0, &[record(7, &[1, 0]), record(6, &[1, 0])].concat()));
    // A known record of a wrong length, and a shard at or over the number of shards.
    for (number, length) in
        [(1, 3), (2, 5), (3, 0), (4, 8), (5, 2), (6, 4), (7, 1), (8, 2), (9, 4), (10, 8)]
    {
        broken(&hello(VERSION, 1, &record(number, &vec![1; length])));
    }
    broken(&hello(VERSION, 1, &record(8, &[3, 0, 3, 0])));
    broken(&hello(VERSION, 1, &record(8, &[0, 0, 0, 0])));
}

/// REQ-58: an idle timeout of 0 is well formed, and is not the same as none.
#[test]
fn an_idle_timeout_of_zero() {
    let (read, _) = Hello::decode(&hello(VERSION, 1, &record(10, &[0; 4]))).unwrap().unwrap();
    assert_eq!(read.records.idle_timeout_ms, Some(0));
    let (read, _) = Hello::decode(&hello(VERSION, 1, &[])).unwrap().unwrap();
    assert_eq!(read.records.idle_timeout_ms, None);
}

/// REQ-4, REQ-9: records that nobody knows yet are passed over, whatever they hold.
#[test]
fn unknown_records_are_ignored() {
    let records = [record(1, &[0, 0, 2, 0]), record(999, b"later"), record(0xffff, &[])].concat();
    let (read, used) = Hello::decode(&hello(VERSION, 0, &records)).unwrap().unwrap();
    assert_eq!(used, 8 + records.len());
    assert_eq!(read.records.limits.frame_bytes.get(), 0x0002_0000);
    assert_eq!(
        Hello::decode(&hello(VERSION, 0, &[])).unwrap().unwrap().0.records,
        Default::default()
    );
}

/// REQ-5, rule 4: each limit at its ends and one step outside.
#[test]
fn hello_limit() {
    let ranges = [
        (1, 65_536, 1 << 30),
        (2, 16, 32_768),
        (3, 16_384, 1 << 30),
        (4, 65_536, 1 << 30),
        (5, 1_024, 65_535),
    ];
    for (number, min, max) in ranges {
        let read =
            |value: u32| Hello::decode(&hello(VERSION, 0, &record(number, &value.to_le_bytes())));
        assert!(read(min).is_ok() && read(max).is_ok());
        for outside in [0, min - 1, max + 1, u32::MAX] {
            assert_eq!(read(outside), Err(Rule::HelloLimit), "record {number}: {outside}");
        }
    }
}

/// REQ-10: a header is sixteen bytes, and fifteen are not an error yet.
#[test]
fn a_header_needs_sixteen_bytes() {
    let ping = raw(7, 0, 0, 0, 1, 2, &[]);
    assert_eq!(ping.len(), 16);
    assert_eq!(decode(&ping[..15]), Ok(None));
    assert_eq!(good(&ping), Head::Ping(0x0000_0002_0000_0001));
}

/// REQ-11, rule 10.
#[test]
fn unknown_frame_kind() {
    for kind in (0..=255).filter(|kind| !(1..=9).contains(kind)) {
        breaks(Rule::UnknownFrameKind, &raw(kind, 0, 0, 0, 0, 0, &[]));
    }
}

/// REQ-12, REQ-13, REQ-14: every encoding byte is read; what it means is a matter of the call.
#[test]
fn every_encoding_byte_is_read() {
    for byte in 0..=255 {
        let Head::Request(request) = good(&raw(1, 0, byte, 3, 0, 0, &[])) else { panic!() };
        assert_eq!(request.encoding, Encoding::from_byte(byte));
        assert_eq!(request.encoding.codec(), CodecId::new(byte & 15).unwrap());
        assert_eq!(request.encoding.compression(), CompressionId::new(byte >> 4).unwrap());
    }
    assert_eq!((CodecId::new(16), CompressionId::new(16)), (None, None));
}

/// REQ-15, rule 11: flags, encodings and fields that a kind does not have.
#[test]
fn reserved_bits() {
    let table = [0xff, 0x6f, 0x01, 0x20, 0x01, 0, 0, 0, 0];
    assert_eq!(FrameKind::ALL.map(FrameKind::flags), table);
    for kind in FrameKind::ALL {
        for bit in (0..8).map(|bit| 1u8 << bit).filter(|bit| bit & kind.flags() == 0) {
            breaks(Rule::ReservedBits, &raw(kind as u8, bit, 0, 0, 0, 1, &[]));
        }
        let has_encoding = matches!(kind as u8, 1..=3);
        if !has_encoding {
            breaks(Rule::ReservedBits, &raw(kind as u8, 0, 1, 0, 0, 1, &[]));
        }
    }
    // Detail of stream data, credit, ping, pong, go-away; aux of stream data and end and cancel;
    // the call of connection credit.
    for kind in [3, 5, 7, 8, 9] {
        let aux = u32::from(kind == 5);
        breaks(Rule::ReservedBits, &raw(kind, 0, 0, 1, 0, aux, &[]));
    }
    for kind in [3, 4, 6] {
        breaks(Rule::ReservedBits, &raw(kind, 0, 0, 0, 0, 1, &[]));
    }
    breaks(Rule::ReservedBits, &raw(5, stream_flags::CONNECTION, 0, 0, 7, 100, &[]));
}

/// REQ-16, rule 12: told from the header alone, before anything of the payload is there.
#[test]
fn frame_too_large() {
    let mut header = raw(1, 0, 0, 3, 0, 0, &[]);
    header[..4].copy_from_slice(&FRAME_BYTES_MAX.to_le_bytes());
    assert_eq!(decode(&header), Ok(None));
    header[..4].copy_from_slice(&(FRAME_BYTES_MAX + 1).to_le_bytes());
    breaks(Rule::FrameTooLarge, &header);
    header[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    breaks(Rule::FrameTooLarge, &header);
}

/// REQ-17, rule 13: credit, cancel, ping and pong are headers only, whatever they announce.
#[test]
fn unexpected_payload() {
    for kind in 5..=8 {
        breaks(Rule::UnexpectedPayload, &raw(kind, 0, 0, 0, 0, 1, b"x"));
        let mut header = raw(kind, 0, 0, 0, 0, 1, &[]);
        header[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        breaks(Rule::UnexpectedPayload, &header);
    }
}

/// REQ-17, REQ-51, rule 13: a stream that ends well says nothing but its metadata.
#[test]
fn unexpected_payload_of_a_good_end() {
    breaks(Rule::UnexpectedPayload, &raw(4, 0, 0, 0, 0, 0, &[0]));
    breaks(Rule::UnexpectedPayload, &raw(4, stream_flags::METADATA, 0, 0, 0, 0, &[0, 0, 9]));
    good(&raw(4, stream_flags::METADATA, 0, 0, 0, 0, &[0, 0]));
    good(&raw(4, 0, 0, 13, 0, 0, &[0]));
    // An end that is still arriving is judged by its header.
    let mut end = Header::decode(raw(4, 0, 0, 0, 0, 0, &[])[..16].try_into().unwrap()).unwrap();
    end.payload_bytes = 65_537;
    assert_eq!(end.check_unfinished(), Ok(()));
    end.payload_bytes += 1;
    assert_eq!(end.check_unfinished(), Err(Rule::UnexpectedPayload));
    end.detail = 13;
    assert_eq!(end.check_unfinished(), Ok(()), "details may be long");
}

/// REQ-19, rule 16: a go-away over its bound is judged by its header alone.
#[test]
fn a_long_go_away_is_not_waited_for() {
    let mut header = raw(9, 0, 0, 0, 0, 0, &[]);
    for (bytes, outcome) in
        [(1024u32, Ok(None)), (1025, Err(Rule::BadField)), (u32::MAX, Err(Rule::BadField))]
    {
        header[..4].copy_from_slice(&bytes.to_le_bytes());
        assert_eq!(decode(&header), outcome, "{bytes}");
    }
}

/// REQ-18, rule 14: each announced field cut short by one byte, alone.
#[test]
fn truncated_payload() {
    use request_flags as q;
    let fields =
        [(q::TIMEOUT, 8), (q::KEY, 8), (q::TRACE, 25), (q::ATTACHMENT, 4), (q::METADATA, 2)];
    for (flag, length) in fields {
        breaks(Rule::TruncatedPayload, &raw(1, flag, 0, 3, 0, 0, &vec![0; length - 1]));
        good(&raw(1, flag, 0, 3, 0, 0, &vec![0; length]));
    }
    for (flag, length) in
        [(reply_flags::RETRY_AFTER, 4), (reply_flags::ATTACHMENT, 4), (reply_flags::METADATA, 2)]
    {
        breaks(Rule::TruncatedPayload, &raw(2, flag, 0, 0, 0, 0, &vec![0; length - 1]));
        good(&raw(2, flag, 0, 0, 0, 0, &vec![0; length]));
    }
    breaks(Rule::TruncatedPayload, &raw(4, stream_flags::METADATA, 0, 0, 0, 0, &[0]));
    // A metadata block and an attachment longer than what is left.
    breaks(Rule::TruncatedPayload, &raw(1, q::METADATA, 0, 3, 0, 0, &[5, 0, 1, b'k', 0, 0]));
    breaks(Rule::TruncatedPayload, &raw(1, q::ATTACHMENT, 0, 3, 0, 0, &[3, 0, 0, 0, 1, 2]));
    breaks(Rule::TruncatedPayload, &raw(2, reply_flags::ATTACHMENT, 0, 0, 0, 0, &[0xff; 8]));
}

/// REQ-19, rule 16: a priority, status code, reason or text without meaning.
#[test]
fn bad_field() {
    breaks(Rule::BadField, &raw(1, 0, 0, 8, 0, 0, &[]));
    breaks(Rule::BadField, &raw(2, 0, 0, 17, 0, 0, &[]));
    breaks(Rule::BadField, &raw(4, 0, 0, 17, 0, 0, &[]));
    breaks(Rule::BadField, &raw(6, 0, 0, 2, 0, 0, &[]));
    breaks(Rule::BadField, &raw(9, 0, 0, 0, 0, 0, &[0xff]));
    breaks(Rule::BadField, &raw(9, 0, 0, 0, 0, 0, &[b'a'; 1025]));
    good(&raw(9, 0, 0, 0, 0, 0, &[b'a'; 1024]));
    for code in StatusCode::ALL {
        good(&raw(2, 0, 0, code as u8, 0, 0, &[]));
    }
}

/// REQ-20, REQ-21, rule 15: blocks that are malformed, and one over the limit.
#[test]
fn bad_metadata() {
    let with = |block: &[u8]| {
        let mut payload = u16::try_from(block.len()).unwrap().to_le_bytes().to_vec();
        payload.extend_from_slice(block);
        [
            raw(1, request_flags::METADATA, 0, 3, 0, 0, &payload),
            raw(2, reply_flags::METADATA, 0, 0, 0, 0, &payload),
            raw(4, stream_flags::METADATA, 0, 0, 0, 0, &payload),
        ]
    };
    let bad: [&[u8]; 7] = [
        &[0, 0, 0],             // an empty key
        &[1, b'K', 0, 0],       // upper case
        &[1, b'k', 1, 0],       // a value that is not there
        &[1, b'k', 1, 0, 0x07], // not printable, and the key says text
        &[1, b'k', 1, 0, 0xc3], // not ASCII
        &[2, 0xc3, 0xa4, 0, 0], // a key that is not ASCII
        &[1, b'k', 0, 0, 1],    // half an entry behind a whole one
    ];
    for block in bad {
        with(block).iter().for_each(|bytes| breaks(Rule::BadMetadata, bytes));
    }
    let value = |bytes: usize| {
        let mut block = vec![1, b'k'];
        block.extend_from_slice(&u16::try_from(bytes).unwrap().to_le_bytes());
        block.resize(4 + bytes, b'v');
        block
    };
    with(&value(1020)).iter().for_each(|bytes| assert!(decode(bytes).unwrap().is_some()));
    with(&value(1021)).iter().for_each(|bytes| breaks(Rule::BadMetadata, bytes));
    with(b"\x05k-bin\x02\x00\x00\xff")
        .iter()
        .for_each(|bytes| assert!(decode(bytes).unwrap().is_some()));
}

/// REQ-22: a trace context is the 25 bytes behind the timeout, whatever they hold: all zeroes name no
/// trace and break no rule.
#[test]
fn trace_contexts_are_not_checked() {
    let sampled: Vec<u8> = (1..=25).collect();
    for bytes in [&[0; 25][..], &[0xff; 25], &sampled] {
        let payload = [&[9, 0, 0, 0, 0, 0, 0, 0], bytes, b"body"].concat();
        let flags = request_flags::TIMEOUT | request_flags::TRACE;
        let Head::Request(request) = good(&raw(1, flags, 0, 3, 0, 0, &payload)) else { panic!() };
        assert_eq!(request.timeout_us, Some(9));
        let trace = request.trace.unwrap();
        assert_eq!((&trace.trace_id[..], &trace.span_id[..]), (&bytes[..16], &bytes[16..24]));
        assert_eq!((trace.flags, trace.is_sampled()), (bytes[24], bytes[24] & 1 != 0));
    }
}

/// REQ-40: code, time, retry and attachment stand where the document has them. REFUSED with code 0 is
/// well formed.
#[test]
fn reply_layout() {
    use reply_flags as r;
    let flags = r::REFUSED | r::RETRY_AFTER | r::ATTACHMENT;
    for code in [0, 14] {
        let bytes = raw(2, flags, 0, code, 7, 250, b"\x05\0\0\0\x02\0\0\0bodyAT");
        let Head::Reply(reply) = good(&bytes) else { panic!() };
        assert_eq!((reply.code as u8, reply.call, reply.handler_us), (code, 7, 250));
        assert_eq!((reply.retry_after_ms, reply.attachment_bytes), (5, Some(2)));
        assert_eq!(reply.flags, flags);
    }
}

/// REQ-30: a method's id is FNV-1a over `service/method`.
#[test]
fn method_ids_are_stable() {
    assert_eq!(MethodId::of("", ""), MethodId(0x2a0c_975e));
    assert_eq!(MethodId::of("Echo", "echo"), MethodId(0xef1f_fcd0));
}

/// REQ-53, rule 25: credit of nothing.
#[test]
fn bad_credit() {
    breaks(Rule::BadCredit, &raw(5, 0, 0, 0, 1, 0, &[]));
    breaks(Rule::BadCredit, &raw(5, stream_flags::CONNECTION, 0, 0, 0, 0, &[]));
}

/// REQ-60: rules have distinct numbers that never change their meaning, and texts that name them.
#[test]
fn rules_are_numbered() {
    let mut last = 0;
    for rule in Rule::ALL {
        assert!(rule.number() > last);
        last = rule.number();
        assert_eq!(Rule::from_number(last), Some(*rule));
        assert!(rule.text().contains("REQ-"), "{rule}");
    }
    for unknown in [0, 6, 9, 18, 34, u32::MAX] {
        assert_eq!(Rule::from_number(unknown), None);
    }
}

/// A header's layout is the document's (REQ-10).
#[test]
fn header_layout() {
    let header = Header {
        payload_bytes: 0x0403_0201,
        kind: FrameKind::Request,
        flags: 0x7f,
        encoding: Encoding::from_byte(0x21),
        detail: 5,
        call: 0x0d0c_0b0a,
        aux: 0x1312_1110,
    };
    let bytes = [1, 2, 3, 4, 1, 0x7f, 0x21, 5, 0x0a, 0x0b, 0x0c, 0x0d, 0x10, 0x11, 0x12, 0x13];
    assert_eq!(header.encode(), bytes);
    assert_eq!(Header::decode(bytes), Ok(header));
}

/// REQ-101, rule 16: an owner is one of the shards. REQ-18, rule 14: the fields of a key and of a forward are whole.
#[test]
fn an_owner_is_below_the_number_of_shards_and_the_fields_are_whole() {
    let forwarded = |owner: u16, shards: u16| {
        let field = [owner.to_le_bytes(), shards.to_le_bytes()].concat();
        raw(2, reply_flags::FORWARDED, 0, 0, 0, 0, &field)
    };
    breaks(Rule::BadField, &forwarded(0, 0));
    breaks(Rule::BadField, &forwarded(4, 4));
    breaks(Rule::BadField, &forwarded(u16::MAX, u16::MAX));
    good(&forwarded(u16::MAX - 1, u16::MAX));
    breaks(Rule::TruncatedPayload, &raw(2, reply_flags::FORWARDED, 0, 0, 0, 0, &[0, 0, 1]));
    for bytes in [0, 7] {
        breaks(Rule::TruncatedPayload, &raw(1, request_flags::KEY, 0, 0, 0, 0, &vec![1; bytes]));
    }
    let both = request_flags::KEY | request_flags::TIMEOUT;
    breaks(Rule::TruncatedPayload, &raw(1, both, 0, 0, 0, 0, &[1; 15]));
    let traced = both | request_flags::TRACE;
    breaks(Rule::TruncatedPayload, &raw(1, traced, 0, 0, 0, 0, &[1; 16 + 24]));
}
