//! What bad input about streams, credit and time gets from a server, over real sockets: the go-away
//! with the documented rule, or the documented status; and on another connection nothing at all.
//!
//! Names cite the requirements of `docs/PROTOCOL.md`.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{CallKind, Running, Timeouts};
use corewire_codec::{
    CancelReason, Encoding, Head, RequestHead, Rule, StatusCode, reply_flags, request_flags,
};
use std::time::{Duration, Instant};
use support::peer::{
    Peer, Said, bytes_of, credit, data, least_limits, metadata, request_with, stream_end,
};
use support::streams::{FeedClient, Seen, feed_with};
use support::{address, count, end, until};

/// The least credit of a stream, and how many streams use up that of a connection.
const STREAM: usize = 16 * 1024;
const STREAMS: u32 = 4;
/// What a message costs in addition to its body.
const FRAME: usize = 16;
/// What a sender makes ahead of its credit, in addition to one message.
const OUTBOX: u64 = 32 * 1024;

/// The head of a request of the service.
fn head(call: u32, method: &str) -> RequestHead {
    let methods = FeedClient::DESCRIPTION.methods;
    let method = methods.iter().find(|it| it.name == method).unwrap();
    let flags = match method.kind {
        CallKind::Unary => 0,
        CallKind::OneWay => request_flags::ONE_WAY,
        CallKind::ClientStream => request_flags::STREAM_IN,
        CallKind::ServerStream => request_flags::STREAM_OUT,
        CallKind::Bidirectional => request_flags::STREAM_IN | request_flags::STREAM_OUT,
    };
    let encoding = Encoding::plain(method.request_codec);
    RequestHead { flags, encoding, ..RequestHead::new(call, method.id) }
}

fn open(call: u32, method: &str) -> Vec<u8> {
    request_with(&head(call, method), b"")
}

/// A call that works, in a slot that is free.
#[track_caller]
fn assert_serves(peer: &mut Peer, call: u32) {
    peer.send(&request_with(&head(call, "add"), &[1, 0, 0, 0, 2, 0, 0, 0]));
    let (head, body) = peer.reply();
    assert_eq!((head.call, head.code, &body[..]), (call, StatusCode::Ok, &[3, 0, 0, 0][..]));
}

/// Runs `hostile` against a server with the least windows, with a good connection before and after it.
#[track_caller]
fn beside_a_good_one(hostile: impl FnOnce(&Running, &Seen)) {
    let (server, seen) = feed_with(|it| it.limits(least_limits()));
    let mut good = Peer::polite(address(&server));
    assert_serves(&mut good, 1);
    hostile(&server, &seen);
    assert_serves(&mut good, 1 << 16);
    drop(good);
    until("all connections are closed", || count(&server, |it| it.connections_open.value()) == 0);
    assert_eq!(seen.begun(), seen.ended(), "no handler is left");
    assert_eq!(count(&server, |it| it.panics.value()), 0);
    end(server);
}

/// Behind a hello and `before`, which is all right, `bytes` break `rule`.
#[track_caller]
fn assert_rule(before: &[u8], bytes: &[u8], rule: Rule) {
    beside_a_good_one(|server, _| {
        let mut peer = Peer::polite(address(server));
        // Together: otherwise a stream's opening may be said before the rule is broken.
        peer.send(&[before, bytes].concat());
        peer.assert_turned_away(rule);
        assert_eq!(count(server, |it| it.connections_faulted.value()), 1);
    });
}

#[test]
fn req_52_a_stream_over_its_credit() {
    let whole = [open(0, "ignore"), data(0, &[1; STREAM - FRAME], false)].concat();
    assert_rule(&whole, &data(0, b"", false), Rule::CreditOverdrawn);
}

#[test]
fn req_52_streams_over_the_credit_of_their_connection() {
    let mut whole = Vec::new();
    for call in 0..STREAMS {
        whole.extend(open(call, "ignore"));
        whole.extend(data(call, &[1; STREAM - FRAME], false));
    }
    whole.extend(open(STREAMS, "ignore"));
    assert_rule(&whole, &data(STREAMS, b"", false), Rule::CreditOverdrawn);
}

