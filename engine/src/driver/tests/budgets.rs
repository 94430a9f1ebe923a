//! What a connection and its shard may hold, and what happens to what finds no room.

use super::*;
use crate::budgets::QueueDelay;
use corewire_codec::{Status, StatusCode, reply_flags, request_flags};

const MS: Duration = Duration::from_millis(1);

/// How a call was answered.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Ok,
    /// Refused, as not run, with a hint when to try again.
    Refused(StatusCode, Option<Duration>),
    Failed(StatusCode),
}

impl Bench {
    /// The next whole reply.
    fn answer(&mut self, end: usize) -> Option<(u32, Answer)> {
        self.take_output(end);
        let frame = self.replies[end].next_frame(u32::MAX).unwrap()?;
        let Head::Reply(head) = frame.head else { panic!("only replies are to come") };
        let code = head.code;
        let answer = match code {
            StatusCode::Ok => Answer::Ok,
            code if head.flags & reply_flags::REFUSED != 0 => {
                let status = Status::from_body(code, &frame.payload.into_body());
                assert!(status.message().len() > 20, "it says what is wrong: {status:?}");
                let wait = Some(head.retry_after_ms)
                    .filter(|_| head.flags & reply_flags::RETRY_AFTER != 0);
                Answer::Refused(code, wait.map(u64::from).map(Duration::from_millis))
            }
            code => Answer::Failed(code),
        };
        Some((head.call, answer))
    }

    fn answers(&mut self, end: usize) -> Vec<(u32, Answer)> {
        std::iter::from_fn(|| self.answer(end)).collect()
    }

    fn pend(&self, end: usize, call: u32, bytes: usize) {
        self.request(end, &RequestHead::new(call, PEND), bytes);
    }

    fn cancel(&self, end: usize, call: u32) {
        let mut out = SendBuffer::new();
        out.cancel(call, corewire_codec::CancelReason::Dropped);
        let end = &mut self.net.borrow_mut().ends[end];
        end.input.extend_from_slice(out.first_chunk());
        end.news = true;
    }

    /// Wakes the handler that has pended longest.
    fn finish_one(&self) {
        self.pending.borrow_mut().pop_front().unwrap().wake();
    }

    /// The client takes `bytes`, or whatever there is.
    fn take(&self, end: usize, bytes: Option<usize>) {
        let end = &mut self.net.borrow_mut().ends[end];
        (end.takes, end.news) = (bytes, true);
    }

    fn pass(&self, time: Duration) {
        self.net.borrow_mut().now += time;
    }

    fn counter(&self, name: &str) -> u64 {
        let all = self.driver.shared.counters.snapshot();
        all.iter().find(|(other, _)| *other == name).unwrap().1
    }

    fn is_empty(&self) -> bool {
        let memory = &self.driver.shared.memory;
        (memory.bytes(), memory.calls()) == (0, 0)
    }
}

