//! Checks how calls ended.

pub(crate) mod ledger;
pub(crate) mod patience;

use corewire_client::{CallFailure, NotSent, Outcome, Reply};
use corewire_codec::{Rule, StatusCode, reply_flags};
use corewire_proto::{CloseReason, owner_of};

use crate::core::Core;
use crate::core::trace::{Note, Violated};
use crate::hosts::serve;
use crate::hosts::service::explains;
use crate::judge::ledger::{Call, End, Ledger, State};
use crate::plan::message::{Ask, Behaviour, CallKind, is_answer};

/// The caller gave up.
pub(crate) fn given_up(core: &Core, ledger: &Ledger, id: u64) {
    if let Some(call) = ledger.calls.borrow_mut().get_mut(&id) {
        core.note(Note::GivenUp { call: id, sent: call.encoded });
        call.end(core, State::GivenUp);
        ledger.open.borrow_mut().remove(&id);
    }
    ledger.step();
}

/// Checks how a call ended; no outcome means that the caller's own code panicked.
pub(crate) fn ended(core: &Core, ledger: &Ledger, id: u64, outcome: Option<Outcome>) {
    ledger.step();
    let mut calls = ledger.calls.borrow_mut();
    let Some(call) = calls.get_mut(&id) else { return };
    let end = match &outcome {
        None => End::Panicked,
        Some(Ok(_)) if call.kind == CallKind::OneWay => End::Written,
        Some(Ok(reply)) => {
            let refused = reply.head.flags & reply_flags::REFUSED != 0;
            End::Reply {
                code: reply.head.code,
                refused: refused && reply.head.code != StatusCode::Ok,
            }
        }
        Some(Err(CallFailure::NotSent(_))) => End::NotSent,
        Some(Err(CallFailure::Refused)) => End::Refused,
        Some(Err(CallFailure::DeadlineExceeded { sent })) => End::Expired { sent: *sent },
        Some(Err(_)) => End::Unknown,
    };
    core.note(Note::Ended { call: id, end });
    if call.state != State::Open {
        core.violated(Violated::Once, || format!("call {id} ended again: {end:?}"));
    }
    call.end(core, State::Ended(end));
    ledger.open.borrow_mut().remove(&id);
    if end == End::NotSent && call.encoded && !call.early && !call.tainted {
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
        Some(Ok(_)) if call.kind == CallKind::OneWay => {}
        Some(Ok(reply)) => judge_reply(core, ledger, call, id, reply),
        Some(Err(failure)) => judge_failure(core, call, id, failure),
        None => {}
    }
}

/// Whether the call's time is over, to the protocol's resolution.
fn is_over(core: &Core, call: &Call) -> bool {
    call.deadline.is_some_and(|deadline| deadline <= core.now() + 1_000)
}

fn judge_reply(core: &Core, ledger: &Ledger, call: &Call, id: u64, reply: &Reply) {
    let (code, refused) = (reply.head.code, reply.head.flags & reply_flags::REFUSED != 0);
    if code == StatusCode::Ok {
        let own = Ask::read_answer_bytes(&reply.body)
            .is_some_and(|bytes| is_answer(&reply.body, id, bytes));
        if !own || !call.answered {
            core.violated(Violated::Echo, || format!("call {id} got another one's answer"));
        }
    }
    judge_forwarded(core, call, id, reply);
    let streams = matches!(call.kind, CallKind::Stream(_));
    let of_script = || {
        let asks = ledger.asks.borrow();
        asks.get(&id).is_some_and(|ask| serve::explains(ask, code))
    };
    // A status that a server passes on has its reason at another server.
    let passed_on = call.hops > 0
        && [StatusCode::Aborted, StatusCode::Unavailable, StatusCode::ResourceExhausted]
            .contains(&code);
    // What was on its way to a shard that has ended is lost, or refused if it was not sent.
    let lost_with_shard = (call.key.is_some() || call.has_errand) && core.has_lost_shard.get();
    // The shard of the connection does not know whether a call that was handed on has begun.
    let may_have_begun = call.begun || call.key.is_some();
    let explained = match code {
        StatusCode::DeadlineExceeded => is_over(core, call),
        StatusCode::Unavailable if refused || passed_on => true,
        StatusCode::Unavailable if may_have_begun && core.may_stop_handlers() => true,
        StatusCode::Unavailable if lost_with_shard => true,
        // For lack of room, or because it waited for too long.
        StatusCode::ResourceExhausted if refused => !call.begun,
        // A stream brought more than there was room for.
        StatusCode::ResourceExhausted if streams && may_have_begun => true,
        StatusCode::Unimplemented => refused && streams && !core.plan.streams,
        _ if !call.begun || refused => false,
        _ if streams && call.behaviour == Behaviour::Echo => of_script(),
        code => explains(call.behaviour, code) || passed_on,
    };
    if !explained {
        core.violated(Violated::Status, || {
            format!("call {id} to {:?} got {code:?}", call.behaviour)
        });
    }
}

