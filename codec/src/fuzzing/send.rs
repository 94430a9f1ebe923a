//! The send buffer against a plain run of bytes.

use bytes::Bytes;
use std::collections::VecDeque;
use std::io::IoSlice;

use super::EMPTY_REQUEST;
use super::source::Source;
use crate::buffer::send::{FrameTooLarge, FrameWriter, SendBuffer};
use crate::wire::encoding::Encoding;
use crate::wire::frame::StreamData;
use crate::wire::header::{FrameKind, Header};

/// A frame that was appended, and what of it is still waiting.
struct Appended {
    header: Header,
    waiting: Vec<u8>,
    begun: bool,
}

impl Appended {
    fn new(header: Header, body: &[u8]) -> Self {
        let mut waiting = header.encode().to_vec();
        waiting.extend_from_slice(body);
        Self { header, waiting, begun: false }
    }
}

/// The first `count` bytes are written.
fn write(model: &mut VecDeque<Appended>, mut count: usize) {
    while let Some(front) = model.front_mut().filter(|_| count > 0) {
        let taken = count.min(front.waiting.len());
        front.waiting.drain(..taken);
        front.begun = true;
        count -= taken;
        if front.waiting.is_empty() {
            model.pop_front();
        }
    }
}

/// Frames of small and shared pieces, frames that are dropped, too large or taken back, partial writes of
/// any size: what waits is always what one contiguous buffer would hold.
pub fn send_buffer(data: &[u8]) {
    let mut source = Source::new(data);
    let mut out = SendBuffer::new();
    let mut model: VecDeque<Appended> = VecDeque::new();
    let mut left = 40;
    while !source.is_empty() && left > 0 {
        left -= 1;
        match source.below(8) {
            0..=2 => {
                let (data, body) = put_data(&mut source, &mut out, |writer, _| {
                    writer.finish(u32::MAX).expect("no limit applies");
                });
                model.push_back(Appended::new(header(&data, body.len()), &body));
            }
            3 => {
                put_data(&mut source, &mut out, |writer, bytes| {
                    // A frame at its limit fits; one byte more does not, and leaves no trace.
                    let max = u32::try_from(bytes).unwrap().checked_sub(1);
                    match max {
                        Some(max) => {
                            assert_eq!(writer.finish(max), Err(FrameTooLarge { bytes, max }));
                        }
                        None => drop(writer),
                    }
                });
            }
            4 => {
                let opaque = source.u64();
                out.ping(opaque);
                let [l, h] =
                    [opaque & 0xffff_ffff, opaque >> 32].map(|h| u32::try_from(h).unwrap());
                let ping = Header { kind: FrameKind::Ping, call: l, aux: h, ..EMPTY_REQUEST };
                model.push_back(Appended::new(ping, &[]));
            }
            5 if source.flag() => {
                let picks = source.u8();
                let is_unwanted = |header: &Header| {
                    picks & (1 << ((header.call ^ header.payload_bytes ^ header.aux) % 8)) != 0
                };
                let before = out.len();
                let mut asked = Vec::new();
                let taken = out.retract(|header| {
                    asked.push(*header);
                    is_unwanted(header)
                });
                assert_eq!(before - taken, out.len());
                let whole = model.iter().filter(|frame| !frame.begun).map(|frame| frame.header);
                assert!(whole.eq(asked), "each frame of which nothing was written, in order");
                model.retain(|frame| frame.begun || !is_unwanted(&frame.header));
            }
            7 if source.below(16) == 0 => {
                out.clear();
                model.clear();
            }
            _ => {
                let whole = out.len() + 3;
                let count = match source.below(4) {
                    0 => usize::from(source.u8()),
                    1 => out.first_chunk().len(),
                    _ => usize::from(source.u16()),
                };
                out.advance(count.min(whole));
                write(&mut model, count);
            }
        }
        if source.flag() {
            out.shrink();
        }
        let waiting: Vec<u8> = model.iter().flat_map(|frame| &frame.waiting).copied().collect();
        check(&out, &waiting, 1 + source.below(6));
    }
}

/// Writes one frame of a few pieces; returns its head and its body.
fn put_data(
    source: &mut Source<'_>,
    out: &mut SendBuffer,
    end: impl FnOnce(FrameWriter<'_>, usize),
) -> (StreamData, Vec<u8>) {
    let data = StreamData {
        call: source.u32(),
        encoding: Encoding::from_byte(source.u8()),
        end: source.flag(),
    };
    let mut body = Vec::new();
    let mut writer = out.stream_data(&data);
    for _ in 0..source.below(4) {
        let piece = source.body();
        body.extend_from_slice(&piece);
        match source.below(3) {
            0 => writer.put_slice(&piece),
            1 => writer.inline().extend_from_slice(&piece),
            _ => writer.put_bytes(Bytes::from(piece)),
        }
    }
    end(writer, body.len());
    (data, body)
}

fn header(data: &StreamData, body_bytes: usize) -> Header {
    Header {
        payload_bytes: u32::try_from(body_bytes).unwrap(),
        kind: FrameKind::StreamData,
        flags: u8::from(data.end),
        encoding: data.encoding,
        call: data.call,
        ..EMPTY_REQUEST
    }
}

fn check(out: &SendBuffer, model: &[u8], slots: usize) {
    assert_eq!(out.len(), model.len());
    assert_eq!(out.is_empty(), model.is_empty());
    let first = out.first_chunk();
    assert!(model.starts_with(first));
    assert_eq!(first.is_empty(), model.is_empty(), "progress is always possible");
    assert!(!out.is_contiguous() || first.len() == model.len());
    let mut few = vec![IoSlice::new(&[]); slots];
    let filled = out.chunks(&mut few, usize::MAX);
    let some: Vec<u8> = few[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
    assert!(model.starts_with(&some));
    assert!(filled == slots || some.len() == model.len(), "a slot is left only when all is in");
    assert!(few[..filled].iter().all(|slice| !slice.is_empty()));
    for max in [0, 1, first.len(), model.len() / 2, model.len() + 1] {
        let filled = out.chunks(&mut few, max);
        let bytes: Vec<u8> = few[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
        assert!(model.starts_with(&bytes) && bytes.len() <= max);
        assert!(filled == slots || bytes.len() == max.min(model.len()));
    }
    assert_eq!(super::source::flatten(out), model);
}
