//! Calls that end before their requests were written.

use corewire_codec::{HEADER_BYTES, Head};
use std::io::ErrorKind;

use super::flow::{CONNECTION, FRAME, STREAM};
use super::pair::{Outcome, Pair, Serve, said_later, secs};
use crate::streams::table::{NotSent, StreamKind};

/// The bytes of a request with a number in its body and nothing else.
const REQUEST: usize = HEADER_BYTES + 4;

#[test]
fn an_expired_call_of_which_nothing_was_written_is_never_heard_of() {
    let mut pair = Pair::ready();
    pair.call_within(1, Some(secs(2)));
    let slow = pair.call(2);
    pair.wait(secs(2));
    assert_eq!(pair.outcome(1), Some(&Outcome::ExpiredUnsent));
    assert_eq!(said_later(&pair.client.out).len(), 1, "the other request, and no cancel");
    pair.settle();
    assert_eq!(pair.server.ran, [slow]);
    pair.answer(slow);
    pair.settle();
    assert!(pair.echoed(2));
}

#[test]
fn a_call_that_was_written_in_part_is_followed_by_its_cancel() {
    let mut pair = Pair::ready();
    let call = pair.call(1);
    pair.call(2);
    pair.up(1);
    assert_eq!(pair.abandon(call), Some(1));
    pair.settle();
    assert_eq!(pair.server.numbers, [1, 2]);
    assert_eq!(pair.server.dropped, [call]);
}

#[test]
fn an_abandoned_call_of_which_nothing_was_written_frees_its_slot() {
    let mut pair = Pair::ready();
    let free = pair.client.conn.free_slots();
    let call = pair.call(1);
    assert_eq!(pair.abandon(call), Some(1));
    assert_eq!(pair.client.conn.free_slots(), free);
    assert!(pair.client.out.is_empty());
    let next = pair.call(2);
    assert_eq!(next & 0xffff, call & 0xffff, "the same slot");
    assert_ne!(next, call, "another generation");
    assert_eq!(pair.abandon(call), None, "it is the next call's by now");
    pair.settle();
    assert_eq!(pair.server.ran, [next]);
}

/// REQ-60, REQ-61: the server counts the requests that it read, and so must the client.
#[test]
fn a_go_away_does_not_count_what_was_taken_back() {
    let mut pair = Pair::ready();
    let calls: Vec<u32> = (0..6).map(|number| pair.call(number)).collect();
    for gone in [3, 0, 4] {
        pair.abandon(calls[gone]);
    }
    // Two of the three that are left arrive.
    pair.up(2 * REQUEST);
    assert_eq!(pair.server.numbers, [1, 2]);
    pair.server.conn.drain(&mut pair.server.out);
    pair.down(usize::MAX);
    assert_eq!(pair.outcome(5), Some(&Outcome::Refused));
    assert_eq!((pair.outcome(1), pair.outcome(2)), (None, None));
    pair.client.conn.handle_error(ErrorKind::ConnectionReset);
    pair.client.fail_all();
    for number in [1, 2] {
        assert_eq!(pair.outcome(number), Some(&Outcome::Failed { may_have_run: true }));
    }
}

/// The numbers stay right however many are taken back, and those of calls in flight with them.
#[test]
fn many_are_taken_back_while_others_are_in_flight() {
    let mut pair = Pair::ready();
    pair.call(0);
    pair.settle();
    for number in 1..1_000 {
        let call = pair.call(number);
        pair.abandon(call);
    }
    pair.call(1_000);
    pair.settle();
    pair.call(1_001);
    pair.server.conn.drain(&mut pair.server.out);
    pair.down(usize::MAX);
    assert_eq!(pair.server.numbers, [0, 1_000]);
    assert_eq!(pair.outcome(1_001), Some(&Outcome::Refused));
    assert_eq!((pair.outcome(0), pair.outcome(1_000)), (None, None));
}

/// Nothing waits any more, so nothing is overdue.
#[test]
fn the_write_time_ends_with_what_waited() {
    let mut pair = Pair::ready();
    pair.server.serve = Serve::Echo;
    let call = pair.call(1);
    pair.up(0);
    pair.abandon(call);
    pair.drive(secs(200));
    assert_eq!(pair.client.conn.close_reason(), None);
    pair.call(2);
    pair.settle();
    assert!(pair.echoed(2));
}

/// REQ-52: messages that were never written cost nothing, and streams that waited for their credit learn
/// that it is there.
#[test]
fn a_stream_of_which_nothing_was_written_gives_its_credit_back() {
    let mut pair = Pair::streaming_ready();
    let other = pair.stream(StreamKind::Client, 1);
    pair.settle();
    let calls: Vec<u32> = (2..6).map(|number| pair.stream(StreamKind::Client, number)).collect();
    for call in &calls {
        pair.client_sends(*call, &vec![7; STREAM - FRAME], false).unwrap();
    }
    assert_eq!(4 * STREAM, CONNECTION);
    assert_eq!(pair.client_sends(other, b"x", false), Err(NotSent::NoCredit));
    for call in &calls {
        pair.abandon(*call);
    }
    assert!(pair.client.out.is_empty());
    assert!(pair.client.conn.poll_writable(), "the others are told, once");
    assert!(!pair.client.conn.poll_writable());
    assert_eq!(pair.client.conn.streams(), 1);
    pair.client_sends(other, b"x", true).unwrap();
    pair.settle();
    assert_eq!(pair.server.numbers, [1]);
    assert_eq!(pair.server_takes(other), ["x"]);
    let accounts = pair.client.conn.stream_accounts().unwrap();
    assert_eq!(accounts.available as usize, CONNECTION - FRAME - 1);
}

/// A stream's request is at the server: its messages that wait are taken back, its cancel is not.
#[test]
fn messages_of_a_cancelled_stream_are_taken_back() {
    for expires in [false, true] {
        let mut pair = Pair::streaming_ready();
        let call = pair.stream_within(StreamKind::Client, 1, Some(secs(3)));
        pair.settle();
        pair.client_sends(call, b"one", false).unwrap();
        pair.client_sends(call, b"two", false).unwrap();
        pair.client_sends(call, b"three", true).unwrap();
        pair.up(HEADER_BYTES + 1);
        match expires {
            true => pair.client.fire(pair.now + secs(3)),
            false => drop(pair.abandon(call)),
        }
        pair.up(2);
        assert_eq!(pair.server_takes(call), ["one"], "it was written in part");
        let said = said_later(&pair.client.out);
        assert!(matches!(said[..], [Head::Cancel { .. }]), "{said:?}");
        pair.settle();
        assert_eq!(pair.server.dropped, [call]);
        pair.assert_no_streams();
        let accounts = pair.client.conn.stream_accounts().unwrap();
        assert_eq!(accounts.available as usize, CONNECTION - FRAME - 3);
    }
}

/// REQ-34: a request that waited says what is left of its time when it is written.
#[test]
fn a_request_that_waited_states_the_time_that_is_left() {
    let mut pair = Pair::ready();
    pair.call_within(1, Some(secs(9)));
    pair.call_within(2, Some(secs(9)));
    pair.call(3);
    pair.up(1);
    pair.now += secs(4);
    pair.client.conn.prepare_write(&mut pair.client.out, pair.now);
    pair.up(usize::MAX);
    let now = pair.now;
    assert_eq!(
        pair.server.deadlines,
        [Some(now + secs(9)), Some(now + secs(5)), None],
        "the first was on its way"
    );
}
