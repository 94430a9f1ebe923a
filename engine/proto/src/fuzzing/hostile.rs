//! One connection whose peer says anything at all.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corewire_codec::fuzzing::Source;
use corewire_codec::{
    CancelReason, Credit, Encoding, GoAway, Head, Hello, HelloRecords, MethodId, RecvBuffer,
    ReplyHead, RequestHead, Role, SendBuffer, Status, StatusCode, StreamData, VERSION,
};

use super::{limits, start};
use crate::{
    ClientConfig, ClientConnection, ClientInput, ServerConfig, ServerConnection, ServerIdentity,
    ServerInput, StreamKind,
};

/// The most bytes that one frame of these targets carries.
const BODY_BYTES_MAX: u32 = 20_000;
/// The same with its header.
const FRAME_BYTES_MAX: u32 = BODY_BYTES_MAX + 16;

/// What a peer says next: mostly a frame, with fields that are often right; now and then any bytes.
fn input(source: &mut Source<'_>) -> Vec<u8> {
    let mut out = SendBuffer::new();
    // Few slots and generations, so that calls are met again.
    let call = u32::from(source.u8() & 0x1f) | (u32::from(source.u8() & 1) << 16);
    let amount = source.u32();
    let body = vec![0x77; (amount % BODY_BYTES_MAX) as usize >> (source.u8() & 0xf)];
    let max = u32::MAX;
    match source.below(12) {
        0 => return source.bytes(64).to_vec(),
        1 | 2 => {
            let (flags, timeout_us) = (source.u8() & 0x07, source.flag().then_some(amount.into()));
            let head = RequestHead { flags, timeout_us, ..RequestHead::new(call, MethodId(1)) };
            let mut frame = out.request(&head, None);
            frame.put_slice(&body);
            frame.finish(max).unwrap();
        }
        3 | 4 => {
            let encoding = Encoding::from_byte(source.u8());
            let mut frame = out.stream_data(&StreamData { call, encoding, end: source.flag() });
            frame.put_slice(&body);
            frame.finish(max).unwrap();
        }
        5 => {
            let status = source.flag().then(|| Status::aborted("x"));
            out.stream_end(call, status.as_ref(), None, max, max);
        }
        6 => {
            let connection = source.below(4) == 0;
            let bytes = if source.flag() { amount } else { amount % 70_000 };
            out.credit(&Credit { call: (!connection).then_some(call), bytes });
        }
        7 => out.cancel(call, CancelReason::Deadline),
        8 | 9 => {
            let code = StatusCode::from_number(source.u8() % 18).unwrap_or(StatusCode::Ok);
            let head = ReplyHead { flags: source.u8() & 0x03, code, ..ReplyHead::ok(call) };
            let mut frame = out.reply(&head, None);
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
    take(&mut out)
}

fn hello(role: Role) -> Vec<u8> {
    let records = HelloRecords { limits: limits(), ..HelloRecords::default() };
    let mut out = SendBuffer::new();
    out.hello(&Hello { version: VERSION, role, records });
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

/// Reads what the connection under test says, as its peer would.
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

    fn hear(&mut self, out: &mut SendBuffer, mut frame: impl FnMut(Head)) {
        let bytes = take(out);
        assert!(bytes.is_empty() || !self.last_words, "nothing follows the last go-away");
        self.recv.extend_from_slice(&bytes);
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

/// A server that anybody talks to: it answers each call once, holds no more than its limits, and says
/// nothing after its last words.
pub fn server(data: &[u8]) {
    let mut source = Source::new(data);
    let mut now = start();
    let limits = limits();
    let config =
        ServerConfig { limits, streams: true, one_way_pending_max: 3, ..Default::default() };
    let mut conn = ServerConnection::new(Rc::new(config), ServerIdentity { connection_id: 1 }, now);
    let (mut recv, mut out) = (RecvBuffer::new(), SendBuffer::new());
    let mut listener = Listener::new();
    if source.below(8) != 0 {
        recv.extend_from_slice(&hello(Role::Client));
    }
    // Calls that await an answer: those of the peer by id, and how their stream goes.
    let mut open: BTreeMap<u32, u8> = BTreeMap::new();
    while !source.is_empty() {
        recv.extend_from_slice(&input(&mut source));
        let mut left = 8;
        while left > 0 && serve(&mut conn, &mut recv, &mut out, &mut open, now) {
            left -= 1;
        }
        conn.handle_rest(&recv, now);
        work(&mut source, &mut conn, &mut out, &open, &mut now);
        listener.hear(&mut out, |head| heard(&mut open, head));
        let most = limits.connection_credit.get() + FRAME_BYTES_MAX;
        assert!(conn.held_stream_bytes() <= most);
        assert!(conn.in_flight() <= 19 && conn.streams() <= 16 && conn.one_way_pending() <= 3);
        assert_eq!(conn.poll_timeout().is_none(), conn.close_reason().is_some());
    }
    conn.unpark_all().for_each(drop);
}

/// Lets the server handle one frame; answers whether there may be another.
fn serve(
    conn: &mut ServerConnection<u8>,
    recv: &mut RecvBuffer,
    out: &mut SendBuffer,
    open: &mut BTreeMap<u32, u8>,
    now: Instant,
) -> bool {
    match conn.handle_frame(recv, out, now) {
        ServerInput::NeedBytes | ServerInput::Closed(_) => return false,
        ServerInput::Call { request, deadline, .. } => {
            conn.park(request.call, deadline, request.flags & 0x07);
            if request.flags & 0x01 == 0 {
                let before = open.insert(request.call, request.flags & 0x07);
                assert!(before.is_none(), "a call that is open begins again");
            }
        }
        ServerInput::StreamData { call, cost, .. } => {
            let kind = *conn.parked_mut(call).expect("only parked calls get data");
            assert!(StreamKind::from_request_flags(kind).is_some_and(StreamKind::client_sends));
            if cost.is_multiple_of(2) {
                conn.consume(call, cost, out);
            }
        }
        ServerInput::StreamEnd { call, .. } => {
            assert!(conn.parked_mut(call).is_some(), "only parked calls get ends");
        }
        ServerInput::Handled
        | ServerInput::Writable { .. }
        | ServerInput::OneWayDropped(_)
        | ServerInput::Cancelled { .. } => {}
    }
    true
}

/// The handlers and the clock go on.
fn work(
    source: &mut Source<'_>,
    conn: &mut ServerConnection<u8>,
    out: &mut SendBuffer,
    open: &BTreeMap<u32, u8>,
    now: &mut Instant,
) {
    let (choice, pick) = (source.below(8), usize::from(source.u8()));
    let call = open.keys().nth(pick % open.len().max(1)).copied().unwrap_or(0);
    let is_over = conn.close_reason().is_some();
    match choice {
        0 => {
            let time = Duration::from_millis(u64::from(source.u16()));
            *now += time;
            conn.handle_timeout(out, *now);
            while conn.poll_expired(out, *now).is_some() {}
        }
        1 | 2 => {
            if let Ok(mut message) = conn.begin_message(call, Encoding::RAW, out) {
                message.put_slice(&vec![1; pick * 30]);
                message.finish().unwrap();
            }
        }
        3 if conn.end_stream(call, None, None, out).is_ok() => {
            assert!(conn.unpark(call).is_some());
        }
        3 | 4 if !is_over && conn.parked_mut(call).is_some() => {
            out.status(&ReplyHead::ok(call), &Status::internal("x"), 1 << 16);
            conn.unpark(call);
        }
        5 => drop(conn.accept_stream(call, None, out)),
        6 => conn.stop_receiving(call),
        7 if pick == 7 => conn.drain(out),
        _ => {}
    }
}

/// What the server says about its calls: one answer each, and nothing of a stream afterwards. Calls
/// that were refused were never open.
fn heard(open: &mut BTreeMap<u32, u8>, head: Head) {
    match head {
        Head::Reply(reply) if reply.flags & 0x02 != 0 => assert!(open.contains_key(&reply.call)),
        Head::Reply(reply) => {
            let known = open.remove(&reply.call).is_some();
            assert!(known || reply.flags & 0x01 != 0, "an answer to nobody");
        }
        Head::StreamData(data) => assert!(open.contains_key(&data.call) && !data.end),
        Head::StreamEnd(end) => assert!(open.remove(&end.call).is_some()),
        Head::Credit(credit) => assert!(credit.call.is_none_or(|call| open.contains_key(&call))),
        Head::Ping(_) | Head::Pong(_) | Head::GoAway(_) => {}
        Head::Request(_) | Head::Cancel { .. } => panic!("a server never says {head:?}"),
    }
}

/// A client whose server says anything: each call ends once, and what the client says stays in order.
pub fn client(data: &[u8]) {
    let mut source = Source::new(data);
    let mut now = start();
    let config = Arc::new(ClientConfig { limits: limits(), ..ClientConfig::default() });
    let (mut recv, mut out) = (RecvBuffer::new(), SendBuffer::new());
    let mut conn: ClientConnection<usize> = ClientConnection::new(config, 0, &mut out, now);
    let mut listener = Listener::new();
    if source.below(8) != 0 {
        recv.extend_from_slice(&hello(Role::Server));
    }
    let mut ids: Vec<u32> = Vec::new();
    let mut ended: Vec<bool> = Vec::new();
    while !source.is_empty() {
        call(&mut source, &mut conn, &mut out, &mut ids, &mut ended);
        recv.extend_from_slice(&input(&mut source));
        let mut left = 8;
        while left > 0 && read(&mut conn, &mut recv, &mut out, &mut ended, now) {
            left -= 1;
        }
        conn.handle_rest(&recv, now);
        if source.below(8) == 0 {
            now += Duration::from_millis(u64::from(source.u16()));
            conn.handle_timeout(&mut out, now);
            while let Some(number) = conn.poll_expired(&mut out, now) {
                end(&mut ended, number);
            }
        }
        listener.hear(&mut out, |head| {
            assert!(!matches!(head, Head::Reply(_)), "a client never says {head:?}");
        });
        let most = limits().connection_credit.get() + FRAME_BYTES_MAX;
        assert!(conn.held_stream_bytes() <= most);
        assert!(conn.in_flight() <= 16 && conn.streams() <= 16);
        assert_eq!(conn.poll_timeout().is_none(), conn.close_reason().is_some());
    }
    for failed in conn.fail_all().collect::<Vec<_>>() {
        end(&mut ended, failed.work);
    }
    assert!(ended.iter().all(|ended| *ended), "every call ends");
}

fn end(ended: &mut [bool], number: usize) {
    assert!(!core::mem::replace(&mut ended[number], true), "a call ends once");
}

/// The callers go on.
fn call(
    source: &mut Source<'_>,
    conn: &mut ClientConnection<usize>,
    out: &mut SendBuffer,
    ids: &mut Vec<u32>,
    ended: &mut Vec<bool>,
) {
    const KINDS: [StreamKind; 3] =
        [StreamKind::Client, StreamKind::Server, StreamKind::Bidirectional];
    let (choice, pick) = (source.below(8), usize::from(source.u8()));
    let id = ids.get(pick % ids.len().max(1)).copied().unwrap_or(0);
    match choice {
        0..=2 => {
            let kind = KINDS.get(pick % 4).copied();
            let begun = match kind {
                Some(kind) => conn.begin_stream(kind, ids.len(), None),
                None => conn.begin_call(ids.len(), None),
            };
            let Ok(id) = begun else { return };
            ids.push(id);
            ended.push(false);
            let flags = kind.map_or(0, StreamKind::request_flags);
            let head = RequestHead { flags, ..RequestHead::new(id, MethodId(1)) };
            out.request(&head, None).finish(u32::MAX).unwrap();
        }
        3 | 4 => {
            if let Ok(mut message) =
                conn.begin_message(id, Encoding::RAW, pick.is_multiple_of(8), out)
            {
                message.put_slice(&vec![1; pick * 30]);
                message.finish().unwrap();
            }
        }
        5 => drop(conn.end_stream(id, None, None, out)),
        6 => {
            if let Some(number) = conn.abandon(id, CancelReason::Dropped, out) {
                end(ended, number);
            }
        }
        _ => conn.stop_receiving(id),
    }
}

/// Lets the client handle one frame; answers whether there may be another.
fn read(
    conn: &mut ClientConnection<usize>,
    recv: &mut RecvBuffer,
    out: &mut SendBuffer,
    ended: &mut [bool],
    now: Instant,
) -> bool {
    match conn.handle_frame(recv, out, now) {
        ClientInput::NeedBytes | ClientInput::Closed(_) => return false,
        ClientInput::Reply { work, .. } | ClientInput::StreamEnd { work, .. } => end(ended, work),
        ClientInput::Opened { call, .. } => assert!(conn.work_mut(call).is_some()),
        ClientInput::StreamData { call, cost, .. } => {
            assert!(conn.work_mut(call).is_some_and(|number| !ended[*number]));
            if cost.is_multiple_of(2) {
                conn.consume(call, cost, out);
            }
        }
        ClientInput::GoAway => {
            while let Some(number) = conn.poll_refused() {
                end(ended, number);
            }
        }
        ClientInput::Handled | ClientInput::Ready | ClientInput::Writable { .. } => {}
    }
    true
}