#[test]
fn a_connection_over_its_bound_is_not_read_and_then_refused() {
    let budgets = Budgets { connection_bytes_max: 5000, call_bytes: 1000, ..Budgets::default() };
    let mut bench = Bench::with(2, budgets);
    (0..8).for_each(|call| bench.pend(0, call, 1000));
    bench.turn();
    assert_eq!(bench.pending.borrow().len(), 3, "the third goes over the bound");
    bench.turn();
    assert_eq!((bench.pending.borrow().len(), bench.counter("reads_paused")), (3, 1));
    bench.call(1, 0, 64);
    bench.turn();
    assert_eq!(bench.answers(1), [(0, Answer::Ok)], "the others are not touched");
    // One ends, one may begin, in the same turn.
    bench.finish_one();
    bench.turn();
    assert_eq!((bench.answers(0), bench.pending.borrow().len()), (vec![(0, Answer::Ok)], 3));
    // Patience ends; what had to wait is refused, and nothing waits any more.
    let by = bench.driver.next_timer().unwrap();
    assert!(by <= bench.driver.now() + budgets.refuse_after, "it comes back for it by itself");
    bench.pass(budgets.refuse_after);
    bench.turn();
    let refused = || Answer::Refused(StatusCode::ResourceExhausted, Some(50 * MS));
    let wanted: Vec<_> = (4..8).map(|call| (call, refused())).collect();
    assert_eq!(bench.answers(0), wanted);
    assert_eq!((bench.counter("calls_refused"), bench.counter("held_bytes")), (4, 3 * 2000));
    // A cancel is read, too, and makes room.
    bench.cancel(0, 1);
    bench.pend(0, 9, 0);
    bench.turn();
    assert_eq!(bench.answers(0), [(1, Answer::Failed(StatusCode::Cancelled))]);
    assert_eq!(
        bench.pending.borrow().len(),
        4,
        "three that live and the waker of the cancelled one"
    );
    bench.pass(Duration::from_secs(1));
    (0..4).for_each(|_| bench.finish_one());
    bench.turn();
    assert!(bench.answers(0).iter().all(|(_, answer)| *answer == Answer::Ok));
    assert!(bench.is_empty());
}

#[test]
fn a_full_shard_stops_all_its_connections_and_lets_them_go_on() {
    let mut bench = Bench::with(4, Budgets { shard_calls_max: 4, ..Budgets::default() });
    (0..4).for_each(|call| bench.pend(0, call, 64));
    bench.turn();
    assert_eq!(bench.pending.borrow().len(), 3, "one connection does not get all");
    bench.call(1, 6, 64);
    bench.turn();
    assert_eq!(bench.answers(1), [(6, Answer::Ok)], "there is room for the others");
    bench.pend(3, 0, 64);
    bench.turn();
    assert_eq!(bench.pending.borrow().len(), 4);
    bench.call(1, 7, 64);
    bench.call(2, 8, 64);
    bench.turn();
    assert_eq!((bench.answers(1), bench.answers(2)), (vec![], vec![]), "there is no room");
    bench.finish_one();
    bench.turn();
    bench.turn();
    assert_eq!(
        (bench.answers(1), bench.answers(2)),
        (vec![(7, Answer::Ok)], vec![(8, Answer::Ok)])
    );
    bench.pass(bench.driver.shared.config.budgets.refuse_after);
    (0..3).for_each(|_| bench.finish_one());
    bench.turns(3);
    assert_eq!(bench.driver.shared.memory.calls(), bench.pending.borrow().len());
}

/// What calls of other shards and tasks give back between two turns is seen before the shard sleeps, in whichever way it does.
#[test]
fn a_shard_does_not_sleep_on_room_that_was_made_between_its_turns() {
    for spins in [false, true] {
        let mut bench = Bench::with(1, Budgets { shard_calls_max: 2, ..Budgets::default() });
        let totals = bench.driver.shared.memory.totals().clone();
        (0..2).for_each(|_| totals.begin_call(64));
        bench.call(0, 7, 64);
        bench.turns(2);
        assert_eq!(bench.answers(0), [], "there is no room");
        assert!(!bench.driver.has_queue());
        bench.driver.turn(Duration::from_millis(1)).unwrap();
        assert!(bench.net.borrow().slept > Duration::ZERO, "there is nothing to do");
        (0..2).for_each(|_| totals.end_call(64));
        assert!(bench.driver.has_queue());
        if spins {
            assert_eq!(bench.driver.try_hot(), None, "it is time for a whole turn");
        }
        bench.driver.turn(Duration::from_millis(1)).unwrap();
        assert_eq!(bench.net.borrow().slept, Duration::ZERO);
        bench.turn();
        assert_eq!(bench.answers(0), [(7, Answer::Ok)]);
    }
}

