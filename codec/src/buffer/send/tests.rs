//! What a buffer keeps and moves while it is written.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]

use super::*;

fn put(out: &mut SendBuffer, body: Bytes) {
    let mut writer = out.stream_data(&StreamData { call: 1, encoding: Encoding::RAW, end: false });
    writer.put_bytes(body);
    writer.finish(u32::MAX).unwrap();
}

/// A peer that always leaves something unread must not make the buffer remember what it took.
#[test]
fn a_buffer_that_never_runs_empty_does_not_grow() {
    let mut out = SendBuffer::new();
    let (small, large) = (Bytes::from(vec![7; 3000]), Bytes::from(vec![9; 5000]));
    put(&mut out, small.clone());
    for round in 0..2000 {
        put(&mut out, if round % 3 == 0 { large.clone() } else { small.clone() });
        out.advance(out.len() - 1500);
        assert_eq!(out.len(), 1500);
        assert!(out.inline.len() <= 2 * COMPACT_BYTES_MIN);
    }
    assert!(out.inline.capacity() <= 4 * COMPACT_BYTES_MIN);
}

/// Moving to the front keeps shared bodies at their places.
#[test]
fn compaction_keeps_the_order() {
    let mut out = SendBuffer::new();
    let mut model = Vec::new();
    for round in 0u8..60 {
        let bytes = if round % 2 == 0 { 3000 } else { 5000 };
        let body = Bytes::from(vec![round; bytes]);
        put(&mut out, body.clone());
        model.extend_from_slice(&u32::try_from(bytes).unwrap().to_le_bytes());
        model.extend_from_slice(&[3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        model.extend_from_slice(&body);
    }
    let mut written = 0;
    while !out.is_empty() {
        let chunk = out.first_chunk();
        let count = chunk.len().min(1777);
        assert!(count > 0);
        assert_eq!(model.get(written..written + count), chunk.get(..count));
        out.advance(count);
        written += count;
    }
    assert_eq!(written, model.len());
    assert!(out.inline.capacity() <= KEEP_BYTES_MAX);
}

#[test]
fn an_emptied_buffer_keeps_little_and_gives_it_back() {
    let mut out = SendBuffer::new();
    for _ in 0..200 {
        put(&mut out, Bytes::from_static(&[0; 4000]));
    }
    let waiting = out.len();
    out.advance(waiting);
    assert!(out.is_empty() && out.inline.capacity() <= KEEP_BYTES_MAX);
    out.shrink();
    assert_eq!(out.inline.capacity(), 0);
}
