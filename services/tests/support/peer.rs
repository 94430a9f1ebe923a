//! A client that may say anything: a plain socket, and the codec to build and read bytes.

use bytes::Bytes;
use corewire_codec::{
    CodecId, ConnectionCredit, Credit, Encoding, GoAway, HEADER_BYTES, Head, Hello, HelloRecords,
    InFlight, Limits, MetadataBuilder, MetadataBytes, MethodId, RecvBuffer, ReplyHead, RequestHead,
    Role, Rule, SendBuffer, Status, StreamCredit, StreamData, VERSION,
};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;

/// Everything in a send buffer.
pub fn bytes_of(fill: impl FnOnce(&mut SendBuffer)) -> Vec<u8> {
    let mut out = SendBuffer::new();
    fill(&mut out);
    let mut bytes = Vec::new();
    while !out.is_empty() {
        let chunk = out.first_chunk().to_vec();
        out.advance(chunk.len());
        bytes.extend(chunk);
    }
    bytes
}

/// A client's hello with the recommended limits.
pub fn hello() -> Vec<u8> {
    hello_of(Role::Client, Limits::default())
}

/// A hello with these limits.
pub fn hello_of(role: Role, limits: Limits) -> Vec<u8> {
    let records = HelloRecords { limits, codecs: 3, ..HelloRecords::default() };
    bytes_of(|out| out.hello(&Hello { version: VERSION, role, records }))
}

/// The least windows and the fewest calls, so that every bound is near.
pub fn least_limits() -> Limits {
    Limits {
        in_flight: InFlight::MIN,
        stream_credit: StreamCredit::MIN,
        connection_credit: ConnectionCredit::MIN,
        metadata_bytes: MetadataBytes::MIN,
        ..Limits::default()
    }
}

/// One message of a stream, raw.
pub fn data(call: u32, body: &[u8], end: bool) -> Vec<u8> {
    bytes_of(|out| {
        let mut frame = out.stream_data(&StreamData { call, encoding: Encoding::RAW, end });
        frame.put_slice(body);
        frame.finish(u32::MAX).unwrap();
    })
}

/// The end of a half of a stream, and what it carries.
pub fn stream_end(call: u32, metadata: Option<&MetadataBuilder>) -> Vec<u8> {
    bytes_of(|out| out.stream_end(call, None, metadata, u32::MAX, u32::MAX))
}

/// A grant, to one stream or to all.
pub fn credit(call: Option<u32>, bytes: u32) -> Vec<u8> {
    bytes_of(|out| out.credit(&Credit { call, bytes }))
}

/// A metadata block of this many bytes.
pub fn metadata(bytes: usize) -> MetadataBuilder {
    let mut block = MetadataBuilder::new();
    block.insert("key", &vec![b'v'; bytes - 6]).unwrap();
    assert_eq!(block.as_bytes().len(), bytes);
    block
}

/// A raw request of the subject.
pub fn request(call: u32, method: &str, body: &[u8]) -> Vec<u8> {
    let mut head = RequestHead::new(call, MethodId::of("Subject", method));
    if method != "echo" {
        head.encoding = Encoding::plain(CodecId::SPEEDY);
    }
    request_with(&head, body)
}

/// A request with any head.
pub fn request_with(head: &RequestHead, body: &[u8]) -> Vec<u8> {
    bytes_of(|out| {
        let mut frame = out.request(head, None);
        frame.put_slice(body);
        frame.finish(u32::MAX).unwrap();
    })
}

/// One end of a connection.
#[derive(Debug)]
pub struct Peer {
    pub stream: TcpStream,
    recv: RecvBuffer,
}

/// What came from the server.
#[derive(Debug)]
pub enum Said {
    Reply(ReplyHead, Bytes),
    GoAway(GoAway, String),
    Other(Head),
    /// It closed in an orderly way.
    End,
    /// It reset the connection.
    Reset,
}