/// Messages without a byte cost, too, and use up a window.
#[test]
fn req_52_empty_messages_without_end() {
    let whole: Vec<u8> = (0..STREAM / FRAME).flat_map(|_| data(0, b"", false)).collect();
    let whole = [open(0, "ignore"), whole].concat();
    assert_rule(&whole, &data(0, b"", false), Rule::CreditOverdrawn);
}

/// A grant for a direction that the call does not have, or whose half has ended, is no fault and changes
/// nothing, but it keeps to the bound of all grants.
#[test]
fn req_53_grants_that_nobody_can_use() {
    beside_a_good_one(|server, _| {
        let mut peer = Peer::polite(address(server));
        peer.send(&[open(0, "ignore"), credit(Some(0), 1 << 20), credit(Some(9), 1)].concat());
        assert_serves(&mut peer, 1);
        peer.send(&[data(0, b"", true), credit(Some(0), 1)].concat());
        assert_serves(&mut peer, 2);
        peer.send(&credit(Some(0), 1 << 30));
        peer.assert_turned_away(Rule::BadCredit);
    });
}

#[test]
fn req_53_grants_that_no_counter_holds() {
    for call in [None, Some(0)] {
        assert_rule(&open(0, "silent"), &credit(call, u32::MAX), Rule::BadCredit);
    }
}

#[test]
fn req_54_data_and_ends_behind_the_end() {
    for last in [data(0, b"last", true), stream_end(0, None)] {
        for again in [data(0, b"", false), stream_end(0, None)] {
            let before = [open(0, "never"), last.clone()].concat();
            assert_rule(&before, &again, Rule::UnknownStream);
        }
    }
}

/// Never opened, unary, of another generation, and in a direction that was not asked for.
#[test]
fn req_54_streams_that_there_are_not() {
    let add = request_with(&head(3, "add"), &[1, 0, 0, 0, 2, 0, 0, 0]);
    beside_a_good_one(|server, _| {
        for (open, call) in
            [(open(0, "never"), 1), (open(0, "never"), 1 << 16), (open(2, "silent"), 2)]
        {
            for frame in [data(call, b"x", false), stream_end(call, None)] {
                let mut peer = Peer::polite(address(server));
                peer.send(&[&open[..], &frame[..]].concat());
                peer.assert_turned_away(Rule::UnknownStream);
            }
        }
        let mut peer = Peer::polite(address(server));
        peer.send(&add);
        assert_eq!(peer.reply().0.call, 3);
        peer.send(&data(3, b"x", false));
        peer.assert_turned_away(Rule::UnknownStream);
    });
}

#[test]
fn req_54_a_stream_that_is_long_over() {
    for late in [data(0, b"x", false), stream_end(0, None)] {
        beside_a_good_one(|server, _| {
            let mut peer = Peer::polite(address(server));
            peer.send(&request_with(&head(0, "sum"), &[0; 8]));
            peer.send(&stream_end(0, None));
            assert_eq!(peer.reply().0.code, StatusCode::Ok);
            for call in 1..10 {
                assert_serves(&mut peer, call);
            }
            peer.send(&late);
            peer.assert_turned_away(Rule::UnknownStream);
        });
    }
}

/// At the bound it is taken, one byte over it is not, wherever a client may say it.
#[test]
fn req_21_metadata_over_its_bound() {
    let add = |bytes| {
        bytes_of(|out| {
            let mut frame = out.request(&head(1, "add"), Some(&metadata(bytes)));
            frame.put_slice(&[1, 0, 0, 0, 2, 0, 0, 0]);
            frame.finish(u32::MAX).unwrap();
        })
    };
    beside_a_good_one(|server, _| {
        let mut peer = Peer::polite(address(server));
        peer.send(&add(1024));
        assert_eq!(peer.reply().0.code, StatusCode::Ok);
        peer.send(&add(1025));
        peer.assert_turned_away(Rule::BadMetadata);
    });
    assert_rule(&open(0, "never"), &stream_end(0, Some(&metadata(1025))), Rule::BadMetadata);
}

