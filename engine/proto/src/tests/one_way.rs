//! Calls that are never answered.

use std::time::Duration;

use corewire_codec::{CompressionId, Encoding, MethodId, RequestHead, Rule, request_flags};

use super::flow::server_config;
use super::pair::{Event, Outcome, Pair, Serve, bytes, put_request, secs};
use crate::client::NoSlot;
use crate::config::{ClientConfig, ServerConfig};
use crate::server::OneWayDropped;

fn head(timeout_us: Option<u64>) -> RequestHead {
    let flags = request_flags::ONE_WAY;
    RequestHead { flags, timeout_us, ..RequestHead::new(0, MethodId(1)) }
}

fn send(pair: &mut Pair, timeout_us: Option<u64>) {
    pair.client.conn.begin_one_way(None, &mut pair.client.out).unwrap();
    put_request(&mut pair.client.out, &head(timeout_us), b"");
    pair.settle();
}

fn dropped(pair: &Pair) -> Vec<OneWayDropped> {
    let reasons = pair.server.events.iter().map(|event| match event {
        Event::OneWayDropped(why) => *why,
        other => panic!("unexpected {other:?}"),
    });
    reasons.collect()
}

/// REQ-31, REQ-36: they are pending alongside the calls, under ids of the server's, and take no
/// slot: neither side ever says anything about them.
#[test]
fn they_pend_in_a_table_of_their_own() {
    let mut pair = Pair::streaming_ready();
    for _ in 0..3 {
        send(&mut pair, None);
    }
    let calls: Vec<u32> = (0..4).map(|number| pair.call(number)).collect();
    pair.settle();
    let ran = pair.server.ran.clone();
    assert!(ran[..3].iter().all(|id| id & 0x8000 != 0) && ran[3..] == calls[..]);
    assert_eq!((pair.server.conn.in_flight(), pair.server.conn.one_way_pending()), (7, 3));
    assert_eq!((pair.client.conn.in_flight(), pair.server.conn.accepted()), (4, 7));
    assert!(pair.server.conn.parked_mut(ran[1]).is_some());
    assert_eq!(pair.server.conn.unpark(ran[1]), Some(0));
    assert_eq!(pair.server.conn.unpark(ran[1]), None, "a late wake finds nothing");
    // Its place is taken again, under another id.
    send(&mut pair, None);
    let again = *pair.server.ran.last().unwrap();
    assert!(again & 0xffff == ran[1] & 0xffff && again != ran[1]);
    assert!(pair.server.conn.parked_mut(ran[1]).is_none());
    assert!(pair.server.out.is_empty());
    let mut left: Vec<u32> = pair.server.conn.unpark_all().map(|(id, _)| id).collect();
    left.sort_unstable();
    let mut expected = [&calls[..], &[ran[0], again, ran[2]]].concat();
    expected.sort_unstable();
    assert_eq!(left, expected);
}

/// REQ-36: over the bound they are dropped, and the connection goes on; a place that is free again is
/// used.
#[test]
fn too_many_are_dropped() {
    let mut pair = Pair::streaming_ready();
    for _ in 0..5 {
        send(&mut pair, None);
    }
    assert_eq!(dropped(&pair), [OneWayDropped::TooManyPending; 2]);
    assert_eq!(pair.server.conn.one_way_pending(), 3);
    assert!(!pair.server.conn.is_steady(), "their deadlines are to be asked for");
    pair.server.conn.unpark(pair.server.ran[0]).unwrap();
    send(&mut pair, None);
    assert_eq!(pair.server.ran.len(), 4);
    // Those that do not pend are not counted.
    for id in pair.server.ran.split_off(1) {
        pair.server.conn.unpark(id).unwrap();
    }
    pair.server.serve = Serve::Park;
    assert_eq!(pair.server.conn.one_way_pending(), 0);
    assert!(pair.server.out.is_empty());
}

