//! The atomics of the mesh under loom, which runs every interleaving of the threads and every value that a load may see.
//!
//! What lies in a lane stands for the ring, which has its own checks: here a loom mutex with a list.
#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "it is the engine's own file, of which this uses a part")]
#[path = "../src/shard/mesh/bell.rs"]
mod bell;

/// What `bell.rs` is made of in the engine is std's.
mod sync {
    pub(super) use loom::sync::atomic::{AtomicU8, AtomicU64, Ordering};
}

use bell::{Bell, Presence, Sender};
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

/// An eventfd: a counter that a sleeper waits for.
#[derive(Default)]
struct Eventfd(Mutex<u64>, Condvar);

impl Eventfd {
    fn write(&self) {
        *self.0.lock().unwrap() += 1;
        self.1.notify_one();
    }

    fn wait_and_clear(&self) {
        let mut counter = self.0.lock().unwrap();
        while *counter == 0 {
            counter = self.1.wait(counter).unwrap();
        }
        *counter = 0;
    }
}

struct Shard {
    bell: Bell,
    eventfd: Eventfd,
    lanes: [Mutex<Vec<u32>>; 2],
}

impl Shard {
    fn new() -> Arc<Self> {
        let lanes = [Mutex::new(Vec::new()), Mutex::new(Vec::new())];
        Arc::new(Self { bell: Bell::new(), eventfd: Eventfd::default(), lanes })
    }

    /// As a shard does at the end of a turn.
    fn send(&self, from: usize, parcel: u32) {
        self.lanes[from].lock().unwrap().push(parcel);
        if self.bell.post(Sender::Shard(from)) {
            self.eventfd.write();
        }
    }

    /// As a shard does that has nothing else to do: returns what it took.
    fn turn(&self) -> usize {
        if self.bell.has_news() {
            let news = self.bell.take();
            let lanes =
                self.lanes.iter().enumerate().filter(|(from, _)| news.has(Sender::Shard(*from)));
            return lanes.map(|(_, lane)| lane.lock().unwrap().drain(..).count()).sum();
        }
        if self.bell.may_sleep() {
            self.eventfd.wait_and_clear();
            self.bell.awake();
        }
        0
    }
}

/// Whatever two senders leave is taken, and the sleeper is woken: a lost wake would be a deadlock, which loom reports.
#[test]
fn no_parcel_is_left_and_no_wake_is_lost() {
    loom::model(|| {
        let shard = Shard::new();
        let senders: Vec<_> = (0..2)
            .map(|from| {
                let shard = Arc::clone(&shard);
                thread::spawn(move || shard.send(from, 1))
            })
            .collect();
        let mut taken = 0;
        while taken < 2 {
            taken += shard.turn();
            // A load that is a hint may be late; loom must not try that for ever.
            thread::yield_now();
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        assert!(shard.lanes.iter().all(|lane| lane.lock().unwrap().is_empty()));
    });
}

/// A sender that sends twice, with the receiver going to sleep in between.
#[test]
fn a_second_parcel_wakes_again() {
    loom::model(|| {
        let shard = Shard::new();
        let sender = {
            let shard = Arc::clone(&shard);
            thread::spawn(move || {
                shard.send(0, 1);
                shard.send(0, 2);
            })
        };
        let mut taken = 0;
        while taken < 2 {
            taken += shard.turn();
            // A load that is a hint may be late; loom must not try that for ever.
            thread::yield_now();
        }
        sender.join().unwrap();
    });
}

/// Who sends to a shard that ends, and who ends: one of them sees the other, so nothing waits for ever in the queue.
#[test]
fn what_is_sent_to_a_shard_that_ends_is_found_by_one_side() {
    loom::model(|| {
        let shard = Shard::new();
        let dropped = Arc::new(AtomicUsize::new(0));
        let empty_if_gone = |shard: &Shard, dropped: &AtomicUsize| {
            if shard.bell.presence() == Presence::Gone {
                let count = shard.lanes[0].lock().unwrap().drain(..).count();
                dropped.fetch_add(count, Ordering::SeqCst);
            }
        };
        let sender = {
            let (shard, dropped) = (Arc::clone(&shard), Arc::clone(&dropped));
            thread::spawn(move || {
                shard.lanes[0].lock().unwrap().push(1);
                empty_if_gone(&shard, &dropped);
            })
        };
        shard.bell.set_presence(Presence::Gone);
        empty_if_gone(&shard, &dropped);
        sender.join().unwrap();
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
    });
}