/// Zero is over before it begins; a thousand years, and all that the field can say, are far.
#[test]
fn req_34_timeouts_at_their_ends() {
    beside_a_good_one(|server, seen| {
        let mut peer = Peer::polite(address(server));
        let within = |call, method, timeout_us| RequestHead {
            timeout_us: Some(timeout_us),
            ..head(call, method)
        };
        for method in ["add", "silent", "never", "double"] {
            peer.send(&request_with(&within(0, method, 0), &[0; 8]));
            let (reply, _) = peer.failure();
            assert_eq!(reply.code, StatusCode::DeadlineExceeded, "{method}");
            assert_eq!(reply.flags, reply_flags::REFUSED, "{method}");
            peer.send(&bytes_of(|out| out.cancel(0, CancelReason::Deadline)));
        }
        peer.send(&request_with(&within(0, "linger", 0), b""));
        assert_serves(&mut peer, 1);
        assert_eq!((seen.begun(), count(server, |it| it.one_way_dropped.value())), (0, 1));
        let thousand_years = 1_000 * 365 * 86_400 * 1_000_000;
        for (number, timeout_us) in (1..).zip([thousand_years, u64::MAX - 1, u64::MAX]) {
            let body = [1, 0, 0, 0, 2, 0, 0, 0];
            peer.send(&request_with(&within(1, "add", timeout_us), &body));
            assert_eq!(peer.reply().0.code, StatusCode::Ok);
            peer.send(&request_with(&within(number + 1, "never", timeout_us), b""));
            peer.send(&request_with(&within(0, "linger", timeout_us), b""));
            assert_serves(&mut peer, 1);
            assert_eq!(seen.begun(), 2 * number as u64, "they run, and go on");
        }
        assert_eq!(seen.ended(), 0);
        assert_eq!(count(server, |it| it.connections_faulted.value()), 0);
    });
}

/// Never made, long over, of another generation, a one-way call's, and any number.
#[test]
fn req_55_cancels_for_unknown_calls() {
    beside_a_good_one(|server, seen| {
        let mut peer = Peer::polite(address(server));
        assert_serves(&mut peer, 0);
        peer.send(&open(3, "never"));
        peer.send(&open(0, "linger"));
        for call in [0, 1, 3 | 1 << 16, 0x7fff, 0x8000, 0x8001, 0x0001_8000, u32::MAX] {
            for reason in [CancelReason::Dropped, CancelReason::Deadline] {
                peer.send(&bytes_of(|out| out.cancel(call, reason)));
            }
        }
        assert_serves(&mut peer, 1);
        assert_eq!((seen.begun(), seen.ended()), (2, 0), "those that run are not meant");
        peer.send(&bytes_of(|out| out.cancel(3, CancelReason::Dropped)));
        assert_eq!(peer.failure().0.code, StatusCode::Cancelled);
        assert_serves(&mut peer, 3);
        assert_eq!(count(server, |it| it.connections_faulted.value()), 0);
    });
}

/// As many streams as calls may be in flight, whether they run, were refused, or are over but for the
/// client's half; then no more.
#[test]
fn req_74_streams_that_are_opened_and_never_ended() {
    let most = least_limits().in_flight.get();
    beside_a_good_one(|server, seen| {
        let mut peer = Peer::polite(address(server));
        for call in 0..most {
            peer.send(&open(call, "never"));
        }
        until("all run", || seen.begun() == u64::from(most));
        peer.send(&open(most, "never"));
        assert_eq!(peer.assert_turned_away(Rule::CallSlot).accepted, most);
    });
    beside_a_good_one(|server, _| {
        let mut peer = Peer::polite(address(server));
        for call in 0..most {
            let late = RequestHead { timeout_us: Some(0), ..head(call, "never") };
            peer.send(&request_with(&late, b""));
            assert_eq!(peer.failure().0.flags, reply_flags::REFUSED);
        }
        // Every one was refused, and every slot still waits for its client's end.
        peer.send(&open(1 << 16, "never"));
        peer.assert_turned_away(Rule::CallIdInUse);
    });
}

