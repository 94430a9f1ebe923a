//! The clients' part: calls as tasks, and the judgement of how each ended.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use corewire_codec::{FrameWriter, MethodId, RequestHead, Rule, StatusCode, reply_flags};
use corewire_engine::{CallFailure, CloseReason, NotSent, Reply};

use crate::core::{Core, Event};
use crate::host::{Host, Kind};
use crate::ledger::{Call, End, Ledger, State};
use crate::message::{Ask, BEHAVIOURS, Behaviour, CallKind, is_answer};
use crate::plan::{MS, SECOND};
use crate::service::explains;
use crate::trace::{Note, Violated};

/// What is drawn for one call.
#[derive(Clone, Copy, Debug)]
struct Wish {
    ask: Ask,
    /// Bytes of the request behind its fixed part.
    more: usize,
    timeout: Option<Duration>,
    /// When the caller's task is dropped, in ns.
    give_up: Option<u64>,
    /// When the task itself lets go of the call.
    patience: Option<Duration>,
    unsendable: Option<Unsendable>,
}

/// Why a request cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unsendable {
    Fails,
    Panics,
    TooLarge,
}

fn behaviour(core: &Core) -> Behaviour {
    let habits = &core.plan.habits;
    if core.dice.chance(habits.troubled) {
        return BEHAVIOURS[5 + core.dice.below(7)];
    }
    if core.dice.chance(habits.pending) {
        return BEHAVIOURS[1 + core.dice.below(4)];
    }
    Behaviour::Echo
}

fn wish(core: &Core, id: u64, mutating: bool) -> Wish {
    let (dice, habits) = (&core.dice, &core.plan.habits);
    let behaviour = behaviour(core);
    let large = dice.chance(habits.large);
    let bytes = |most| if large { dice.spread(1, most) } else { dice.between(0, 64) };
    let reply_bytes = match behaviour {
        Behaviour::TooMuch => 70_000,
        _ => bytes(60_000),
    };
    let unsendable = dice
        .chance(habits.unsendable)
        .then(|| [Unsendable::Fails, Unsendable::Panics, Unsendable::TooLarge][dice.below(3)]);
    let endless = matches!(behaviour, Behaviour::Never | Behaviour::PanicOnDrop);
    let timeout = dice
        .chance(habits.deadline)
        .then(|| Duration::from_micros(dice.spread(1, 5_000_000) - dice.between(0, 1)));
    // A changed byte can make a request one that nobody answers.
    let needed = (endless || mutating) && timeout.is_none();
    let give_up = (dice.chance(habits.give_up) || needed).then(|| dice.spread(1_000, 2 * SECOND));
    let own = dice.chance(500_000);
    Wish {
        ask: Ask {
            id,
            behaviour,
            delay_us: u32::try_from(dice.spread(1, 200_000)).unwrap_or(1),
            reply_bytes: u32::try_from(reply_bytes).unwrap_or(0),
        },
        more: if unsendable == Some(Unsendable::TooLarge) {
            70_000
        } else {
            usize::try_from(bytes(60_000)).unwrap_or(0)
        },
        timeout,
        patience: own.then_some(give_up).flatten().map(Duration::from_nanos),
        give_up: if own { None } else { give_up },
        unsendable,
    }
}

