//! Streams from their opening to their end, in every order in which the two sides can end them.

use bytes::Bytes;
use corewire_codec::{
    CancelReason, Credit, Encoding, GoAway, Head, MethodId, ReplyHead, RequestHead, Status,
    StatusCode, StreamData, reply_flags,
};

use super::flow::{CONNECTION, FRAME, STREAM};
use super::pair::{Event, Outcome, Pair, bytes, put_reply, put_request, said_later, secs};
use crate::config::ServerConfig;
use crate::streams::table::{NotSent, StreamKind};

const KINDS: [StreamKind; 3] = [StreamKind::Client, StreamKind::Server, StreamKind::Bidirectional];

fn ended(code: StatusCode) -> Outcome {
    Outcome::StreamEnd(code, Bytes::new())
}

/// REQ-31, REQ-50, REQ-51: each kind from its request to its end, over bytes cut anywhere.
#[test]
fn every_kind_from_begin_to_end() {
    for (kind, step) in KINDS.into_iter().flat_map(|kind| [1, 7, 1_000].map(|s| (kind, s))) {
        let mut pair = Pair::streaming_ready();
        let call = pair.stream(kind, 5);
        if kind.client_sends() {
            pair.client_sends(call, b"one", false).unwrap();
            pair.client_sends(call, b"", false).unwrap();
            pair.client_sends(call, b"three", true).unwrap();
            assert_eq!(pair.client_sends(call, b"four", false), Err(NotSent::Ended));
        }
        pair.settle_by(step);
        assert_eq!(pair.server.ran, [call]);
        if kind.client_sends() {
            assert!(matches!(pair.server.events.last(), Some(Event::Data { end: true, .. })));
            assert_eq!(pair.server_takes(call), ["one", "", "three"]);
        }
        match kind.server_sends() {
            true => {
                pair.server_sends(call, b"first").unwrap();
                pair.server_sends(call, b"").unwrap();
                pair.server_ends(call, None);
            }
            false => pair.answer(call),
        }
        pair.settle_by(step);
        match kind.server_sends() {
            true => {
                assert_eq!(pair.client_takes(call), ["first", ""]);
                assert_eq!(pair.outcome(5), Some(&ended(StatusCode::Ok)));
            }
            false => assert!(pair.echoed(5)),
        }
        pair.settle_by(step);
        pair.assert_no_streams();
        // The slot is free on both sides, for a call of any kind.
        pair.call(6);
        pair.settle();
        assert_eq!(pair.server.ran.len(), 2);
    }
}

/// REQ-51: either side may stop with a status and a text; the client's does not end the call.
#[test]
fn an_end_with_a_status() {
    let mut pair = Pair::streaming_ready();
    let call = pair.stream(StreamKind::Bidirectional, 1);
    let failure = Status::aborted("the file shrank");
    let (conn, out) = (&mut pair.client.conn, &mut pair.client.out);
    conn.end_stream(call, Some(&failure), None, out).unwrap();
    assert_eq!(conn.end_stream(call, None, None, out), Err(NotSent::Ended));
    pair.settle();
    let Some(Event::End { code, body, .. }) = pair.server.events.last() else {
        panic!("{:?}", pair.server.events)
    };
    assert_eq!(Status::from_body(*code, body), failure);
    pair.server_sends(call, b"all the same").unwrap();
    pair.server_ends(call, Some(&Status::data_loss("half a file")));
    assert_eq!(pair.server_sends(call, b"more"), Err(NotSent::Ended));
    pair.settle();
    assert_eq!(pair.client_takes(call), ["all the same"]);
    let Some(Outcome::StreamEnd(code, body)) = pair.outcome(1) else { panic!("an end") };
    assert_eq!(Status::from_body(*code, body), Status::data_loss("half a file"));
    pair.assert_no_streams();
}

