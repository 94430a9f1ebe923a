//! A client whose server sends anything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use corewire_codec::fuzzing::Source;
use corewire_codec::{
    CancelReason, Encoding, Head, MethodId, RecvBuffer, RequestHead, Role, SendBuffer, Status,
    request_flags,
};

use super::{COST_MAX, Line, Windows, check, hello};
use crate::client::{ClientConnection, ClientInput};
use crate::config::{ClientConfig, Timeouts};
use crate::fuzzing::{limits, start};
use crate::streams::table::StreamKind;

/// A call that was made.
struct Made {
    id: u32,
    kind: Option<StreamKind>,
    /// What the server may still send on its stream.
    window: i64,
    opened: bool,
    /// Whether the caller reads no more.
    stopped: bool,
    ended: bool,
}

struct World {
    conn: ClientConnection<usize>,
    recv: RecvBuffer,
    out: SendBuffer,
    line: Line,
    windows: Windows,
    calls: Vec<Made>,
    /// The calls whose slots are taken, as the server sees it: by id, and whether the client still
    /// sends on their stream.
    taken: BTreeMap<u32, bool>,
    /// Messages that were delivered and not consumed; their calls may be over.
    held: Vec<(u32, u32)>,
}

/// Each call of a client ends once; it delivers no message without credit, none of a call that is over
/// and none that was not asked for; and what it says stays in order.
pub fn client(data: &[u8]) {
    let mut source = Source::new(data);
    let mut world = World::new(&mut source);
    while !source.is_empty() {
        world.call(&mut source);
        world.hear();
        world.line.deliver(&mut source, &mut world.recv);
        let mut left = 8;
        while left > 0 && world.read() {
            left -= 1;
        }
        let now = world.line.now;
        world.conn.handle_rest(&world.recv, now);
        let (progress, blocked) = world.line.taken(&mut source);
        world.conn.handle_write(progress, blocked, now);
        if world.line.wait(&mut source) {
            world.fire();
        }
        world.hear();
        world.check();
    }
    world.finish();
}

impl World {
    fn new(source: &mut Source<'_>) -> Self {
        let now = start();
        let first = source.u8();
        let idle = (first & 0x08 != 0).then(|| Duration::from_secs(120));
        let timeouts = Timeouts { idle, ..Timeouts::default() };
        let config = ClientConfig { limits: limits(), timeouts, ..ClientConfig::default() };
        let mut out = SendBuffer::new();
        let conn = ClientConnection::new(Arc::new(config), 0, &mut out, now);
        let hello = if first & 0xe0 == 0 { Vec::new() } else { hello(source, Role::Server) };
        let (recv, line) = (RecvBuffer::new(), Line::new(now, hello));
        let (windows, calls) = (Windows::new(), Vec::new());
        let (taken, held) = (BTreeMap::new(), Vec::new());
        Self { conn, recv, out, line, windows, calls, taken, held }
    }

    fn end(&mut self, number: usize) {
        assert!(!core::mem::replace(&mut self.calls[number].ended, true), "a call ends once");
    }

    /// The callers go on.
    fn call(&mut self, source: &mut Source<'_>) {
        let (choice, pick) = (source.below(16), usize::from(source.u8()));
        let number = pick % self.calls.len().max(1);
        let id = self.calls.get(number).map_or(0, |call| call.id);
        let (conn, out) = (&mut self.conn, &mut self.out);
        match choice {
            0..=4 => self.begin(source, pick),
            5..=7 => {
                let end = pick.is_multiple_of(8);
                if let Ok(mut message) = conn.begin_message(id, Encoding::RAW, end, out) {
                    message.put_slice(&vec![1; pick * 30]);
                    if pick % 16 != 1 {
                        message.finish().unwrap();
                    }
                }
            }
            8 | 9 => {
                let status = (pick & 0x80 != 0).then(|| Status::aborted("x"));
                let _ = conn.end_stream(id, status.as_ref(), None, out);
            }
            10 | 11 => {
                let waits = self.calls.get(number).is_some_and(|call| !call.ended);
                let work = conn.abandon(id, CancelReason::Dropped, out);
                assert_eq!(work, waits.then_some(number));
                if waits {
                    self.end(number);
                }
            }
            12 if pick == 255 => conn.handle_eof(),
            13 if pick == 255 => conn.handle_error(std::io::ErrorKind::ConnectionReset),
            14 => {
                conn.stop_receiving(id);
                if let Some(call) = self.calls.get_mut(number) {
                    call.stopped = true;
                }
            }
            15 if !self.held.is_empty() => {
                let (call, cost) = self.held.swap_remove(pick % self.held.len());
                conn.consume(call, cost, out);
            }
            _ => {}
        }
    }

