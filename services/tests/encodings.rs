//! What names a codec or a compression that its receiver does not take is told so, in requests, replies and
//! messages of streams, on both sides and for every kind of channel; nothing is delivered as if it were
//! plain.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{CallError, ChannelConfig, StatusCode, StreamTransport};
use corewire_codec::{
    CodecId, CompressionId, Encoding, Head, MethodId, ReplyHead, RequestHead, Role, Status,
    StatusCode as Code, StreamData, reply_flags, request_flags,
};
use futures_lite::StreamExt;
use std::net::{SocketAddr, TcpListener};
use support::peer::{Peer, Said, bytes_of, data, hello_of, request_with};
use support::streams::{FeedClient, feed};
use support::{address, count, end};

const LZ4: Encoding = Encoding::new(CodecId::RAW, CompressionId::LZ4);
const SPEEDY_ZSTD: Encoding = Encoding::new(CodecId::SPEEDY, CompressionId::ZSTD);

fn codec(number: u8) -> Encoding {
    Encoding::plain(CodecId::new(number).unwrap())
}

fn message(call: u32, encoding: Encoding, body: &[u8], end: bool) -> Vec<u8> {
    bytes_of(|out| {
        let mut frame = out.stream_data(&StreamData { call, encoding, end });
        frame.put_slice(body);
        frame.finish(u32::MAX).unwrap();
    })
}

fn reply(head: &ReplyHead, body: &[u8]) -> Vec<u8> {
    bytes_of(|out| {
        let mut frame = out.reply(head, None);
        frame.put_slice(body);
        frame.finish(u32::MAX).unwrap();
    })
}

/// What the server below says to a request.
fn answer(request: &RequestHead) -> Vec<u8> {
    let (call, method) = (request.call, request.method);
    let ok = ReplyHead::ok(call);
    let is = |name: &str| method == MethodId::of("Feed", name);
    if is("add") {
        // The right number, in each encoding but the right one; the priority chooses.
        let encodings = [SPEEDY_ZSTD, codec(0), codec(15), LZ4, codec(1)];
        let encoding = encodings[usize::from(request.priority)];
        reply(&ReplyHead { encoding, ..ok }, &3u32.to_le_bytes())
    } else if is("flood") {
        let opening = reply(&ReplyHead { flags: reply_flags::STREAM, ..ok }, b"");
        let plain = data(call, b"plain", false);
        [opening, plain, message(call, LZ4, b"squeezed", false)].concat()
    } else if is("count") {
        message(call, codec(2), &7u64.to_le_bytes(), false)
    } else {
        let head = ReplyHead { code: Code::NotFound, encoding: LZ4, ..ok };
        let mut body = Vec::new();
        body.extend(5u16.to_le_bytes());
        body.extend(b"wrong");
        reply(&head, &body)
    }
}

/// A server for one connection whose encodings are wrong.
fn wrong_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut peer = Peer::over(listener.accept().unwrap().0);
        assert_eq!(peer.hello().role, Role::Client);
        peer.send(&hello_of(Role::Server, corewire_codec::Limits::default()));
        loop {
            match peer.said() {
                Said::Other(Head::Request(request)) => peer.send(&answer(&request)),
                Said::End | Said::Reset | Said::GoAway(..) => break,
                Said::Reply(..) | Said::Other(_) => {}
            }
        }
    });
    address
}

async fn wrong_replies_and_messages<C: StreamTransport>(channel: C) {
    let feed = FeedClient::new(channel);
    let cases = [(0, "zstd"), (1, "speedy"), (2, "codec 15"), (3, "lz4")];
    for (priority, named) in cases {
        let options = corewire::CallOptions::new().priority(priority);
        let error = feed.with(options).add(1, 2).await.unwrap_err();
        assert!(matches!(error, CallError::Decode(_)), "{priority}: {error:?}");
        assert!(error.to_string().contains(named), "{error}");
    }
    let options = corewire::CallOptions::new().priority(4);
    assert_eq!(feed.with(options).add(1, 2).await, Ok(3), "the connection goes on");
    // Of a failure that is compressed the code is known, and its text is not made up.
    let Err(CallError::Status(status)) = feed.describe().await.map(drop) else {
        panic!("a status was to come");
    };
    assert_eq!(status.code(), StatusCode::NotFound);
    assert!(status.message().contains("compressed as lz4"), "{status}");
    // What came before a wrong message is delivered, and the wrong one is its stream's end.
    let mut stream = feed.flood(2, 8).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap(), &b"plain"[..]);
    let status = stream.next().await.unwrap().unwrap_err();
    assert_eq!(status.code(), StatusCode::Unimplemented);
    assert!(status.message().contains("compressed as lz4"), "{status}");
    assert!(stream.next().await.is_none());
    let status = feed.count(1).await.unwrap().next().await.unwrap().unwrap_err();
    assert_eq!(status.code(), StatusCode::Unimplemented);
    assert!(status.message().contains("protobuf"), "{status}");
}

