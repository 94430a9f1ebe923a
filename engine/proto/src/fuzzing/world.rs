//! Two connections that talk over a line which delivers as many bytes at a time as it likes, and may
//! be cut at any of them; against a plain model of every call.

mod line;

use std::rc::Rc;
use std::time::{Duration, Instant};

use corewire_codec::fuzzing::Source;
use corewire_codec::{
    CancelReason, Encoding, MetadataBuilder, MethodId, RecvBuffer, ReplyHead, RequestHead,
    SendBuffer, Status, request_flags,
};

use super::model::{Call, Outcome};
use super::{limits, start};
use crate::client::{ClientConnection, Expired};
use crate::config::{ClientConfig, ServerConfig, ServerIdentity};
use crate::server::ServerConnection;
use crate::streams::table::{NotSent, StreamKind};

/// What a one-way call carries in place of its number.
const ONE_WAY: u32 = u32::MAX;

struct World {
    client: ClientConnection<u32>,
    server: ServerConnection<u32>,
    up: SendBuffer,
    down: SendBuffer,
    client_recv: RecvBuffer,
    server_recv: RecvBuffer,
    now: Instant,
    calls: Vec<Call>,
    /// One-way calls pending at the server, by id.
    one_way: Vec<u32>,
    drained: bool,
}

/// Commands to two connections: every call has exactly one outcome, messages arrive in order and all
/// of them, no side ever blames the other, and all credit is back at the end.
pub fn pair(data: &[u8]) {
    let mut source = Source::new(data);
    let mut world = World::new();
    let mut left = 400;
    while !source.is_empty() && left > 0 {
        left -= 1;
        if source.below(200) == 199 {
            // The line is cut: what was on it is lost.
            world.client.handle_error(std::io::ErrorKind::ConnectionReset);
            world.server.handle_eof(&mut world.down, world.now);
            world.server.close(crate::close::CloseReason::PeerLeft);
            break;
        }
        world.step(&mut source);
        world.check();
    }
    world.finish();
}

impl World {
    fn new() -> Self {
        let now = start();
        let (mut up, limits) = (SendBuffer::new(), limits());
        let client = ClientConfig { limits, ..ClientConfig::default() };
        let server =
            ServerConfig { limits, streams: true, one_way_pending_max: 4, ..Default::default() };
        let identity = ServerIdentity { connection_id: 1 };
        Self {
            client: ClientConnection::new(std::sync::Arc::new(client), 0, &mut up, now),
            server: ServerConnection::new(Rc::new(server), identity, now),
            up,
            down: SendBuffer::new(),
            client_recv: RecvBuffer::new(),
            server_recv: RecvBuffer::new(),
            now,
            calls: Vec::new(),
            one_way: Vec::new(),
            drained: false,
        }
    }

    fn is_over(&self) -> bool {
        self.client.close_reason().is_some() || self.server.close_reason().is_some()
    }

    fn step(&mut self, source: &mut Source<'_>) {
        let command = source.below(16);
        let (pick, amount) = (usize::from(source.u8()), source.u16());
        match command {
            0 | 1 => self.begin(pick, amount),
            2..=4 if self.calls.is_empty() => {}
            2 => self.client_sends(pick, amount),
            3 => self.server_sends(pick, amount),
            4 => match amount % 5 {
                0 | 1 => self.client_ends(pick, amount),
                2 | 3 => self.server_ends(pick % self.calls.len(), amount),
                _ => self.abandon(pick),
            },
            5 => self.server_takes(pick, usize::from(amount % 5)),
            6 => self.client_takes(pick, usize::from(amount % 5)),
            7..=10 => self.carry_up(usize::from(amount)),
            11..=14 => self.carry_down(usize::from(amount)),
            _ => match amount % 8 {
                0 if pick > 240 => self.drain(),
                0..=3 => self.wait(Duration::from_millis(u64::from(amount))),
                4 => self.accept(pick),
                5 => self.stop(pick, true),
                6 => self.stop(pick, false),
                _ => self.end_one_way(pick),
            },
        }
    }

