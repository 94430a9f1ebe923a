//! What the tests over real sockets share: a service with every habit, servers, peers and children.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "tests; each of them uses a part of this"
)]

pub mod abuse;
pub mod child;
pub mod fake;
pub mod kinds;
pub mod lines;
pub mod peer;
pub mod service;
pub mod shells;
pub mod slow;
pub mod streams;

use corewire::{ClientShard, Placement, Running, Server, ServerBuilder, ShardCounters};
use std::future::Future;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use service::{Habits, SubjectServer, Target};

/// How long anything may take before its test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A server with the subject on `shards` shards that are not pinned.
pub fn builder(shards: u16) -> ServerBuilder {
    Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Unpinned(shards))
        .service(|_| SubjectServer::new(Target::default()))
}

/// A running server of one shard.
pub fn server() -> Running {
    builder(1).start().unwrap()
}

/// A running server of one shard whose handlers tell what they do.
pub fn server_with(habits: &Habits) -> Running {
    let habits = habits.clone();
    Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Unpinned(1))
        .service(move |_| SubjectServer::new(Target::new(habits.clone())))
        .start()
        .unwrap()
}

/// The only address of a server.
pub fn address(server: &Running) -> SocketAddr {
    server.addresses()[0].tcp().unwrap()
}

/// Runs a client to its end.
pub fn client<F, T>(main: impl FnOnce() -> F) -> T
where
    F: Future<Output = T> + 'static,
    T: 'static,
{
    corewire::block_on_shard(ClientShard::default(), main).unwrap()
}

/// Waits, whatever drives this future.
pub async fn pause(time: Duration) {
    let end = Instant::now() + time;
    let mut begun = false;
    std::future::poll_fn(|context| {
        if begun && Instant::now() >= end {
            return std::task::Poll::Ready(());
        }
        if !std::mem::replace(&mut begun, true) {
            let waker = context.waker().clone();
            std::thread::spawn(move || {
                std::thread::sleep(time);
                waker.wake();
            });
        }
        std::task::Poll::Pending
    })
    .await;
}

/// Looks until `done` holds; fails the test when it never does.
#[track_caller]
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The sum of one counter over all shards.
pub fn count(server: &Running, read: impl Fn(&ShardCounters) -> u64) -> u64 {
    server.shards().iter().map(|shard| read(&shard.counters)).sum()
}

/// Drains a server and asserts that no shard was lost.
#[track_caller]
pub fn end(server: Running) {
    server.stop();
    // A runtime's thread does not wait itself.
    let ended = std::thread::spawn(|| server.wait().unwrap()).join().unwrap();
    assert_eq!(ended.shards_lost, 0);
}

/// Numbers that look random and are the same in each run (Marsaglia's xorshift64).
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, count: usize) -> usize {
        usize::try_from((self.next() >> 16) % count as u64).unwrap()
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next().to_le_bytes()[3]).collect()
    }
}