/// Begins a call of a client host.
pub(crate) fn begin(
    host: &mut Host,
    core: &Rc<Core>,
    ledger: &Rc<Ledger>,
    id: u64,
    probe: Option<usize>,
) {
    let tainted = host.kind == Kind::Client { mutating: true };
    let mut wish = wish(core, id, tainted);
    if probe.is_some() {
        let ask = Ask { id, behaviour: Behaviour::Echo, delay_us: 1, reply_bytes: 8 };
        wish =
            Wish { ask, more: 0, timeout: None, give_up: None, patience: None, unsendable: None };
    }
    let drawn = core.dice.below(host.channels.len());
    let Some(channel) = host.channels.get(probe.unwrap_or(drawn)).cloned() else { return };
    let call = Call {
        kind: CallKind::Unary,
        host: host.number,
        behaviour: wish.ask.behaviour,
        state: State::Open,
        deadline: None,
        encoded: false,
        begun: false,
        answered: false,
        tainted,
    };
    ledger.calls.borrow_mut().insert(id, call);
    if let Some(after) = wish.give_up {
        core.after(after, Event::GiveUp { call: id });
    }
    let (core, ledger) = (Rc::clone(core), Rc::clone(ledger));
    let number = host.number;
    let task = corewire_engine::spawn(async move {
        // The first poll: from here the caller's time runs.
        core.note(Note::Began { call: id, host: number });
        if let (Some(timeout), Some(call)) = (wish.timeout, ledger.calls.borrow_mut().get_mut(&id))
        {
            let timeout = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
            call.deadline = Some(core.now().saturating_add(timeout));
        }
        let head = RequestHead::new(0, MethodId(1));
        let encode = |body: &mut FrameWriter<'_>| encode(&core, &ledger, &wish, body);
        let mut call = channel.call(head, wish.timeout, encode);
        let mut patience = wish.patience.map(corewire_engine::sleep);
        let mut polls = 0u32;
        let outcome = poll_fn(|context| {
            ledger.wakers.borrow_mut().insert(id, context.waker().clone());
            polls += 1;
            // The worst moment to give up is between the wake and the poll.
            let woken = polls > 1 && !core.calm.get();
            let tired = woken && core.dice.chance(core.plan.habits.give_up_woken);
            let mut late =
                || patience.as_mut().is_some_and(|sleep| Pin::new(sleep).poll(context).is_ready());
            if tired || late() {
                return Poll::Ready(None);
            }
            Pin::new(&mut call).poll(context).map(Some)
        })
        .await;
        // Nobody waits any more before the call is dropped, as when its task is.
        match outcome {
            Some(outcome) => ended(&core, &ledger, id, Some(outcome)),
            None => given_up(&core, &ledger, id),
        }
    });
    host.tasks.insert(id, task);
}

fn encode(
    core: &Core,
    ledger: &Ledger,
    wish: &Wish,
    body: &mut FrameWriter<'_>,
) -> Result<(), &'static str> {
    body.put_bytes(wish.ask.body(wish.more).into());
    match wish.unsendable {
        Some(Unsendable::Fails) => return Err("as planned"),
        Some(Unsendable::Panics) => std::panic::resume_unwind(Box::new("planned")),
        // The channel takes it out again.
        Some(Unsendable::TooLarge) => return Ok(()),
        None => {}
    }
    core.note(Note::Encoded { call: wish.ask.id });
    if let Some(call) = ledger.calls.borrow_mut().get_mut(&wish.ask.id) {
        call.encoded = true;
    }
    Ok(())
}

/// Looks which tasks are over. One that is over without an outcome has panicked, which is judged to be
/// the call's.
pub(crate) fn reap(host: &mut Host, core: &Core, ledger: &Ledger) {
    let over: Vec<u64> =
        host.tasks.iter().filter(|(_, task)| task.is_finished()).map(|(id, _)| *id).collect();
    for id in over {
        host.tasks.remove(&id);
        ledger.wakers.borrow_mut().remove(&id);
        let open = ledger.calls.borrow().get(&id).is_some_and(|call| call.state == State::Open);
        if open {
            ended(core, ledger, id, None);
        }
    }
}

/// Drops a call's task; to be called as code of the host's shard.
pub(crate) fn give_up(host: &mut Host, core: &Core, ledger: &Ledger, id: u64) {
    let Some(task) = host.tasks.remove(&id) else { return };
    ledger.wakers.borrow_mut().remove(&id);
    if !task.is_finished() {
        given_up(core, ledger, id);
    }
    drop(task);
}

fn given_up(core: &Core, ledger: &Ledger, id: u64) {
    if let Some(call) = ledger.calls.borrow_mut().get_mut(&id) {
        core.note(Note::GivenUp { call: id, sent: call.encoded });
        call.state = State::GivenUp;
    }
    ledger.step();
}

