//! Go-away, drain, and what the caller is told when a connection ends.

use std::io::ErrorKind;

use super::pair::{
    Outcome, Pair, Serve, blame, bytes, misbehaved, put_request, said, said_later, secs,
};
use crate::client::NoSlot;
use crate::close::CloseReason;
use corewire_codec::{
    GoAway, Head, MethodId, ReplyHead, RequestHead, Rule, Status, StatusCode, reply_flags,
};

/// REQ-60, REQ-61: what was accepted is finished, what comes later is refused and known not to
/// have run, and the client closes when all is answered.
#[test]
fn drain_finishes_what_was_accepted() {
    let mut pair = Pair::ready();
    let taken = pair.call(1);
    pair.call(2);
    pair.settle();
    // This one crosses the go-away.
    pair.call(3);
    pair.server.conn.drain(&mut pair.server.out);
    pair.server.conn.drain(&mut pair.server.out);
    assert!(pair.server.conn.is_draining());
    assert_eq!(said_later(&pair.server.out), [Head::GoAway(GoAway { accepted: 2, rule: 0 })]);
    pair.down(usize::MAX);
    assert_eq!(pair.outcome(3), Some(&Outcome::Refused));
    assert_eq!(pair.client.outcomes.len(), 1);
    assert!(pair.client.conn.is_draining());
    assert_eq!(pair.client.conn.begin_call(4, None), Err(NoSlot::Closed));
    assert!(!pair.client.conn.has_slot());
    pair.up(usize::MAX);
    assert_eq!(pair.server.ran.len(), 2);
    let Some(Head::Reply(refusal)) = said_later(&pair.server.out).pop() else { panic!() };
    assert_eq!(refusal.code, StatusCode::Unavailable);
    assert_ne!(refusal.flags & reply_flags::REFUSED, 0);
    pair.answer(taken);
    pair.settle();
    assert!(!pair.client.conn.is_drained());
    pair.answer(1);
    pair.settle();
    assert!(pair.echoed(1) && pair.echoed(2));
    assert!(pair.client.conn.is_drained());
    pair.client.conn.handle_eof();
    pair.server.conn.handle_eof(&mut pair.server.out, pair.now);
    assert_eq!(pair.client.conn.close_reason(), Some(CloseReason::Drained));
    assert_eq!(pair.server.conn.close_reason(), Some(CloseReason::Drained));
    assert!(!CloseReason::Drained.is_fault());
}

/// REQ-61: the refusal of a call that the go-away had ruled out already is not a second outcome.
#[test]
fn a_refusal_behind_a_go_away_is_no_second_outcome() {
    let mut pair = Pair::ready();
    pair.server.conn.drain(&mut pair.server.out);
    for number in 0..500 {
        pair.call(number);
    }
    pair.settle();
    assert_eq!(pair.client.outcomes.len(), 500);
    assert!(pair.client.outcomes.values().all(|outcome| *outcome == Outcome::Refused));
    assert!(pair.client.conn.is_drained());
    assert!(pair.server.ran.is_empty());
    assert_eq!(pair.server.conn.accepted(), 0);
}

/// REQ-8, REQ-61: a server that goes before the hello came says so; early calls did not run.
#[test]
fn drain_before_the_hello() {
    let mut pair = Pair::new();
    pair.call(1);
    pair.server.conn.drain(&mut pair.server.out);
    assert_eq!(pair.server.conn.close_reason(), Some(CloseReason::Drained));
    let go_away = Head::GoAway(GoAway { accepted: 0, rule: 0 });
    assert_eq!(said(&pair.server.out).1, [go_away]);
    pair.down(usize::MAX);
    assert_eq!(pair.outcome(1), Some(&Outcome::Refused));
}

/// REQ-61: when the connection ends without warning, whatever was sent may have run.
#[test]
fn without_warning_everything_may_have_run() {
    let mut pair = Pair::ready();
    pair.call(1);
    let abandoned = pair.call(2);
    pair.abandon(abandoned);
    pair.client.conn.handle_error(ErrorKind::ConnectionReset);
    pair.client.conn.handle_eof();
    let reason = CloseReason::Transport(ErrorKind::ConnectionReset.into());
    assert_eq!(pair.client.conn.close_reason(), Some(reason), "the first reason stays");
    pair.client.fail_all();
    assert_eq!(pair.outcome(1), Some(&Outcome::Failed { may_have_run: true }));
    assert_eq!(pair.outcome(2), None);
    assert_eq!(pair.client.conn.in_flight(), 0);
    assert_eq!(pair.client.conn.poll_timeout(), None);
}

