//! One connection whose peer sends anything at all, at any time, and reads as much as it likes.

mod client;
mod server;

pub use client::client;
pub use server::server;

use std::time::{Duration, Instant};

use corewire_codec::fuzzing::Source;
use corewire_codec::reply_flags;
use corewire_codec::{
    CancelReason, CompressionId, Credit, Encoding, Forwarded, FrameBytes, GoAway, Head, Hello,
    HelloRecords, Limits, MetadataBuilder, MetadataBytes, MethodId, Payload, RecvBuffer, ReplyHead,
    RequestHead, Role, SendBuffer, Status, StatusCode, StreamData, TraceContext, VERSION,
};

use super::limits;

/// The most bytes of a body: more than a frame may have.
const BODY_BYTES_MAX: u32 = 66_000;
/// What a frame that is taken costs at most.
const COST_MAX: u32 = FrameBytes::MIN.get() + 16;

/// What a peer says next: mostly a frame, with fields that are often right; now and then a frame
/// whose bits were changed, or any bytes.
fn input(source: &mut Source<'_>) -> Vec<u8> {
    let mut out = SendBuffer::new();
    frame(source, &mut out);
    let mut bytes = take(&mut out);
    match source.below(32) {
        0 => bytes = source.bytes(64).to_vec(),
        1 => {
            let at = usize::from(source.u8()) % bytes.len();
            bytes[at] ^= source.u8();
        }
        2 => bytes.extend_from_within(..),
        _ => {}
    }
    bytes
}

fn frame(source: &mut Source<'_>, out: &mut SendBuffer) {
    // Few slots and generations, so that calls are met again.
    let call = u32::from(source.u8() & 0x1f) | (u32::from(source.u8() & 1) << 16);
    let amount = source.u32();
    let body = vec![0x77; (amount % BODY_BYTES_MAX) as usize >> (source.u8() & 0x7)];
    let max = u32::MAX;
    match source.below(12) {
        0 | 1 => {
            let (flags, timeout_us) = (source.u8() & 0x07, source.flag().then_some(amount.into()));
            let head = RequestHead { flags, timeout_us, ..RequestHead::new(call, MethodId(1)) };
            request(source, out, head, &body);
        }
        2 | 3 => {
            let encoding = Encoding::from_byte(source.u8());
            let mut frame = out.stream_data(&StreamData { call, encoding, end: source.flag() });
            frame.put_slice(&body);
            frame.finish(max).unwrap();
        }
        4 => {
            let status = source.flag().then(|| Status::aborted("x"));
            let metadata = metadata(source);
            out.stream_end(call, status.as_ref(), metadata.as_ref(), max, max);
        }
        5 | 6 => {
            let connection = source.below(4) == 0;
            let bytes = if source.flag() { amount } else { amount % 70_000 };
            out.credit(&Credit { call: (!connection).then_some(call), bytes });
        }
        7 => {
            let reason = if source.flag() { CancelReason::Deadline } else { CancelReason::Dropped };
            out.cancel(call, reason);
        }
        8 | 9 => {
            let code = StatusCode::from_number(source.u8() % 18).unwrap_or(StatusCode::Ok);
            let bits = source.u8();
            let flags = bits & 0x03 | if source.flag() { reply_flags::RETRY_AFTER } else { 0 };
            let retry_after_ms = amount;
            let forwarded = Forwarded::new(1, 2).filter(|_| bits & 0x0c == 0x0c);
            let metadata = metadata(source);
            let head = ReplyHead { flags, code, retry_after_ms, forwarded, ..ReplyHead::ok(call) };
            let mut frame = out.reply(&head, metadata.as_ref());
            frame.put_slice(&body);
            frame.finish(max).unwrap();
        }
        10 if source.flag() => out.ping(amount.into()),
        10 => out.pong(u64::from(amount % 4)),
        _ => {
            let rule = u32::from(source.below(16) == 0);
            out.go_away(&GoAway { accepted: amount % 8, rule }, "x");
        }
    }
}

/// A request with any of what may stand before and behind its body.
fn request(source: &mut Source<'_>, out: &mut SendBuffer, mut head: RequestHead, body: &[u8]) {
    let more = source.u8();
    if more & 1 != 0 {
        head.trace = Some(TraceContext { trace_id: [1; 16], span_id: [2; 8], flags: more });
    }
    if more & 2 != 0 {
        head.attachment_bytes = Some(u32::from(more >> 4).min(u32::try_from(body.len()).unwrap()));
    }
    if more & 0x30 == 0x10 {
        head.set_key(Some(u64::from(more)));
    }
    if more & 0x0c == 0x0c {
        head.encoding = Encoding::new(head.encoding.codec(), CompressionId::LZ4);
    }
    let metadata = metadata(source);
    let mut frame = out.request(&head, metadata.as_ref());
    frame.put_slice(body);
    frame.finish(u32::MAX).unwrap();
}

/// A block now and then, around the bound of what is taken.
fn metadata(source: &mut Source<'_>) -> Option<MetadataBuilder> {
    let size = source.u8();
    (size & 3 == 0).then(|| {
        let mut block = MetadataBuilder::new();
        let bytes = if size & 4 == 0 { usize::from(size) } else { 1010 + usize::from(size >> 4) };
        block.insert("key", &vec![b'v'; bytes]).unwrap();
        block
    })
}