/// Whether a reply says rightly which shard its call was handed to.
fn judge_forwarded(core: &Core, call: &Call, id: u64, reply: &Reply) {
    let Some(forwarded) = reply.head.forwarded else { return };
    let shards = u16::try_from(core.plan.shards).unwrap_or(1);
    let owner = call.key.map(|hash| owner_of(hash, shards).0);
    if owner != Some(forwarded.owner()) || forwarded.shards() != shards {
        core.violated(Violated::Owner, || {
            format!("the reply to call {id} of shard {owner:?} says {forwarded:?}")
        });
    }
}

fn judge_failure(core: &Core, call: &Call, id: u64, failure: &CallFailure) {
    match failure {
        CallFailure::DeadlineExceeded { sent } => {
            if !is_over(core, call) {
                core.violated(Violated::Deadline, || format!("call {id} expired before its time"));
            }
            // What was written into the channel may be taken back, as long as none of it has left.
            if *sent && (!call.encoded || call.kept) {
                core.violated(Violated::Truth, || {
                    format!("call {id}: sent is {sent}, which is not so")
                });
            }
        }
        CallFailure::Unknown(reason) => judge_reason(core, id, *reason),
        CallFailure::NotSent(NotSent::NoConnection(why)) => {
            // The text contains the reason why the last connection ended.
            let broken = why.split("rule ").nth(1).and_then(|rest| rest.split(':').next());
            let rule = broken.and_then(|number| number.parse().ok()).and_then(Rule::from_number);
            judge_rule(core, id, rule);
        }
        CallFailure::Reused => {
            core.violated(Violated::Once, || {
                format!("call {id} was polled once and called reused")
            });
        }
        CallFailure::NotSent(_) | CallFailure::Refused => {}
        other => core.violated(Violated::Truth, || format!("call {id}: nobody judges '{other}'")),
    }
}

fn judge_reason(core: &Core, id: u64, reason: CloseReason) {
    match reason {
        CloseReason::PeerMisbehaved(rule) => judge_rule(core, id, Some(rule)),
        CloseReason::BlamedByPeer(rule) => judge_rule(core, id, rule),
        _ => {}
    }
}

/// Both sides are well behaved; only a timeout may be held against them, and whether it was justified is
/// checked where that was done (`patience.rs`).
fn judge_rule(core: &Core, id: u64, rule: Option<Rule>) {
    let slow = [
        Rule::HelloTimeout,
        Rule::FrameTimeout,
        Rule::IdleTimeout,
        Rule::WriteTimeout,
        Rule::PingTimeout,
        Rule::MemoryShort,
    ];
    if let Some(rule) = rule.filter(|rule| !slow.contains(rule)) {
        core.violated(Violated::Blame, || format!("the connection of call {id} broke {rule}"));
    }
}
