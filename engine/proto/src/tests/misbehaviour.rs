//! The peer that breaks a rule: the right rule in the go-away, the end, and nothing else.

use super::pair::{Pair, Serve, blame, bytes, misbehaved, put_reply, put_request, said_later};
use corewire_codec::{CancelReason, MethodId, RequestHead, Rule};

/// The server is fed `frame` by a client that has one call in flight.
fn client_sends(frame: &[u8], rule: Rule) {
    let mut pair = Pair::ready();
    pair.call(1);
    pair.settle();
    pair.server.feed(frame, pair.now);
    assert_eq!(pair.server.conn.close_reason(), misbehaved(rule), "{frame:02x?}");
    assert_eq!(said_later(&pair.server.out), [blame(1, rule)]);
    assert_eq!(pair.server.conn.poll_timeout(), None);
    // What comes after it is not read.
    let later = bytes(|out| put_request(out, &RequestHead::new(3, MethodId(1)), b""));
    pair.server.feed(&later, pair.now);
    assert_eq!(pair.server.ran.len(), 1);
    assert_eq!(said_later(&pair.server.out).len(), 1);
}

/// The client, with one call in flight, is fed `frame` by a server.
fn server_sends(frame: &[u8], rule: Rule) {
    let mut pair = Pair::ready();
    pair.call(1);
    pair.settle();
    pair.client.feed(frame, pair.now);
    assert_eq!(pair.client.conn.close_reason(), misbehaved(rule), "{frame:02x?}");
    assert_eq!(said_later(&pair.client.out), [blame(0, rule)]);
    assert_eq!(pair.client.conn.poll_timeout(), None);
    pair.client.fail_all();
    assert_eq!(pair.client.outcomes.len(), 1);
}

/// A header with an empty payload, or with a length and nothing behind it.
fn header(payload_bytes: u32, kind: u8, flags: u8, detail: u8) -> Vec<u8> {
    let mut bytes = payload_bytes.to_le_bytes().to_vec();
    bytes.extend_from_slice(&[kind, flags, 0, detail, 9, 0, 0, 0, 0, 0, 0, 0]);
    bytes
}

/// REQ-11 to REQ-21: what one frame can break, on both sides.
#[test]
fn broken_frames() {
    let cases = [
        (header(0, 0, 0, 0), Rule::UnknownFrameKind),
        (header(0, 77, 0, 0), Rule::UnknownFrameKind),
        (header(0, 7, 1, 0), Rule::ReservedBits),
        (header(0, 8, 0, 1), Rule::ReservedBits),
        (header(1025, 9, 0, 0), Rule::BadField),
        (header(u32::MAX, 4, 0, 1), Rule::FrameTooLarge),
        (header(16 * 1024 * 1024 + 1, 4, 0, 0), Rule::FrameTooLarge),
        (header(1, 7, 0, 0), Rule::UnexpectedPayload),
        (header(0, 4, 0x20, 0), Rule::TruncatedPayload),
        ([header(3, 4, 0x20, 0), vec![1, 0, 9]].concat(), Rule::BadMetadata),
        (header(0, 4, 0, 99), Rule::BadField),
        (header(0, 5, 0, 0), Rule::BadCredit),
    ];
    for (frame, rule) in cases {
        client_sends(&frame, rule);
        server_sends(&frame, rule);
    }
    client_sends(&header(0, 1, 0, 8), Rule::BadField);
    client_sends(&header(0, 6, 0, 2), Rule::BadField);
    client_sends(&header(0, 1, 0x08, 3), Rule::TruncatedPayload);
    server_sends(&header(0, 2, 0, 17), Rule::BadField);
    server_sends(&header(0, 2, 0x04, 0), Rule::TruncatedPayload);
}

/// REQ-24, rule 20.
#[test]
fn wrong_direction() {
    client_sends(&bytes(|out| put_reply(out, 0, b"")), Rule::WrongDirection);
    let request = bytes(|out| put_request(out, &RequestHead::new(0, MethodId(1)), b""));
    server_sends(&request, Rule::WrongDirection);
    server_sends(&bytes(|out| out.cancel(0, CancelReason::Dropped)), Rule::WrongDirection);
}

