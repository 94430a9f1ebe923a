//! Golden vectors: the bytes of every frame kind, frozen.
//!
//! Encoding a value must give the vector, decoding the vector must give the value. A change here is
//! a change of the protocol: it needs a new version or a new feature record (`docs/PROTOCOL.md`,
//! REQ-9). `UPDATE=1 cargo test -p corewire-codec --test golden` rewrites the files.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Once;

use bytes::Bytes;
use corewire_codec::{
    CancelReason, CodecId, CompressionId, ConnectionCredit, Credit, Encoding, Forwarded,
    FrameBytes, FrameKind, GoAway, Head, Hello, HelloRecords, InFlight, Limits, MetadataBuilder,
    MetadataBytes, MethodId, RecvBuffer, ReplyHead, RequestHead, Role, Rule, SendBuffer, Status,
    StatusCode, StreamCredit, StreamData, StreamEnd, TraceContext, VERSION, reply_flags,
    request_flags,
};

/// What a vector decodes to.
enum Value {
    Hello(Hello),
    Frame {
        head: Head,
        metadata: &'static [(&'static str, &'static [u8])],
        body: Vec<u8>,
        attachment: &'static [u8],
    },
}

struct Vector {
    name: &'static str,
    about: &'static str,
    encoded: Vec<u8>,
    value: Value,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn bytes(write: impl FnOnce(&mut SendBuffer)) -> Vec<u8> {
    let mut out = SendBuffer::new();
    write(&mut out);
    out.first_chunk().to_vec()
}

fn hello(name: &'static str, about: &'static str, hello: Hello) -> Vector {
    let mut encoded = Vec::new();
    hello.encode(&mut encoded);
    Vector { name, about, encoded, value: Value::Hello(hello) }
}

fn frame(
    name: &'static str,
    about: &'static str,
    encoded: Vec<u8>,
    head: Head,
    body: &[u8],
) -> Vector {
    let value = Value::Frame { head, metadata: &[], body: body.to_vec(), attachment: b"" };
    Vector { name, about, encoded, value }
}

fn limits() -> Limits {
    Limits {
        frame_bytes: FrameBytes::new(0x0010_0000).unwrap(),
        in_flight: InFlight::new(0x0200).unwrap(),
        stream_credit: StreamCredit::new(0x0003_0000).unwrap(),
        connection_credit: ConnectionCredit::new(0x0040_0000).unwrap(),
        metadata_bytes: MetadataBytes::new(0x2000).unwrap(),
    }
}

fn hellos() -> Vec<Vector> {
    let records = HelloRecords { limits: limits(), ..HelloRecords::default() }
        .with_codec(CodecId::RAW)
        .with_codec(CodecId::SPEEDY);
    let server = HelloRecords {
        compressions: 0b0110,
        shard: Some((3, 8)),
        connection_id: Some(0x1122_3344_5566_7788),
        idle_timeout_ms: Some(600_000),
        ..records
    };
    let keys = HelloRecords { key_routing: HelloRecords::KEY_ROUTING_XXH3, ..records };
    vec![
        hello(
            "hello_client",
            "a client's hello: five limits, codecs raw and speedy",
            Hello { version: VERSION, role: Role::Client, records },
        ),
        hello(
            "hello_server",
            "a server's hello: five limits, codecs, compressions, shard 3 of 8, a connection id, ten minutes idle",
            Hello { version: VERSION, role: Role::Server, records: server },
        ),
        hello(
            "hello_client_keys",
            "a client's hello: five limits, codecs raw and speedy, key routing 1",
            Hello { version: VERSION, role: Role::Client, records: keys },
        ),
        hello(
            "hello_server_keys",
            "a server's hello with every record: shard 3 of 8, a connection id, ten minutes idle, key routing 1",
            Hello {
                version: VERSION,
                role: Role::Server,
                records: HelloRecords { key_routing: HelloRecords::KEY_ROUTING_XXH3, ..server },
            },
        ),
    ]
}

const METADATA: &[(&str, &[u8])] = &[("tenant", b"blue"), ("tag-bin", &[0x00, 0xff])];

fn metadata() -> MetadataBuilder {
    let mut builder = MetadataBuilder::new();
    for (key, value) in METADATA {
        builder.insert(key, value).unwrap();
    }
    builder
}

/// A request with its metadata and its body, which its attachment ends.
fn send(head: RequestHead, metadata: Option<MetadataBuilder>, body: &[u8]) -> Vec<u8> {
    bytes(|out| {
        let mut writer = out.request(&head, metadata.as_ref());
        writer.put_slice(body);
        writer.finish(1 << 16).unwrap();
    })
}

/// One with all fields but a key.
fn full_request() -> RequestHead {
    RequestHead {
        encoding: Encoding::new(CodecId::SPEEDY, CompressionId::LZ4),
        flags: request_flags::STREAM_IN
            | request_flags::STREAM_OUT
            | request_flags::TIMEOUT
            | request_flags::TRACE
            | request_flags::METADATA
            | request_flags::ATTACHMENT,
        priority: 7,
        timeout_us: Some(1_500_000),
        trace: Some(TraceContext {
            trace_id: core::array::from_fn(|i| 0xa0 + u8::try_from(i).unwrap()),
            span_id: core::array::from_fn(|i| 0xb0 + u8::try_from(i).unwrap()),
            flags: 1,
        }),
        attachment_bytes: Some(4),
        ..RequestHead::new(0xfffe_0fff, MethodId::of("KeyValue", "put"))
    }
}

fn requests() -> Vec<Vector> {
    let minimal = RequestHead::new(0x0001_0007, MethodId::of("Echo", "echo"));
    let one_way =
        RequestHead { flags: request_flags::ONE_WAY, ..RequestHead::new(0, MethodId(0x0a0b_0c0d)) };
    let watch = RequestHead {
        flags: request_flags::STREAM_OUT,
        ..RequestHead::new(0x0001_0008, MethodId::of("Feed", "watch"))
    };
    let full = full_request();
    vec![
        frame(
            "request_minimal",
            "a raw unary request of Echo/echo, slot 7, generation 1, body `hello`",
            send(minimal, None, b"hello"),
            Head::Request(minimal),
            b"hello",
        ),
        frame(
            "request_one_way",
            "a one-way request without body",
            send(one_way, None, b""),
            Head::Request(one_way),
            b"",
        ),
        frame(
            "request_server_stream",
            "a request for a server stream of Feed/watch, slot 8, generation 1",
            send(watch, None, b""),
            Head::Request(watch),
            b"",
        ),
        frame(
            "request_timeout_zero",
            "a request whose time is over",
            send(RequestHead { timeout_us: Some(0), ..minimal }, None, b"late"),
            Head::Request(RequestHead {
                flags: request_flags::TIMEOUT,
                timeout_us: Some(0),
                ..minimal
            }),
            b"late",
        ),
        Vector {
            value: Value::Frame {
                head: Head::Request(full),
                metadata: METADATA,
                body: b"body".to_vec(),
                attachment: b"tail",
            },
            ..frame(
                "request_all_fields",
                "every optional field: timeout 1.5 s, trace, attachment `tail`, metadata, body `body`",
                send(full, Some(metadata()), b"bodytail"),
                Head::Request(full),
                b"",
            )
        },
    ]
}

fn replies() -> Vec<Vector> {
    let ok = ReplyHead { handler_us: 250, ..ReplyHead::ok(0x0001_0007) };
    let full = ReplyHead {
        encoding: Encoding::plain(CodecId::SPEEDY),
        flags: reply_flags::STREAM | reply_flags::METADATA | reply_flags::ATTACHMENT,
        attachment_bytes: Some(4),
        ..ok
    };
    let error = Status::not_found("no such key").with_details(Bytes::from_static(b"\x01\x02"));
    let refused =
        Status::unavailable("full").with_retry_after(core::time::Duration::from_millis(750));
    let call = 0x0001_0007;
    let opening = ReplyHead { flags: reply_flags::STREAM, ..ReplyHead::ok(0x0001_0008) };
    let refused_head = ReplyHead {
        code: StatusCode::Unavailable,
        flags: reply_flags::REFUSED | reply_flags::RETRY_AFTER,
        retry_after_ms: 750,
        ..ReplyHead::ok(call)
    };
    vec![
        frame(
            "reply_ok",
            "a raw reply after 250 µs in the handler, body `hello`",
            bytes(|out| {
                let mut writer = out.reply(&ok, None);
                writer.put_slice(b"hello");
                writer.finish(1 << 16).unwrap();
            }),
            Head::Reply(ok),
            b"hello",
        ),
        Vector {
            value: Value::Frame {
                head: Head::Reply(full),
                metadata: METADATA,
                body: b"body".to_vec(),
                attachment: b"tail",
            },
            ..frame(
                "reply_all_fields",
                "a reply that opens a stream, with metadata, body `body` and attachment `tail`",
                bytes(|out| {
                    let mut writer = out.reply(&full, Some(&metadata()));
                    writer.put_slice(b"bodytail");
                    writer.finish(1 << 16).unwrap();
                }),
                Head::Reply(full),
                b"",
            )
        },
        frame(
            "reply_opening",
            "an opening: the stream of results follows",
            bytes(|out| out.reply(&opening, None).finish(1 << 16).unwrap()),
            Head::Reply(opening),
            b"",
        ),
        frame(
            "reply_error",
            "NotFound with a text and two bytes of details",
            bytes(|out| out.status(&ReplyHead::ok(call), &error, 1 << 16)),
            Head::Reply(ReplyHead { code: StatusCode::NotFound, ..ReplyHead::ok(call) }),
            b"\x0b\x00no such key\x01\x02",
        ),
        frame(
            "reply_refused",
            "Unavailable before the handler ran, with leave to come back after 750 ms",
            bytes(|out| {
                let head = ReplyHead { flags: reply_flags::REFUSED, ..ReplyHead::ok(call) };
                out.status(&head, &refused, 1 << 16);
            }),
            Head::Reply(refused_head),
            b"\x04\x00full",
        ),
    ]
}

/// Calls by key, and calls that were handed to another shard.
fn keys() -> Vec<Vector> {
    let keyed = RequestHead {
        flags: request_flags::KEY,
        key_hash: 0x9fc1_e605_fa71_74aa,
        ..RequestHead::new(0x0001_0009, MethodId::of("KeyValue", "get"))
    };
    let full = full_request();
    let full_keyed =
        RequestHead { flags: full.flags | request_flags::KEY, key_hash: keyed.key_hash, ..full };
    let forwarded = ReplyHead {
        flags: reply_flags::FORWARDED,
        handler_us: 250,
        forwarded: Forwarded::new(2, 4),
        ..ReplyHead::ok(0x0001_0007)
    };
    let refused =
        Status::unavailable("full").with_retry_after(core::time::Duration::from_millis(750));
    let all_forwarded = ReplyHead {
        code: StatusCode::Unavailable,
        flags: reply_flags::REFUSED | reply_flags::RETRY_AFTER | reply_flags::FORWARDED,
        retry_after_ms: 750,
        handler_us: 0,
        ..forwarded
    };
    vec![
        frame(
            "request_key",
            "a request with the hash of its key, body `user:42`",
            send(keyed, None, b"user:42"),
            Head::Request(keyed),
            b"user:42",
        ),
        Vector {
            value: Value::Frame {
                head: Head::Request(full_keyed),
                metadata: METADATA,
                body: b"body".to_vec(),
                attachment: b"tail",
            },
            ..frame(
                "request_all_fields_key",
                "every optional field: timeout 1.5 s, key, trace, attachment `tail`, metadata, body `body`",
                send(full_keyed, Some(metadata()), b"bodytail"),
                Head::Request(full_keyed),
                b"",
            )
        },
        frame(
            "reply_forwarded",
            "a reply of shard 2 of 4, over the connection of another one, body `hello`",
            bytes(|out| {
                let mut writer = out.reply(&forwarded, None);
                writer.put_slice(b"hello");
                writer.finish(1 << 16).unwrap();
            }),
            Head::Reply(forwarded),
            b"hello",
        ),
        frame(
            "reply_refused_forwarded",
            "a refusal with leave to come back after 750 ms, for shard 2 of 4",
            bytes(|out| {
                let head = ReplyHead { retry_after_ms: 0, ..all_forwarded };
                out.status(&head, &refused, 1 << 16);
            }),
            Head::Reply(all_forwarded),
            b"\x04\x00full",
        ),
    ]
}

fn streams() -> Vec<Vector> {
    let call = 0x0002_0003;
    let encoding = Encoding::plain(CodecId::SPEEDY);
    let data = |end: bool| StreamData { call, encoding, end };
    let send = |data: StreamData, body: &[u8]| {
        bytes(|out| {
            let mut writer = out.stream_data(&data);
            writer.put_slice(body);
            writer.finish(1 << 16).unwrap();
        })
    };
    let failure = Status::aborted("stopped");
    let end = |code: StatusCode| Head::StreamEnd(StreamEnd { call, code });
    vec![
        frame(
            "stream_data",
            "one message",
            send(data(false), b"abc"),
            Head::StreamData(data(false)),
            b"abc",
        ),
        frame(
            "stream_data_last",
            "the last message, empty",
            send(data(true), b""),
            Head::StreamData(data(true)),
            b"",
        ),
        frame(
            "stream_end_ok",
            "a good end",
            bytes(|out| out.stream_end(call, None, None, u32::MAX, u32::MAX)),
            end(StatusCode::Ok),
            b"",
        ),
        frame(
            "stream_end_error",
            "a bad end: Aborted with a text",
            bytes(|out| out.stream_end(call, Some(&failure), None, u32::MAX, u32::MAX)),
            end(StatusCode::Aborted),
            b"\x07\x00stopped",
        ),
        Vector {
            value: Value::Frame {
                head: end(StatusCode::Ok),
                metadata: METADATA,
                body: Vec::new(),
                attachment: b"",
            },
            ..frame(
                "stream_end_metadata",
                "a good end with metadata",
                bytes(|out| out.stream_end(call, None, Some(&metadata()), u32::MAX, u32::MAX)),
                end(StatusCode::Ok),
                b"",
            )
        },
    ]
}

fn controls() -> Vec<Vector> {
    let call = 0x0002_0003;
    let opaque = 0x0102_0304_0506_0708;
    let control = |name, about, head: Head, write: &dyn Fn(&mut SendBuffer)| {
        frame(name, about, bytes(write), head, b"")
    };
    let stream = Credit { call: Some(call), bytes: 65_536 };
    let connection = Credit { call: None, bytes: 1 << 20 };
    let (dropped, deadline) = (CancelReason::Dropped, CancelReason::Deadline);
    let drain = GoAway { accepted: 1_000, rule: 0 };
    let fault = GoAway { accepted: 2, rule: Rule::FrameTooLarge.number() };
    vec![
        control("credit_stream", "64 KiB more on one stream", Head::Credit(stream), &|out| {
            out.credit(&stream)
        }),
        control(
            "credit_connection",
            "1 MiB more on the connection",
            Head::Credit(connection),
            &|out| out.credit(&connection),
        ),
        control(
            "cancel_dropped",
            "nobody waits for the call",
            Head::Cancel { call, reason: dropped },
            &|out| out.cancel(call, dropped),
        ),
        control(
            "cancel_deadline",
            "the caller's deadline passed",
            Head::Cancel { call, reason: deadline },
            &|out| out.cancel(call, deadline),
        ),
        control("ping", "eight bytes to give back", Head::Ping(opaque), &|out| out.ping(opaque)),
        control("pong", "the same eight bytes", Head::Pong(opaque), &|out| out.pong(opaque)),
        frame(
            "go_away_drain",
            "a graceful end after 1,000 requests",
            bytes(|out| out.go_away(&drain, "shutting down")),
            Head::GoAway(drain),
            b"shutting down",
        ),
        frame(
            "go_away_rule",
            "the peer broke rule 12",
            bytes(|out| out.go_away(&fault, "too large")),
            Head::GoAway(fault),
            b"too large",
        ),
    ]
}

fn vectors() -> Vec<Vector> {
    let mut all = hellos();
    all.extend(requests());
    all.extend(replies());
    all.extend(keys());
    all.extend(streams());
    all.extend(controls());
    all
}

fn to_hex(about: &str, bytes: &[u8]) -> String {
    let mut text = format!("# {about}\n");
    for line in bytes.chunks(16) {
        let words: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(text, "{}", words.join(" ")).unwrap();
    }
    text
}

fn from_hex(text: &str) -> Vec<u8> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .flat_map(str::split_whitespace)
        .map(|word| u8::from_str_radix(word, 16).unwrap())
        .collect()
}

