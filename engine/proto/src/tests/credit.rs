//! Credit that runs out, comes back, is overdrawn or overflows; and stream frames that nobody asked
//! for.

use corewire_codec::{
    CancelReason, Credit, Encoding, Head, MetadataBytes, MethodId, ReplyHead, RequestHead, Rule,
    SendBuffer, Status, StreamData, reply_flags,
};

use super::flow::{CONNECTION, FRAME, STREAM, client_config, server_config};
use super::pair::{Event, Pair, bytes, in_flight, misbehaved, put_request, said_later, secs};
use crate::config::Timeouts;
use crate::streams::table::{NotSent, StreamKind};

fn data(call: u32, body: &[u8], end: bool) -> Vec<u8> {
    bytes(|out| put_data(out, call, body, end))
}

fn put_data(out: &mut SendBuffer, call: u32, body: &[u8], end: bool) {
    let mut frame = out.stream_data(&StreamData { call, encoding: Encoding::RAW, end });
    frame.put_slice(body);
    frame.finish(u32::MAX).unwrap();
}

fn end(call: u32) -> Vec<u8> {
    bytes(|out| out.stream_end(call, None, None, u32::MAX, u32::MAX))
}

fn credit(call: Option<u32>, amount: u32) -> Vec<u8> {
    bytes(|out| out.credit(&Credit { call, bytes: amount }))
}

/// A pair with a stream in both directions, whose request the server has read.
fn with_stream() -> (Pair, u32) {
    let mut pair = Pair::streaming_ready();
    let call = pair.stream(StreamKind::Bidirectional, 1);
    pair.settle();
    (pair, call)
}

/// Both sides are fed `frame` about a stream that is open in both directions.
fn both_blame(frame: impl Fn(u32) -> Vec<u8>, rule: Rule) {
    let (mut pair, call) = with_stream();
    pair.server.feed(&frame(call), pair.now);
    assert_eq!(pair.server.conn.close_reason(), misbehaved(rule));
    assert!(pair.server.events.is_empty());
    pair.client.feed(&frame(call), pair.now);
    assert_eq!(pair.client.conn.close_reason(), misbehaved(rule));
    assert!(pair.client.events.is_empty());
}

/// REQ-71: a reader that keeps up never stops its writer, whatever the sizes, in both directions; the
/// grants are few.
#[test]
fn a_reader_that_keeps_up() {
    let (mut pair, call) = with_stream();
    let sizes = [0, 1, 100, STREAM / 2 - 1, STREAM / 2, STREAM, 3 * STREAM, 2 * CONNECTION];
    for size in sizes.into_iter().cycle().take(200) {
        let body = vec![7; size];
        pair.client_sends(call, &body, false).unwrap();
        pair.server_sends(call, &body).unwrap();
        pair.settle();
        assert_eq!(pair.server_takes(call), [&body[..]]);
        assert_eq!(pair.client_takes(call), [&body[..]]);
        pair.settle();
    }
    let mut grants = 0;
    for _ in 0..1_000 {
        pair.client_sends(call, &[0; 84], false).unwrap();
        pair.up(usize::MAX);
        pair.server_takes(call);
        grants += said_later(&pair.server.out).len();
        pair.settle();
    }
    assert!(grants <= 1_000 * 100 / (STREAM / 2) + 1_000 * 100 / (CONNECTION / 2) + 2, "{grants}");
}

/// REQ-52: the writer stops when its stream's credit is used up and goes on when it is told so. A
/// message may be larger than the window, and then the credit must first be worked off.
#[test]
fn a_slow_reader_stops_its_writer() {
    let (mut pair, call) = with_stream();
    pair.client_sends(call, &[0; STREAM - FRAME - 1], false).unwrap();
    assert_eq!(pair.client.conn.send_credit(call), 1);
    pair.client_sends(call, &[0; 2 * STREAM], false).unwrap();
    assert_eq!(pair.client.conn.send_credit(call), 0);
    assert_eq!(pair.client_sends(call, b"", false), Err(NotSent::NoCredit));
    pair.settle();
    assert_eq!(pair.server_takes(call).len(), 2);
    assert_eq!(pair.client.events, []);
    pair.settle();
    assert_eq!(pair.client.events, [Event::Writable(Some(call))]);
    assert_eq!(pair.client.conn.send_credit(call) as usize, STREAM);
}