/// REQ-80: a frame that its header shows to be wrong is not waited for, so that its payload, which may be
/// as large as the largest request, needs no room.
#[test]
fn frames_that_are_wrong_by_their_headers() {
    const LARGE: u32 = 16 * 1024 * 1024;
    let with_call = |mut header: Vec<u8>, call: u32| {
        header[8..12].copy_from_slice(&call.to_le_bytes());
        header
    };
    client_sends(&header(LARGE, 2, 0, 0), Rule::WrongDirection);
    client_sends(&header(LARGE, 3, 0, 0), Rule::UnknownStream);
    client_sends(&header(LARGE, 3, 1, 0), Rule::UnknownStream);
    client_sends(&header(LARGE, 4, 0, 13), Rule::UnknownStream);
    client_sends(&header(LARGE, 4, 0, 0), Rule::UnexpectedPayload);
    client_sends(&with_call(header(LARGE, 1, 0, 3), 0), Rule::CallIdInUse);
    client_sends(&with_call(header(LARGE, 1, 0, 3), 0x7fff), Rule::CallSlot);
    server_sends(&header(LARGE, 1, 0, 3), Rule::WrongDirection);
    server_sends(&header(LARGE, 2, 0, 0), Rule::UnknownReply);
    server_sends(&header(LARGE, 3, 0, 0), Rule::UnknownStream);
    server_sends(&header(LARGE, 4, 0, 13), Rule::UnknownStream);
    server_sends(&header(LARGE, 4, 0, 0), Rule::UnexpectedPayload);
    // What may be right is waited for.
    let mut pair = Pair::ready();
    pair.call(1);
    pair.settle();
    pair.server.feed(&with_call(header(LARGE, 1, 0, 3), 1), pair.now);
    pair.client.feed(&with_call(header(LARGE, 2, 0, 0), 0), pair.now);
    assert_eq!((pair.server.conn.close_reason(), pair.client.conn.close_reason()), (None, None));
}

/// REQ-50, rule 11: END is a client's to say, whatever call a server says it for, and whether there ever
/// was a stream.
#[test]
fn an_end_flag_from_a_server() {
    server_sends(&header(0, 3, 1, 0), Rule::ReservedBits);
    server_sends(&header(70_000, 3, 1, 0), Rule::ReservedBits);
    server_sends(&header(0, 3, 0, 0), Rule::UnknownStream);
    // From a client, for a unary call, it is the stream that is wrong and not the flag.
    let mut end = header(0, 3, 1, 0);
    end[8] = 0;
    client_sends(&end, Rule::UnknownStream);
}

/// REQ-41, rule 23: a slot never used, another generation, and a second reply to the same call.
#[test]
fn unknown_reply() {
    for call in [1, 0xffff, 0x0001_0000, u32::MAX] {
        server_sends(&bytes(|out| put_reply(out, call, b"")), Rule::UnknownReply);
    }
    let mut pair = Pair::ready();
    pair.server.serve = Serve::Echo;
    let call = pair.call(1);
    pair.settle();
    assert!(pair.echoed(1));
    pair.client.feed(&bytes(|out| put_reply(out, call, b"")), pair.now);
    assert_eq!(pair.client.conn.close_reason(), misbehaved(Rule::UnknownReply));
}

/// REQ-16: a server's own limit holds, not the peer's; at the limit is fine.
#[test]
fn the_frame_limit_is_the_receivers() {
    let mut config = crate::config::ServerConfig::default();
    config.limits.frame_bytes = corewire_codec::FrameBytes::MIN;
    let mut pair = Pair::with(config, crate::config::ClientConfig::default());
    pair.server.serve = Serve::Echo;
    pair.settle();
    let call = pair.client.conn.begin_call(1, None).unwrap();
    put_request(&mut pair.client.out, &RequestHead::new(call, MethodId(1)), &[7; 65_536]);
    pair.settle_by(10_000);
    assert_eq!(pair.client.outcomes.len(), 1);
    put_request(&mut pair.client.out, &RequestHead::new(call, MethodId(1)), &[7; 65_537]);
    pair.up(16);
    assert_eq!(pair.server.conn.close_reason(), misbehaved(Rule::FrameTooLarge));
}
