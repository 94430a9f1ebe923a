//! Requests that are refused before all of them is there.

use super::pair::{Pair, Serve, bytes, put_request};
use corewire_codec::{
    Encoding, MethodId, RequestHead, Rule, Status, StatusCode, StreamData, reply_flags,
    request_flags,
};

/// The first half of a request, on the server's side of the line.
fn half_a_request(pair: &mut Pair, head: &RequestHead) -> (Vec<u8>, usize) {
    let request = bytes(|out| put_request(out, head, &[7; 4000]));
    let half = request.len() / 2;
    pair.server.feed(&request[..half], pair.now);
    (request, half)
}

/// REQ-78: the caller hears of it at once; what is still to come of the request is dropped, and what is
/// behind it is served, with the same slot.
#[test]
fn a_request_is_refused_by_its_header() {
    let mut pair = Pair::ready();
    pair.server.serve = Serve::Echo;
    let call = pair.call(1);
    // The line carries another body than the pair's own.
    pair.client.out.clear();
    let (request, half) = half_a_request(&mut pair, &RequestHead::new(call, MethodId(1)));
    let status = Status::resource_exhausted("no room");
    let (server, now) = (&mut pair.server, pair.now);
    let frame = server.conn.refuse_partial(&server.recv, &status, &mut server.out, now);
    assert_eq!(frame, Some(request.len()));
    assert_eq!(server.recv.discard(request.len()), half);
    pair.down(usize::MAX);
    let (head, refused) = pair.status(1);
    assert_eq!(refused.code(), StatusCode::ResourceExhausted);
    assert_ne!(head.flags & reply_flags::REFUSED, 0);
    // The rest comes, and the next call behind it.
    let next = pair.call(2);
    pair.server.recv.extend_from_slice(&request[half..]);
    assert_eq!(pair.server.recv.discard(request.len() - half), request.len() - half);
    pair.settle();
    assert!(pair.echoed(2), "{next}");
    assert_eq!((pair.server.conn.accepted(), pair.server.ran.len()), (2, 1));
    assert_eq!((pair.client.conn.close_reason(), pair.server.conn.close_reason()), (None, None));
}

/// REQ-78: requests of calls that stream as well; what their client sends until it reads the refusal is dropped
/// (REQ-63).
#[test]
fn a_request_for_a_stream_is_refused_by_its_header() {
    let mut pair = Pair::ready();
    let flags = request_flags::STREAM_IN | request_flags::STREAM_OUT;
    let head = RequestHead { flags, ..RequestHead::new(0, MethodId(1)) };
    let (request, half) = half_a_request(&mut pair, &head);
    let (server, now) = (&mut pair.server, pair.now);
    let status = Status::resource_exhausted("no room");
    let frame = server.conn.refuse_partial(&server.recv, &status, &mut server.out, now);
    assert_eq!(frame, Some(request.len()));
    assert_eq!(server.recv.discard(request.len()), half);
    assert_eq!(
        (server.conn.streams(), server.conn.accepted()),
        (1, 1),
        "the client's half is open"
    );
    let rest = bytes(|out| {
        let data = StreamData { call: 0, encoding: Encoding::RAW, end: true };
        out.stream_data(&data).finish(0).unwrap();
    });
    server.feed(&rest, now);
    assert_eq!((server.conn.streams(), server.ran.len()), (0, 0));
    assert_eq!(server.conn.close_reason(), None);
}

/// REQ-78: a one-way call that there is no room for is dropped, and gets no reply.
#[test]
fn a_one_way_request_is_dropped_by_its_header() {
    let mut pair = Pair::ready();
    let head = RequestHead { flags: request_flags::ONE_WAY, ..RequestHead::new(0, MethodId(1)) };
    let (request, half) = half_a_request(&mut pair, &head);
    let (server, now) = (&mut pair.server, pair.now);
    let status = Status::resource_exhausted("no room");
    let frame = server.conn.refuse_partial(&server.recv, &status, &mut server.out, now);
    assert_eq!((frame, server.out.is_empty()), (Some(request.len()), true));
    assert_eq!(server.recv.discard(request.len()), half);
    assert_eq!((server.conn.accepted(), server.conn.one_way_pending()), (1, 0));
}

/// A slot that cannot be is judged by its header, before there is anything to refuse (REQ-80).
#[test]
fn a_wrong_slot_is_judged_first() {
    let mut pair = Pair::ready();
    half_a_request(&mut pair, &RequestHead::new(0x7fff, MethodId(1)));
    assert_eq!(pair.server.conn.close_reason(), super::pair::misbehaved(Rule::CallSlot));
    let status = Status::resource_exhausted("no room");
    let server = &mut pair.server;
    let refused = server.conn.refuse_partial(&server.recv, &status, &mut server.out, pair.now);
    assert_eq!(refused, None);
}