/// A hello, mostly with the least limits, so that every bound is near.
fn hello(source: &mut Source<'_>, role: Role) -> Vec<u8> {
    let choice = source.u8();
    let limits = if choice & 3 == 0 { Limits::default() } else { limits() };
    let key_routing = u16::from(choice & 4 != 0);
    let records = HelloRecords { limits, key_routing, ..HelloRecords::default() };
    let version = if choice & 0xf0 == 0x10 { VERSION + 1 } else { VERSION };
    let role = match role {
        Role::Client if choice & 0xf0 == 0x20 => Role::Server,
        Role::Server if choice & 0xf0 == 0x20 => Role::Client,
        role => role,
    };
    let mut out = SendBuffer::new();
    out.hello(&Hello { version, role, records });
    take(&mut out)
}

/// All that waits in a buffer.
fn take(out: &mut SendBuffer) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !out.is_empty() {
        let chunk = out.first_chunk();
        let count = chunk.len();
        bytes.extend_from_slice(chunk);
        out.advance(count);
    }
    bytes
}

/// What holds of the payload of each frame that a connection hands on.
fn check(payload: &Payload<'_>) {
    let metadata: usize =
        payload.metadata().iter().map(|it| 3 + it.key.len() + it.value.len()).sum();
    assert!(metadata <= MetadataBytes::MIN.get() as usize);
    let whole = metadata + payload.body().len() + payload.attachment().len();
    assert!(whole <= FrameBytes::MIN.get() as usize);
}

/// The line between the two: what the peer sent and was not delivered yet, and what the connection
/// sent and the peer did not read yet.
struct Line {
    now: Instant,
    coming: Vec<u8>,
    unsent: usize,
    listener: Listener,
}

impl Line {
    fn new(now: Instant, coming: Vec<u8>) -> Self {
        Self { now, coming, unsent: 0, listener: Listener::new() }
    }

    /// The peer sends something more, and some of it arrives.
    fn deliver(&mut self, source: &mut Source<'_>, recv: &mut RecvBuffer) {
        self.coming.extend_from_slice(&input(source));
        let whole = self.coming.len();
        let count = match source.below(8) {
            0 => usize::from(source.u16()).min(whole),
            1 => usize::from(source.u8()).min(whole),
            _ => whole,
        };
        recv.extend_from_slice(&self.coming[..count]);
        self.coming.drain(..count);
    }

    /// The peer takes some or all of what waits for it; returns what a write would report.
    fn taken(&mut self, source: &mut Source<'_>) -> (bool, bool) {
        let count = match source.below(8) {
            0 => 0,
            1 => usize::from(source.u8()).min(self.unsent),
            _ => self.unsent,
        };
        self.unsent -= count;
        (count > 0, self.unsent > 0)
    }

    /// Some time passes; returns whether any did.
    fn wait(&mut self, source: &mut Source<'_>) -> bool {
        let passes = source.below(8) == 0;
        if passes {
            self.now += Duration::from_millis(u64::from(source.u16()));
        }
        passes
    }

    /// Reads what the connection under test says, as its peer would.
    fn hear(&mut self, out: &mut SendBuffer, frame: impl FnMut(Head)) {
        let bytes = take(out);
        self.unsent += bytes.len();
        self.listener.hear(&bytes, frame);
    }
}

/// What the connection under test said so far.
struct Listener {
    recv: RecvBuffer,
    said_hello: bool,
    /// Whether it blamed its peer: then it says nothing more.
    last_words: bool,
}

impl Listener {
    fn new() -> Self {
        Self { recv: RecvBuffer::new(), said_hello: false, last_words: false }
    }

    fn hear(&mut self, bytes: &[u8], mut frame: impl FnMut(Head)) {
        assert!(bytes.is_empty() || !self.last_words, "nothing follows the last go-away");
        self.recv.extend_from_slice(bytes);
        if !self.said_hello {
            let hello = self.recv.next_hello().expect("a good hello comes first");
            self.said_hello = hello.is_some();
            assert!(self.said_hello || bytes.is_empty());
        }
        while self.said_hello
            && let Some(next) = self.recv.next_frame(u32::MAX).expect("only good frames")
        {
            assert!(!self.last_words);
            if let Head::GoAway(go_away) = next.head {
                self.last_words = go_away.rule != 0;
            }
            frame(next.head);
        }
        assert!(self.recv.is_empty());
    }
}

/// What the peer may still send, counted from what the connection delivered and granted. Messages that
/// were dropped are not counted, so there may be less; nothing is known of a stream that nobody reads.
struct Windows {
    connection: i64,
}

impl Windows {
    fn new() -> Self {
        Self { connection: limits().connection_credit.get().into() }
    }

    /// The credit of a stream that opens.
    fn stream() -> i64 {
        limits().stream_window().into()
    }

    /// A message was delivered: it had credit.
    fn charge(&mut self, stream: &mut i64, cost: u32) {
        assert!(*stream > 0 && self.connection > 0, "a message without credit");
        *stream -= i64::from(cost);
        self.connection -= i64::from(cost);
    }

    /// The connection granted credit, to a stream that is known or to all.
    fn grant(&mut self, stream: Option<&mut i64>, credit: &Credit) {
        assert_ne!(credit.bytes, 0);
        if credit.call.is_none() {
            let most = i64::from(limits().connection_credit.get());
            self.connection = most.min(self.connection + i64::from(credit.bytes));
        } else if let Some(stream) = stream {
            *stream += i64::from(credit.bytes);
            assert!(*stream <= Self::stream(), "more is granted than was taken");
        }
    }
}
