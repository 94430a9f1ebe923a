//! Requests that are refused before all of them is there.

use super::pair::{Pair, Serve, bytes, put_request};
use corewire_codec::{MethodId, RequestHead, Rule, Status, StatusCode, reply_flags, request_flags};

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

/// REQ-78 is for unary requests: what else is sent could not be judged without them. A slot that cannot be is
/// judged by its header, before there is anything to refuse (REQ-80).
#[test]
fn streams_and_one_way_calls_are_received_first() {
    let stream = |flags| RequestHead { flags, ..RequestHead::new(0, MethodId(1)) };
    for head in [
        stream(request_flags::STREAM_IN),
        stream(request_flags::STREAM_OUT),
        stream(request_flags::ONE_WAY),
    ] {
        let mut pair = Pair::ready();
        half_a_request(&mut pair, &head);
        let (server, now) = (&mut pair.server, pair.now);
        let status = Status::resource_exhausted("no room");
        let refused = server.conn.refuse_partial(&server.recv, &status, &mut server.out, now);
        assert_eq!((refused, server.out.is_empty()), (None, true), "{head:?}");
    }
    let mut pair = Pair::ready();
    half_a_request(&mut pair, &RequestHead::new(0x7fff, MethodId(1)));
    assert_eq!(pair.server.conn.close_reason(), super::pair::misbehaved(Rule::CallSlot));
    let status = Status::resource_exhausted("no room");
    let server = &mut pair.server;
    let refused = server.conn.refuse_partial(&server.recv, &status, &mut server.out, pair.now);
    assert_eq!(refused, None);
}
