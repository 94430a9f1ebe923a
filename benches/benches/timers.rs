//! The shard's timers: one entry per connection, moved lazily.

#![expect(missing_docs, reason = "criterion's macros make items without any")]

use std::time::{Duration, Instant};

use corewire::bench_hooks::TimerHeap;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Connections of a shard.
const SIZES: [u32; 2] = [100, 10_000];

/// A connection's time moves on with each call: that should cost nearly nothing.
fn arm_again(criterion: &mut Criterion) {
    let now = Instant::now();
    let (mut timers, mut armed) = (TimerHeap::default(), None);
    let mut at = now + Duration::from_secs(60);
    timers.arm(0, at, &mut armed);
    criterion.bench_function("timers/arm again, later", |bencher| {
        bencher.iter(|| {
            at += Duration::from_nanos(1);
            timers.arm(0, at, &mut armed);
            timers.next()
        });
    });
}

/// Every connection is armed for a time of its own, and all come due.
fn arm_and_fire(criterion: &mut Criterion) {
    let now = Instant::now();
    let mut group = criterion.benchmark_group("timers/arm and fire");
    for size in SIZES {
        let mut timers = TimerHeap::default();
        group.throughput(Throughput::Elements(size.into()));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                for connection in 0..size {
                    // Spread over a second, in no particular order.
                    let micros = connection.wrapping_mul(0x9e37_79b1) % 1_000_000;
                    let at = now + Duration::from_micros(micros.into());
                    timers.arm(connection, at, &mut None);
                }
                let mut fired = 0;
                while timers.pop_due(now + Duration::from_secs(1)).is_some() {
                    fired += 1;
                }
                assert_eq!(fired, size);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, arm_again, arm_and_fire);
criterion_main!(benches);