/// REQ-52: a message that uses up both credits. The stream's comes back first, and is of no use before the
/// connection's: a waiting stream is told once there are both.
#[test]
fn both_credits_used_up() {
    let (mut pair, call) = with_stream();
    pair.client_sends(call, &[0; CONNECTION], false).unwrap();
    pair.settle();
    pair.server_takes(call);
    let grants = said_later(&pair.server.out);
    let bytes = u32::try_from(CONNECTION + FRAME).unwrap();
    let grant = |call| Head::Credit(Credit { call, bytes });
    assert_eq!(grants, [grant(Some(call)), grant(None)]);
    pair.down(FRAME);
    assert_eq!(pair.client_sends(call, b"", false), Err(NotSent::NoCredit));
    assert_eq!(pair.client.events, []);
    pair.down(FRAME);
    assert_eq!(pair.client.events, [Event::Writable(None)]);
    pair.client_sends(call, b"", true).unwrap();
}

/// REQ-70: three streams whose readers stall leave the fourth its share; they hold up no call. All of
/// them are told when the connection's credit is back.
#[test]
fn stalled_streams_and_the_others() {
    let mut pair = Pair::streaming_ready();
    let stalled: Vec<u32> = (0..3).map(|n| pair.stream(StreamKind::Client, n)).collect();
    for call in &stalled {
        pair.client_sends(*call, &[0; STREAM - FRAME], false).unwrap();
        assert_eq!(pair.client_sends(*call, b"", false), Err(NotSent::NoCredit));
    }
    let live = pair.stream(StreamKind::Client, 3);
    pair.settle();
    for _ in 0..50 {
        pair.client_sends(live, &[0; STREAM / 2], false).unwrap();
        pair.settle();
        assert_eq!(pair.server_takes(live).len(), 1);
        pair.settle();
    }
    // One more than fits: now the connection's credit is used up, and only streams feel it.
    pair.client_sends(live, &[0; STREAM], false).unwrap();
    let fifth = pair.stream(StreamKind::Client, 4);
    assert_eq!(pair.client_sends(fifth, b"", false), Err(NotSent::NoCredit));
    let unary = pair.call(5);
    pair.settle();
    pair.answer(unary);
    pair.settle();
    assert!(pair.echoed(5));
    pair.client.events.clear();
    // Their readers wake up.
    for call in stalled.iter().chain([&live]) {
        pair.server_takes(*call);
    }
    pair.settle();
    assert!(pair.client.events.contains(&Event::Writable(None)));
    pair.client_sends(fifth, b"", true).unwrap();
}

/// REQ-71: what was consumed before others stalled is granted once they hold the rest: nothing that they
/// hold is needed for it.
#[test]
fn what_was_consumed_is_granted_when_the_rest_is_held() {
    let mut pair = Pair::streaming_ready();
    let live = pair.stream(StreamKind::Client, 0);
    pair.settle();
    // Just too little to be granted at once.
    for _ in 0..3 {
        pair.client_sends(live, &[0; STREAM / 2 - FRAME], false).unwrap();
        pair.settle();
        assert_eq!(pair.server_takes(live).len(), 1);
        pair.settle();
    }
    let stalled: Vec<u32> = (1..4).map(|n| pair.stream(StreamKind::Client, n)).collect();
    for call in stalled {
        while pair.client_sends(call, &[0; 1_000], false).is_ok() {}
    }
    pair.settle();
    let held = pair.server.conn.held_stream_bytes() as usize;
    assert!(held < CONNECTION, "{held} bytes are held by those that stall");
    assert_eq!(pair.client_sends(live, b"", false), Ok(()));
}

/// REQ-52, rule 24: one message past the stream's credit, and one past the connection's. A message
/// without bytes costs, too.
#[test]
fn credit_overdrawn() {
    let whole = |call| data(call, &[0; STREAM - FRAME], false);
    both_blame_after(whole, |call| data(call, b"", false), Rule::CreditOverdrawn);
    // Empty messages use up the window, sixteen bytes each.
    let (mut pair, call) = with_stream();
    for _ in 0..STREAM / FRAME {
        pair.server.feed(&data(call, b"", false), pair.now);
    }
    assert_eq!(pair.server.conn.close_reason(), None);
    pair.server.feed(&data(call, b"", false), pair.now);
    assert_eq!(pair.server.conn.close_reason(), misbehaved(Rule::CreditOverdrawn));
    // The connection's: four whole streams, and a fifth.
    let mut pair = Pair::streaming_ready();
    let calls: Vec<u32> = (0..5).map(|n| pair.stream(StreamKind::Client, n)).collect();
    pair.settle();
    for call in &calls[..4] {
        pair.server.feed(&whole(*call), pair.now);
    }
    assert_eq!(pair.server.conn.close_reason(), None);
    assert_eq!(pair.server.conn.held_stream_bytes() as usize, CONNECTION);
    pair.server.feed(&data(calls[4], b"", false), pair.now);
    assert_eq!(pair.server.conn.close_reason(), misbehaved(Rule::CreditOverdrawn));
}

