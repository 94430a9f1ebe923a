//! How a shard's memory is shared out, and who is cut off when it is short.

use super::*;
use corewire_codec::{Rule, StatusCode};

const MIB: usize = 1 << 20;

/// What came on a connection since the last look.
#[derive(Debug, Default)]
struct Came {
    ok: usize,
    refused: usize,
    gone: Option<Rule>,
}

impl Bench {
    fn came(&mut self, end: usize) -> Came {
        self.take_output(end);
        let mut came = Came::default();
        while let Some(frame) = self.replies[end].next_frame(u32::MAX).unwrap() {
            match frame.head {
                Head::Reply(head) if head.code == StatusCode::Ok => came.ok += 1,
                Head::Reply(_) => came.refused += 1,
                Head::GoAway(go_away) => came.gone = Rule::from_number(go_away.rule),
                _ => {}
            }
        }
        came
    }

    fn held(&self) -> usize {
        self.driver.shared.memory.bytes()
    }
}

/// Budgets with which few connections reach the shard's bound.
fn budgets() -> Budgets {
    Budgets { shard_bytes_max: 32 * MIB, ..Budgets::default() }
}

/// Connections with as many large pending calls as they get; a small call on another one is answered in
/// the turn in which it comes, all the while.
#[test]
fn small_calls_go_on_beside_connections_that_hold_all_they_get() {
    for greedy in [1, 4, 16] {
        let mut bench = Bench::with(greedy + 1, budgets());
        for end in 0..greedy {
            (0..40).for_each(|call| bench.request(end, &RequestHead::new(call, PEND), MIB));
        }
        for calls in 0..600 {
            bench.call(greedy, calls, 1000);
            bench.net.borrow_mut().now += Duration::from_millis(1);
            bench.turn();
            let came = bench.came(greedy);
            assert_eq!((came.ok, came.refused), (1, 0), "call {calls} beside {greedy}");
            assert!(bench.held() <= 32 * MIB, "{} bytes are held", bench.held());
        }
        assert!(bench.held() > 8 * MIB, "{greedy} hold {} bytes only", bench.held());
    }
}

/// Clients that read nothing: what is unsent is shared out as what pends is.
#[test]
fn small_calls_go_on_beside_connections_that_read_nothing() {
    const GREEDY: usize = 100;
    let mut bench = Bench::with(GREEDY + 1, budgets());
    for end in 0..GREEDY {
        bench.net.borrow_mut().ends[end].takes = Some(0);
        (0..3).for_each(|call| bench.call(end, call, MIB));
    }
    for call in 0..600 {
        bench.call(GREEDY, call, 1000);
        bench.net.borrow_mut().now += Duration::from_millis(1);
        bench.turn();
        let (came, held) = (bench.came(GREEDY), bench.held());
        assert_eq!(came.ok, 1, "call {call}: {came:?} while {held} bytes are held");
        assert!(bench.held() <= 33 * MIB, "{} bytes are held", bench.held());
    }
    assert!(bench.held() > 16 * MIB);
}

