//! Calls: order, slots, cancels and deadlines.

use std::time::Duration;

use super::pair::{
    Outcome, Pair, Serve, blame, bytes, misbehaved, put_reply, put_request, said_later, secs,
};
use crate::client::Expired;
use corewire_codec::{
    CodecId, CompressionId, Encoding, MethodId, ReplyHead, RequestHead, Rule, Status, StatusCode,
    reply_flags, request_flags,
};

/// REQ-35: replies come in any order, each to its own call.
#[test]
fn replies_in_any_order() {
    let mut pair = Pair::ready();
    let calls: Vec<u32> = (0..10).map(|number| pair.call(number)).collect();
    pair.settle();
    for place in [7, 0, 9, 3, 1, 8, 2, 6, 5, 4] {
        pair.answer(calls[place]);
        pair.settle_by(5);
        assert!(pair.echoed(u32::try_from(place).unwrap()));
    }
    assert_eq!(pair.client.outcomes.len(), 10);
    assert_eq!((pair.client.conn.in_flight(), pair.server.conn.in_flight()), (0, 0));
    assert_eq!(pair.server.conn.accepted(), 10);
}

/// REQ-32: slots are dense, and a slot that is used again has another generation.
#[test]
fn slots_are_dense_and_generations_differ() {
    let mut pair = Pair::ready();
    pair.server.serve = Serve::Echo;
    let first = [pair.call(0), pair.call(1), pair.call(2)];
    assert_eq!(first, [0, 1, 2]);
    pair.settle();
    let again = [pair.call(3), pair.call(4), pair.call(5)];
    let mut slots = again.map(|call| call & 0xffff);
    slots.sort_unstable();
    assert_eq!(slots, [0, 1, 2]);
    assert!(again.iter().all(|call| call >> 16 == 1));
    assert_eq!(pair.call(6), 3);
}

/// REQ-32: generations wrap after 65,536 uses of a slot and nothing is confused.
#[test]
fn generations_wrap() {
    let mut pair = Pair::ready();
    for round in 0..=0x1_0000u32 {
        let call = pair.client.conn.begin_call(0, None).unwrap();
        assert_eq!(call, (round & 0xffff) << 16);
        let reply = bytes(|out| put_reply(out, call, b""));
        pair.client.feed(&reply, pair.now);
        assert!(pair.client.outcomes.remove(&0).is_some());
    }
    assert_eq!(pair.client.conn.in_flight(), 0);
}

/// A call whose request could not be written never was.
#[test]
fn an_unsent_call_leaves_no_trace() {
    let mut pair = Pair::ready();
    pair.call(1);
    let call = pair.client.conn.begin_call(2, None).unwrap();
    assert_eq!(pair.client.conn.unsend(call), Some(2));
    assert_eq!(pair.client.conn.unsend(call), None);
    pair.call(3);
    pair.settle();
    assert_eq!(pair.server.conn.accepted(), 2);
    assert_eq!(pair.client.conn.in_flight(), 2);
}

/// REQ-55, REQ-35: a cancel that arrives in time stops the call, which is still answered.
#[test]
fn cancel_stops_a_parked_call() {
    let mut pair = Pair::ready();
    let call = pair.call(1);
    pair.settle();
    assert_eq!(pair.abandon(call), Some(1));
    assert_eq!(pair.abandon(call), None);
    assert_eq!(pair.client.conn.in_flight(), 0);
    pair.up(usize::MAX);
    assert_eq!(pair.server.dropped, [call]);
    let frames = said_later(&pair.server.out);
    let cancelled = ReplyHead { code: StatusCode::Cancelled, ..ReplyHead::ok(call) };
    assert_eq!(frames, [corewire_codec::Head::Reply(cancelled)]);
    pair.settle();
    assert!(pair.client.outcomes.is_empty());
    assert_eq!(pair.client.conn.close_reason(), None);
}

/// REQ-33, REQ-55: the reply crosses the cancel. The slot is free when the reply is read, not
/// before, and the cancel that arrives late does not hit the slot's next call.
#[test]
fn a_reply_crosses_a_cancel() {
    let mut pair = Pair::ready();
    let first = pair.call(1);
    pair.up(usize::MAX);
    pair.answer(first);
    pair.abandon(first);
    // The reply is not read yet: the slot must not be used.
    let second = pair.call(2);
    assert_ne!(first & 0xffff, second & 0xffff);
    pair.down(usize::MAX);
    let third = pair.call(3);
    assert_eq!((third & 0xffff, third >> 16), (first & 0xffff, 1));
    pair.settle();
    assert_eq!(pair.server.dropped, [0; 0]);
    pair.answer(third);
    pair.answer(second);
    pair.settle();
    assert!(pair.echoed(2) && pair.echoed(3) && pair.outcome(1).is_none());
    assert_eq!(pair.server.conn.close_reason(), None);
}