/// REQ-31, REQ-34, REQ-36: what cannot run is dropped without a word.
#[test]
fn what_cannot_run_is_dropped() {
    let mut pair = Pair::streaming_ready();
    send(&mut pair, Some(0));
    pair.client.conn.begin_one_way(None, &mut pair.client.out).unwrap();
    let mut encoding = Encoding::RAW.byte();
    encoding |= 1 << 4;
    let encoding = Encoding::from_byte(encoding);
    assert_ne!(encoding.compression(), CompressionId::NONE);
    put_request(&mut pair.client.out, &RequestHead { encoding, ..head(None) }, b"");
    pair.settle();
    pair.server.conn.drain(&mut pair.server.out);
    put_request(&mut pair.client.out, &head(None), b"");
    pair.settle();
    let reasons = [OneWayDropped::TimeOver, OneWayDropped::Compression, OneWayDropped::Draining];
    assert_eq!(dropped(&pair), reasons);
    assert!(pair.server.ran.is_empty());
    assert_eq!(pair.client.conn.begin_one_way(None, &mut pair.client.out), Err(NoSlot::Closed));
    let mut pair = Pair::with(ServerConfig::default(), ClientConfig::default());
    send(&mut pair, None);
    assert_eq!(dropped(&pair), [OneWayDropped::NotOffered]);
    assert_eq!(pair.server.conn.accepted(), 1);
}

/// REQ-60: one of which nothing was written is taken back, and counts as little as if it had not been made.
#[test]
fn what_was_not_written_is_taken_back() {
    let mut pair = Pair::streaming_ready();
    pair.call(1);
    pair.settle();
    pair.client.conn.begin_one_way(None, &mut pair.client.out).unwrap();
    put_request(&mut pair.client.out, &head(None), b"late");
    assert!(pair.client.conn.take_back_one_way(&mut pair.client.out));
    assert!(pair.client.out.is_empty());
    assert!(!pair.client.conn.take_back_one_way(&mut pair.client.out));
    // A part of the next one is written, so it stays.
    pair.client.conn.begin_one_way(None, &mut pair.client.out).unwrap();
    put_request(&mut pair.client.out, &head(None), b"partly");
    pair.up(1);
    assert!(!pair.client.conn.take_back_one_way(&mut pair.client.out));
    pair.settle();
    pair.call(2);
    pair.server.conn.drain(&mut pair.server.out);
    pair.down(usize::MAX);
    // The server counts two: the first call and the second of these.
    assert_eq!(pair.server.conn.accepted(), 2);
    assert_eq!(pair.outcome(2), Some(&Outcome::Refused));
    assert_eq!(pair.outcome(1), None);
}

/// REQ-34: a deadline ends one that pends, silently; until then the connection is not idle.
#[test]
fn the_deadline_passes() {
    let mut config = server_config();
    config.timeouts.idle = Some(secs(1));
    let mut pair = Pair::with(config, ClientConfig::default());
    pair.settle();
    assert!(pair.server.conn.is_steady());
    send(&mut pair, Some(5_000_000));
    // Its deadline comes before any other timer, so a caller that skips timers must look again.
    assert!(!pair.server.conn.is_steady());
    send(&mut pair, Some(3_000_000));
    let ids = pair.server.ran.clone();
    pair.wait(secs(3));
    assert_eq!(pair.server.dropped, [ids[1]]);
    pair.wait(secs(2));
    assert_eq!(pair.server.dropped, [ids[1], ids[0]]);
    assert!(pair.server.out.is_empty());
    pair.wait(secs(1) - Duration::from_nanos(1));
    assert_eq!(pair.server.conn.close_reason(), None);
    pair.wait(Duration::from_nanos(1));
    let reason = pair.server.conn.close_reason();
    assert_eq!(reason, super::pair::misbehaved(Rule::IdleTimeout));
}

