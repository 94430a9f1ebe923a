//! A server whose client sends anything.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use corewire_codec::fuzzing::Source;
use corewire_codec::{
    Encoding, Head, MetadataBuilder, RecvBuffer, ReplyHead, RequestHead, Role, SendBuffer, Status,
    reply_flags, request_flags,
};

use super::{COST_MAX, Line, Windows, check, hello};
use crate::config::{ServerConfig, ServerIdentity, Timeouts};
use crate::fuzzing::{limits, start};
use crate::server::{ServerConnection, ServerInput};
use crate::streams::table::StreamKind;

const ONE_WAY_MAX: u16 = 3;

/// A call that awaits its answer.
struct Open {
    kind: Option<StreamKind>,
    /// What the client may still send on its stream.
    window: i64,
    /// Whether the handler was told that the client's half is over.
    ended: bool,
    opened: bool,
    /// Whether the handler reads no more.
    stopped: bool,
    parked: bool,
}

struct World {
    conn: ServerConnection<u32>,
    recv: RecvBuffer,
    out: SendBuffer,
    line: Line,
    windows: Windows,
    open: BTreeMap<u32, Open>,
    one_way: Vec<u32>,
    /// Messages that were delivered and not consumed; their calls may be over.
    held: Vec<(u32, u32)>,
    accepted: u32,
}