/// As [`both_blame`], behind a frame that is all right.
fn both_blame_after(first: impl Fn(u32) -> Vec<u8>, frame: impl Fn(u32) -> Vec<u8>, rule: Rule) {
    let (mut pair, call) = with_stream();
    pair.server.feed(&first(call), pair.now);
    pair.client.feed(&first(call), pair.now);
    assert_eq!((pair.server.conn.close_reason(), pair.client.conn.close_reason()), (None, None));
    pair.server.feed(&frame(call), pair.now);
    pair.client.feed(&frame(call), pair.now);
    assert_eq!(pair.server.conn.close_reason(), misbehaved(rule));
    assert_eq!(pair.client.conn.close_reason(), misbehaved(rule));
}

/// REQ-54, rule 26: behind the end there is nothing, be it a message or another end.
#[test]
fn data_after_the_end() {
    for last in [|call| data(call, b"x", true), end] {
        for again in [|call| data(call, b"", false), end] {
            let (mut pair, call) = with_stream();
            pair.server.feed(&last(call), pair.now);
            assert_eq!(pair.server.conn.close_reason(), None);
            pair.server.feed(&again(call), pair.now);
            assert_eq!(pair.server.conn.close_reason(), misbehaved(Rule::UnknownStream));
        }
    }
    for again in [|call| data(call, b"", false), end] {
        let (mut pair, call) = with_stream();
        pair.client_sends(call, b"", true).unwrap();
        pair.client.feed(&end(call), pair.now);
        pair.client.feed(&again(call), pair.now);
        assert_eq!(pair.client.conn.close_reason(), misbehaved(Rule::UnknownStream));
    }
    // Also when the server dropped what came before it.
    let (mut pair, call) = with_stream();
    pair.server_ends(call, None);
    pair.server.feed(&data(call, b"crossing", true), pair.now);
    assert_eq!(pair.server.conn.close_reason(), None);
    pair.server.feed(&data(call, b"", false), pair.now);
    assert_eq!(pair.server.conn.close_reason(), misbehaved(Rule::UnknownStream));
}

/// REQ-54, rule 26: a call never made, one that is unary, one of another generation, one that is long
/// over, and a direction that was not asked for.
#[test]
fn unknown_stream() {
    for frame in [|call| data(call, b"x", false), end] {
        for other in [1, 0x7fff, 0xffff, 0x0001_0000, u32::MAX] {
            both_blame(|_| frame(other), Rule::UnknownStream);
        }
        // No stream was ever opened on this connection.
        let mut pair = Pair::streaming_ready();
        let unary = pair.call(1);
        pair.settle();
        pair.server.feed(&frame(unary), pair.now);
        pair.client.feed(&frame(unary), pair.now);
        assert_eq!(pair.server.conn.close_reason(), misbehaved(Rule::UnknownStream));
        assert_eq!(pair.client.conn.close_reason(), misbehaved(Rule::UnknownStream));
        // The other direction.
        let mut pair = Pair::streaming_ready();
        let results = pair.stream(StreamKind::Server, 1);
        let upload = pair.stream(StreamKind::Client, 2);
        pair.settle();
        pair.server.feed(&frame(results), pair.now);
        pair.client.feed(&frame(upload), pair.now);
        assert_eq!(pair.server.conn.close_reason(), misbehaved(Rule::UnknownStream));
        assert_eq!(pair.client.conn.close_reason(), misbehaved(Rule::UnknownStream));
        // Long over.
        let (mut pair, call) = with_stream();
        pair.client_sends(call, b"", true).unwrap();
        pair.settle();
        pair.server_ends(call, None);
        pair.settle();
        pair.server.feed(&frame(call), pair.now);
        pair.client.feed(&frame(call), pair.now);
        assert_eq!(pair.server.conn.close_reason(), misbehaved(Rule::UnknownStream));
        assert_eq!(pair.client.conn.close_reason(), misbehaved(Rule::UnknownStream));
    }
}

/// REQ-33, REQ-63, rule 22: the slot of a stream that its client has not ended yet is still taken,
/// whatever the generation.
#[test]
fn a_slot_reused_too_early() {
    let (mut pair, call) = with_stream();
    pair.server_ends(call, None);
    let request = |call| bytes(|out| put_request(out, &RequestHead::new(call, MethodId(1)), b""));
    pair.server.feed(&request(call + 0x0001_0000), pair.now);
    assert_eq!(pair.server.conn.close_reason(), misbehaved(Rule::CallIdInUse));
    assert_eq!(pair.server.ran.len(), 1);
}

