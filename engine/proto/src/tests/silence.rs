//! Peers that say nothing, too little, or take nothing.

use std::time::Duration;

use super::pair::{Pair, Serve, blame, bytes, misbehaved, put_request, said_later, secs};
use crate::config::{ClientConfig, ServerConfig, Timeouts};
use corewire_codec::{Head, MethodId, RequestHead, Rule};

const BEFORE: Duration = Duration::from_nanos(1);

/// REQ-56, REQ-58: a quiet connection is kept alive by pings, for hours, and by few of them.
#[test]
fn pings_keep_a_quiet_connection() {
    let mut pair = Pair::ready();
    pair.drive(secs(3 * 3600));
    assert_eq!(pair.server.conn.close_reason(), None);
    assert_eq!(pair.client.conn.close_reason(), None);
    pair.server.serve = Serve::Echo;
    pair.call(1);
    pair.settle();
    assert!(pair.echoed(1));
}

/// REQ-56: each ping is answered with its own value, in order.
#[test]
fn pings_are_answered_with_their_value() {
    let mut pair = Pair::ready();
    let pings = bytes(|out| [7, u64::MAX, 0].into_iter().for_each(|value| out.ping(value)));
    pair.server.feed(&pings, pair.now);
    pair.client.feed(&pings, pair.now);
    let pongs = [Head::Pong(7), Head::Pong(u64::MAX), Head::Pong(0)];
    assert_eq!(said_later(&pair.server.out), pongs);
    assert_eq!(said_later(&pair.client.out), pongs);
}

/// REQ-56: a peer that pings and reads nothing cannot make the other side hold more than a few pongs for
/// it.
#[test]
fn pings_of_a_peer_that_reads_nothing_are_not_all_answered() {
    let mut pair = Pair::ready();
    pair.settle();
    let pings = bytes(|out| (0..1_000).for_each(|value| out.ping(value)));
    pair.server.feed(&pings, pair.now);
    pair.client.feed(&pings, pair.now);
    assert_eq!((pair.server.out.len(), pair.client.out.len()), (16 * 16, 16 * 16));
    // Everything leaves: the next ping is answered.
    pair.server.out.clear();
    pair.client.out.clear();
    pair.server.conn.handle_write(true, false, pair.now);
    pair.client.conn.handle_write(true, false, pair.now);
    let ping = bytes(|out| out.ping(7));
    pair.server.feed(&ping, pair.now);
    pair.client.feed(&ping, pair.now);
    assert_eq!((pair.server.out.len(), pair.client.out.len()), (16, 16));
    assert_eq!(pair.client.conn.close_reason(), None);
}

/// REQ-58, rule 32: a peer that answers no ping is given up, at the time and not before.
#[test]
fn no_pong_ends_the_connection() {
    let mut pair = Pair::ready();
    pair.wait(secs(60) - BEFORE);
    assert!(pair.server.out.is_empty());
    pair.wait(BEFORE);
    assert_eq!(said_later(&pair.server.out), [Head::Ping(1)]);
    pair.wait(secs(20) - BEFORE);
    assert_eq!(pair.server.conn.close_reason(), None);
    pair.wait(BEFORE);
    assert_eq!(pair.server.conn.close_reason(), misbehaved(Rule::PingTimeout));
    assert_eq!(pair.client.conn.close_reason(), misbehaved(Rule::PingTimeout));
    let words = said_later(&pair.server.out);
    assert_eq!(words, [Head::Ping(1), blame(0, Rule::PingTimeout)]);
}

/// REQ-58, rule 32: what is written in parts shows no life: the socket takes it whether the peer is there or not.
#[test]
fn no_pong_ends_the_connection_while_much_is_written() {
    let mut pair = Pair::ready();
    pair.wait(secs(60));
    for _ in 0..3 {
        pair.client.conn.handle_part_written(pair.now);
        pair.client.conn.handle_write(true, false, pair.now);
        pair.server.conn.handle_part_written(pair.now);
        pair.server.conn.handle_write(true, false, pair.now);
        pair.wait(secs(5));
    }
    pair.wait(secs(5) - BEFORE);
    assert_eq!(pair.client.conn.close_reason(), None);
    pair.wait(BEFORE);
    assert_eq!(pair.client.conn.close_reason(), misbehaved(Rule::PingTimeout));
    assert_eq!(pair.server.conn.close_reason(), misbehaved(Rule::PingTimeout));
}

/// REQ-58: anything that is heard shows that the peer is there, even while the pong is missing.
#[test]
fn anything_heard_counts_as_alive() {
    let mut pair = Pair::ready();
    pair.wait(secs(60));
    let request = bytes(|out| put_request(out, &RequestHead::new(1, MethodId(1)), b"x"));
    pair.wait(secs(15));
    pair.server.feed(&request, pair.now);
    pair.wait(secs(19));
    assert_eq!(pair.server.conn.close_reason(), None);
    pair.wait(secs(1));
    assert_eq!(pair.server.conn.close_reason(), misbehaved(Rule::PingTimeout));
}

