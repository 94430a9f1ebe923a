//! A small call on either side of a connection, from bytes to bytes: frame, protocol, router, handler, reply.

#![expect(missing_docs, reason = "criterion's macros make items without any")]

use corewire::Bytes;
use corewire_benches::load::in_memory::{ClientSide, ServerSide, frames};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Calls that come together.
const BATCHES: [u32; 2] = [1, 64];

fn serve(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("server/echo 64 B");
    for calls in BATCHES {
        let (requests, _) = frames(calls, &Bytes::from(vec![7; 64])).expect("they are small");
        let mut server = ServerSide::new().expect("a connection");
        group.throughput(Throughput::Elements(calls.into()));
        group.bench_function(BenchmarkId::from_parameter(calls), |bencher| {
            bencher.iter(|| {
                let served = server.serve(&requests).expect("well formed");
                let out = server.out();
                let all = out.len();
                out.advance(all);
                served
            });
        });
    }
    group.finish();
}

fn call(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("client/echo 64 B");
    for calls in BATCHES {
        let mut client = ClientSide::new(calls, Bytes::from(vec![7; 64])).expect("a connection");
        group.throughput(Throughput::Elements(calls.into()));
        group.bench_function(BenchmarkId::from_parameter(calls), |bencher| {
            bencher.iter(|| {
                let called = client.call().expect("every call is answered");
                let out = client.out();
                let all = out.len();
                out.advance(all);
                called
            });
        });
    }
    group.finish();
}

criterion_group!(benches, serve, call);
criterion_main!(benches);