/// A server answers each call once, delivers no message without credit and none behind an end, holds
/// no more than its limits, and sends nothing after its final go-away.
pub fn server(data: &[u8]) {
    let mut source = Source::new(data);
    let mut world = World::new(&mut source);
    while !source.is_empty() {
        world.line.deliver(&mut source, &mut world.recv);
        let mut left = 8;
        while left > 0 && world.serve(&mut source) {
            left -= 1;
        }
        let now = world.line.now;
        world.conn.handle_rest(&world.recv, now);
        let (progress, blocked) = world.line.taken(&mut source);
        world.conn.handle_write(progress, blocked, now);
        world.work(&mut source);
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
        let minutes = |count: u8| Some(Duration::from_secs(60 * u64::from(count)));
        let config = ServerConfig {
            limits: limits(),
            streams: first & 0x07 != 0,
            one_way_pending_max: if first == 0xff { 0 } else { ONE_WAY_MAX },
            timeouts: Timeouts {
                idle: if first & 0x08 == 0 { None } else { minutes(2) },
                age: if first & 0x10 == 0 { None } else { minutes(1) },
                ..Timeouts::default()
            },
            ..ServerConfig::default()
        };
        let hello = if first & 0xe0 == 0 { Vec::new() } else { hello(source, Role::Client) };
        Self {
            conn: ServerConnection::new(Rc::new(config), ServerIdentity { connection_id: 1 }, now),
            recv: RecvBuffer::new(),
            out: SendBuffer::new(),
            line: Line::new(now, hello),
            windows: Windows::new(),
            open: BTreeMap::new(),
            one_way: Vec::new(),
            held: Vec::new(),
            accepted: 0,
        }
    }

    /// Lets the server handle one frame; returns whether there may be another.
    fn serve(&mut self, source: &mut Source<'_>) -> bool {
        let now = self.line.now;
        match self.conn.handle_frame(
            &mut self.recv,
            &mut RequestHead::default(),
            &mut self.out,
            now,
        ) {
            ServerInput::NeedBytes | ServerInput::Closed(_) => return false,
            ServerInput::Call { request, payload, deadline } => {
                check(&payload);
                let call = request.call;
                let one_way = request.flags & request_flags::ONE_WAY != 0;
                assert!(one_way || call & 0xffff < limits().in_flight.get());
                if one_way {
                    self.conn.park(call, deadline, call);
                    self.one_way.push(call);
                } else {
                    let kind = StreamKind::from_request_flags(request.flags);
                    self.begin(source, call, deadline, kind);
                }
            }
            ServerInput::StreamData { call, cost, end, payload, .. } => {
                check(&payload);
                assert_eq!(self.conn.parked_mut(call), Some(&mut call.clone()));
                let open = self.open.get_mut(&call).expect("only calls that go on get data");
                assert!(open.kind.is_some_and(StreamKind::client_sends) && !open.ended);
                self.windows.charge(&mut open.window, cost);
                open.ended = end;
                if cost.is_multiple_of(2) {
                    self.conn.consume(call, cost, &mut self.out);
                } else {
                    self.held.push((call, cost));
                }
            }
            ServerInput::StreamEnd { call, payload, .. } => {
                check(&payload);
                let open = self.open.get_mut(&call).expect("only calls that go on get ends");
                assert!(open.parked && open.kind.is_some_and(StreamKind::client_sends));
                assert!(!core::mem::replace(&mut open.ended, true), "a half ends once");
            }
            ServerInput::Cancelled { call, work } => {
                assert_eq!(work, call);
                self.forget(call);
            }
            ServerInput::Writable { call } => {
                assert!(call.is_none_or(|call| self.conn.send_credit(call) > 0));
            }
            ServerInput::Handled | ServerInput::OneWayDropped(_) => {}
        }
        self.hear();
        true
    }

    /// A call arrives: mostly it stays pending, or it is answered or refused at once.
    fn begin(
        &mut self,
        source: &mut Source<'_>,
        call: u32,
        deadline: Option<std::time::Instant>,
        kind: Option<StreamKind>,
    ) {
        let choice = source.below(8);
        let (window, parked) = (Windows::stream(), choice > 1);
        let open = Open { kind, window, ended: false, opened: false, stopped: false, parked };
        assert!(self.open.insert(call, open).is_none(), "a call that is open begins again");
        match choice {
            0 => self.out.reply(&ReplyHead::ok(call), None).finish(1 << 16).unwrap(),
            1 => self.conn.refuse(call, &Status::not_found("x"), &mut self.out),
            _ => return self.conn.park(call, deadline, call),
        }
        self.conn.finish_stream(call);
    }

    /// A call's work is gone; its answer is, or will be, heard.
    fn forget(&mut self, call: u32) {
        let open = self.open.get_mut(&call).expect("only calls that go on end");
        assert!(core::mem::replace(&mut open.parked, false), "a call ends once");
    }

    /// The handlers go on.
    fn work(&mut self, source: &mut Source<'_>) {
        let (choice, pick) = (source.below(16), usize::from(source.u8()));
        let call = self.open.keys().nth(pick % self.open.len().max(1)).copied().unwrap_or(0);
        let running = self.conn.close_reason().is_none() && self.conn.parked_mut(call).is_some();
        let (status, block) = (Status::internal("x"), metadata());
        let (failure, block) =
            ((pick & 1 == 0).then_some(&status), (pick & 2 == 0).then_some(&block));
        let (conn, out) = (&mut self.conn, &mut self.out);
        match choice {
            0..=3 => {
                if let Ok(mut message) = conn.begin_message(call, Encoding::RAW, out) {
                    message.put_slice(&vec![1; pick * 30 * (choice + 1)]);
                    if pick.is_multiple_of(16) {
                        return;
                    }
                    // At most 30,600 bytes, which every client takes.
                    message.finish().unwrap();
                }
            }
            4 | 5 if conn.end_stream(call, failure, block, out).is_ok() => {
                assert_eq!(conn.unpark(call), Some(call));
                self.forget(call);
            }
            6 | 7 if running => {
                out.status(&ReplyHead::ok(call), &status, conn.peer_frame_bytes_max());
                assert_eq!(conn.unpark(call), Some(call));
                self.forget(call);
            }
            8 => {
                let _ = conn.accept_stream(call, block, None, out);
            }
            9 => {
                conn.stop_receiving(call);
                self.open.entry(call).and_modify(|open| open.stopped = true);
            }
            10 | 11 if !self.one_way.is_empty() => {
                let call = self.one_way.swap_remove(pick % self.one_way.len());
                assert_eq!(conn.unpark(call), Some(call));
            }
            15 if !self.held.is_empty() => {
                let (call, cost) = self.held.swap_remove(pick % self.held.len());
                conn.consume(call, cost, out);
            }
            12 if pick > 240 => conn.drain(out),
            13 if pick == 255 => conn.handle_eof(out, self.line.now),
            14 if pick == 255 => conn.handle_error(std::io::ErrorKind::ConnectionReset),
            _ => {}
        }
    }

    fn fire(&mut self) {
        let now = self.line.now;
        self.conn.handle_timeout(&mut self.out, now);
        while let Some((id, work)) = self.conn.poll_expired(&mut self.out, now) {
            assert_eq!(id, work);
            match self.one_way.iter().position(|call| *call == id) {
                Some(at) => drop(self.one_way.swap_remove(at)),
                None => self.forget(id),
            }
        }
    }

    /// What the server says about its calls: one answer each, and nothing of a stream afterwards.
    /// Calls that were refused were never open.
    fn hear(&mut self) {
        let Self { line, out, open, windows, accepted, .. } = self;
        line.hear(out, |head| match head {
            Head::Reply(reply) if reply.flags & reply_flags::STREAM != 0 => {
                let open = open.get_mut(&reply.call).expect("an opening of nothing");
                assert!(open.kind.is_some_and(StreamKind::server_sends));
                assert!(!core::mem::replace(&mut open.opened, true), "a stream opens once");
            }
            Head::Reply(reply) => {
                let known = open.remove(&reply.call).is_some();
                assert!(known || reply.flags & reply_flags::REFUSED != 0, "an answer to nobody");
            }
            Head::StreamData(data) => {
                let open = open.get(&data.call).expect("a message of nothing");
                assert!(open.kind.is_some_and(StreamKind::server_sends) && !data.end);
            }
            Head::StreamEnd(end) => {
                let open = open.remove(&end.call).expect("an end of nothing");
                assert!(open.kind.is_some_and(StreamKind::server_sends));
            }
            Head::Credit(credit) => {
                let stream = credit.call.and_then(|call| {
                    let open = open.get_mut(&call).expect("credit for a stream that is over");
                    assert!(!open.ended, "credit for a half that is over");
                    (!open.stopped).then_some(&mut open.window)
                });
                windows.grant(stream, &credit);
            }
            Head::GoAway(go_away) => {
                assert!(go_away.accepted >= *accepted);
                *accepted = go_away.accepted;
            }
            Head::Ping(_) | Head::Pong(_) => {}
            Head::Request(_) | Head::Cancel { .. } => panic!("a server never says {head:?}"),
        });
    }

    /// What holds at any time.
    fn check(&self) {
        let conn = &self.conn;
        let parked = self.open.values().filter(|open| open.parked).count();
        assert_eq!(conn.in_flight(), parked + self.one_way.len());
        assert!(parked <= 16 && conn.streams() <= 16);
        assert_eq!(conn.one_way_pending(), self.one_way.len());
        assert!(self.one_way.len() <= usize::from(ONE_WAY_MAX));
        let most = limits().connection_credit.get() + COST_MAX;
        assert!(conn.held_stream_bytes() <= most);
        assert_eq!(conn.poll_timeout().is_none(), conn.close_reason().is_some());
    }

    /// What is left is answered, and then nobody waits.
    fn finish(mut self) {
        if self.conn.close_reason().is_none() {
            self.conn.finish_all(&Status::unavailable("the end"), &mut self.out);
            self.hear();
            assert!(self.open.is_empty(), "a call without an answer");
            assert_eq!(self.conn.in_flight(), 0);
        } else {
            let parked = self.open.values().filter(|open| open.parked).count();
            assert_eq!(self.conn.unpark_all().count(), parked + self.one_way.len());
        }
    }
}

/// A block as large as the least limit, so that every peer takes it.
fn metadata() -> MetadataBuilder {
    let mut block = MetadataBuilder::new();
    block.insert("key", &[b'v'; 1018]).unwrap();
    block
}
