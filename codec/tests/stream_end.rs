//! The end of a stream is cut to what its receiver accepts.
#![allow(clippy::unwrap_used, reason = "tests")]

use bytes::Bytes;
use corewire_codec::{
    FrameBytes, Head, MetadataBuilder, RecvBuffer, SendBuffer, Status, StatusCode,
};

const LEAST: u32 = FrameBytes::MIN.get();

fn block(bytes: usize) -> MetadataBuilder {
    let mut block = MetadataBuilder::new();
    // An entry has three bytes of lengths, and a key of one.
    block.insert("k", &vec![b'v'; bytes - 4]).unwrap();
    assert_eq!(block.as_bytes().len(), bytes);
    block
}

/// What arrives of an end: its status, and the bytes of its metadata.
fn arrives(
    failure: Option<&Status>,
    metadata: Option<&MetadataBuilder>,
    max: u32,
) -> (Status, usize) {
    let mut out = SendBuffer::new();
    out.stream_end(3, failure, metadata, LEAST, max);
    let mut recv = RecvBuffer::new();
    while !out.is_empty() {
        let chunk = out.first_chunk().to_vec();
        recv.extend_from_slice(&chunk);
        out.advance(chunk.len());
    }
    let frame = recv.next_frame_within(LEAST, max).unwrap().expect("a whole frame");
    let Head::StreamEnd(end) = frame.head else { panic!("{:?}", frame.head) };
    assert_eq!(end.code, failure.map_or(StatusCode::Ok, Status::code));
    let metadata = frame.payload.metadata().iter().map(|e| 3 + e.key.len() + e.value.len()).sum();
    let status = Status::from_body(end.code, &frame.payload.into_body());
    assert!(recv.is_empty(), "one frame and nothing else");
    (status, metadata)
}

/// REQ-51: metadata at the receiver's bound arrives, and one byte more is left out.
#[test]
fn metadata_at_its_bound() {
    assert_eq!(arrives(None, Some(&block(1_024)), 1_024).1, 1_024);
    assert_eq!(arrives(None, Some(&block(1_025)), 1_024).1, 0);
}

/// REQ-51, REQ-42: when the frame would be too large, the details go first, then the metadata; the code
/// and the text, which is cut at 4,096 bytes, always arrive.
#[test]
fn what_does_not_fit_is_left_out() {
    let status = Status::aborted("why").with_details(Bytes::from(vec![7; 5_000]));
    let (read, metadata) = arrives(Some(&status), Some(&block(60_000)), 65_535);
    assert_eq!((read, metadata), (status.clone(), 60_000));
    let (read, metadata) = arrives(Some(&status), Some(&block(61_000)), 65_535);
    assert_eq!((read, metadata), (Status::aborted("why"), 61_000));
    let long = Status::aborted("w".repeat(5_000)).with_details(Bytes::from(vec![7; 5_000]));
    let (read, metadata) = arrives(Some(&long), Some(&block(65_000)), 65_535);
    assert_eq!((read.message().len(), read.details().len(), metadata), (4_096, 0, 0));
}

/// A body at the edge: 65,536 bytes fit, and not one more.
#[test]
fn the_frame_at_its_bound() {
    for (more, details) in [(0, 60_000), (1, 0)] {
        let bytes = 65_536 - 2 - 3 - 60_000 - 2;
        let status = Status::aborted("why").with_details(Bytes::from(vec![7; 60_000]));
        let (read, metadata) = arrives(Some(&status), Some(&block(bytes + more)), 65_535);
        assert_eq!((read.details().len(), metadata), (details, bytes + more));
    }
}
