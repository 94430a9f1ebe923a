//! Property tests: the bodies of the fuzz targets over random bytes, bounded in count.
#![allow(clippy::unwrap_used, reason = "tests")]

use corewire_codec::{
    ConnectionCredit, Encoding, FrameBytes, FrameKind, Header, InFlight, MetadataBytes,
    StreamCredit, fuzzing,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/properties.regressions"
        )))),
        ..ProptestConfig::default()
    }
}

/// Bytes that look like frames more often than random ones do: a valid kind and small lengths.
fn frame_like() -> impl Strategy<Value = Vec<u8>> {
    let frame =
        (0u8..12, any::<u8>(), any::<u8>(), 0u8..20, any::<[u8; 8]>(), vec(any::<u8>(), 0..40));
    let frame =
        (frame, any::<bool>()).prop_map(|((kind, flags, encoding, detail, ids, payload), tidy)| {
            let kind_flags =
                FrameKind::ALL.iter().find(|k| **k as u8 == kind).map_or(0, |k| k.flags());
            let flags = if tidy { flags & kind_flags & 0x4f } else { flags };
            let encoding = if tidy && !matches!(kind, 1..=3) { 0 } else { encoding };
            let payload = if tidy && matches!(kind, 5..=8) { Vec::new() } else { payload };
            let mut bytes = u32::try_from(payload.len()).unwrap().to_le_bytes().to_vec();
            bytes.extend_from_slice(&[kind, flags, encoding, detail]);
            bytes.extend_from_slice(&ids);
            bytes.extend_from_slice(&payload);
            bytes
        });
    (any::<u8>(), vec(frame, 0..8)).prop_map(|(step, frames)| {
        let mut bytes = vec![step];
        bytes.extend(frames.concat());
        bytes
    })
}

/// Bytes that look like a hello: the preamble, records with known and unknown numbers.
fn hello_like() -> impl Strategy<Value = Vec<u8>> {
    let record =
        (1u16..15, prop_oneof![Just(2usize), Just(4), Just(8), 0usize..9], any::<[u8; 9]>());
    (0u8..3, 0u8..3, vec(record, 0..8), any::<bool>()).prop_map(
        |(version, role, mut records, tidy)| {
            if tidy {
                records.sort_by_key(|record| record.0);
                records.dedup_by_key(|record| record.0);
            }
            let mut body = Vec::new();
            for (number, length, data) in records {
                body.extend_from_slice(&number.to_le_bytes());
                body.extend_from_slice(&u16::try_from(length).unwrap().to_le_bytes());
                body.extend_from_slice(&data[..length]);
            }
            let mut bytes = vec![0xc7, b'W', b'R', b'E', version, role];
            bytes.extend_from_slice(&u16::try_from(body.len()).unwrap().to_le_bytes());
            bytes.extend(body);
            bytes
        },
    )
}

/// Bytes that look like a protobuf message more often than random ones do, as deep as the bytes last.
fn message_like() -> impl Strategy<Value = Vec<u8>> {
    let scalar = (0u8..10, 0u8..6, vec(any::<u8>(), 0..4))
        .prop_map(|(number, wire, rest)| [vec![number << 3 | wire], rest].concat());
    let leaf = vec(scalar, 0..4).prop_map(|fields| fields.concat());
    leaf.prop_recursive(6, 40, 4, |inner| {
        vec((0u8..10, inner), 0..4).prop_map(|fields| {
            let fields = fields.into_iter().map(|(number, body)| {
                let length = u8::try_from(body.len() & 0x7f).unwrap();
                [vec![number << 3 | 2, length], body].concat()
            });
            fields.collect::<Vec<_>>().concat()
        })
    })
}

/// Text that looks like a JSON message more often than random text does.
fn json_like() -> impl Strategy<Value = Vec<u8>> {
    let name = prop::sample::select(vec![
        "value", "text", "blob", "small", "numbers", "children", "next", "counts", "other",
    ]);
    let leaf = prop::sample::select(vec![
        "1",
        "-1",
        "1.5",
        "1e3",
        "\"7\"",
        "\"YWJj\"",
        "\"\\u0000\"",
        "null",
        "true",
        "[]",
        "{}",
        "[1,2]",
        "x",
    ])
    .prop_map(str::to_owned);
    let json = leaf.prop_recursive(5, 30, 4, move |inner| {
        prop_oneof![
            vec((name.clone(), inner.clone()), 0..4).prop_map(|fields| {
                let fields = fields.into_iter().map(|(name, value)| format!("\"{name}\":{value}"));
                format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
            }),
            vec(inner, 0..3).prop_map(|elements| format!("[{}]", elements.join(","))),
        ]
    });
    json.prop_map(String::into_bytes)
}

