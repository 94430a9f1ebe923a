//! The bytes that `docs/PROTOCOL.md` shows, said to a real server.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{Bytes, Placement, Server, Status, Streaming};
use corewire_codec::{CodecId, CompressionId, Encoding, MethodId};
use futures_lite::stream;
use std::io::{Read, Write};
use std::path::Path;
use support::peer::{Peer, Said, bytes_of, request_with};
use support::{address, count, end};

/// The service of section 15.
#[corewire::service]
pub trait Feed {
    /// One message, and the end.
    async fn watch(&self) -> Result<Streaming<Bytes>, Status>;
}

struct Watched;

impl Feed for Watched {
    async fn watch(&self) -> Result<Streaming<Bytes>, Status> {
        Ok(Streaming::from_stream(stream::iter([Ok(Bytes::from_static(b"hi"))])))
    }
}

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/PROTOCOL.md");
    std::fs::read_to_string(path).unwrap()
}

/// The text of a section, whose heading begins so.
fn section<'a>(document: &'a str, heading: &str) -> &'a str {
    let (_, rest) = document.split_once(&format!("\n## {heading}")).unwrap();
    rest.split("\n## ").next().unwrap()
}

/// The blocks of bytes of a section. On each line they stand in front of what they mean.
fn blocks(section: &str) -> Vec<Vec<u8>> {
    let blocks = section.split("```").skip(1).step_by(2);
    let bytes = |line: &str| -> Vec<u8> {
        let hex = line.split("  ").next().unwrap();
        hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
    };
    blocks.map(|block| block.lines().skip(1).flat_map(bytes).collect()).collect()
}

fn read(peer: &mut Peer, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    peer.stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// Sections 14 and 15: what the client says is understood, and what the server says is what stands there.
#[test]
fn the_examples_in_hex_are_what_a_server_says() {
    let document = document();
    let server = Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Unpinned(1))
        .service(|_| corewire::echo::EchoServer::new(corewire::echo::Echoer))
        .service(|_| FeedServer::new(Watched))
        .start()
        .unwrap();
    let mut peer = Peer::silent(address(&server));
    let call = blocks(section(&document, "14 "));
    let [asked, answered] = &call[..] else { panic!("{} blocks in section 14", call.len()) };
    peer.stream.write_all(asked).unwrap();
    // Its hello depends on the server; its length is in the seventh and eighth byte.
    let preamble = read(&mut peer, 8);
    assert_eq!(preamble[..6], [0xc7, b'W', b'R', b'E', 1, 1]);
    read(&mut peer, usize::from(u16::from_le_bytes([preamble[6], preamble[7]])));
    assert_eq!(&read(&mut peer, answered.len()), answered);

    let stream = blocks(section(&document, "15 "));
    let [asked, taken, granted, ended] = &stream[..] else {
        panic!("{} blocks in section 15", stream.len())
    };
    peer.stream.write_all(asked).unwrap();
    assert_eq!(&read(&mut peer, taken.len()), taken);
    peer.stream.write_all(granted).unwrap();
    assert_eq!(&read(&mut peer, ended.len()), ended);
    // The connection is as good as new.
    peer.send(&bytes_of(|out| out.ping(1)));
    assert!(matches!(peer.said(), Said::Other(corewire_codec::Head::Pong(1))));
    assert_eq!(count(&server, |it| it.connections_faulted.value()), 0);
    drop(peer);
    end(server);
}

/// REQ-83: the id that the document works out.
#[test]
fn req_83_a_methods_id_follows_from_its_names() {
    let document = document();
    let id = MethodId::of("kv.KeyValue", "get");
    assert!(section(&document, "16 ").contains(&format!("`kv.KeyValue/get`: `{:08x}`", id.0)));
    assert_eq!(FeedClient::DESCRIPTION.methods[0].id, MethodId::of("Feed", "watch"));
}