/// REQ-44: an opening of no stream, a second one, and one that is not Ok. REQ-50: a server's message
/// never says that it is the last.
#[test]
fn wrong_openings_and_ends() {
    let opening = |call, code| {
        let head = ReplyHead { flags: reply_flags::STREAM, code, ..ReplyHead::ok(call) };
        bytes(|out| out.reply(&head, None).finish(u32::MAX).unwrap())
    };
    let ok = corewire_codec::StatusCode::Ok;
    let mut pair = Pair::streaming_ready();
    let unary = pair.call(1);
    pair.settle();
    pair.client.feed(&opening(unary, ok), pair.now);
    assert_eq!(pair.client.conn.close_reason(), misbehaved(Rule::UnknownReply));
    let (mut pair, call) = with_stream();
    pair.client.feed(&opening(call, ok), pair.now);
    assert_eq!(pair.client.conn.close_reason(), None);
    pair.client.feed(&opening(call, ok), pair.now);
    assert_eq!(pair.client.conn.close_reason(), misbehaved(Rule::UnknownReply));
    let (mut pair, call) = with_stream();
    pair.client.feed(&opening(call, corewire_codec::StatusCode::Internal), pair.now);
    assert_eq!(pair.client.conn.close_reason(), misbehaved(Rule::UnknownReply));
    let (mut pair, call) = with_stream();
    pair.client.feed(&data(call, b"x", true), pair.now);
    assert_eq!(pair.client.conn.close_reason(), misbehaved(Rule::ReservedBits));
}

/// REQ-53, rule 25: a grant of nothing, and grants that no counter holds.
#[test]
fn bad_credit() {
    both_blame(|call| credit(Some(call), 0), Rule::BadCredit);
    both_blame(|_| credit(None, 0), Rule::BadCredit);
    both_blame(|call| credit(Some(call), u32::MAX), Rule::BadCredit);
    both_blame(|_| credit(None, u32::MAX), Rule::BadCredit);
    both_blame(|_| credit(None, (1 << 30) + 1), Rule::BadCredit);
    // Up to the maximum by steps, and one byte past it.
    let most = |call| credit(call, (1 << 30) - 16 * 1024);
    both_blame_after(|call| most(Some(call)), |call| credit(Some(call), 1), Rule::BadCredit);
    // Without any stream, too: the counters are there from the start.
    let mut pair = Pair::streaming_ready();
    pair.server.feed(&credit(None, u32::MAX), pair.now);
    pair.client.feed(&credit(None, u32::MAX), pair.now);
    assert_eq!(pair.server.conn.close_reason(), misbehaved(Rule::BadCredit));
    assert_eq!(pair.client.conn.close_reason(), misbehaved(Rule::BadCredit));
}

/// REQ-53, REQ-55: credit and cancels for calls that are over, or never were, cross their end and
/// harm nobody.
#[test]
fn credit_and_cancels_that_cross_the_end() {
    let (mut pair, call) = with_stream();
    for other in [call + 1, call + 0x0001_0000, 0x7fff, u32::MAX] {
        pair.server.feed(&credit(Some(other), 1 << 30), pair.now);
        pair.client.feed(&credit(Some(other), 1 << 30), pair.now);
        pair.server.feed(&bytes(|out| out.cancel(other, CancelReason::Dropped)), pair.now);
    }
    pair.client_sends(call, b"", true).unwrap();
    pair.settle();
    pair.server_takes(call);
    pair.server_ends(call, None);
    pair.settle();
    pair.server.feed(&credit(Some(call), 5), pair.now);
    pair.server.feed(&bytes(|out| out.cancel(call, CancelReason::Dropped)), pair.now);
    pair.client.feed(&credit(Some(call), 5), pair.now);
    pair.settle();
    pair.assert_no_streams();
}