    fn begin(&mut self, pick: usize, amount: u16) {
        let timeout = (amount.is_multiple_of(4)).then(|| Duration::from_millis(u64::from(amount)));
        let deadline = timeout.map(|timeout| self.now + timeout);
        let timeout_us = timeout.map(|timeout| u64::try_from(timeout.as_micros()).unwrap());
        let kind = match pick % 5 {
            0 => None,
            1 => Some(StreamKind::Client),
            2 => Some(StreamKind::Server),
            3 => Some(StreamKind::Bidirectional),
            _ => {
                if self.client.begin_one_way(deadline, &mut self.up).is_ok() {
                    let flags = request_flags::ONE_WAY;
                    self.request(RequestHead { flags, timeout_us, ..head(0) }, ONE_WAY);
                }
                return;
            }
        };
        let number = u32::try_from(self.calls.len()).unwrap();
        let begun = match kind {
            None => self.client.begin_call(number, deadline),
            Some(kind) => self.client.begin_stream(kind, number, deadline),
        };
        let Ok(id) = begun else { return };
        self.calls.push(Call::new(id, kind));
        let flags = kind.map_or(0, StreamKind::request_flags);
        self.request(RequestHead { flags, timeout_us, ..head(id) }, number);
    }

    fn request(&mut self, head: RequestHead, number: u32) {
        let mut frame = self.up.request(&head, tag(number, 0).as_ref());
        frame.put_slice(&number.to_le_bytes());
        frame.finish(u32::MAX).unwrap();
    }

    fn client_sends(&mut self, pick: usize, amount: u16) {
        let number = pick % self.calls.len();
        let call = &mut self.calls[number];
        let end = amount.is_multiple_of(16);
        let begun = self.client.begin_message(call.id, Encoding::RAW, end, &mut self.up);
        call.up.blocked |= call.is_waiting() && matches!(begun, Err(NotSent::NoCredit));
        let Ok(mut message) = begun else { return };
        assert!(call.kind.is_some_and(StreamKind::client_sends) && !call.up.ended);
        message.put_slice(&body(number, call.up.sent, amount));
        message.finish().unwrap();
        call.up.sent += 1;
        call.up.ended = end;
    }

    fn server_sends(&mut self, pick: usize, amount: u16) {
        let number = pick % self.calls.len();
        let call = &mut self.calls[number];
        if self.server.close_reason().is_some() {
            return;
        }
        let credit = self.server.send_credit(call.id);
        match self.server.begin_message(call.id, Encoding::RAW, &mut self.down) {
            Ok(mut message) => {
                assert!(credit > 0 && call.running && !call.down.ended);
                message.put_bytes(body(number, call.down.sent, amount).into());
                message.finish().unwrap();
                call.down.sent += 1;
            }
            Err(NotSent::NoCredit) => {
                assert!(credit == 0 && call.running);
                call.down.blocked = true;
            }
            // Its id may be that of a later call, which does not stream.
            Err(NotSent::Ended) => assert_eq!(credit, 0),
        }
    }

    fn client_ends(&mut self, pick: usize, amount: u16) {
        let number = pick % self.calls.len();
        let call = &mut self.calls[number];
        let failure = (amount.is_multiple_of(2)).then(|| Status::aborted("stopped"));
        let tag = tag(u32::try_from(number).unwrap(), amount);
        if self.client.end_stream(call.id, failure.as_ref(), tag.as_ref(), &mut self.up).is_ok() {
            assert!(!call.up.ended);
            call.up.ended = true;
        }
    }

    /// The server ends a call, in a way that its kind allows.
    fn server_ends(&mut self, number: usize, amount: u16) {
        let call = &mut self.calls[number];
        if !call.running || self.server.close_reason().is_some() {
            return;
        }
        let failure = (amount.is_multiple_of(2)).then(|| Status::internal("broken"));
        let streams = call.kind.is_some_and(StreamKind::server_sends);
        let tag = tag(u32::try_from(number).unwrap(), amount);
        if streams && !amount.is_multiple_of(3) {
            let (id, failure) = (call.id, failure.as_ref());
            self.server.end_stream(id, failure, tag.as_ref(), &mut self.down).unwrap();
        } else if let Some(status) = failure.or_else(|| streams.then(|| Status::internal("no"))) {
            self.down.status(&ReplyHead::ok(call.id), &status, u32::MAX);
        } else {
            let tag = tag.filter(|tag| tag.as_bytes().len() < 1024);
            self.down.reply(&ReplyHead::ok(call.id), tag.as_ref()).finish(u32::MAX).unwrap();
        }
        call.down.ended = true;
        call.running = false;
        assert_eq!(self.server.unpark(call.id), u32::try_from(number).ok());
    }