/// REQ-60, REQ-61: the count in a go-away that blames tells which calls may have run.
#[test]
fn the_count_of_a_blaming_go_away() {
    let mut pair = Pair::ready();
    pair.server.serve = Serve::Echo;
    pair.call(1);
    pair.settle();
    pair.server.serve = Serve::Park;
    pair.call(2);
    pair.settle();
    pair.call(3);
    pair.call(4);
    pair.server.feed(&[0; 16], pair.now);
    assert_eq!(said_later(&pair.server.out), [blame(2, Rule::UnknownFrameKind)]);
    pair.down(usize::MAX);
    let blamed = CloseReason::BlamedByPeer(Some(Rule::UnknownFrameKind));
    assert_eq!(pair.client.conn.close_reason(), Some(blamed));
    pair.client.fail_all();
    assert_eq!(pair.outcome(2), Some(&Outcome::Failed { may_have_run: true }));
    assert_eq!(pair.outcome(3), Some(&Outcome::Failed { may_have_run: false }));
    assert_eq!(pair.outcome(4), Some(&Outcome::Failed { may_have_run: false }));
    assert_eq!(pair.server.conn.unpark_all().count(), 1);
}

/// REQ-82: a second go-away is no breach. Its count holds for the calls that still wait; those that were ruled
/// out before stay so; and counts compare modulo 2³².
#[test]
fn a_second_go_away_has_the_last_word() {
    let go_away = |accepted| bytes(|out| out.go_away(&GoAway { accepted, rule: 0 }, "again"));
    let mut pair = Pair::ready();
    let calls: Vec<u32> = (1..=4).map(|number| pair.call(number)).collect();
    pair.client.feed(&go_away(3), pair.now);
    assert_eq!(pair.outcome(4), Some(&Outcome::Refused));
    assert_eq!(pair.outcome(3), None);
    pair.client.feed(&go_away(1), pair.now);
    assert_eq!(
        (pair.outcome(2), pair.outcome(3)),
        (Some(&Outcome::Refused), Some(&Outcome::Refused))
    );
    pair.client.feed(&go_away(4), pair.now);
    assert_eq!(pair.outcome(1), None, "it waits");
    // The refusals that follow are no second outcomes, and a rule may follow.
    let refusal = ReplyHead { flags: reply_flags::REFUSED, ..ReplyHead::ok(calls[3]) };
    let status = Status::unavailable("no");
    pair.client.feed(&bytes(|out| out.status(&refusal, &status, u32::MAX)), pair.now);
    let blame = bytes(|out| out.go_away(&GoAway { accepted: 0, rule: 12 }, "you did it"));
    pair.client.feed(&blame, pair.now);
    let blamed = CloseReason::BlamedByPeer(Some(Rule::FrameTooLarge));
    assert_eq!(pair.client.conn.close_reason(), Some(blamed));
    pair.client.fail_all();
    assert_eq!(pair.outcome(1), Some(&Outcome::Failed { may_have_run: false }));
    assert_eq!(pair.client.outcomes.len(), 4);
    // A client's count means nothing, however often it is said.
    let mut pair = Pair::ready();
    let call = pair.call(1);
    pair.settle();
    pair.server.feed(&[go_away(77), go_away(0)].concat(), pair.now);
    pair.answer(call);
    pair.settle();
    assert!(pair.echoed(1));
    // What is fewer than 2³¹ requests ahead of a count, modulo 2³², is behind it.
    let mut pair = Pair::ready();
    pair.call(1);
    pair.client.feed(&go_away(u32::MAX), pair.now);
    assert_eq!(pair.outcome(1), Some(&Outcome::Refused), "0 is one more than 2³² - 1");
    let mut pair = Pair::ready();
    pair.call(1);
    pair.client.feed(&go_away((1 << 31) + 1), pair.now);
    assert_eq!(pair.outcome(1), Some(&Outcome::Refused));
    let mut pair = Pair::ready();
    pair.call(1);
    pair.client.feed(&go_away(1 << 31), pair.now);
    assert_eq!(pair.outcome(1), None);
}

/// REQ-60: a go-away that names a rule is a side's last frame, whatever timers pass after it.
#[test]
fn nothing_follows_a_blaming_go_away() {
    let mut pair = Pair::ready();
    let call = pair.call_within(1, Some(secs(1)));
    pair.settle();
    pair.server.feed(&[0; 16], pair.now);
    pair.client.feed(&[0; 16], pair.now);
    let (server, client) = (pair.server.out.len(), pair.client.out.len());
    pair.now += secs(2);
    pair.fire();
    pair.abandon(call);
    assert_eq!((pair.server.out.len(), pair.client.out.len()), (server, client));
    // The call is not lost: it ends with the connection.
    pair.client.fail_all();
    assert_eq!(pair.server.conn.unpark_all().count(), 1);
}

/// REQ-75: a client that goes away says so once, begins nothing more, and has its calls finished; the
/// server takes its end for the orderly one that it is, also when the socket is reset.
#[test]
fn a_client_that_goes_away_gets_its_answers() {
    for reset in [false, true] {
        let mut pair = Pair::ready();
        let call = pair.call(1);
        pair.client.conn.leave(&mut pair.client.out);
        pair.client.conn.leave(&mut pair.client.out);
        let go_away = Head::GoAway(GoAway { accepted: 0, rule: 0 });
        assert_eq!(said_later(&pair.client.out)[1..], [go_away]);
        assert_eq!(pair.client.conn.begin_call(2, None), Err(NoSlot::Closed));
        assert!(!pair.client.conn.has_slot() && !pair.client.conn.is_drained());
        pair.settle();
        assert_eq!(pair.server.conn.close_reason(), None);
        pair.answer(call);
        pair.settle();
        assert!(pair.echoed(1) && pair.client.conn.is_drained());
        match reset {
            true => pair.server.conn.handle_error(ErrorKind::ConnectionReset),
            false => pair.server.conn.handle_eof(&mut pair.server.out, pair.now),
        }
        assert_eq!(pair.server.conn.close_reason(), Some(CloseReason::Drained));
    }
}

