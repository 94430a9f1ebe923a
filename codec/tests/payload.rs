//! Payload codecs: values come back, and bytes that are not the value are an error, never a panic.
#![allow(clippy::unwrap_used, reason = "tests")]

use bytes::Bytes;
use corewire_codec::{
    CodecId, Decode, DecodeError, Encode, MethodId, Raw, RecvBuffer, RequestHead, SHARE_BYTES_MIN,
    SendBuffer, Speedy, read_argument, write_argument,
};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A value of every shape that generated services send.
type Value = (u64, String, Option<Vec<u8>>, BTreeMap<String, Vec<i32>>, Vec<(bool, f64)>);

fn body<C: Encode<T>, T>(value: T) -> Bytes {
    let mut out = SendBuffer::new();
    let mut writer = out.request(&RequestHead::new(0, MethodId(0)), None);
    C::encode(value, &mut writer).unwrap();
    writer.finish(u32::MAX).unwrap();
    let mut recv = RecvBuffer::new();
    while !out.is_empty() {
        let chunk = out.first_chunk();
        let count = chunk.len();
        recv.extend_from_slice(chunk);
        out.advance(count);
    }
    recv.next_frame(u32::MAX).unwrap().unwrap().payload.into_body()
}

/// REQ-12: raw bodies are the value, whatever their size.
#[test]
fn raw_is_the_value() {
    for size in [0, 1, SHARE_BYTES_MIN - 1, SHARE_BYTES_MIN, 100_000] {
        let value = Bytes::from(vec![9; size]);
        let body = body::<Raw, _>(value.clone());
        assert_eq!(body, value);
        assert_eq!(<Raw as Decode<Bytes>>::decode(body), Ok(value));
    }
    assert_eq!(<Raw as corewire_codec::Codec>::ID, CodecId::RAW);
}

/// REQ-12: speedy's bytes, frozen: another speedy must not change what old peers read.
#[test]
fn speedy_bytes_are_frozen() {
    let body = body::<Speedy, _>((0x0102u16, "ab".to_owned(), Some(7u8), vec![1u32]));
    assert_eq!(body[..], [2, 1, 2, 0, 0, 0, b'a', b'b', 1, 7, 1, 0, 0, 0, 1, 0, 0, 0]);
}

#[test]
fn bytes_left_over_are_an_error() {
    let body = body::<Speedy, _>((1u8, 2u8));
    let decoded = <Speedy as Decode<u8>>::decode(body);
    assert_eq!(decoded, Err(DecodeError::left_over(1)));
}

/// Arguments are read one after the other, and a failure leaves the rest where it was.
#[test]
fn arguments_in_a_row() {
    let mut out = SendBuffer::new();
    let mut writer = out.request(&RequestHead::new(0, MethodId(0)), None);
    write_argument(&5u32, &mut writer).unwrap();
    write_argument("key", &mut writer).unwrap();
    writer.finish(100).unwrap();
    let wire = out.first_chunk().to_vec();
    let mut rest = &wire[16..];
    assert_eq!(read_argument::<u32>(&mut rest), Ok(5));
    assert_eq!(read_argument::<String>(&mut rest).as_deref(), Ok("key"));
    assert!(read_argument::<u8>(&mut rest).is_err() && rest.is_empty());
}

/// A length that the body cannot hold is refused before anything is allocated for it.
#[test]
fn promised_lengths_are_checked() {
    for length in [5u32, 1 << 20, u32::MAX] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend_from_slice(b"four");
        let bytes = Bytes::from(bytes);
        assert!(<Speedy as Decode<String>>::decode(bytes.clone()).is_err());
        assert!(<Speedy as Decode<Vec<u64>>>::decode(bytes.clone()).is_err());
        assert!(<Speedy as Decode<Vec<Vec<u8>>>>::decode(bytes).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn speedy_values_come_back(
        number in any::<u64>(),
        text in ".{0,40}",
        bytes in proptest::option::of(vec(any::<u8>(), 0..9000)),
        map in proptest::collection::btree_map("[a-z]{0,6}", vec(any::<i32>(), 0..5), 0..6),
        list in vec((any::<bool>(), -1e9f64..1e9), 0..8),
    ) {
        let value: Value = (number, text, bytes, map, list);
        let body = body::<Speedy, _>(value.clone());
        prop_assert_eq!(<Speedy as Decode<Value>>::decode(body).unwrap(), value);
    }

    #[test]
    fn any_bytes_are_a_value_or_an_error(data in vec(any::<u8>(), 0..200)) {
        let _ = <Speedy as Decode<Value>>::decode(Bytes::from(data));
    }
}