#[test]
fn what_a_connection_held_is_given_back_when_it_goes() {
    let mut bench = Bench::new(2);
    (0..8).for_each(|call| bench.pend(0, call, 1 << 20));
    bench.turns(40);
    assert_eq!(bench.pending.borrow().len(), 8);
    // Unlike a fault, the drain's end sends nothing: everything is dropped at once.
    bench.driver.drain(bench.driver.now());
    bench.turn();
    assert!(bench.is_empty());
}

/// Two requests that are larger than half of what the shard may hold come one after the other, though
/// their bytes come mixed.
#[test]
fn large_requests_are_received_while_there_is_room_for_all_of_them() {
    const LARGE: usize = 10 << 20;
    let budgets = Budgets { shard_bytes_max: 17 << 20, ..Budgets::default() };
    let mut bench = Bench::with(3, budgets);
    bench.call(0, 0, LARGE);
    bench.call(1, 1, LARGE);
    let mut done = Vec::new();
    let mut small = 0;
    for turn in 0..400 {
        bench.call(2, turn, 64);
        bench.turn();
        small += bench.answers(2).len();
        for end in 0..2 {
            done.extend(
                bench.answers(end).into_iter().map(|(call, answer)| (call, answer == Answer::Ok)),
            );
        }
        let held = bench.driver.shared.memory.bytes();
        assert!(held < budgets.shard_bytes_max + LARGE, "{held} bytes are held");
    }
    done.sort_unstable();
    assert_eq!((done, small), (vec![(0, true), (1, true)], 400));
    bench.turn();
    assert!(bench.is_empty());
}

/// A client that takes its replies slowly is not read from; what it has sent meanwhile is not late.
#[test]
fn a_frame_is_not_timed_while_nobody_reads() {
    let timeouts = Timeouts::default();
    let mut bench = Bench::with(1, Budgets { unsent_bytes_max: 8, ..Budgets::default() });
    bench.pend(0, 0, 0);
    bench.call(0, 1, 64);
    let rest = {
        let end = &mut bench.net.borrow_mut().ends[0];
        end.takes = Some(0);
        end.input.split_off(end.input.len() - 40)
    };
    bench.turn();
    bench.finish_one();
    bench.turn();
    bench.net.borrow_mut().ends[0].input.extend_from_slice(&rest);
    let slowly = timeouts.write / 2;
    for _ in 0..8 {
        bench.pass(slowly);
        bench.take(0, Some(1));
        bench.turn();
    }
    assert!(slowly * 8 > timeouts.frame);
    bench.take(0, None);
    bench.turns(3);
    assert_eq!(bench.answers(0), [(0, Answer::Ok), (1, Answer::Ok)]);
}

/// A large request that comes right behind another has to find room like that one.
#[test]
fn a_large_request_behind_another_does_not_inherit_its_room() {
    const LARGE: usize = 10 << 20;
    let budgets = Budgets { shard_bytes_max: 17 << 20, ..Budgets::default() };
    let mut bench = Bench::with(2, budgets);
    for end in 0..2 {
        bench.call(end, 0, 140 << 10);
        bench.call(end, 1, LARGE);
    }
    let sent: usize = bench.net.borrow().ends.iter().map(|end| end.input.len()).sum();
    let (mut done, mut answered) = (Vec::new(), 0);
    for _ in 0..400 {
        bench.turn();
        let (mut left, mut written) = (0, 0);
        for end in &bench.net.borrow().ends {
            (left, written) = (left + end.input.len(), written + end.output.len());
        }
        answered += written;
        let held = (sent - left).saturating_sub(answered);
        assert!(held <= budgets.shard_bytes_max, "{held} bytes are held");
        for end in 0..2 {
            done.extend(bench.answers(end).into_iter().filter(|(call, _)| *call == 1));
        }
    }
    assert_eq!(done, [(1, Answer::Ok), (1, Answer::Ok)]);
    bench.turn();
    assert!(bench.is_empty());
}