/// REQ-57, rule 27: a pong without a ping, a wrong one, a second one.
#[test]
fn unexpected_pong() {
    let pong = |value| bytes(|out| out.pong(value));
    let mut pair = Pair::ready();
    pair.server.feed(&pong(1), pair.now);
    assert_eq!(pair.server.conn.close_reason(), misbehaved(Rule::UnexpectedPong));
    assert_eq!(said_later(&pair.server.out), [blame(0, Rule::UnexpectedPong)]);
    pair.client.feed(&pong(0), pair.now);
    assert_eq!(pair.client.conn.close_reason(), misbehaved(Rule::UnexpectedPong));

    let mut pair = Pair::ready();
    pair.wait(secs(60));
    pair.server.feed(&pong(2), pair.now);
    assert_eq!(pair.server.conn.close_reason(), misbehaved(Rule::UnexpectedPong));

    let mut pair = Pair::ready();
    pair.wait(secs(60));
    pair.server.feed(&pong(1), pair.now);
    assert_eq!(pair.server.conn.close_reason(), None);
    pair.server.feed(&pong(1), pair.now);
    assert_eq!(pair.server.conn.close_reason(), misbehaved(Rule::UnexpectedPong));
}

fn idle(seconds: u64) -> Timeouts {
    Timeouts { idle: Some(secs(seconds)), ..Timeouts::default() }
}

/// REQ-58: an idle connection ends, pings or not.
#[test]
fn idle_timeout() {
    let mut pair = Pair::with_timeouts(idle(150));
    pair.settle();
    pair.drive(secs(149));
    assert_eq!(pair.server.conn.close_reason(), None);
    pair.drive(secs(1));
    assert_eq!(pair.server.conn.close_reason(), misbehaved(Rule::IdleTimeout));
}

/// REQ-58: a connection with a call in flight is not idle, however long the call takes, and is not
/// so the moment the call ends either.
#[test]
fn a_long_call_is_not_idleness() {
    let mut pair = Pair::with_timeouts(idle(10));
    let call = pair.call(1);
    pair.settle();
    pair.drive(secs(1_000));
    assert_eq!(pair.server.conn.close_reason(), None);
    pair.answer(call);
    pair.settle();
    assert!(pair.echoed(1));
    pair.drive(secs(9));
    assert_eq!(pair.server.conn.close_reason(), None);
    assert_eq!(pair.client.conn.close_reason(), None);
    pair.drive(secs(2));
    assert_eq!(pair.server.conn.close_reason(), misbehaved(Rule::IdleTimeout));
}

/// REQ-58: the same when the call ends by its deadline, or by a cancel.
#[test]
fn a_call_that_was_stopped_was_not_idleness() {
    let mut pair = Pair::with_timeouts(idle(10));
    let call = pair.call_within(1, Some(secs(100)));
    pair.settle();
    pair.drive(secs(105));
    assert_eq!(pair.server.dropped, [call]);
    assert_eq!(pair.server.conn.close_reason(), None);
    let call = pair.call(2);
    pair.settle();
    pair.drive(secs(100));
    pair.abandon(call);
    pair.drive(secs(9));
    assert_eq!(pair.server.dropped.len(), 2);
    assert_eq!(pair.server.conn.close_reason(), None);
    pair.drive(secs(2));
    assert_eq!(pair.server.conn.close_reason(), misbehaved(Rule::IdleTimeout));
}

/// REQ-33, REQ-58: nor is a connection idle whose call was given up but not answered yet.
#[test]
fn a_call_that_was_given_up_is_not_idleness() {
    let client = ClientConfig { timeouts: idle(10), ..ClientConfig::default() };
    let mut pair = Pair::with(ServerConfig::default(), client);
    let call = pair.call(1);
    pair.settle();
    pair.abandon(call);
    pair.wait(secs(50));
    assert_eq!(pair.client.conn.close_reason(), None);
    pair.settle();
    pair.wait(secs(9));
    assert_eq!(pair.client.conn.close_reason(), None);
    pair.wait(secs(1));
    assert_eq!(pair.client.conn.close_reason(), misbehaved(Rule::IdleTimeout));
}

/// REQ-23, rule 17: one byte a second: the frame is not whole in time.
#[test]
fn one_byte_a_second() {
    let mut pair = Pair::ready();
    let request = bytes(|out| put_request(out, &RequestHead::new(1, MethodId(1)), &[0; 100]));
    for byte in request.iter().take(60) {
        assert_eq!(pair.server.conn.close_reason(), None);
        pair.server.feed(&[*byte], pair.now);
        pair.wait(secs(1));
    }
    assert_eq!(pair.server.conn.close_reason(), misbehaved(Rule::FrameTimeout));
    assert_eq!(said_later(&pair.server.out), [blame(0, Rule::FrameTimeout)]);
}

