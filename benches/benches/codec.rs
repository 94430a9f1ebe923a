//! Frames to bytes and bytes to frames, without a connection around them.

#![expect(missing_docs, reason = "criterion's macros make items without any")]

use std::hint::black_box;
use std::io::IoSlice;

use corewire::Bytes;
use corewire_benches::load::in_memory::{decode_all, echo_method, frames, put_reply, put_request};
use corewire_codec::{RecvBuffer, SendBuffer};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const BODIES: [(&str, usize); 3] = [("64 B", 64), ("1 KiB", 1024), ("64 KiB", 64 * 1024)];

/// Frames in one receive of a busy connection.
const MANY: u32 = 1000;

fn encode(criterion: &mut Criterion) {
    let method = echo_method();
    for kind in ["request", "reply"] {
        let mut group = criterion.benchmark_group(format!("codec/encode {kind}"));
        for (name, bytes) in BODIES {
            let body = Bytes::from(vec![7; bytes]);
            let mut out = SendBuffer::new();
            group.throughput(Throughput::Elements(1));
            group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
                bencher.iter(|| {
                    let put = match kind {
                        "request" => put_request(&mut out, 1, method, &body),
                        _ => put_reply(&mut out, 1, &body),
                    };
                    black_box(out.first_chunk());
                    let all = out.len();
                    out.advance(all);
                    put
                });
            });
        }
        group.finish();
    }
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec/decode");
    for (name, bytes) in BODIES {
        let (request, reply) = frames(1, &Bytes::from(vec![7; bytes])).expect("they are small");
        let mut recv = RecvBuffer::new();
        group.throughput(Throughput::Elements(1));
        for (kind, frame) in [("request", &request), ("reply", &reply)] {
            group.bench_function(BenchmarkId::new(kind, name), |bencher| {
                bencher.iter(|| decode_all(&mut recv, frame).expect("well formed"));
            });
        }
    }
    group.finish();
}

fn many_small_frames(criterion: &mut Criterion) {
    let (requests, _) = frames(MANY, &Bytes::from(vec![7; 64])).expect("they are small");
    let mut recv = RecvBuffer::new();
    let mut group = criterion.benchmark_group("codec/receive");
    group.throughput(Throughput::Elements(MANY.into()));
    group.bench_function(BenchmarkId::from_parameter("1000 x 64 B"), |bencher| {
        bencher.iter(|| decode_all(&mut recv, &requests).expect("well formed"));
    });
    group.finish();
}

/// Small and shared bodies in turn, written as by an operating system that takes 100 KB at a time.
fn gather(criterion: &mut Criterion) {
    let bodies = [Bytes::from(vec![7; 64]), Bytes::from(vec![7; 64 * 1024])];
    let mut out = SendBuffer::new();
    let mut group = criterion.benchmark_group("codec/gather");
    group.throughput(Throughput::Elements(16));
    group.bench_function(BenchmarkId::from_parameter("8 x (64 B + 64 KiB)"), |bencher| {
        bencher.iter(|| {
            for body in bodies.iter().cycle().take(16) {
                put_reply(&mut out, 1, body).expect("they are small");
            }
            while !out.is_empty() {
                let mut slices = [IoSlice::new(&[]); 16];
                black_box(out.chunks(&mut slices, usize::MAX));
                out.advance(100_000);
            }
        });
    });
    group.finish();
}

criterion_group!(benches, encode, decode, many_small_frames, gather);
criterion_main!(benches);