/// Writes the files, once, before any test reads them.
fn renew_if_asked() {
    static RENEWED: Once = Once::new();
    RENEWED.call_once(|| {
        if std::env::var_os("UPDATE").is_some() {
            for vector in vectors() {
                let path = folder().join(vector.name).with_extension("hex");
                std::fs::write(path, to_hex(vector.about, &vector.encoded)).unwrap();
            }
        }
    });
}

#[test]
fn encoding_gives_the_vector() {
    renew_if_asked();
    for vector in vectors() {
        let path = folder().join(vector.name).with_extension("hex");
        let text = to_hex(vector.about, &vector.encoded);
        let frozen = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}; UPDATE=1 writes it", path.display()));
        assert_eq!(to_hex(vector.about, &from_hex(&frozen)), text, "{}", vector.name);
    }
}

#[test]
fn decoding_the_vector_gives_the_value() {
    renew_if_asked();
    for vector in vectors() {
        let name = vector.name;
        let path = folder().join(name).with_extension("hex");
        let mut recv = RecvBuffer::new();
        recv.extend_from_slice(&from_hex(&std::fs::read_to_string(path).unwrap()));
        match vector.value {
            Value::Hello(hello) => assert_eq!(recv.next_hello(), Ok(Some(hello)), "{name}"),
            Value::Frame { head, metadata, body, attachment } => {
                let frame = recv.next_frame(1 << 16).unwrap().unwrap();
                assert_eq!(frame.head, head, "{name}");
                let entries: Vec<_> =
                    frame.payload.metadata().iter().map(|e| (e.key, e.value)).collect();
                assert_eq!(entries, metadata, "{name}");
                assert_eq!(frame.payload.attachment(), attachment, "{name}");
                assert_eq!(frame.payload.body(), body, "{name}");
                assert_eq!(frame.payload.into_body(), body, "{name}");
            }
        }
        assert!(recv.is_empty(), "{name}");
    }
}

