//! The table of calls in flight, through the connections that own it: parking, answering, expiring.

#![expect(missing_docs, reason = "criterion's macros make items without any")]

use std::rc::Rc;
use std::time::{Duration, Instant};

use corewire_codec::SendBuffer;
use corewire_proto::{ServerConfig, ServerConnection, ServerIdentity};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Calls in flight at once.
const SIZES: [u32; 3] = [16, 256, 4096];

fn connection(now: Instant) -> ServerConnection<u32> {
    ServerConnection::new(
        Rc::new(ServerConfig::default()),
        ServerIdentity { connection_id: 1 },
        now,
    )
}

/// Every call is parked, looked up once for its poll, and taken out, oldest first.
fn park_and_answer(criterion: &mut Criterion) {
    let now = Instant::now();
    let mut group = criterion.benchmark_group("in flight/park, poll, answer");
    for size in SIZES {
        let mut connection = connection(now);
        let deadline = Some(now + Duration::from_secs(1));
        group.throughput(Throughput::Elements(size.into()));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                for call in 0..size {
                    connection.park(call, deadline, call);
                }
                let mut sum = 0u64;
                for call in 0..size {
                    sum += connection.parked_mut(call).map_or(0, |work| u64::from(*work));
                    sum += connection.unpark(call).map_or(0, u64::from);
                }
                assert_eq!(connection.in_flight(), 0);
                sum
            });
        });
    }
    group.finish();
}

/// Every call's deadline passes at once; the table is scanned, and each call is answered with a status.
fn expire(criterion: &mut Criterion) {
    let now = Instant::now();
    let later = now + Duration::from_secs(2);
    let mut group = criterion.benchmark_group("in flight/expire together");
    for size in SIZES {
        let (mut connection, mut out) = (connection(now), SendBuffer::new());
        let deadline = Some(now + Duration::from_secs(1));
        group.throughput(Throughput::Elements(size.into()));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                for call in 0..size {
                    connection.park(call, deadline, call);
                }
                let mut expired = 0;
                while connection.poll_expired(&mut out, later).is_some() {
                    expired += 1;
                }
                assert_eq!(expired, size);
                out.clear();
            });
        });
    }
    group.finish();
}

criterion_group!(benches, park_and_answer, expire);
criterion_main!(benches);