    fn abandon(&mut self, pick: usize) {
        let number = pick % self.calls.len();
        let call = &mut self.calls[number];
        if !call.is_waiting() {
            return;
        }
        let work = self.client.abandon(call.id, CancelReason::Dropped, &mut self.up);
        assert_eq!(work, u32::try_from(number).ok());
        call.abandoned = true;
        self.hear_of_credit();
    }

    /// Messages that were taken back may have given others credit.
    fn hear_of_credit(&mut self) {
        if self.client.poll_writable() {
            self.calls.iter_mut().for_each(|call| call.up.blocked = false);
        }
    }

    fn server_takes(&mut self, pick: usize, count: usize) {
        let Some(call) = pick_mut(&mut self.calls, pick) else { return };
        for _ in 0..count {
            let Some(cost) = call.up.held.pop_front() else { break };
            self.server.consume(call.id, cost, &mut self.down);
        }
    }

    fn client_takes(&mut self, pick: usize, count: usize) {
        let Some(call) = pick_mut(&mut self.calls, pick) else { return };
        for _ in 0..count {
            let Some(cost) = call.down.held.pop_front() else { break };
            self.client.consume(call.id, cost, &mut self.up);
        }
    }

    fn accept(&mut self, pick: usize) {
        let number = pick % self.calls.len().max(1);
        let Some(call) = self.calls.get_mut(number) else { return };
        let tag = tag(u32::try_from(number).unwrap(), 0);
        if self.server.accept_stream(call.id, tag.as_ref(), None, &mut self.down).is_ok() {
            assert!(call.running && !call.opened);
            call.opened = true;
        }
    }

    fn stop(&mut self, pick: usize, at_server: bool) {
        let Some(call) = pick_mut(&mut self.calls, pick) else { return };
        match at_server {
            true if call.running => {
                self.server.stop_receiving(call.id);
                call.up.stopped = true;
            }
            false if call.is_waiting() => {
                self.client.stop_receiving(call.id);
                call.down.stopped = true;
            }
            _ => {}
        }
    }

    fn end_one_way(&mut self, pick: usize) {
        if !self.one_way.is_empty() {
            let id = self.one_way.swap_remove(pick % self.one_way.len());
            assert_eq!(self.server.unpark(id), Some(ONE_WAY));
        }
    }

    fn drain(&mut self) {
        self.drained = true;
        self.server.drain(&mut self.down);
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.server.handle_timeout(&mut self.down, self.now);
        while let Some((id, number)) = self.server.poll_expired(&mut self.down, self.now) {
            match number {
                ONE_WAY => self.one_way.retain(|other| *other != id),
                _ => self.calls[number as usize].running = false,
            }
        }
        self.client.handle_timeout(&mut self.up, self.now);
        while let Some(Expired { work, sent }) = self.client.poll_expired(&mut self.up, self.now) {
            let call = &mut self.calls[work as usize];
            assert!(sent || !call.ran, "it is said not to have been sent");
            call.end(if sent { Outcome::Expired } else { Outcome::NeverSent });
        }
        self.hear_of_credit();
    }
}

/// The largest body that is sent, past the window of a stream.
const BODY_BYTES_MAX: u32 = 8 + 40_000;

fn head(call: u32) -> RequestHead {
    RequestHead::new(call, MethodId(1))
}

/// What a frame of this call carries as metadata, if it does: its number, now and then in a block that
/// is over the bound and is left out.
fn tag(number: u32, amount: u16) -> Option<MetadataBuilder> {
    let large: &[u8] = if amount & 0x70 == 0x70 { &[0; 1_200] } else { &[] };
    number.is_multiple_of(3).then(|| {
        let mut block = MetadataBuilder::new();
        block.insert("tag-bin", &[&number.to_le_bytes(), large].concat()).unwrap();
        block
    })
}

/// A message: its call, its place in the stream, and some bytes more.
fn body(number: usize, sequence: u32, amount: u16) -> Vec<u8> {
    let mut body = u32::try_from(number).unwrap().to_le_bytes().to_vec();
    body.extend_from_slice(&sequence.to_le_bytes());
    let more = if amount.is_multiple_of(7) { amount.min(40_000) } else { amount % 900 };
    body.resize(8 + usize::from(more), 0x5a);
    body
}

fn pick_mut(calls: &mut [Call], pick: usize) -> Option<&mut Call> {
    let count = calls.len().max(1);
    calls.get_mut(pick % count)
}