#[test]
fn every_kind_has_a_vector_and_every_file_a_value() {
    renew_if_asked();
    let mut kinds: BTreeSet<u8> = FrameKind::ALL.into_iter().map(|kind| kind as u8).collect();
    let mut names = BTreeSet::new();
    for vector in vectors() {
        if matches!(vector.value, Value::Frame { .. }) {
            kinds.remove(&vector.encoded[4]);
        }
        assert!(names.insert(format!("{}.hex", vector.name)), "{} twice", vector.name);
    }
    assert!(kinds.is_empty(), "kinds without a vector: {kinds:?}");
    let files: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(files, names);
}

/// The stream that section 15 of `docs/PROTOCOL.md` shows, byte by byte (REQ-50, REQ-51, REQ-53).
#[test]
fn the_documents_stream_is_what_is_written() {
    let document = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/PROTOCOL.md");
    let document = std::fs::read_to_string(document).unwrap();
    let shown: Vec<u8> = document
        .split("\n## 15 ")
        .nth(1)
        .and_then(|rest| rest.split("\n## ").next())
        .unwrap()
        .split("```")
        .skip(1)
        .step_by(2)
        .flat_map(|block| block.lines().skip(1))
        .flat_map(|line| line.split("  ").next().unwrap().split(' '))
        .filter(|byte| !byte.is_empty())
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    let call = 0x0001_0008;
    let written = bytes(|out| {
        let head = RequestHead::new(call, MethodId::of("Feed", "watch"));
        let encoding = Encoding::plain(CodecId::SPEEDY);
        let head = RequestHead { flags: request_flags::STREAM_OUT, encoding, ..head };
        out.request(&head, None).finish(1 << 16).unwrap();
        let mut data = out.stream_data(&StreamData { call, encoding: Encoding::RAW, end: false });
        data.put_slice(b"hi");
        data.finish(1 << 16).unwrap();
        out.credit(&Credit { call: Some(call), bytes: 196_608 / 2 });
        out.stream_end(call, None, None, 1 << 16, 1 << 10);
    });
    assert_eq!(shown, written);
}

/// The sizes that the design promises: 16 bytes in front of a small unary call and of its reply.
#[test]
fn a_small_call_costs_sixteen_bytes_each_way() {
    let all = vectors();
    let size = |name: &str| all.iter().find(|v| v.name == name).unwrap().encoded.len();
    assert_eq!(size("request_minimal") - b"hello".len(), 16);
    assert_eq!(size("request_timeout_zero") - b"late".len(), 24);
    assert_eq!(size("reply_ok") - b"hello".len(), 16);
}