/// REQ-63, REQ-54: the server is done first. What the client still sends is dropped and its bytes
/// come back, its half is ended with a cancel, and only then may the slot be used again.
#[test]
fn the_server_ends_before_the_client() {
    for kind in [StreamKind::Client, StreamKind::Bidirectional] {
        let mut pair = Pair::streaming_ready();
        let call = pair.stream(kind, 1);
        pair.settle();
        match kind.server_sends() {
            true => pair.server_ends(call, None),
            false => pair.server_fails(call, &Status::invalid_argument("no")),
        }
        assert_eq!((pair.server.conn.streams(), pair.server.conn.in_flight()), (1, 0));
        // These cross the end on the wire: more than half of the connection's window in all.
        pair.client_sends(call, &[1; STREAM - 2 * FRAME], false).unwrap();
        pair.client_sends(call, &[2; CONNECTION / 2], false).unwrap();
        pair.up(usize::MAX);
        assert_eq!(pair.server.events, [], "nobody wants them");
        assert_eq!(pair.server.conn.held_stream_bytes(), 0);
        let said = said_later(&pair.server.out);
        let grants: Vec<_> = said.iter().filter(|head| matches!(head, Head::Credit(_))).collect();
        let bytes = u32::try_from(STREAM - FRAME + CONNECTION / 2 + FRAME).unwrap();
        assert_eq!(grants, [&Head::Credit(Credit { call: None, bytes })], "the connection's alone");
        pair.down(usize::MAX);
        assert!(pair.outcome(1).is_some());
        assert_eq!(pair.client_sends(call, b"late", false), Err(NotSent::Ended));
        let mut said = said_later(&pair.client.out);
        assert_eq!(said.pop(), Some(Head::Cancel { call, reason: CancelReason::Dropped }));
        // The same slot, at once: its request is behind the cancel.
        let next = pair.stream(kind, 2);
        assert_eq!((next & 0xffff, next >> 16), (call & 0xffff, (call >> 16) + 1));
        pair.client_sends(next, b"hello", true).unwrap();
        pair.settle();
        assert_eq!(pair.server_takes(next), ["hello"]);
        assert_eq!(pair.server.conn.streams(), 1);
        match kind.server_sends() {
            true => pair.server_ends(next, None),
            false => pair.answer(next),
        }
        pair.settle();
        pair.assert_no_streams();
    }
}

/// REQ-63: a client that ended its half before it read the server's end says nothing more.
#[test]
fn ends_that_cross() {
    let mut pair = Pair::streaming_ready();
    let call = pair.stream(StreamKind::Bidirectional, 1);
    pair.settle();
    pair.client_sends(call, b"last", true).unwrap();
    pair.server_ends(call, None);
    let frames = said_later(&pair.client.out).len();
    pair.down(usize::MAX);
    assert_eq!(said_later(&pair.client.out).len(), frames);
    pair.settle();
    pair.assert_no_streams();
}

/// REQ-55, REQ-63: a dropped call. What the server still streams is dropped and given back.
#[test]
fn the_client_cancels() {
    for kind in KINDS {
        let mut pair = Pair::streaming_ready();
        let call = pair.stream(kind, 1);
        pair.settle();
        if kind.server_sends() {
            pair.server_sends(call, &[7; CONNECTION / 2]).unwrap();
        }
        assert_eq!(pair.abandon(call), Some(1));
        assert_eq!(pair.client_sends(call, b"x", false), Err(NotSent::Ended));
        pair.down(usize::MAX);
        assert_eq!(pair.client.events, []);
        pair.settle();
        assert_eq!(pair.server.dropped, [call]);
        assert_eq!(pair.server_sends(call, b"x"), Err(NotSent::Ended));
        assert_eq!(pair.outcome(1), None);
        pair.assert_no_streams();
        assert_eq!(pair.client.conn.in_flight(), 0);
        assert!(pair.client.conn.has_slot());
    }
}

/// REQ-34: a stream's deadline ends it on both sides, whichever comes first.
#[test]
fn the_deadline_passes() {
    for kind in KINDS {
        let mut pair = Pair::streaming_ready();
        let call = pair.stream_within(kind, 1, Some(secs(1)));
        pair.settle();
        pair.wait(secs(1));
        assert_eq!(pair.server.dropped, [call]);
        assert_eq!(pair.outcome(1), Some(&Outcome::Expired));
        pair.settle();
        pair.assert_no_streams();
        // The server's alone: the client says no deadline, and sends on.
        let call = pair.client.conn.begin_stream(kind, 2, None).unwrap();
        let head = RequestHead {
            timeout_us: Some(1_000),
            flags: kind.request_flags(),
            ..RequestHead::new(call, MethodId(1))
        };
        put_request(&mut pair.client.out, &head, b"");
        pair.up(usize::MAX);
        pair.wait(secs(1));
        if kind.client_sends() {
            pair.client_sends(call, b"too late", false).unwrap();
        }
        pair.settle();
        assert_eq!(pair.status(2).0.code, StatusCode::DeadlineExceeded);
        pair.assert_no_streams();
    }
}