/// One millisecond of work for each call, and for some time two calls come in each millisecond.
#[test]
fn twice_as_much_as_can_be_done_is_cut_down_to_what_can_be() {
    const CONNS: usize = 16;
    let budgets = Budgets { queue_delay: Some(QueueDelay::default()), ..Budgets::default() };
    let mut bench = Bench::with(CONNS, budgets);
    let start = bench.net.borrow().now;
    let mut sent = Vec::new();
    let (mut done, mut shed) = (Vec::new(), Vec::new());
    let mut next = 0;
    while next < 4000 {
        let passed = bench.net.borrow().now - start;
        // Whatever fell due meanwhile has come, one in eight of it with the highest priority.
        while start + next * MS / 2 <= start + passed && next < 4000 {
            let priority = if next % 8 == 0 { 7 } else { 3 };
            let head = RequestHead {
                priority,
                timeout_us: Some(1_000_000),
                ..RequestHead::new(next, BURN)
            };
            bench.request(next as usize % CONNS, &head, 16);
            sent.push((start + next * MS / 2, priority));
            next += 1;
        }
        bench.pass(MS / 10);
        bench.turn();
        let now = bench.net.borrow().now;
        for end in 0..CONNS {
            for (call, answer) in bench.answers(end) {
                let (due, priority) = sent[call as usize];
                match answer {
                    Answer::Ok => done.push((priority, now - due)),
                    Answer::Refused(StatusCode::ResourceExhausted, Some(_)) => shed.push(priority),
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    let passed = (bench.net.borrow().now - start).as_millis();
    let goodput = done.len() as u128 * 1000 / passed;
    assert!(goodput >= 850, "{goodput} of 1000 a second were done");
    assert!(shed.iter().all(|&priority| priority == 3), "none of the highest is turned away");
    // The first interval is served late, as a burst would be.
    let late = done.iter().skip(done.len() / 4).map(|(_, late)| *late).max().unwrap();
    assert!(late <= 40 * MS, "those that were done waited for up to {late:?}");
    assert_eq!(bench.counter("calls_shed"), shed.len() as u64);
}

#[test]
fn a_call_whose_time_passes_while_it_waits_is_not_run() {
    let mut bench = Bench::new(1);
    for call in 0..100 {
        let head = RequestHead { timeout_us: Some(50_000), ..RequestHead::new(call, BURN) };
        bench.request(0, &head, 16);
    }
    bench.turn();
    let answers = bench.answers(0);
    let ran = answers.iter().filter(|(_, answer)| *answer == Answer::Ok).count();
    let late = answers
        .iter()
        .filter(|(_, answer)| *answer == Answer::Refused(StatusCode::DeadlineExceeded, None))
        .count();
    // The clock is read every sixteen frames.
    assert!((50..=64).contains(&ran), "{ran} ran within 50 ms");
    assert_eq!((ran + late, bench.counter("calls_expired")), (100, late as u64));
}

/// Its bytes are dropped as they come, and what follows them on the connection is served.
#[test]
fn a_large_request_that_finds_no_room_is_refused_before_it_is_received() {
    let budgets = Budgets { shard_bytes_max: 17 << 20, ..Budgets::default() };
    let mut bench = Bench::with(2, budgets);
    bench.pend(0, 0, 9 << 20);
    bench.turns(20);
    assert_eq!(bench.pending.borrow().len(), 1);
    bench.call(1, 1, 10 << 20);
    bench.call(1, 2, 64);
    bench.turns(20);
    assert_eq!(bench.answers(1), [], "patience lasts");
    bench.pass(budgets.refuse_after);
    let mut answers = Vec::new();
    for _ in 0..30 {
        bench.turn();
        answers.extend(bench.answers(1));
        assert!(bench.driver.shared.memory.bytes() < 10 << 20, "its bytes are not held");
    }
    let refused = Answer::Refused(StatusCode::ResourceExhausted, Some(50 * MS));
    assert_eq!(answers, [(1, refused), (2, Answer::Ok)]);
    bench.finish_one();
    bench.turn();
    assert!(bench.is_empty());
    bench.call(1, 3, 10 << 20);
    bench.turns(40);
    assert_eq!(bench.answers(1), [(3, Answer::Ok)], "there is room again");
}

/// So are those of calls that stream. A one-way call is dropped and counted: nobody waits for its reply.
#[test]
fn large_requests_of_all_kinds_wait_no_longer_than_patience() {
    for (flags, answers) in [(request_flags::STREAM_OUT, 2), (request_flags::ONE_WAY, 1)] {
        let budgets = Budgets { shard_bytes_max: 17 << 20, ..Budgets::default() };
        let mut bench = Bench::with(2, budgets);
        bench.pend(0, 0, 9 << 20);
        bench.turns(20);
        let head = RequestHead { flags, ..RequestHead::new(0, ECHO) };
        bench.request(1, &head, 10 << 20);
        bench.call(1, 2, 64);
        bench.turns(20);
        assert_eq!(bench.answers(1), [], "patience lasts");
        bench.pass(budgets.refuse_after);
        bench.turns(30);
        let heard = bench.answers(1);
        assert_eq!((heard.len(), heard.last()), (answers, Some(&(2, Answer::Ok))));
        let counters = &bench.driver.shared.counters;
        let (refused, dropped) = (counters.calls_refused.value(), counters.one_way_dropped.value());
        assert_eq!((refused, dropped), ((answers - 1) as u64, (2 - answers) as u64));
    }
}

/// A large request waits in the socket, and what is behind it waits, too: its client is neither idle nor silent.
#[test]
fn who_waits_for_room_is_not_blamed_for_what_is_not_read() {
    let patience = Duration::from_secs(60);
    let budgets =
        Budgets { shard_bytes_max: 17 << 20, refuse_after: patience, ..Budgets::default() };
    let timeouts = Timeouts { idle: Some(1000 * MS), ..Timeouts::default() };
    let mut bench = Bench::timed(2, budgets, timeouts);
    bench.pend(0, 0, 9 << 20);
    bench.turns(20);
    let head = RequestHead { flags: request_flags::ONE_WAY, ..RequestHead::new(0, ECHO) };
    bench.request(1, &head, 10 << 20);
    bench.call(1, 2, 64);
    for _ in 0..100 {
        bench.pass(100 * MS);
        bench.turn();
        assert_eq!(bench.answers(1), [], "it is not read, and not closed");
    }
    bench.finish_one();
    bench.turns(40);
    assert_eq!(bench.answers(1), [(2, Answer::Ok)]);
}

/// The bytes of a request that was refused already are a sign of life.
#[test]
fn who_sends_the_rest_of_a_refused_request_is_not_silent() {
    let budgets = Budgets { shard_bytes_max: 17 << 20, ..Budgets::default() };
    let timeouts = Timeouts { ping_after: 1000 * MS, ping: 1000 * MS, ..Timeouts::default() };
    let mut bench = Bench::timed(2, budgets, timeouts);
    bench.pend(0, 0, 9 << 20);
    bench.turns(20);
    bench.call(1, 1, 10 << 20);
    let mut rest = bench.net.borrow_mut().ends[1].input.split_off(1 << 20);
    bench.turns(20);
    bench.pass(budgets.refuse_after);
    bench.turns(20);
    let refused = Answer::Refused(StatusCode::ResourceExhausted, Some(50 * MS));
    assert_eq!(bench.answers(1), [(1, refused)]);
    for _ in 0..20 {
        bench.pass(500 * MS);
        let part = rest.split_to(1 << 16);
        {
            let end = &mut bench.net.borrow_mut().ends[1];
            end.input.extend_from_slice(&part);
            end.news = true;
        }
        bench.turns(20);
        bench.take_output(1);
        while let Some(frame) = bench.replies[1].next_frame(u32::MAX).unwrap() {
            let is_ping = matches!(frame.head, Head::Ping(_));
            assert!(is_ping, "a pong cannot come before the rest: {:?}", frame.head);
        }
    }
}