proptest! {
    #![proptest_config(config(2048))]

    #[test]
    fn any_bytes_are_a_message_or_an_error(data in vec(any::<u8>(), 0..120)) {
        fuzzing::message_protobuf(&data);
        fuzzing::message_json(&data);
        fuzzing::message_speedy(&data);
    }

    #[test]
    fn almost_good_messages_come_back(data in message_like()) {
        fuzzing::message_protobuf(&data);
    }

    #[test]
    fn almost_good_json_comes_back(data in json_like()) {
        fuzzing::message_json(&data);
    }

    /// Mostly zeros, which are the numbers, lengths and marks of speedy that go on.
    #[test]
    fn almost_good_positional_bytes_come_back(data in vec(prop_oneof![6 => Just(0u8), 2 => 0u8..4, 1 => any::<u8>()], 0..200)) {
        fuzzing::message_speedy(&data);
    }
}

proptest! {
    #![proptest_config(config(192))]

    #[test]
    fn any_stream_of_frames_survives_any_cut(data in vec(any::<u8>(), 0..600)) {
        fuzzing::cut(&data);
    }

    #[test]
    fn the_send_buffer_is_one_run_of_bytes(data in vec(any::<u8>(), 0..500)) {
        fuzzing::send_buffer(&data);
    }

    #[test]
    fn memory_follows_what_arrived_not_what_was_promised(data in vec(any::<u8>(), 4..60)) {
        fuzzing::growth(&data);
    }
}

proptest! {
    #![proptest_config(config(512))]

    #[test]
    fn no_input_panics(data in vec(any::<u8>(), 0..300)) {
        fuzzing::any_input(&data);
    }

    #[test]
    fn no_almost_good_input_panics(data in frame_like()) {
        fuzzing::any_input(&data);
    }

    #[test]
    fn metadata_comes_back(data in vec(any::<u8>(), 0..300)) {
        fuzzing::metadata(&data);
    }

    #[test]
    fn a_status_comes_back(data in vec(any::<u8>(), 0..300)) {
        fuzzing::status(&data);
    }

    #[test]
    fn any_header_comes_back_or_breaks_a_rule(data in vec(any::<u8>(), 16..80)) {
        fuzzing::header(&data);
    }

    #[test]
    fn almost_any_header_comes_back(data in frame_like()) {
        fuzzing::header(&data[1..]);
    }

    #[test]
    fn a_hello_comes_back(data in hello_like()) {
        fuzzing::hello(&data);
    }

    /// REQ-15: each reserved flag bit of each kind is refused on its own.
    #[test]
    fn reserved_bits_are_refused(kind in 0usize..9, flags in any::<u8>(), ids in any::<[u32; 2]>()) {
        let kind = FrameKind::ALL[kind];
        let [call, aux] = ids;
        let header = Header {
            payload_bytes: 0, kind, flags, encoding: Encoding::RAW, detail: 0, call, aux,
        };
        let decoded = Header::decode(header.encode());
        prop_assert_eq!(decoded.is_ok(), flags & !kind.flags() == 0);
        prop_assert!(decoded.is_err() || decoded == Ok(header));
    }

    /// REQ-5: a limit holds exactly the values of its range.
    #[test]
    fn limits_hold_their_range(value in prop_oneof![any::<u32>(), 0u32..70_000]) {
        macro_rules! holds {
            ($($limit:ident)*) => {$(
                let within = value >= $limit::MIN.get() && value <= $limit::MAX.get();
                match $limit::new(value) {
                    Ok(limit) => prop_assert!(within && limit.get() == value),
                    Err(error) => {
                        prop_assert!(!within);
                        prop_assert_eq!(error.value, u64::from(value));
                        prop_assert_eq!(error.min, u64::from($limit::MIN.get()));
                        prop_assert_eq!(error.max, u64::from($limit::MAX.get()));
                    }
                }
            )*};
        }
        holds!(FrameBytes InFlight StreamCredit ConnectionCredit MetadataBytes);
    }
}
