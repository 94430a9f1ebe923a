//! Random commands on a pair, against a plain model: every call has exactly one outcome, the right
//! one, and nothing is left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::pair::{Outcome, Pair, secs};
use corewire_codec::{StatusCode, reply_flags};

#[derive(Clone, Debug)]
enum Command {
    /// The client calls, with a timeout in ms, if any.
    Call(Option<u16>),
    /// The server answers one of its parked calls.
    Answer(usize),
    /// The client gives up one of its calls.
    Abandon(usize),
    ToServer(usize),
    ToClient(usize),
    /// Time passes, in ms; timers fire.
    Wait(u16),
    Drain,
    /// The connection breaks.
    Break,
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        6 => prop_oneof![3 => Just(None), 2 => (0u16..400).prop_map(Some)].prop_map(Command::Call),
        4 => any::<usize>().prop_map(Command::Answer),
        2 => any::<usize>().prop_map(Command::Abandon),
        5 => (0usize..200).prop_map(Command::ToServer),
        5 => (0usize..200).prop_map(Command::ToClient),
        2 => (0u16..300).prop_map(Command::Wait),
    ]
}

/// Rarely a drain, and more rarely a break, somewhere among the commands.
fn commands() -> impl Strategy<Value = Vec<Command>> {
    let end = prop_oneof![
        3 => Just(None),
        2 => Just(Some(Command::Drain)),
        1 => Just(Some(Command::Break)),
    ];
    let many = || proptest::collection::vec(command(), 0..120);
    (many(), end, many()).prop_map(|(mut all, end, rest)| {
        all.extend(end);
        all.extend(rest);
        all
    })
}

#[derive(Default)]
struct Model {
    /// Calls that somebody waits for: number to id.
    waiting: BTreeMap<u32, u32>,
    /// Calls that the client gave up.
    abandoned: BTreeSet<u32>,
    made: u32,
    drained: bool,
    broken: bool,
}

fn apply(pair: &mut Pair, model: &mut Model, command: &Command) {
    match *command {
        Command::Call(timeout) => {
            if !pair.client.conn.has_slot() {
                return;
            }
            let timeout = timeout.map(|ms| Duration::from_millis(u64::from(ms)));
            let call = pair.call_within(model.made, timeout);
            assert!(model.waiting.values().all(|other| other & 0xffff != call & 0xffff));
            model.waiting.insert(model.made, call);
            model.made += 1;
        }
        Command::Answer(pick) => {
            let parked: Vec<u32> = parked(pair);
            if !parked.is_empty() && pair.server.conn.close_reason().is_none() {
                pair.answer(parked[pick % parked.len()]);
            }
        }
        Command::Abandon(pick) => {
            if model.waiting.is_empty() {
                return;
            }
            let (&number, &call) = model.waiting.iter().nth(pick % model.waiting.len()).unwrap();
            assert_eq!(pair.abandon(call), Some(number));
            model.abandoned.insert(number);
        }
        Command::ToServer(count) => drop(pair.up(count)),
        Command::ToClient(count) => drop(pair.down(count)),
        Command::Wait(ms) => pair.wait(Duration::from_millis(u64::from(ms))),
        Command::Drain => {
            model.drained = true;
            pair.server.conn.drain(&mut pair.server.out);
        }
        Command::Break => {
            model.broken = true;
            let kind = std::io::ErrorKind::ConnectionReset;
            pair.client.conn.handle_error(kind);
            pair.server.conn.handle_error(kind);
        }
    }
}

/// Calls that the handler has and has not answered.
fn parked(pair: &mut Pair) -> Vec<u32> {
    let mut ran = pair.server.ran.clone();
    ran.retain(|call| pair.server.conn.parked_mut(*call).is_some());
    ran.dedup();
    ran
}

fn check(pair: &Pair, model: &mut Model) {
    model.waiting.retain(|number, _| {
        !model.abandoned.contains(number) && !pair.client.outcomes.contains_key(number)
    });
    if pair.client.conn.close_reason().is_none() {
        assert_eq!(pair.client.conn.in_flight(), model.waiting.len());
    }
    for (number, outcome) in &pair.client.outcomes {
        assert!(!model.abandoned.contains(number), "call {number} was given up");
        match outcome {
            Outcome::Reply(head, body) => match head.code {
                StatusCode::Ok => assert_eq!(body[..], number.to_le_bytes()),
                StatusCode::DeadlineExceeded => {}
                StatusCode::Unavailable => {
                    assert!(model.drained && head.flags & reply_flags::REFUSED != 0);
                }
                other => panic!("call {number} ended with {other}"),
            },
            Outcome::StreamEnd(..) => panic!("call {number} was unary"),
            Outcome::Refused => assert!(model.drained),
            Outcome::Expired | Outcome::ExpiredUnsent => {}
            Outcome::Failed { .. } => assert!(model.broken || model.drained),
        }
    }
}

fn run(commands: &[Command]) {
    let mut pair = Pair::new();
    let mut model = Model::default();
    for command in commands {
        apply(&mut pair, &mut model, command);
        check(&pair, &mut model);
    }
    // Everything arrives, the server answers everything, the client reads it.
    loop {
        pair.settle();
        let parked = parked(&mut pair);
        if parked.is_empty() || pair.server.conn.close_reason().is_some() {
            break;
        }
        parked.into_iter().for_each(|call| pair.answer(call));
    }
    if pair.server.conn.close_reason().is_some() && pair.client.conn.close_reason().is_none() {
        pair.client.conn.handle_eof();
    }
    if pair.client.conn.close_reason().is_some() {
        assert!(model.broken || model.drained);
        pair.client.fail_all();
    } else {
        assert_eq!(pair.server.conn.in_flight(), 0);
        assert_eq!(pair.client.conn.is_drained(), model.drained);
    }
    check(&pair, &mut model);
    assert_eq!(pair.client.conn.in_flight(), 0);
    let ended = pair.client.outcomes.len() + model.abandoned.len();
    assert_eq!(ended, model.made as usize, "every call ends exactly once");
    // Handlers of calls that were refused, or told not to have run, never began.
    let accepted = pair.server.conn.accepted();
    let ran = u32::try_from(pair.server.ran.len()).unwrap();
    assert!(ran <= accepted);
    for (number, outcome) in &pair.client.outcomes {
        let not_run = matches!(
            outcome,
            Outcome::Refused | Outcome::ExpiredUnsent | Outcome::Failed { may_have_run: false }
        );
        assert!(!not_run || !pair.server.numbers.contains(number), "call {number} ran");
    }
    // A quiet connection stays up.
    if pair.client.conn.close_reason().is_none() {
        pair.drive(secs(500));
        assert_eq!(pair.client.conn.close_reason(), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: Some(Box::new(
            proptest::test_runner::FileFailurePersistence::Direct(concat!(
                env!("CARGO_MANIFEST_DIR"), "/src/tests/model.regressions"
            )),
        )),
        ..ProptestConfig::default()
    })]

    /// REQ-33, REQ-34, REQ-35, REQ-55, REQ-61.
    #[test]
    fn every_call_has_exactly_one_outcome(commands in commands()) {
        run(&commands);
    }
}
