//! Clients that take all that they get of a server's memory and time, and give nothing back.

use super::peer::{data, hello_of, request_with};
use corewire_codec::{CodecId, Encoding, Limits, MethodId, RequestHead, Role, request_flags};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;

/// What they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abuse {
    /// Four lines of 100,000 bytes are noted, 4,096 streams follow them, and none ever gets credit.
    Tails,
    /// 4,096 calls that pend for ever.
    Pending,
    /// 4,096 streams on which nothing happens.
    IdleStreams,
    /// Streams of 16 MiB together, to handlers that read nothing.
    Uploads,
    /// Echoes of 1 MiB whose replies are not read.
    UnreadEchoes,
    /// Half a request of 16 MiB.
    HalfRequests,
}

impl Abuse {
    pub const ALL: [Self; 6] = [
        Self::Tails,
        Self::Pending,
        Self::IdleStreams,
        Self::Uploads,
        Self::UnreadEchoes,
        Self::HalfRequests,
    ];

    /// Whether the client reads what the server says.
    fn reads(self) -> bool {
        self != Self::UnreadEchoes
    }

    /// All that such a client sends.
    fn script(self) -> Vec<u8> {
        let mut limits = Limits::default();
        if self == Self::Tails {
            limits.stream_credit = corewire_codec::StreamCredit::MIN;
            limits.connection_credit = corewire_codec::ConnectionCredit::MIN;
        }
        let mut bytes = hello_of(Role::Client, limits);
        match self {
            Self::Tails => {
                let line = [&100_000u32.to_le_bytes()[..], &[b'x'; 100_000]].concat();
                for call in 0..4 {
                    bytes.extend(ask(call, "note", request_flags::ONE_WAY, &line));
                }
                for call in 0..4096 {
                    bytes.extend(ask(call, "tail", request_flags::STREAM_OUT, &0u64.to_le_bytes()));
                }
            }
            Self::Pending => (0..4096).for_each(|call| bytes.extend(ask(call, "never", 0, b""))),
            Self::IdleStreams => {
                for call in 0..4096 {
                    let from = 1_000_000u64.to_le_bytes();
                    bytes.extend(ask(call, "tail", request_flags::STREAM_OUT, &from));
                }
            }
            Self::Uploads => {
                let part = vec![7; 64 * 1024 - 16];
                for call in 0..64 {
                    bytes.extend(ask(call, "keep", request_flags::STREAM_IN, b""));
                    (0..4).for_each(|_| bytes.extend(data(call, &part, false)));
                }
            }
            Self::UnreadEchoes => {
                let body = vec![7; MIB];
                (0..4).for_each(|call| bytes.extend(ask(call, "echo", 0, &body)));
            }
            Self::HalfRequests => {
                let mut whole = ask(0, "echo", 0, &vec![7; 16 * MIB - 64]);
                whole.truncate(8 * MIB);
                bytes.extend(whole);
            }
        }
        bytes
    }
}

/// A request of the service in `abuse.rs`.
fn ask(call: u32, method: &str, flags: u8, body: &[u8]) -> Vec<u8> {
    let raw = method == "echo";
    let codec = if raw { CodecId::RAW } else { CodecId::SPEEDY };
    let head = RequestHead {
        flags,
        encoding: Encoding::plain(codec),
        ..RequestHead::new(call, MethodId::of("Target", method))
    };
    request_with(&head, body)
}

/// One hostile connection. It comes again when it is cut off.
struct Attacker {
    to: SocketAddr,
    script: Rc<Vec<u8>>,
    reads: bool,
    stream: Option<TcpStream>,
    sent: usize,
    again_at: Instant,
}

impl Attacker {
    /// Does what can be done now; returns whether something was.
    fn step(&mut self, ends: &mut u64) -> bool {
        let Some(stream) = &mut self.stream else {
            if self.again_at > Instant::now() {
                return false;
            }
            self.again_at = Instant::now() + Duration::from_millis(500);
            self.sent = 0;
            self.stream = TcpStream::connect(self.to).ok().inspect(|stream| {
                stream.set_nonblocking(true).unwrap();
            });
            return true;
        };
        match advance(stream, &self.script, &mut self.sent, self.reads) {
            Ok(moved) => moved,
            Err(_) => {
                *ends += 1;
                self.stream = None;
                false
            }
        }
    }
}

/// Sends and receives what the socket takes and has; an error is the connection's end.
fn advance(
    stream: &mut TcpStream,
    script: &[u8],
    sent: &mut usize,
    reads: bool,
) -> Result<bool, ErrorKind> {
    let mut moved = false;
    for _ in 0..8 {
        let rest = &script[*sent..script.len().min(*sent + 256 * 1024)];
        if rest.is_empty() {
            break;
        }
        match stream.write(rest) {
            Ok(count) => (*sent, moved) = (*sent + count, true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error.kind()),
        }
    }
    let mut bytes = [0; 64 * 1024];
    let outcome = if reads { stream.read(&mut bytes) } else { stream.peek(&mut bytes[..1]) };
    match outcome {
        Ok(0) => Err(ErrorKind::UnexpectedEof),
        Ok(_) => Ok(moved || reads),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(moved),
        Err(error) => Err(error.kind()),
    }
}

/// Abuses a server with `conns` connections while `goes_on`; returns how often one was ended.
pub fn attack(to: SocketAddr, abuse: Abuse, conns: usize, goes_on: impl Fn() -> bool) -> u64 {
    let script = Rc::new(abuse.script());
    let mut all: Vec<_> = (0..conns)
        .map(|_| Attacker {
            to,
            script: Rc::clone(&script),
            reads: abuse.reads(),
            stream: None,
            sent: 0,
            again_at: Instant::now(),
        })
        .collect();
    let mut ends = 0;
    while goes_on() {
        let mut moved = false;
        for attacker in &mut all {
            moved |= attacker.step(&mut ends);
        }
        if !moved {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    ends
}