/// REQ-23: slow frames that make it are welcome, one after the other, each with its own time.
#[test]
fn slow_frames_that_make_it() {
    let mut pair = Pair::ready();
    pair.server.serve = Serve::Echo;
    for call in 0..4 {
        let request = bytes(|out| put_request(out, &RequestHead::new(call, MethodId(1)), &[0; 30]));
        for byte in request {
            pair.server.feed(&[byte], pair.now);
            pair.wait(secs(1));
        }
    }
    assert_eq!(pair.server.conn.close_reason(), None);
    assert_eq!(pair.server.ran, [0, 1, 2, 3]);
}

/// REQ-59, rule 31: a peer that takes nothing of what waits for it.
#[test]
fn write_timeout() {
    let mut pair = Pair::ready();
    pair.server.serve = Serve::Echo;
    pair.call(1);
    pair.up(usize::MAX);
    pair.down(0);
    pair.wait(secs(20));
    // Another attempt that takes nothing is not progress.
    pair.down(0);
    pair.wait(secs(10) - BEFORE);
    assert_eq!(pair.server.conn.close_reason(), None);
    pair.wait(BEFORE);
    assert_eq!(pair.server.conn.close_reason(), misbehaved(Rule::WriteTimeout));
    // Nothing is lost of what was said before.
    pair.down(usize::MAX);
    assert!(pair.echoed(1));
}

/// REQ-59: a byte now and then restarts the clock; an empty buffer has none.
#[test]
fn slow_readers_are_not_dead() {
    let timeouts = Timeouts { write: secs(5), ..Timeouts::default() };
    let server = ServerConfig { timeouts, ..ServerConfig::default() };
    let mut pair = Pair::with(server, ClientConfig::default());
    pair.settle();
    pair.server.serve = Serve::Echo;
    pair.call(1);
    pair.up(usize::MAX);
    while !pair.server.out.is_empty() {
        pair.down(2);
        pair.wait(secs(4));
    }
    pair.down(usize::MAX);
    assert!(pair.echoed(1));
    pair.drive(secs(100));
    assert_eq!(pair.server.conn.close_reason(), None);
}

/// REQ-59: what the peer's side acknowledged of what the socket had taken is progress, too.
#[test]
fn acknowledged_bytes_are_progress() {
    let mut pair = Pair::ready();
    pair.server.serve = Serve::Echo;
    pair.call(1);
    pair.up(usize::MAX);
    pair.down(0);
    assert!(pair.server.conn.is_blocked());
    for _ in 0..10 {
        pair.wait(secs(29));
        pair.server.conn.handle_acknowledged(pair.now);
    }
    pair.wait(secs(30) - BEFORE);
    assert_eq!(pair.server.conn.close_reason(), None);
    pair.wait(BEFORE);
    assert_eq!(pair.server.conn.close_reason(), misbehaved(Rule::WriteTimeout));
}

/// REQ-58: a call that is not answered in time is a reason to ask sooner whether the server is there.
#[test]
fn a_call_that_times_out_in_silence_brings_the_ping_forward() {
    let mut pair = Pair::ready();
    pair.call_within(1, Some(secs(5)));
    pair.up(usize::MAX);
    pair.wait(secs(5));
    assert!(said_later(&pair.client.out).contains(&Head::Ping(1)));
    pair.wait(secs(40) - BEFORE);
    assert_eq!(pair.client.conn.close_reason(), None);
    pair.wait(BEFORE);
    assert_eq!(pair.client.conn.close_reason(), misbehaved(Rule::PingTimeout));
}

/// REQ-58: such a ping is answered like any other, and further calls that time out send no further ones.
#[test]
fn a_ping_that_was_brought_forward_is_answered() {
    let mut pair = Pair::ready();
    for number in 1..=5 {
        pair.call_within(number, Some(secs(number.into())));
    }
    pair.up(usize::MAX);
    pair.wait(secs(6));
    let pings = said_later(&pair.client.out);
    assert_eq!(pings.iter().filter(|head| matches!(head, Head::Ping(_))).count(), 1);
    pair.settle();
    pair.drive(secs(300));
    assert_eq!(pair.client.conn.close_reason(), None);
}

/// REQ-58: it never makes the end come later than the usual ping would have.
#[test]
fn a_ping_that_was_brought_forward_puts_nothing_off() {
    let mut pair = Pair::ready();
    pair.wait(secs(50));
    pair.call_within(1, Some(secs(5)));
    pair.up(usize::MAX);
    pair.wait(secs(30) - BEFORE);
    assert_eq!(pair.client.conn.close_reason(), None);
    pair.wait(BEFORE);
    assert_eq!(pair.client.conn.close_reason(), misbehaved(Rule::PingTimeout));
}