    fn begin(&mut self, source: &mut Source<'_>, pick: usize) {
        const KINDS: [StreamKind; 3] =
            [StreamKind::Client, StreamKind::Server, StreamKind::Bidirectional];
        if pick % 8 == 7 {
            if self.conn.begin_one_way(None, &mut self.out).is_ok() {
                let flags = request_flags::ONE_WAY;
                let head = RequestHead { flags, ..RequestHead::new(0, MethodId(1)) };
                self.out.request(&head, None).finish(u32::MAX).unwrap();
            }
            return;
        }
        let deadline = (pick & 0x40 != 0)
            .then(|| self.line.now + Duration::from_millis(u64::from(source.u16())));
        let (kind, number) = (KINDS.get(pick % 4).copied(), self.calls.len());
        let before = self.conn.free_slots();
        let begun = match kind {
            Some(kind) => self.conn.begin_stream(kind, number, deadline),
            None => self.conn.begin_call(number, deadline),
        };
        assert_eq!(begun.is_ok(), before > 0);
        let Ok(id) = begun else { return };
        if pick > 250 {
            // It was not sent after all.
            assert_eq!(self.conn.unsend(id), Some(number));
            assert_eq!(self.conn.free_slots(), before);
            return;
        }
        let window = Windows::stream();
        self.calls.push(Made { id, kind, window, opened: false, stopped: false, ended: false });
        let flags = kind.map_or(0, StreamKind::request_flags);
        let head = RequestHead { flags, ..RequestHead::new(id, MethodId(1)) };
        self.out.request(&head, None).finish(u32::MAX).unwrap();
    }

    /// Lets the client handle one frame; returns whether there may be another.
    fn read(&mut self) -> bool {
        let now = self.line.now;
        match self.conn.handle_frame(&mut self.recv, &mut self.out, now) {
            ClientInput::NeedBytes | ClientInput::Closed(_) => return false,
            ClientInput::Reply { work, payload, .. } => {
                check(&payload);
                self.end(work);
            }
            ClientInput::StreamEnd { work, payload, .. } => {
                check(&payload);
                assert!(self.calls[work].kind.is_some_and(StreamKind::server_sends));
                self.end(work);
            }
            ClientInput::Opened { call, payload, .. } => {
                check(&payload);
                let number = *self.conn.work_mut(call).expect("somebody waits");
                let made = &mut self.calls[number];
                assert!(made.kind.is_some_and(StreamKind::server_sends) && !made.ended);
                assert!(!core::mem::replace(&mut made.opened, true), "a stream opens once");
            }
            ClientInput::StreamData { call, cost, payload, .. } => {
                check(&payload);
                let number = *self.conn.work_mut(call).expect("somebody waits");
                let made = &mut self.calls[number];
                assert!(made.kind.is_some_and(StreamKind::server_sends) && !made.ended);
                self.windows.charge(&mut made.window, cost);
                if cost.is_multiple_of(2) {
                    self.conn.consume(call, cost, &mut self.out);
                } else {
                    self.held.push((call, cost));
                }
            }
            ClientInput::GoAway => {
                while let Some(number) = self.conn.poll_refused() {
                    self.end(number);
                }
            }
            ClientInput::Writable { call } => {
                assert!(call.is_none_or(|call| self.conn.send_credit(call) > 0));
            }
            ClientInput::Handled | ClientInput::Ready => {}
        }
        self.hear();
        true
    }

    fn fire(&mut self) {
        let now = self.line.now;
        self.conn.handle_timeout(&mut self.out, now);
        while let Some(expired) = self.conn.poll_expired(&mut self.out, now) {
            self.end(expired.work);
        }
    }

    /// What the client says: frames of its streams between their request and their end.
    fn hear(&mut self) {
        let Self { conn, line, out, taken, windows, calls, .. } = self;
        line.hear(out, |head| match head {
            Head::Request(request) if request.flags & request_flags::ONE_WAY != 0 => {}
            Head::Request(request) => {
                let slot = request.call & 0xffff;
                assert!(slot < conn.peer().limits.in_flight.get());
                // Nothing more comes for the slot's last call.
                taken.retain(|call, sends| {
                    let same = call & 0xffff == slot;
                    assert!(!same || !*sends, "a slot is used again while its stream goes on");
                    !same
                });
                taken.insert(request.call, request.flags & request_flags::STREAM_IN != 0);
            }
            Head::StreamData(data) => {
                let sends = taken.get_mut(&data.call).expect("a message of nothing");
                assert!(*sends, "a message behind the end");
                *sends = !data.end;
            }
            Head::StreamEnd(end) => {
                let sends = taken.get_mut(&end.call).expect("an end of nothing");
                assert!(core::mem::replace(sends, false), "a half ends once");
            }
            Head::Cancel { call, .. } => {
                *taken.get_mut(&call).expect("a cancel of nothing") = false;
            }
            Head::Credit(credit) => {
                let stream = credit.call.and_then(|call| {
                    let made = calls.iter_mut().rev().find(|made| made.id == call);
                    let made = made.expect("credit for no call");
                    (!made.stopped && !made.ended).then_some(&mut made.window)
                });
                windows.grant(stream, &credit);
            }
            Head::Ping(_) | Head::Pong(_) | Head::GoAway(_) => {}
            Head::Reply(_) => panic!("a client never says {head:?}"),
        });
    }

    fn check(&self) {
        let conn = &self.conn;
        let waiting = self.calls.iter().filter(|call| !call.ended).count();
        assert_eq!(conn.in_flight(), waiting);
        let most = conn.peer().limits.in_flight.get() as usize;
        assert!(conn.in_flight() <= most && conn.streams() <= most);
        let most = limits().connection_credit.get() + COST_MAX;
        assert!(conn.held_stream_bytes() <= most);
        assert_eq!(conn.poll_timeout().is_none(), conn.close_reason().is_some());
    }

    fn finish(mut self) {
        for failed in self.conn.fail_all().collect::<Vec<_>>() {
            self.end(failed.work);
        }
        assert!(self.calls.iter().all(|call| call.ended), "every call ends");
    }
}