/// Judges how a call ended; no outcome is a panic of the caller's own code.
fn ended(core: &Core, ledger: &Ledger, id: u64, outcome: Option<Result<Reply, CallFailure>>) {
    ledger.step();
    let mut calls = ledger.calls.borrow_mut();
    let Some(call) = calls.get_mut(&id) else { return };
    let end = match &outcome {
        None => End::Panicked,
        Some(Ok(reply)) => {
            let refused = reply.head.flags & reply_flags::REFUSED != 0;
            End::Reply {
                code: reply.head.code,
                refused: refused && reply.head.code != StatusCode::Ok,
            }
        }
        Some(Err(CallFailure::NotSent(_))) => End::NotSent,
        Some(Err(CallFailure::Refused)) => End::Refused,
        Some(Err(CallFailure::Unknown(_))) => End::Unknown,
        Some(Err(CallFailure::DeadlineExceeded { sent })) => End::Expired { sent: *sent },
    };
    core.note(Note::Ended { call: id, end });
    if call.state != State::Open {
        core.violated(Violated::Once, || format!("call {id} ended again: {end:?}"));
    }
    call.state = State::Ended(end);
    if end == End::NotSent && call.encoded && !call.tainted {
        core.violated(Violated::Truth, || format!("call {id} was sent and is called not sent"));
    }
    if call.tainted {
        return;
    }
    if end.promises_not_run() && call.begun {
        core.violated(Violated::Truth, || {
            format!("call {id} ran, and its caller was told {end:?}")
        });
    }
    match &outcome {
        Some(Ok(reply)) => judge_reply(core, call, id, reply),
        Some(Err(failure)) => judge_failure(core, call, id, failure),
        None => {}
    }
}

/// Whether the call's time is over, to the resolution of the wire.
fn is_over(core: &Core, call: &Call) -> bool {
    call.deadline.is_some_and(|deadline| deadline <= core.now() + 1_000)
}

fn judge_reply(core: &Core, call: &Call, id: u64, reply: &Reply) {
    let (code, refused) = (reply.head.code, reply.head.flags & reply_flags::REFUSED != 0);
    if code == StatusCode::Ok {
        let own = Ask::read_answer_bytes(&reply.body)
            .is_some_and(|bytes| is_answer(&reply.body, id, bytes));
        if !own || !call.answered {
            core.violated(Violated::Echo, || format!("call {id} got another one's answer"));
        }
    }
    let explained = match code {
        StatusCode::DeadlineExceeded => is_over(core, call),
        StatusCode::Unavailable => refused || call.begun && core.may_stop_handlers(),
        // For want of room, or because it waited for too long.
        StatusCode::ResourceExhausted if refused => !call.begun,
        code => explains(call.behaviour, code) && call.begun && !refused,
    };
    if !explained {
        core.violated(Violated::Status, || {
            format!("call {id} to {:?} got {code:?}", call.behaviour)
        });
    }
}

fn judge_failure(core: &Core, call: &Call, id: u64, failure: &CallFailure) {
    match failure {
        CallFailure::DeadlineExceeded { sent } => {
            if !is_over(core, call) {
                core.violated(Violated::Deadline, || format!("call {id} expired before its time"));
            }
            if *sent != call.encoded {
                core.violated(Violated::Truth, || {
                    format!("call {id}: sent is {sent}, which is not so")
                });
            }
        }
        CallFailure::Unknown(reason) => judge_reason(core, id, *reason),
        CallFailure::NotSent(NotSent::NoConnection(why)) => {
            // The reason of the last connection's end is in the text.
            let broken = why.split("rule ").nth(1).and_then(|rest| rest.split(':').next());
            let rule = broken.and_then(|number| number.parse().ok()).and_then(Rule::from_number);
            judge_rule(core, id, rule);
        }
        CallFailure::NotSent(_) | CallFailure::Refused => {}
    }
}

fn judge_reason(core: &Core, id: u64, reason: CloseReason) {
    match reason {
        CloseReason::PeerMisbehaved(rule) => judge_rule(core, id, Some(rule)),
        CloseReason::BlamedByPeer(rule) => judge_rule(core, id, rule),
        _ => {}
    }
}

/// Both sides are well behaved; only the time may be held against them.
fn judge_rule(core: &Core, id: u64, rule: Option<Rule>) {
    let slow = [Rule::HelloTimeout, Rule::FrameTimeout, Rule::IdleTimeout, Rule::WriteTimeout];
    if let Some(rule) = rule.filter(|rule| !slow.contains(rule)) {
        core.violated(Violated::Blame, || format!("the connection of call {id} broke {rule}"));
    }
}

/// Plans the calls of a run: spread evenly, or in bursts.
pub(crate) fn plan_calls(core: &Core) {
    let bursts = core.dice.chance(500_000).then(|| core.dice.between(1, 6));
    let centres: Vec<u64> =
        (0..bursts.unwrap_or(0)).map(|_| core.dice.between(0, core.plan.span)).collect();
    for call in 0..core.plan.calls {
        let at = match centres.get(core.dice.below(centres.len())) {
            Some(centre) => centre + core.dice.between(0, MS),
            None => core.dice.between(0, core.plan.span),
        };
        core.agenda.plan(at, Event::Call { call });
    }
}