/// REQ-43, REQ-54, REQ-63: refused before it ran, with messages behind it: not offered, time over, and
/// draining. None of them is a fault, and none costs the connection credit.
#[test]
fn a_refused_stream() {
    for (offered, timeout, drain, code) in [
        (false, None, false, StatusCode::Unimplemented),
        (true, Some(0), false, StatusCode::DeadlineExceeded),
        (true, None, true, StatusCode::Unavailable),
    ] {
        let config = ServerConfig { streams: offered, ..super::flow::server_config() };
        let mut pair = Pair::with(config, super::flow::client_config());
        pair.settle();
        if drain {
            pair.server.conn.drain(&mut pair.server.out);
        }
        for (number, kind) in (0..).zip(KINDS) {
            let call = pair.client.conn.begin_stream(kind, number, None).unwrap();
            let (timeout_us, flags) = (timeout, kind.request_flags());
            let head = RequestHead { timeout_us, flags, ..RequestHead::new(call, MethodId(1)) };
            put_request(&mut pair.client.out, &head, b"");
            if kind.client_sends() {
                pair.client_sends(call, &[0; STREAM], false).unwrap();
            }
        }
        pair.up(usize::MAX);
        pair.settle();
        assert!(pair.server.ran.is_empty());
        for number in 0..3 {
            match pair.outcome(number) {
                Some(Outcome::Refused) => assert!(drain),
                _ => {
                    let (head, _) = pair.status(number);
                    assert_eq!((head.code, head.flags), (code, reply_flags::REFUSED));
                }
            }
        }
        pair.assert_no_streams();
        assert_eq!(pair.client.conn.is_drained(), drain);
    }
}

/// REQ-61: a stream that the server will not run, as its go-away says, is over for its caller, whatever
/// the server sends on it all the same.
#[test]
fn a_stream_refused_by_a_go_away() {
    let mut pair = Pair::streaming_ready();
    let call = pair.stream(StreamKind::Bidirectional, 1);
    let go_away = bytes(|out| out.go_away(&GoAway { accepted: 0, rule: 0 }, ""));
    pair.client.feed(&go_away, pair.now);
    assert_eq!(pair.outcome(1), Some(&Outcome::Refused));
    let data = StreamData { call, encoding: Encoding::RAW, end: false };
    pair.client.feed(&bytes(|out| out.stream_data(&data).finish(0).unwrap()), pair.now);
    assert_eq!(pair.client.events, []);
    let refusal = bytes(|out| out.status(&ReplyHead::ok(call), &Status::unavailable(""), 1 << 16));
    pair.client.feed(&refusal, pair.now);
    assert!(pair.client.conn.is_drained());
    assert_eq!(pair.client.conn.streams(), 0);
}

/// REQ-44: the handler says that it took the call, at most once, and the call goes on.
#[test]
fn an_opening() {
    let mut pair = Pair::streaming_ready();
    let call = pair.stream(StreamKind::Server, 1);
    pair.settle();
    let (conn, out) = (&mut pair.server.conn, &mut pair.server.out);
    conn.accept_stream(call, None, None, out).unwrap();
    assert_eq!(conn.accept_stream(call, None, None, out), Err(NotSent::Ended));
    pair.settle();
    assert_eq!(pair.client.events, [Event::Opened(call)]);
    pair.server_ends(call, None);
    pair.settle();
    assert_eq!(pair.outcome(1), Some(&ended(StatusCode::Ok)));
    // Crossing a cancel, it is nobody's.
    pair.client.events.clear();
    let call = pair.stream(StreamKind::Server, 2);
    pair.settle();
    pair.server.conn.accept_stream(call, None, None, &mut pair.server.out).unwrap();
    pair.abandon(call);
    pair.settle();
    assert_eq!(pair.client.events, []);
    pair.assert_no_streams();
}