/// REQ-61: they count among the requests that were accepted, so that the client knows what ran.
#[test]
fn they_count_in_a_go_away() {
    let mut pair = Pair::streaming_ready();
    send(&mut pair, None);
    pair.call(1);
    pair.settle();
    pair.server.conn.drain(&mut pair.server.out);
    pair.client.conn.begin_one_way(None, &mut pair.client.out).unwrap();
    put_request(&mut pair.client.out, &head(None), b"");
    pair.call(2);
    pair.settle();
    assert_eq!(pair.outcome(2), Some(&Outcome::Refused));
    assert_eq!(pair.outcome(1), None);
    assert_eq!(dropped(&pair), [OneWayDropped::Draining]);
    // Drained means that these are finished, too.
    assert_eq!(pair.server.conn.in_flight(), 2);
}

/// REQ-55: nobody can cancel one: its id is not on the wire. A cancel that guesses it does nothing.
#[test]
fn a_cancel_does_not_reach_them() {
    let mut pair = Pair::streaming_ready();
    send(&mut pair, None);
    let id = pair.server.ran[0];
    let cancel = bytes(|out| out.cancel(id, corewire_codec::CancelReason::Dropped));
    pair.server.feed(&cancel, pair.now);
    assert_eq!(pair.server.conn.one_way_pending(), 1);
    assert!(pair.server.dropped.is_empty());
    // Nor can a call take such an id.
    let call = bytes(|out| put_request(out, &RequestHead::new(id, MethodId(1)), b""));
    pair.server.feed(&call, pair.now);
    let reason = pair.server.conn.close_reason();
    assert_eq!(reason, super::pair::misbehaved(Rule::CallSlot));
}

/// REQ-34: one that waited says what is left of its time when it is written; it is not written when nothing is.
#[test]
fn what_waited_states_the_time_that_is_left_or_goes() {
    let mut pair = Pair::streaming_ready();
    // The first is partly written; of the others one is over before the socket takes more.
    for (number, timeout) in [9, 9, 3, 9, 3].into_iter().enumerate() {
        if number == 3 {
            pair.call_within(7, Some(secs(9)));
        }
        let deadline = Some(pair.now + secs(timeout));
        put_request(&mut pair.client.out, &head(Some(timeout * 1_000_000)), b"x");
        pair.client.conn.begin_one_way(deadline, &mut pair.client.out).unwrap();
    }
    pair.up(1);
    pair.now += secs(4);
    pair.client.conn.prepare_write(&mut pair.client.out, pair.now);
    pair.up(usize::MAX);
    let (now, of_the_first) = (pair.now, secs(9));
    let left = Some(now + secs(5));
    assert_eq!(pair.server.deadlines, [Some(now + of_the_first), left, left, left]);
    // Those that went are not counted: what the server took last is what the client holds for it.
    pair.call(8);
    pair.server.conn.drain(&mut pair.server.out);
    pair.settle();
    assert_eq!(pair.server.conn.accepted(), 4);
    assert_eq!((pair.outcome(7), pair.outcome(8)), (None, Some(&Outcome::Refused)));
}

/// Their deadlines are timers while the socket takes nothing: what waits behind them learns that there is room.
#[test]
fn one_that_expires_unwritten_goes_at_its_deadline() {
    let mut pair = Pair::streaming_ready();
    for timeout in [9, 3] {
        let deadline = Some(pair.now + secs(timeout));
        put_request(&mut pair.client.out, &head(Some(timeout * 1_000_000)), b"x");
        pair.client.conn.begin_one_way(deadline, &mut pair.client.out).unwrap();
    }
    let (whole, due) = (pair.client.out.len(), pair.now + secs(3));
    pair.up(1);
    assert!(pair.client.conn.poll_timeout().unwrap() <= due);
    pair.now = due;
    pair.client.conn.handle_timeout(&mut pair.client.out, pair.now);
    assert_eq!(pair.client.out.len(), whole / 2 - 1, "the rest of the first");
    let next = pair.client.conn.poll_timeout();
    assert!(next.is_none_or(|next| next > due), "nothing is left to do now");
}