/// REQ-14: what a server sends, at every kind of client.
#[test]
fn req_14_wrong_encodings_from_a_server() {
    each_kind!(wrong_server(), ChannelConfig::default() => wrong_replies_and_messages);
}

fn open(call: u32, method: &str, flags: u8, encoding: Encoding) -> Vec<u8> {
    let head = RequestHead::new(call, MethodId::of("Feed", method));
    request_with(&RequestHead { flags, encoding, ..head }, b"")
}

/// REQ-14: messages of a client's stream. The handler gets an error in place of the message, and here it
/// passes it on.
#[test]
fn req_14_wrong_encodings_of_messages_from_a_client() {
    let (server, _) = feed();
    let mut peer = Peer::polite(address(&server));
    let both = request_flags::STREAM_IN | request_flags::STREAM_OUT;
    let cases = [
        ("measure", request_flags::STREAM_IN, codec(1), LZ4, "compressed as lz4"),
        ("measure", request_flags::STREAM_IN, codec(1), codec(1), "encoded as speedy"),
        ("measure", request_flags::STREAM_IN, codec(1), SPEEDY_ZSTD, "compressed as zstd"),
        ("echo", both, codec(1), LZ4, "compressed as lz4"),
        ("echo", both, codec(1), codec(15), "codec 15"),
    ];
    for (call, (method, flags, encoding, wrong, named)) in (0..).zip(cases) {
        peer.send(&open(call, method, flags, encoding));
        peer.send(&message(call, wrong, b"squeezed", true));
        let status = loop {
            match peer.said() {
                Said::Reply(head, body) if head.flags & reply_flags::STREAM == 0 => {
                    break Status::from_body(head.code, &body);
                }
                Said::Other(Head::StreamEnd(end)) => break Status::new(end.code, named),
                Said::Other(Head::StreamData(_)) => {
                    panic!("{method}: it was delivered as if plain")
                }
                Said::Reply(..) | Said::Other(_) => {}
                said => panic!("{method}: {said:?}"),
            }
        };
        assert_eq!(status.code(), StatusCode::Unimplemented, "{method}: {status}");
        assert!(status.message().contains(named), "{method}: {status}");
    }
    assert_eq!(count(&server, |it| it.connections_faulted.value()), 0);
    drop(peer);
    end(server);
}

/// REQ-14: requests of every kind.
#[test]
fn req_14_wrong_encodings_of_requests() {
    let (server, seen) = feed();
    let mut peer = Peer::polite(address(&server));
    let both = request_flags::STREAM_IN | request_flags::STREAM_OUT;
    let cases = [
        ("add", 0, SPEEDY_ZSTD),
        ("add", 0, codec(0)),
        ("count", request_flags::STREAM_OUT, SPEEDY_ZSTD),
        ("sum", request_flags::STREAM_IN, codec(3)),
        ("echo", both, LZ4),
    ];
    for (call, (method, flags, encoding)) in (0..).zip(cases) {
        peer.send(&open(call, method, flags, encoding));
        let (head, status) = peer.failure();
        assert_eq!(
            (head.code, head.flags),
            (Code::Unimplemented, reply_flags::REFUSED),
            "{status}"
        );
        assert!(status.message().contains("the body is"), "{status}");
    }
    for encoding in [SPEEDY_ZSTD, codec(0)] {
        peer.send(&open(0, "touch", request_flags::ONE_WAY, encoding));
    }
    peer.send(&open(9, "add", 0, codec(0)));
    assert_eq!(peer.failure().0.call, 9, "one-way calls get no answer");
    assert_eq!(count(&server, |it| it.one_way_dropped.value()), 2);
    assert_eq!(seen.touched(), 0);
    drop(peer);
    end(server);
}