/// REQ-75: before the server's hello the same holds for the early calls.
#[test]
fn a_client_that_goes_away_before_the_hello() {
    let mut pair = Pair::new();
    pair.server.serve = Serve::Echo;
    pair.call(1);
    pair.client.conn.leave(&mut pair.client.out);
    assert_eq!(pair.client.conn.begin_call(2, None), Err(NoSlot::Closed));
    assert!(!pair.client.conn.has_slot() && !pair.client.conn.is_drained());
    pair.settle();
    assert!(pair.echoed(1) && pair.client.conn.is_ready() && pair.client.conn.is_drained());
    assert_eq!(pair.client.conn.begin_call(2, None), Err(NoSlot::Closed));
    pair.client.conn.handle_eof();
    assert_eq!(pair.client.conn.close_reason(), Some(CloseReason::Drained));
}

/// REQ-75: a client that breaks off with calls in flight has not left in good order, whatever it said.
#[test]
fn a_client_that_goes_away_and_breaks_off() {
    let mut pair = Pair::ready();
    pair.call(1);
    pair.client.conn.leave(&mut pair.client.out);
    pair.settle();
    pair.server.conn.handle_error(ErrorKind::ConnectionReset);
    let reason = pair.server.conn.close_reason();
    assert_eq!(reason, Some(CloseReason::Transport(ErrorKind::ConnectionReset.into())));
}

/// A server that was seen to work is come back to at once; one that only greets is not.
#[test]
fn what_proves_a_server() {
    let mut pair = Pair::ready();
    assert!(!pair.client.conn.is_proven());
    pair.server.conn.drain(&mut pair.server.out);
    pair.settle();
    assert!(!pair.client.conn.is_proven(), "it took nothing");
    let mut pair = Pair::ready();
    pair.call(1);
    pair.settle();
    assert!(!pair.client.conn.is_proven());
    pair.server.conn.drain(&mut pair.server.out);
    pair.settle();
    assert!(pair.client.conn.is_proven(), "it took a call");
    let mut pair = Pair::ready();
    pair.server.serve = Serve::Echo;
    pair.call(1);
    pair.settle();
    assert!(pair.client.conn.is_proven(), "it answered one");
}

/// REQ-60: blamed by the peer, with a rule that is known and one that is not.
#[test]
fn blamed_by_the_peer() {
    for (number, rule) in [(12, Some(Rule::FrameTooLarge)), (9_999, None)] {
        let mut pair = Pair::ready();
        let words = bytes(|out| out.go_away(&GoAway { accepted: 0, rule: number }, "you"));
        pair.server.feed(&words, pair.now);
        pair.client.feed(&words, pair.now);
        let reason = Some(CloseReason::BlamedByPeer(rule));
        assert_eq!(pair.server.conn.close_reason(), reason);
        assert_eq!(pair.client.conn.close_reason(), reason);
        assert!(pair.server.out.is_empty() && pair.client.out.is_empty());
    }
}

/// A connection that is over stays over: it reads nothing and runs nothing.
#[test]
fn closed_is_closed() {
    let mut pair = Pair::ready();
    pair.server.conn.close(CloseReason::LocallyClosed);
    pair.client.conn.close(CloseReason::LocallyClosed);
    assert_eq!(pair.client.conn.begin_call(1, None), Err(NoSlot::Closed));
    put_request(&mut pair.client.out, &RequestHead::new(1, MethodId(1)), b"");
    pair.up(usize::MAX);
    pair.server.conn.drain(&mut pair.server.out);
    assert!(pair.server.ran.is_empty() && pair.server.out.is_empty());
    assert_eq!(pair.server.conn.close_reason(), Some(CloseReason::LocallyClosed));
}

/// REQ-61, REQ-33: while draining, rules hold as before.
#[test]
fn a_draining_server_still_knows_its_rules() {
    let mut pair = Pair::ready();
    let call = pair.call(1);
    pair.settle();
    pair.server.conn.drain(&mut pair.server.out);
    put_request(&mut pair.client.out, &RequestHead::new(call, MethodId(1)), b"");
    pair.up(usize::MAX);
    assert_eq!(pair.server.conn.close_reason(), misbehaved(Rule::CallIdInUse));
    pair.down(usize::MAX);
    assert!(pair.client.conn.close_reason().is_some_and(CloseReason::is_fault));
    let reply = ReplyHead::ok(call);
    assert_eq!(pair.server.conn.parked_mut(reply.call), Some(&mut 1));
}