/// REQ-73: a peer that grants nothing. Nothing grows, and the call's deadline, a cancel, the drain's
/// end or the silence of the peer ends it.
#[test]
fn a_peer_that_grants_nothing() {
    let (mut pair, call) = with_stream();
    let timed = pair.stream_within(StreamKind::Server, 2, Some(secs(10)));
    pair.settle();
    for call in [call, timed] {
        while pair.server_sends(call, &[0; 1_000]).is_ok() {}
    }
    pair.settle();
    for _ in 0..100 {
        assert_eq!(pair.server_sends(call, b"x"), Err(NotSent::NoCredit));
        assert!(pair.server.out.is_empty());
    }
    pair.drive(secs(10));
    assert_eq!(pair.server.dropped, [timed]);
    pair.drive(secs(300));
    assert_eq!(pair.server.conn.close_reason(), None, "the peer answers pings");
    let works = pair.server.conn.finish_all(&Status::unavailable("done"), &mut pair.server.out);
    assert_eq!(works, [1]);
    pair.settle();
    assert_eq!(pair.status(1).0.code, corewire_codec::StatusCode::Unavailable);
    assert_eq!((pair.server.conn.streams(), pair.client.conn.streams()), (0, 0));
    // And one that says nothing at all.
    let timeouts = Timeouts::default();
    let (mut pair, call) = with_stream();
    while pair.server_sends(call, &[0; 1_000]).is_ok() {}
    pair.down(usize::MAX);
    pair.wait(timeouts.ping_after + timeouts.ping);
    assert_eq!(pair.server.conn.close_reason(), misbehaved(Rule::PingTimeout));
}

/// REQ-32, REQ-63, REQ-74: a peer that opens streams for ever, and ends none, is bounded by the calls in flight,
/// also when every one of them is refused or over.
#[test]
fn streams_without_end() {
    let open = |call: u32| {
        let flags = StreamKind::Client.request_flags();
        let head = RequestHead { flags, ..RequestHead::new(call, MethodId(1)) };
        bytes(|out| put_request(out, &head, b""))
    };
    for offered in [true, false] {
        let config = crate::config::ServerConfig { streams: offered, ..in_flight(16) };
        let mut pair = Pair::with(config, client_config());
        pair.settle();
        for call in 0..16 {
            pair.server.feed(&open(call), pair.now);
        }
        assert_eq!(pair.server.conn.close_reason(), None);
        assert_eq!(pair.server.conn.streams(), 16);
        let (call, rule) = if offered { (16, Rule::CallSlot) } else { (0, Rule::CallIdInUse) };
        pair.server.feed(&open(call), pair.now);
        assert_eq!(pair.server.conn.close_reason(), misbehaved(rule));
    }
}

/// REQ-21, rule 15; REQ-51: metadata over the reader's bound is a fault, so the writer leaves it out.
#[test]
fn metadata_over_its_bound() {
    let mut block = corewire_codec::MetadataBuilder::new();
    block.insert("key", &[b'v'; 2_000]).unwrap();
    let mut least = client_config();
    least.limits.metadata_bytes = MetadataBytes::MIN;
    let mut pair = Pair::with(server_config(), least);
    pair.settle();
    let call = pair.stream(StreamKind::Server, 1);
    pair.settle();
    let (conn, out) = (&mut pair.server.conn, &mut pair.server.out);
    conn.accept_stream(call, Some(&block), None, out).unwrap();
    conn.end_stream(call, None, Some(&block), out).unwrap();
    conn.unpark(call).unwrap();
    assert_eq!(pair.server.out.len(), 2 * FRAME);
    pair.settle();
    pair.assert_no_streams();
    // Written all the same, it ends the connection.
    let call = pair.stream(StreamKind::Server, 2);
    pair.settle();
    let frame = bytes(|out| out.stream_end(call, None, Some(&block), u32::MAX, u32::MAX));
    pair.client.feed(&frame, pair.now);
    assert_eq!(pair.client.conn.close_reason(), misbehaved(Rule::BadMetadata));
}

/// REQ-34: a timeout of zero is over; one of half a million years is far, and is not for ever.
#[test]
fn timeouts_at_their_ends() {
    for timeout_us in [0, 1_000 * 365 * 86_400 * 1_000_000, u64::MAX] {
        let mut pair = Pair::streaming_ready();
        let call = pair.client.conn.begin_stream(StreamKind::Server, 1, None).unwrap();
        let flags = StreamKind::Server.request_flags();
        let timeout_us = Some(timeout_us);
        let head = RequestHead { timeout_us, flags, ..RequestHead::new(call, MethodId(1)) };
        put_request(&mut pair.client.out, &head, b"");
        pair.settle();
        if timeout_us == Some(0) {
            assert_eq!(pair.status(1).0.code, corewire_codec::StatusCode::DeadlineExceeded);
            assert!(pair.server.ran.is_empty());
            continue;
        }
        let years = pair.server.deadlines[0].unwrap() - pair.now;
        assert!(years >= secs(1_000 * 365 * 86_400), "{years:?}");
        pair.drive(secs(86_400));
        assert_eq!(pair.server.conn.in_flight(), 1);
    }
}
