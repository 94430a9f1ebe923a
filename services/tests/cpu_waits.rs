//! A shard that loses its CPU to other threads: no handler is blamed for that.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use corewire::{Placement, Server, Status, allowed_cpus};
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};
use support::{PATIENCE, address, client, count, end};

/// Threads that want the shard's CPU.
const OTHERS: usize = 12;

/// What a handler may hold the shard for, and what it uses: it never holds it for longer.
const LIMIT: Duration = Duration::from_millis(15);
const CHEWED: Duration = Duration::from_millis(4);

#[corewire::service]
pub trait Mill {
    async fn chew(&self) -> Result<(), Status>;
    async fn nap(&self) -> Result<(), Status>;
}

struct Miller;

impl Mill for Miller {
    async fn chew(&self) -> Result<(), Status> {
        let cpu = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
        let begun = cpu();
        while cpu() - begun < CHEWED {}
        Ok(())
    }

    async fn nap(&self) -> Result<(), Status> {
        thread::sleep(4 * LIMIT);
        Ok(())
    }
}

#[test]
fn a_handler_that_lost_its_cpu_is_not_blamed() {
    let cpu = *allowed_cpus().unwrap().first().unwrap();
    let server = Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Cpus(vec![cpu]))
        .service(|_| MillServer::new(Miller))
        .warn_held_after(LIMIT)
        .start()
        .unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let others: Vec<_> = (0..OTHERS)
        .map(|_| {
            let over = Arc::clone(&over);
            thread::spawn(move || {
                let mut set = CpuSet::new();
                set.set(cpu);
                sched_setaffinity(None, &set).unwrap();
                while !over.load(Relaxed) {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    let to = address(&server);
    let waits = || count(&server, |it| it.cpu_waits.value());
    let begun = Instant::now();
    while waits() == 0 {
        assert!(begun.elapsed() < PATIENCE, "the shard never lost its CPU");
        client(move || async move {
            let mill = MillClient::connect(to).await.unwrap();
            for _ in 0..10 {
                mill.chew().await.unwrap();
            }
        });
    }
    over.store(true, Relaxed);
    others.into_iter().for_each(|other| other.join().unwrap());
    assert_eq!(count(&server, |it| it.holds.value()), 0, "nobody held the shard");
    // The counter is told four times a second.
    let waited = || count(&server, |it| it.cpu_wait_us.value());
    while waited() == 0 {
        assert!(begun.elapsed() < 2 * PATIENCE, "the waits are not counted");
        client(move || async move {
            MillClient::connect(to).await.unwrap().chew().await.unwrap();
        });
    }
    // Who sleeps is to blame.
    client(move || async move {
        MillClient::connect(to).await.unwrap().nap().await.unwrap();
    });
    support::until("it is counted", || count(&server, |it| it.holds.value()) >= 1);
    end(server);
}