impl Peer {
    /// A connection that has said nothing.
    pub fn silent(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).unwrap())
    }

    /// The end of a connection that was made, or accepted.
    pub fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, recv: RecvBuffer::new() }
    }

    /// A connection with both hellos said.
    pub fn polite(address: SocketAddr) -> Self {
        Self::limited(address, Limits::default())
    }

    /// A connection of a client with these limits, with both hellos said.
    pub fn limited(address: SocketAddr, limits: Limits) -> Self {
        let mut peer = Self::silent(address);
        peer.send(&hello_of(Role::Client, limits));
        peer.hello();
        peer
    }

    /// Sends all of it, or as much as the server lets it.
    pub fn send(&mut self, bytes: &[u8]) {
        // The server may have had enough before all is sent; what it said then is the test.
        let _ = self.stream.write_all(bytes);
    }

    /// Receives some bytes; `None` at the end, an error when the server reset the connection.
    fn fill(&mut self) -> Result<bool, ErrorKind> {
        let mut bytes = [0; 64 * 1024];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(count) => {
                    self.recv.extend_from_slice(&bytes[..count]);
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.kind()),
            }
        }
    }

    /// The server's hello.
    #[track_caller]
    pub fn hello(&mut self) -> Hello {
        loop {
            if let Some(hello) = self.recv.next_hello().expect("the server's hello is well formed")
            {
                return hello;
            }
            assert!(self.fill().expect("a hello is to come"), "the server closed without a hello");
        }
    }

    /// The next frame.
    #[track_caller]
    pub fn said(&mut self) -> Said {
        loop {
            if let Some(frame) =
                self.recv.next_frame(1 << 30).expect("the server's frame is well formed")
            {
                let head = frame.head;
                let body = frame.payload.into_body();
                return match head {
                    Head::Reply(head) => Said::Reply(head, body),
                    Head::GoAway(go_away) => {
                        Said::GoAway(go_away, String::from_utf8(body.to_vec()).unwrap())
                    }
                    head => Said::Other(head),
                };
            }
            match self.fill() {
                Ok(true) => {}
                Ok(false) => {
                    assert!(self.recv.is_empty(), "the server closed in the middle of a frame");
                    return Said::End;
                }
                Err(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => return Said::Reset,
                Err(error) => panic!("the server neither answers nor closes: {error}"),
            }
        }
    }

    /// The next frame, which is a reply.
    #[track_caller]
    pub fn reply(&mut self) -> (ReplyHead, Bytes) {
        match self.said() {
            Said::Reply(head, body) => (head, body),
            other => panic!("a reply was to come, not {other:?}"),
        }
    }

    /// The next reply; pings in front of it are answered.
    #[track_caller]
    pub fn answer(&mut self) -> (ReplyHead, Bytes) {
        loop {
            match self.said() {
                Said::Reply(head, body) => return (head, body),
                Said::Other(Head::Ping(value)) => self.send(&bytes_of(|out| out.pong(value))),
                other => panic!("a reply was to come, not {other:?}"),
            }
        }
    }

    /// The next frame, which is a reply that is not `Ok`.
    #[track_caller]
    pub fn failure(&mut self) -> (ReplyHead, Status) {
        let (head, body) = self.reply();
        (head, Status::from_body(head.code, &body))
    }

    /// What the server says last: a go-away that names `rule`, and an orderly end.
    #[track_caller]
    pub fn assert_turned_away(&mut self, rule: Rule) -> GoAway {
        let Said::GoAway(go_away, text) = self.said() else {
            panic!("a go-away with rule {} was to come", rule.number());
        };
        assert_eq!(Rule::from_number(go_away.rule), Some(rule), "{text}");
        assert_eq!(text, rule.text());
        match self.said() {
            Said::End => go_away,
            other => panic!("the end was to come behind the go-away, not {other:?}"),
        }
    }

    /// Asserts that the connection still serves.
    #[track_caller]
    pub fn assert_serves(&mut self, call: u32) {
        self.send(&request(call, "echo", b"still here?"));
        let (head, body) = self.reply();
        assert_eq!((head.call, &body[..]), (call, &b"still here?"[..]));
    }

    /// Ends with a reset instead of an end.
    pub fn reset(self) {
        let linger = Some(std::time::Duration::ZERO);
        rustix::net::sockopt::set_socket_linger(&self.stream, linger).unwrap();
    }
}

/// The header's bytes of a request that says nothing else.
pub fn header(payload_bytes: u32) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes.copy_from_slice(&request(1, "echo", b"")[..HEADER_BYTES]);
    bytes[..4].copy_from_slice(&payload_bytes.to_le_bytes());
    bytes
}