/// Opened and given up, for ever: each is answered, and nothing is left of it.
#[test]
fn req_74_streams_that_are_opened_and_cancelled_for_ever() {
    const ROUNDS: u32 = 2_000;
    beside_a_good_one(|server, seen| {
        let mut peer = Peer::polite(address(server));
        for round in 0..ROUNDS {
            let mut bytes = Vec::new();
            for slot in 0..8 {
                let call = slot | (round & 0xffff) << 16;
                bytes.extend(open(call, if slot % 2 == 0 { "never" } else { "silent" }));
                bytes.extend(bytes_of(|out| out.cancel(call, CancelReason::Dropped)));
            }
            peer.send(&bytes);
            for _ in 0..8 {
                assert_eq!(peer.failure().0.code, StatusCode::Cancelled);
            }
        }
        assert_serves(&mut peer, 0);
        assert_eq!(seen.begun(), seen.ended());
        assert_eq!(count(server, |it| it.connections_faulted.value()), 0);
    });
}

/// The next frame of a stream that is not the other side's credit for it.
fn next_frame(peer: &mut Peer) -> Said {
    loop {
        match peer.said() {
            Said::Other(Head::Credit(_)) => {}
            said => return said,
        }
    }
}

/// A client that takes what comes and never grants: what was granted in its hello comes, calls go on,
/// and the call's deadline ends it.
#[test]
fn req_73_a_client_that_never_grants() {
    const BYTES: u32 = 1000;
    beside_a_good_one(|server, seen| {
        let mut peer = Peer::limited(address(server), least_limits());
        let started = Instant::now();
        let timeout_us = Some(300_000);
        let flood = |call| {
            let body = [&u64::MAX.to_le_bytes()[..], &BYTES.to_le_bytes()].concat();
            request_with(&RequestHead { timeout_us, ..head(call, "flood") }, &body)
        };
        for call in 0..8 {
            peer.send(&flood(call));
        }
        let (mut messages, mut over) = (0, 0);
        while over < 8 {
            match next_frame(&mut peer) {
                Said::Other(Head::StreamData(_)) => messages += 1,
                Said::Other(Head::StreamEnd(end)) => {
                    assert_eq!(end.code, StatusCode::DeadlineExceeded);
                    over += 1;
                }
                Said::Reply(reply, _) if reply.flags & reply_flags::STREAM != 0 => {}
                Said::Reply(reply, _) => {
                    assert_eq!(reply.code, StatusCode::DeadlineExceeded);
                    over += 1;
                }
                said => panic!("{said:?}"),
            }
        }
        assert!(started.elapsed() >= Duration::from_millis(300));
        // The credit of the connection, and at most one message over it.
        let most = (STREAMS as usize * STREAM).div_ceil(BYTES as usize + FRAME);
        assert!((1..=most).contains(&messages), "{messages}, and {most} were granted");
        let ahead = 8 * (OUTBOX / u64::from(BYTES) + 1);
        assert!(seen.made() <= messages as u64 + ahead, "{} made", seen.made());
        assert_serves(&mut peer, 0);
        assert_eq!(count(server, |it| it.connections_faulted.value()), 0);
    });
}

/// And one that says nothing either: it is given up.
#[test]
fn req_73_a_client_that_never_grants_and_falls_silent() {
    let short = Duration::from_millis(200);
    let timeouts = Timeouts { ping_after: short, ping: short, ..Timeouts::default() };
    let (server, seen) = feed_with(|it| it.limits(least_limits()).timeouts(timeouts));
    let mut peer = Peer::limited(address(&server), least_limits());
    let body = [&u64::MAX.to_le_bytes()[..], &1000u32.to_le_bytes()].concat();
    peer.send(&request_with(&head(0, "flood"), &body));
    until("it is turned away", || count(&server, |it| it.connections_faulted.value()) == 1);
    until("its handler is gone", || seen.begun() == 1 && seen.ended() == 1);
    assert!(seen.made() <= (STREAM as u64 + OUTBOX) / 1000 + 3, "{}", seen.made());
    end(server);
}
