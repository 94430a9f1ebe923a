#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Nothing here takes that long unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(20);

fn pool(threads: usize, queue: usize) -> Arc<Pool> {
    let plan = PoolPlan::new(threads, queue, Vec::new());
    Pool::new(PoolPlan { idle_for: PATIENCE, ..plan })
}

/// Work that says that it has begun, and ends when it is let go.
fn held(begun: &Sender<usize>, number: usize) -> (Work, Sender<()>) {
    let (go, wait) = channel::<()>();
    let begun = begun.clone();
    let work = move |counts: &Counts| {
        begun.send(number).unwrap();
        let _ = wait.recv();
        counts.finish(false);
    };
    (Box::new(work), go)
}

/// Work that only says that it ran.
fn quick(ran: &Sender<usize>, number: usize) -> Work {
    let ran = ran.clone();
    Box::new(move |counts| {
        counts.finish(false);
        ran.send(number).unwrap();
    })
}

#[track_caller]
fn next(told: &Receiver<usize>) -> usize {
    told.recv_timeout(PATIENCE).unwrap()
}

#[track_caller]
fn until(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "{what}");
        thread::yield_now();
    }
}

#[test]
fn there_are_no_more_threads_than_allowed_and_no_more_waits_than_allowed() {
    let pool = pool(2, 3);
    assert_eq!(pool.counts.read(), OffloadCounts::default(), "no thread before there is work");
    let (begun, told) = channel();
    let mut held_back = Vec::new();
    for number in 0..2 {
        let (work, go) = held(&begun, number);
        held_back.push((pool.submit(work).unwrap(), go));
        // It left the queue.
        next(&told);
    }
    let waiting: Vec<_> = (2..5).map(|it| pool.submit(quick(&begun, it)).unwrap()).collect();
    assert_eq!(pool.submit(quick(&begun, 5)).unwrap_err(), OffloadError::Full);
    let counts = pool.counts.read();
    assert_eq!((counts.threads, counts.running, counts.queued, counts.refused), (2, 2, 3, 1));
    drop(held_back);
    let mut ran: Vec<_> = (0..3).map(|_| next(&told)).collect();
    ran.sort_unstable();
    assert_eq!(ran, [2, 3, 4]);
    until("all have run", || pool.counts.read().run == 5);
    assert!(told.try_recv().is_err(), "what was refused never runs");
    drop(waiting);
}

#[test]
fn what_is_taken_out_of_the_queue_does_not_run_and_makes_room() {
    let pool = pool(1, 2);
    let (begun, told) = channel();
    let (work, go) = held(&begun, 0);
    let running = pool.submit(work).unwrap();
    next(&told);
    // Many more than the queue and its empty places hold.
    for _ in 0..50 {
        let first = pool.submit(quick(&begun, 1)).unwrap();
        let second = pool.submit(quick(&begun, 2)).unwrap();
        assert_eq!(pool.submit(quick(&begun, 3)).unwrap_err(), OffloadError::Full);
        first.cancel();
        second.cancel();
        second.cancel();
        assert_eq!(pool.counts.read().queued, 0);
        assert!(pool.sender.len() <= 5, "{} places", pool.sender.len());
    }
    running.cancel();
    let stays = pool.submit(quick(&begun, 4)).unwrap();
    drop(go);
    assert_eq!(next(&told), 4, "what was cancelled never ran");
    until("both have run", || pool.counts.read().run == 2);
    let counts = pool.counts.read();
    assert_eq!((counts.cancelled, counts.refused, counts.queued), (100, 50, 0));
    stays.cancel();
    assert_eq!(pool.counts.read().cancelled, 100, "it has run");
}

#[test]
fn what_waits_keeps_its_order_when_empty_places_are_swept_out() {
    let pool = pool(1, 4);
    let (begun, told) = channel();
    let (work, go) = held(&begun, 0);
    let _running = pool.submit(work).unwrap();
    next(&told);
    let mut kept = Vec::new();
    for number in 1..=3 {
        kept.push(pool.submit(quick(&begun, number)).unwrap());
        for _ in 0..8 {
            pool.submit(quick(&begun, 99)).unwrap().cancel();
        }
    }
    drop(go);
    assert_eq!([next(&told), next(&told), next(&told)], [1, 2, 3]);
}

#[test]
fn panics_end_neither_the_thread_nor_the_count() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("as the test wants");
        }
    }
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload_as_str() != Some("as the test wants") {
            usual(info);
        }
    }));
    let pool = pool(1, 8);
    let (ran, told) = channel();
    let bomb = Bomb;
    let panics: Work = Box::new(move |counts| {
        counts.finish(true);
        drop(bomb);
    });
    let _first = pool.submit(panics).unwrap();
    let _second = pool.submit(quick(&ran, 1)).unwrap();
    assert_eq!(next(&told), 1, "the thread goes on");
    let counts = pool.counts.read();
    assert_eq!((counts.run, counts.panicked, counts.threads), (2, 1, 1));
}

#[test]
fn idle_threads_end_and_come_back() {
    let plan = PoolPlan::new(2, 8, Vec::new());
    let pool = Pool::new(PoolPlan { idle_for: Duration::from_millis(1), ..plan });
    let (ran, told) = channel();
    for number in 0..200 {
        let _ticket = pool.submit(quick(&ran, number)).unwrap();
        assert_eq!(next(&told), number);
        if number % 4 == 0 {
            until("all threads end", || pool.counts.read().threads == 0);
        }
    }
}

#[test]
fn at_the_end_what_waits_is_done_and_the_threads_are_gone() {
    let pool = pool(2, 64);
    let (ran, told) = channel();
    let counts = pool.counts();
    let tickets: Vec<_> = (0..50).map(|it| pool.submit(quick(&ran, it)).unwrap()).collect();
    assert_eq!(pool.end(PATIENCE), 0);
    assert_eq!(told.try_iter().count(), 50);
    assert_eq!((counts.read().run, counts.read().threads), (50, 0));
    drop(tickets);
}

#[test]
fn an_end_does_not_wait_for_ever() {
    let pool = pool(1, 1);
    let (begun, told) = channel();
    let (work, go) = held(&begun, 0);
    let _ticket = pool.submit(work).unwrap();
    next(&told);
    assert_eq!(pool.end(Duration::from_millis(20)), 1);
    drop(go);
}