/// REQ-84: the table of codecs.
#[test]
fn req_84_codecs_follow_from_types() {
    use support::service::SubjectClient;
    let (raw, speedy) = (CodecId::RAW, CodecId::SPEEDY);
    let subject = SubjectClient::DESCRIPTION.methods;
    let feed = support::streams::FeedClient::DESCRIPTION.methods;
    let codecs = |methods: &'static [corewire::MethodDescription], name: &str| {
        let method = methods.iter().find(|it| it.name == name).unwrap();
        (method.request_codec, method.reply_codec)
    };
    assert_eq!(codecs(subject, "echo"), (raw, raw));
    assert_eq!(codecs(subject, "add"), (speedy, speedy));
    assert_eq!(codecs(subject, "blob"), (speedy, raw));
    assert_eq!(codecs(subject, "never"), (speedy, speedy), "without arguments");
    assert_eq!(codecs(feed, "flood"), (speedy, raw), "messages of a server");
    assert_eq!(codecs(feed, "sum"), (speedy, speedy));
    let plain = Encoding::new(speedy, CompressionId::NONE);
    assert_eq!(plain.byte(), 1);
}

/// REQ-85: the example, and each row of the table.
#[test]
fn req_85_values_in_speedy() {
    use corewire::codec::{Decode, Speedy};
    use corewire_codec::write_argument;
    use std::collections::BTreeMap;
    use std::time::Duration;
    fn bytes<T: speedy::Writable<speedy::LittleEndian>>(value: &T) -> Vec<u8> {
        let head = corewire_codec::RequestHead::new(0, MethodId(0));
        let mut out = corewire_codec::SendBuffer::new();
        let mut frame = out.request(&head, None);
        write_argument(value, &mut frame).unwrap();
        frame.finish(u32::MAX).unwrap();
        out.first_chunk()[16..].to_vec()
    }
    let example = ("ab".to_owned(), Some(7u16), vec![1u32]);
    let hex: String = bytes(&example).iter().map(|byte| format!("{byte:02x} ")).collect();
    assert!(section(&document(), "16 ").contains(&format!("is `{}`", hex.trim())), "{hex}");
    let read: (String, Option<u16>, Vec<u32>) =
        Speedy::decode(Bytes::from(bytes(&example))).unwrap();
    assert_eq!(read, example);
    assert_eq!(bytes(&(1u8, -2i16, 0.5f32, true, 'ß')), {
        [&[1, 0xfe, 0xff, 0, 0, 0, 0x3f, 1][..], &[0xdf, 0, 0, 0]].concat()
    });
    assert_eq!(bytes(&[1u16, 2]), [1, 0, 2, 0]);
    assert_eq!(bytes(&BTreeMap::from([(1u8, 2u8)])), [1, 0, 0, 0, 1, 2]);
    assert_eq!(bytes(&Ok::<u8, u16>(9)), [1, 9]);
    assert_eq!(bytes(&Err::<u8, u16>(9)), [0, 9, 0]);
    assert_eq!(bytes(&()), [0u8; 0]);
    assert_eq!(bytes(&7usize), [7, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes(&Duration::from_nanos(1_000_000_002)), [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0]);
    assert_eq!(bytes(&std::net::Ipv4Addr::new(127, 0, 0, 1)), [1, 0, 0, 127]);
}

/// REQ-81: a method that is called as another kind.
#[test]
fn req_81_a_method_called_as_another_kind() {
    use corewire_codec::{RequestHead, StatusCode, reply_flags, request_flags as flag};
    let server = support::server();
    let mut peer = Peer::polite(address(&server));
    let head = |call, method: &str, flags| RequestHead {
        flags,
        encoding: Encoding::plain(CodecId::SPEEDY),
        ..RequestHead::new(call, MethodId::of("Subject", method))
    };
    for (call, flags) in [(0, flag::STREAM_IN), (1, flag::STREAM_OUT), (2, 6)] {
        peer.send(&request_with(&head(call, "add", flags), b""));
        let (head, status) = peer.failure();
        let refused = (StatusCode::Unimplemented, reply_flags::REFUSED);
        assert_eq!((head.call, (head.code, head.flags)), (call, refused), "{status}");
    }
    peer.send(&request_with(&head(3, "touch", 0), &[0; 8]));
    assert_eq!(peer.failure().0.code, StatusCode::Unimplemented);
    for (method, flags) in [("add", flag::ONE_WAY), ("touch", flag::ONE_WAY | flag::STREAM_IN)] {
        peer.send(&request_with(&head(0, method, flags), &[0; 8]));
    }
    peer.assert_serves(4);
    assert_eq!(count(&server, |it| it.one_way_dropped.value()), 2);
    assert_eq!(count(&server, |it| it.connections_faulted.value()), 0);
    drop(peer);
    end(server);
}