/// REQ-71: a handler that reads no more of its input does not hold up the client that sends it.
#[test]
fn a_reader_that_stops_holds_nobody_up() {
    let mut pair = Pair::streaming_ready();
    let call = pair.stream(StreamKind::Bidirectional, 1);
    pair.client_sends(call, &[0; 100], false).unwrap();
    pair.settle();
    pair.server.conn.stop_receiving(call);
    for _ in 0..20 {
        pair.client_sends(call, &[0; STREAM / 2], false).unwrap();
        pair.settle();
    }
    assert_eq!(pair.server_takes(call).len(), 1, "what was delivered is still to be consumed");
    pair.client.conn.stop_receiving(call);
    for _ in 0..20 {
        pair.server_sends(call, &[0; STREAM / 2]).unwrap();
        pair.settle();
    }
    pair.client_sends(call, b"", true).unwrap();
    pair.server_ends(call, None);
    pair.settle();
    assert_eq!(pair.outcome(1), Some(&ended(StatusCode::Ok)));
    pair.assert_no_streams();
}

/// REQ-7: before the hello there is the least credit, and with it what the server really gives.
#[test]
fn streams_before_the_hello() {
    let config = ServerConfig { streams: true, ..ServerConfig::default() };
    let window = config.limits.stream_window() as usize;
    let mut pair = Pair::with(config, super::flow::client_config());
    let call = pair.stream(StreamKind::Client, 1);
    assert_eq!(pair.client.conn.send_credit(call) as usize, STREAM);
    pair.client_sends(call, &[0; STREAM], false).unwrap();
    assert_eq!(pair.client_sends(call, b"", false), Err(NotSent::NoCredit));
    pair.settle();
    assert_eq!(pair.client.conn.send_credit(call) as usize, window - STREAM - FRAME);
    pair.client_sends(call, b"", true).unwrap();
    pair.settle();
    assert_eq!(pair.server_takes(call).len(), 2);
    pair.answer(call);
    pair.settle();
    pair.assert_no_streams();
}

/// REQ-35: a stream's call has one outcome when the connection breaks, and messages that nobody took
/// are of no consequence.
#[test]
fn the_connection_breaks() {
    let mut pair = Pair::streaming_ready();
    let call = pair.stream(StreamKind::Bidirectional, 1);
    pair.client_sends(call, b"x", false).unwrap();
    pair.settle();
    pair.server_sends(call, b"y").unwrap();
    pair.settle();
    for side in ["client", "server"] {
        match side {
            "client" => pair.client.conn.handle_error(std::io::ErrorKind::ConnectionReset),
            _ => pair.server.conn.handle_error(std::io::ErrorKind::BrokenPipe),
        }
    }
    pair.client.fail_all();
    assert_eq!(pair.outcome(1), Some(&Outcome::Failed { may_have_run: true }));
    assert_eq!(pair.server.conn.unpark_all().count(), 1);
    assert_eq!(pair.client_takes(call), ["y"]);
    assert_eq!(pair.server_takes(call), ["x"]);
    assert_eq!(pair.server_sends(call, b"z"), Err(NotSent::Ended));
    assert_eq!(pair.client_sends(call, b"z", true), Err(NotSent::Ended));
    assert!(pair.client.out.is_empty() && pair.server.out.is_empty());
}

/// A handler that is never parked ends its call all the same.
#[test]
fn a_stream_that_never_pends() {
    let mut pair = Pair::streaming_ready();
    pair.server.serve = super::pair::Serve::Echo;
    let call = pair.stream(StreamKind::Client, 1);
    pair.client_sends(call, b"x", false).unwrap();
    pair.up(16 + 4);
    pair.server.conn.finish_stream(call);
    pair.settle();
    assert!(pair.echoed(1));
    pair.assert_no_streams();
}

/// A call that was begun and not sent leaves nothing behind.
#[test]
fn an_unsent_stream() {
    let mut pair = Pair::streaming_ready();
    let call = pair.client.conn.begin_stream(StreamKind::Client, 1, None).unwrap();
    assert_eq!(pair.client.conn.unsend(call), Some(1));
    pair.assert_no_streams();
    let call = pair.stream(StreamKind::Client, 2);
    pair.client_sends(call, b"", true).unwrap();
    pair.settle();
    put_reply(&mut pair.server.out, call, b"ok");
    pair.server.conn.unpark(call).unwrap();
    pair.server_takes(call);
    pair.settle();
    pair.assert_no_streams();
}