/// REQ-55: cancels of calls that were never made, or of an old generation, harm nobody.
#[test]
fn stray_cancels_are_disregarded() {
    let mut pair = Pair::ready();
    let call = pair.call(1);
    pair.settle();
    for stray in [call + 1, call | 0x0003_0000, 0xffff_ffff] {
        pair.client.out.cancel(stray, corewire_codec::CancelReason::Deadline);
    }
    pair.settle();
    assert_eq!(pair.server.conn.in_flight(), 1);
    assert_eq!(pair.server.conn.close_reason(), None);
}

/// REQ-34: the deadline passes at the client, which cancels and goes on.
#[test]
fn deadline_at_the_client() {
    let mut pair = Pair::ready();
    let call = pair.call_within(1, Some(secs(2)));
    let slow = pair.call_within(2, Some(secs(9)));
    assert_eq!(pair.client.conn.poll_timeout(), Some(pair.now + secs(2)));
    // A part of the request leaves: only the client's own clock can end it.
    pair.up(10);
    pair.wait(secs(2));
    assert_eq!(pair.outcome(1), Some(&Outcome::Expired));
    assert_eq!(pair.client.conn.earliest_deadline(), Some(pair.start + secs(9)));
    pair.settle();
    assert_eq!(pair.server.dropped, [call]);
    pair.answer(slow);
    pair.settle();
    assert!(pair.echoed(2));
    assert_eq!(pair.client.conn.in_flight(), 0);
}

/// REQ-34, REQ-35: the deadline passes at the server first; the caller reads so, and the cancel
/// that crossed finds nothing.
#[test]
fn deadline_at_the_server() {
    let mut pair = Pair::ready();
    let call = pair.client.conn.begin_call(1, None).unwrap();
    let head = RequestHead { timeout_us: Some(1_500), ..RequestHead::new(call, MethodId(1)) };
    put_request(&mut pair.client.out, &head, b"");
    pair.up(usize::MAX);
    let due = pair.now + Duration::from_micros(1_500);
    assert_eq!(pair.server.deadlines, [Some(due)]);
    assert_eq!(pair.server.conn.poll_timeout(), Some(due));
    pair.wait(Duration::from_micros(1_499));
    assert!(pair.server.dropped.is_empty());
    pair.wait(Duration::from_micros(1));
    assert_eq!(pair.server.dropped, [call]);
    pair.abandon(call);
    pair.settle();
    assert_eq!(pair.server.conn.in_flight(), 0);
    assert_eq!(pair.client.conn.close_reason(), None);
    // The slot is free again.
    assert_eq!(pair.call(2) & 0xffff, call & 0xffff);
}

/// REQ-34, REQ-43: no time left on arrival: refused, and the handler never runs.
#[test]
fn timeout_zero() {
    let mut pair = Pair::ready();
    pair.call_within(1, Some(Duration::ZERO));
    pair.up(usize::MAX);
    assert!(pair.server.ran.is_empty());
    pair.down(usize::MAX);
    let (head, status) = pair.status(1);
    assert_eq!(status.code(), StatusCode::DeadlineExceeded);
    assert_ne!(head.flags & reply_flags::REFUSED, 0);
}

/// A timeout beyond what the clock can say is no deadline.
#[test]
fn timeout_of_ages() {
    let mut pair = Pair::ready();
    let call = pair.client.conn.begin_call(1, None).unwrap();
    let head = RequestHead { timeout_us: Some(u64::MAX), ..RequestHead::new(call, MethodId(1)) };
    put_request(&mut pair.client.out, &head, b"");
    pair.settle();
    assert_eq!(pair.server.ran, [call]);
    assert!(pair.server.conn.poll_timeout() <= Some(pair.now + secs(60)));
}

/// Many deadlines that pass at once are found in one go, on both sides, and every call ends.
#[test]
fn many_deadlines_at_once() {
    let mut pair = Pair::ready();
    for number in 0..4_000 {
        pair.call_within(number, Some(secs(1) + Duration::from_micros(u64::from(number % 7))));
    }
    pair.settle();
    assert_eq!(pair.server.conn.in_flight(), 4_000);
    pair.wait(secs(2));
    assert_eq!(pair.server.dropped.len(), 4_000);
    assert_eq!(pair.client.outcomes.len(), 4_000);
    pair.settle();
    assert_eq!((pair.client.conn.in_flight(), pair.server.conn.in_flight()), (0, 0));
    assert_eq!(pair.client.conn.close_reason(), None);
}