/// REQ-95. Memory is short: connections that keep most of it and give nothing back are told so and cut off.
/// Others stay.
#[test]
fn who_keeps_most_and_gives_nothing_back_is_cut_off() {
    const GREEDY: usize = 30;
    let mut bench = Bench::with(GREEDY + 2, budgets());
    let within = budgets().stalled_for;
    // One that pends with little, and one that calls.
    bench.request(GREEDY, &RequestHead::new(0, PEND), 1000);
    bench.turn();
    for end in 0..GREEDY {
        (0..40).for_each(|call| bench.request(end, &RequestHead::new(call, PEND), MIB));
    }
    for _ in 0..1200 {
        bench.net.borrow_mut().now += Duration::from_millis(1);
        bench.turn();
    }
    assert!(bench.held() > 24 * MIB, "memory is short: {} bytes are held", bench.held());
    assert!((0..GREEDY).all(|end| bench.came(end).gone.is_none()), "they have their time");
    let mut call = 0;
    let end_at = bench.net.borrow().now + 2 * within;
    while bench.net.borrow().now < end_at {
        bench.net.borrow_mut().now += Duration::from_millis(50);
        bench.call(GREEDY + 1, call, 100);
        bench.turn();
        assert_eq!(bench.came(GREEDY + 1).ok, 1);
        call += 1;
    }
    let gone: Vec<_> = (0..GREEDY).filter_map(|end| bench.came(end).gone).collect();
    assert!(!gone.is_empty() && gone.iter().all(|rule| *rule == Rule::MemoryShort), "{gone:?}");
    assert_eq!(bench.driver.shared.counters.connections_cut_off.value(), gone.len() as u64);
    assert!(bench.held() <= 28 * MIB);
    assert!(bench.came(GREEDY).gone.is_none(), "who holds little stays");
}

/// A shard that was away could not see what its clients would have given back.
#[test]
fn the_time_of_an_absence_cuts_nobody_off() {
    const GREEDY: usize = 30;
    let mut bench = Bench::with(GREEDY, budgets());
    for end in 0..GREEDY {
        (0..40).for_each(|call| bench.request(end, &RequestHead::new(call, PEND), MIB));
    }
    for _ in 0..1200 {
        bench.net.borrow_mut().now += Duration::from_millis(1);
        bench.turn();
    }
    assert!(bench.held() > 24 * MIB, "memory is short: {} bytes are held", bench.held());
    for _ in 0..3 {
        bench.net.borrow_mut().now += 10 * budgets().stalled_for;
        bench.turn();
        bench.turn();
        assert!((0..GREEDY).all(|end| bench.came(end).gone.is_none()), "they have their time");
    }
    // Their time counts while the shard is there.
    for _ in 0..100 {
        bench.net.borrow_mut().now += budgets().stalled_for / 50;
        bench.turn();
    }
    assert!((0..GREEDY).any(|end| bench.came(end).gone == Some(Rule::MemoryShort)));
}

/// A connection whose calls end is not cut off, however much it holds at any moment.
#[test]
fn who_gives_back_is_not_cut_off() {
    let budgets = Budgets { shard_bytes_max: 18 * MIB, ..Budgets::default() };
    let mut bench = Bench::with(12, budgets);
    for round in 0..60u32 {
        for end in 0..12 {
            for call in 0..3 {
                let id = (round % 2) << 16 | (round % 7 * 3 + call);
                bench.request(end, &RequestHead::new(id, PEND), MIB / 2);
            }
        }
        for _ in 0..40 {
            bench.net.borrow_mut().now += Duration::from_millis(5);
            bench.turn();
        }
        let wakers: Vec<_> = bench.pending.borrow_mut().drain(..).collect();
        wakers.iter().for_each(|waker| waker.wake_by_ref());
        bench.turn();
    }
    assert!((0..12).all(|end| bench.came(end).gone.is_none()));
    assert_eq!(bench.driver.shared.counters.connections_cut_off.value(), 0);
}

/// Buffers of large requests go back when nobody needs them any more.
#[test]
fn large_buffers_are_given_back_after_a_while() {
    let mut bench = Bench::new(1);
    bench.call(0, 0, 8 * MIB);
    while bench.came(0).ok == 0 {
        bench.turn();
    }
    bench.turn();
    assert!(bench.driver.shared.recv.keeps_much(), "one is kept for the next");
    let start = bench.net.borrow().now;
    while bench.driver.shared.recv.keeps_much() {
        let at = bench.driver.next_timer().expect("it comes back for it by itself");
        let now = bench.net.borrow().now.max(at);
        assert!(now < start + Duration::from_secs(30), "it is kept for too long");
        bench.net.borrow_mut().now = now;
        bench.turn();
    }
}
