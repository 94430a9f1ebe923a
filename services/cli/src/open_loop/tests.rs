//! Open loops in virtual time, against servers that are only one function: when they answer.

use super::*;

const MS: u64 = 1_000_000;

fn plan(rate: f64, conns: usize, inflight: u32) -> Plan {
    Plan {
        rate,
        arrivals: Arrivals::Constant,
        seed: 1,
        conns,
        inflight,
        begin_ns: 100 * MS,
        end_ns: 1100 * MS,
    }
}

/// Runs the loop against a server that answers a call sent at some time at `answer(that time)`. The client looks
/// around whenever something is due.
fn run(plan: Plan, answer: impl Fn(u64) -> u64) -> OpenLoop {
    let mut open = OpenLoop::new(plan).expect("the bounds are right");
    let mut flying: Vec<(u64, Start)> = Vec::new();
    let mut now = 0;
    loop {
        flying.sort_by_key(|(at, _)| *at);
        while flying.first().is_some_and(|(at, _)| *at <= now) {
            let (at, call) = flying.remove(0);
            open.done(call, at, Outcome::Answered);
        }
        while let Some(call) = open.start(now) {
            flying.push((answer(now).max(now + 1), call));
        }
        let reply = flying.iter().map(|(at, _)| *at).min();
        now = match (open.wait(now), reply) {
            (Wait::Until(at) | Wait::Room(at), Some(reply)) => at.min(reply),
            (Wait::Until(at) | Wait::Room(at), None) => at,
            (Wait::Over, Some(reply)) => reply,
            (Wait::Over, None) => break,
        };
    }
    open.close();
    open
}

fn quantile_ms(open: &OpenLoop, quantile: f64) -> u64 {
    open.latency_ns().value_at_quantile(quantile) / MS
}

/// Answers after 1 ms, but nothing between 500 and 600 ms.
fn stalls(sent: u64) -> u64 {
    if (500 * MS..600 * MS).contains(&sent) { 600 * MS + MS } else { sent + MS }
}

#[test]
fn a_quiet_server_is_seen_as_it_is() {
    let open = run(plan(1000.0, 4, 8), |sent| sent + MS);
    let figures = open.figures();
    assert_eq!(
        (figures.offered, figures.missed, open.answered(), open.errors()),
        (1000, 0, 1000, 0)
    );
    assert_eq!((quantile_ms(&open, 0.5), quantile_ms(&open, 1.0)), (1, 1));
    assert!(figures.late_max_us < 1.0, "{figures:?}");
}

#[test]
fn a_stall_is_in_the_percentiles_also_when_nothing_could_be_sent_meanwhile() {
    // With room for all, and with room for a few: the calls that fell due in the stall have waited either way.
    for inflight in [1000, 20] {
        let open = run(plan(1000.0, 1, inflight), stalls);
        // A tenth of all calls waited for up to 100 ms: 95 % are below half of the stall.
        assert_eq!(quantile_ms(&open, 0.5), 1, "room for {inflight}");
        assert!((45..=56).contains(&quantile_ms(&open, 0.95)), "{}", quantile_ms(&open, 0.95));
        assert!((88..=101).contains(&quantile_ms(&open, 0.99)), "{}", quantile_ms(&open, 0.99));
        assert!((99..=101).contains(&quantile_ms(&open, 1.0)), "{}", quantile_ms(&open, 1.0));
        assert_eq!(open.figures().missed, 0);
    }
    // What was late is told apart: the sender was, where it had no room.
    let late = |inflight| run(plan(1000.0, 1, inflight), stalls).figures().late_p99_us;
    assert!(late(1000) < 1.0);
    assert!(late(20) > 60_000.0);
}

#[test]
fn what_could_not_be_sent_is_missed_and_the_achieved_rate_is_the_servers() {
    // One call at a time, 2 ms each: 500 of 1000 calls per second.
    let open = run(plan(1000.0, 1, 1), |sent| sent + 2 * MS);
    let figures = open.figures();
    assert_eq!(figures.offered, 1000);
    assert!((495..=505).contains(&open.answered()), "{}", open.answered());
    assert!((540..=560).contains(&figures.missed), "{figures:?}");
    assert!(quantile_ms(&open, 1.0) > 500, "the queue's wait counts");
}

#[test]
fn connections_take_turns_and_full_ones_are_passed_over() {
    let mut open = OpenLoop::new(plan(1000.0, 3, 1)).expect("the bounds are right");
    let conn = |open: &mut OpenLoop, now| open.start(now).map(|call| call.conn);
    assert_eq!(conn(&mut open, 0), Some(0));
    assert_eq!(open.wait(0), Wait::Until(MS));
    let second = open.start(MS).expect("it is due");
    assert_eq!((second.conn, second.due_ns, second.number), (1, MS, 1));
    open.done(second, MS, Outcome::Answered);
    assert_eq!(conn(&mut open, 3 * MS), Some(2));
    assert_eq!(conn(&mut open, 3 * MS), Some(1), "connection 0 is full");
    assert_eq!(conn(&mut open, 4 * MS), None);
    assert_eq!(open.wait(4 * MS), Wait::Room(1100 * MS));
    assert_eq!(open.in_flight(), 3);
}

#[test]
fn failures_are_counted_by_status_and_silence_is_one() {
    let mut open = OpenLoop::new(plan(1000.0, 1, 9)).expect("the bounds are right");
    let calls: Vec<Start> = (0..4).filter_map(|ms| open.start(ms * MS)).collect();
    for (call, status) in calls.iter().zip(["Internal", "Unavailable", "Internal"]) {
        let outcome = Outcome::Failed(status.to_owned(), format!("it is {status}"));
        open.done(*call, 5 * MS, outcome);
    }
    open.close();
    let by_status = open.figures().errors_by_status;
    let counted: Vec<(&str, u64)> =
        by_status.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    assert_eq!(counted, [("Internal", 2), ("Unanswered", 1), ("Unavailable", 1)]);
    assert_eq!((open.errors(), open.first_error()), (4, Some("it is Internal")));
}

#[test]
fn calls_of_another_kind_count_for_the_rate_alone() {
    let mut open = OpenLoop::new(plan(1000.0, 1, 200)).expect("the bounds are right");
    while let Some(call) = open.start(150 * MS) {
        open.done(call, 150 * MS, Outcome::AnsweredAside);
    }
    assert_eq!(open.latency_ns().len(), 0);
    assert!(open.answered() > 100);
}