/// A caller may take out one expired call and come back for the rest; what was answered in between
/// is not expired, and does not hide the others.
#[test]
fn expired_calls_may_be_taken_one_by_one() {
    let mut pair = Pair::ready();
    let calls: Vec<u32> = (0..4).map(|number| pair.call_within(number, Some(secs(1)))).collect();
    pair.up(usize::MAX);
    pair.now += secs(1);
    let now = pair.now;
    let first = pair.client.conn.poll_expired(&mut pair.client.out, now);
    assert_eq!(first, Some(Expired { work: 3, sent: true }));
    pair.client.feed(&bytes(|out| put_reply(out, calls[2], b"")), now);
    assert!(pair.outcome(2).is_some());
    pair.fire();
    assert_eq!(pair.outcome(0), Some(&Outcome::Expired));
    assert_eq!(pair.outcome(1), Some(&Outcome::Expired));
    assert_eq!(pair.client.conn.in_flight(), 0);
}

/// REQ-14, REQ-31, REQ-43: what this version's server does not offer is refused per call.
#[test]
fn what_is_not_offered_is_refused() {
    let compressed = Encoding::new(CodecId::RAW, CompressionId::new(9).unwrap());
    let plain = |call| RequestHead::new(call, MethodId(1));
    let requests = [
        RequestHead { encoding: compressed, ..plain(0) },
        RequestHead { flags: request_flags::STREAM_IN, ..plain(1) },
        RequestHead { flags: request_flags::STREAM_OUT, ..plain(2) },
    ];
    let mut pair = Pair::ready();
    for (number, head) in (0..).zip(requests) {
        pair.client.conn.begin_call(number, None).unwrap();
        put_request(&mut pair.client.out, &head, b"body");
    }
    // One-way requests are dropped, whatever their id says; nobody waits for them.
    let one_way = RequestHead { flags: request_flags::ONE_WAY, ..plain(u32::MAX) };
    put_request(&mut pair.client.out, &one_way, b"body");
    pair.settle();
    assert!(pair.server.ran.is_empty());
    for number in 0..3 {
        let (head, status) = pair.status(number);
        assert_eq!(status.code(), StatusCode::Unimplemented);
        assert_ne!(head.flags & reply_flags::REFUSED, 0);
    }
    assert_eq!(pair.client.outcomes.len(), 3);
    assert_eq!(pair.server.conn.accepted(), 4);
    assert_eq!(pair.server.conn.close_reason(), None);
}

/// REQ-42: details that the caller's limit does not allow stay away, the text comes.
#[test]
fn details_past_the_limit_are_left_out() {
    let mut pair = Pair::ready();
    let call = pair.call(1);
    pair.settle();
    let status = Status::aborted("why").with_details(vec![1; 70_000].into());
    pair.server.conn.unpark(call);
    pair.server.out.status(&ReplyHead::ok(call), &status, 65_536);
    pair.settle();
    let (_, read) = pair.status(1);
    assert_eq!((read.code(), read.message()), (StatusCode::Aborted, "why"));
    assert!(read.details().is_empty());
}

/// REQ-33, rule 22: a slot that is in flight, with the same id and with another generation.
#[test]
fn call_id_in_use() {
    for again in [5, 5 | 0x0001_0000] {
        let mut pair = Pair::ready();
        for call in [5, again] {
            put_request(&mut pair.client.out, &RequestHead::new(call, MethodId(1)), b"");
        }
        pair.up(usize::MAX);
        assert_eq!(pair.server.conn.close_reason(), misbehaved(Rule::CallIdInUse));
        // The second was not taken.
        assert_eq!(said_later(&pair.server.out), [blame(1, Rule::CallIdInUse)]);
    }
}

/// REQ-32, rule 21: the last slot below the limit, and the first at it.
#[test]
fn call_slot() {
    let mut pair = Pair::ready();
    put_request(&mut pair.client.out, &RequestHead::new(0xabcd_0fff, MethodId(1)), b"");
    pair.settle();
    assert_eq!(pair.server.ran, [0xabcd_0fff]);
    put_request(&mut pair.client.out, &RequestHead::new(0x1000, MethodId(1)), b"");
    pair.up(usize::MAX);
    assert_eq!(pair.server.conn.close_reason(), misbehaved(Rule::CallSlot));
    assert_eq!(said_later(&pair.server.out), [blame(1, Rule::CallSlot)]);
}
