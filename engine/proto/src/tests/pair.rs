//! A client and a server joined by in-memory queues under a virtual clock.
//!
//! Nothing moves by itself: tests deliver bytes, as many as they like at a time, and jump the clock.
//! Bytes that are not delivered wait in their sender's send buffer, as they would for a socket that
//! takes nothing.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use corewire_codec::{
    CancelReason, GoAway, Head, Hello, InFlight, MethodId, RecvBuffer, ReplyHead, RequestHead,
    Rule, SendBuffer, Status, StatusCode,
};

use crate::client::{ClientConnection, ClientInput, Expired};
use crate::close::CloseReason;
use crate::config::{ClientConfig, ServerConfig, ServerIdentity, Timeouts};
use crate::fuzzing::carry;
use crate::server::{OneWayDropped, ServerConnection, ServerInput};

/// What the server does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Serve {
    /// Answers at once with the body that came.
    Echo,
    /// Parks it; the test answers.
    Park,
}

/// How a call ended for its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Reply(ReplyHead, Bytes),
    StreamEnd(StatusCode, Bytes),
    Refused,
    Expired,
    /// Its deadline passed before anything of it was written.
    ExpiredUnsent,
    Failed {
        may_have_run: bool,
    },
}

/// What streams did, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Opened(u32),
    Data { call: u32, body: Bytes, cost: u32, end: bool },
    End { call: u32, code: StatusCode, body: Bytes },
    Writable(Option<u32>),
    OneWayDropped(OneWayDropped),
}

/// A server and the buffers of its side.
pub(super) struct ServerSide {
    pub(super) conn: ServerConnection<u32>,
    pub(super) recv: RecvBuffer,
    pub(super) out: SendBuffer,
    pub(super) serve: Serve,
    /// Calls that reached the handler, by id, in order.
    pub(super) ran: Vec<u32>,
    /// The numbers in their bodies.
    pub(super) numbers: Vec<u32>,
    pub(super) deadlines: Vec<Option<Instant>>,
    /// Parked calls that were cancelled or expired.
    pub(super) dropped: Vec<u32>,
    pub(super) events: Vec<Event>,
}

/// A client and the buffers of its side. Each call carries a number of the test's.
pub(super) struct ClientSide {
    pub(super) conn: ClientConnection<u32>,
    pub(super) recv: RecvBuffer,
    pub(super) out: SendBuffer,
    pub(super) outcomes: BTreeMap<u32, Outcome>,
    pub(super) events: Vec<Event>,
}

pub(super) struct Pair {
    pub(super) start: Instant,
    pub(super) now: Instant,
    pub(super) server: ServerSide,
    pub(super) client: ClientSide,
}

impl Pair {
    pub(super) fn new() -> Self {
        Self::with(ServerConfig::default(), ClientConfig::default())
    }

    pub(super) fn with_timeouts(timeouts: Timeouts) -> Self {
        Self::with(
            ServerConfig { timeouts, ..ServerConfig::default() },
            ClientConfig { timeouts, ..ClientConfig::default() },
        )
    }

    /// Timers fire at their whole times: what jitter does has tests of its own.
    pub(super) fn with(mut server: ServerConfig, mut client: ClientConfig) -> Self {
        server.timeouts.jitter_percent = 0;
        client.timeouts.jitter_percent = 0;
        let now = Instant::now();
        let mut out = SendBuffer::new();
        let conn = ClientConnection::new(std::sync::Arc::new(client), 0, &mut out, now);
        let (recv, outcomes, events) = (RecvBuffer::new(), BTreeMap::new(), Vec::new());
        let client = ClientSide { conn, recv, out, outcomes, events };
        Self { start: now, now, server: ServerSide::new(server, now), client }
    }

    /// A pair whose hellos have crossed.
    pub(super) fn ready() -> Self {
        let mut pair = Self::new();
        pair.settle();
        assert!(pair.client.conn.is_ready());
        pair
    }

    /// Moves bytes from the client to the server, at most `count`; returns how many.
    pub(super) fn up(&mut self, count: usize) -> usize {
        let Self { server, client, now, .. } = self;
        let moved = carry(&mut client.out, &mut server.recv, count);
        client.conn.handle_write(moved > 0, !client.out.is_empty(), *now);
        if moved > 0 {
            server.handle(*now);
        }
        moved
    }

    /// Moves bytes from the server to the client, at most `count`; returns how many.
    pub(super) fn down(&mut self, count: usize) -> usize {
        let Self { server, client, now, .. } = self;
        let moved = carry(&mut server.out, &mut client.recv, count);
        server.conn.handle_write(moved > 0, !server.out.is_empty(), *now);
        if moved > 0 {
            client.handle(*now);
        }
        moved
    }

    /// Moves everything in both directions until nothing is left.
    pub(super) fn settle(&mut self) {
        while self.up(usize::MAX) + self.down(usize::MAX) > 0 {}
    }

    /// Moves everything in pieces of `step` bytes.
    pub(super) fn settle_by(&mut self, step: usize) {
        while self.up(step) + self.down(step) > 0 {}
    }

    /// Lets time pass with nobody moving bytes, firing every timer at its time.
    pub(super) fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        let mut fired = 0;
        while let Some(next) = self.next_timer().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            self.fire();
            fired += 1;
            assert!(fired < 1_000, "a timer that does nothing fires again and again");
        }
        self.now = until;
        self.fire();
    }

    /// Moves everything, then jumps to the next timer within `time`, and so on until it has passed.
    pub(super) fn drive(&mut self, time: Duration) {
        let until = self.now + time;
        let mut fired = 0;
        loop {
            self.settle();
            let Some(next) = self.next_timer().filter(|next| *next <= until) else { break };
            self.now = self.now.max(next);
            self.fire();
            fired += 1;
            assert!(fired < 10_000, "a timer that does nothing fires again and again");
        }
        self.now = until;
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        let (server, client) = (self.server.conn.poll_timeout(), self.client.conn.poll_timeout());
        server.into_iter().chain(client).min()
    }

    /// Tells both sides the time.
    pub(super) fn fire(&mut self) {
        self.server.fire(self.now);
        self.client.fire(self.now);
    }

    /// Begins a call without deadline and appends its request; the body is the test's number.
    pub(super) fn call(&mut self, number: u32) -> u32 {
        self.call_within(number, None)
    }

    pub(super) fn call_within(&mut self, number: u32, timeout: Option<Duration>) -> u32 {
        let deadline = timeout.map(|timeout| self.now + timeout);
        let call = self.client.conn.begin_call(number, deadline).expect("a free slot");
        let timeout_us = timeout.map(|timeout| u64::try_from(timeout.as_micros()).unwrap());
        let head = RequestHead { timeout_us, ..RequestHead::new(call, MethodId(7)) };
        put_request(&mut self.client.out, &head, &number.to_le_bytes());
        call
    }

    /// The server answers a parked call with its body.
    pub(super) fn answer(&mut self, call: u32) {
        let number = self.server.conn.unpark(call).expect("a parked call");
        put_reply(&mut self.server.out, call, &number.to_le_bytes());
    }

    /// The client no longer wants a call.
    pub(super) fn abandon(&mut self, call: u32) -> Option<u32> {
        self.client.conn.abandon(call, CancelReason::Dropped, &mut self.client.out)
    }

    pub(super) fn outcome(&self, number: u32) -> Option<&Outcome> {
        self.client.outcomes.get(&number)
    }

    /// Whether a call was answered with its own body.
    pub(super) fn echoed(&self, number: u32) -> bool {
        matches!(self.outcome(number), Some(Outcome::Reply(_, body)) if body[..] == number.to_le_bytes())
    }

    /// The status of a call that failed on the server.
    pub(super) fn status(&self, number: u32) -> (ReplyHead, Status) {
        let Some(Outcome::Reply(head, body)) = self.outcome(number) else {
            panic!("call {number} ended with {:?}", self.outcome(number));
        };
        (*head, Status::from_body(head.code, body))
    }
}

impl ServerSide {
    pub(super) fn new(config: ServerConfig, now: Instant) -> Self {
        let identity = ServerIdentity { connection_id: 42 };
        Self {
            conn: ServerConnection::new(Rc::new(config), identity, now),
            recv: RecvBuffer::new(),
            out: SendBuffer::new(),
            serve: Serve::Park,
            ran: Vec::new(),
            numbers: Vec::new(),
            deadlines: Vec::new(),
            dropped: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Feeds raw bytes, as a peer that keeps no rules would send them.
    pub(super) fn feed(&mut self, bytes: &[u8], now: Instant) {
        self.recv.extend_from_slice(bytes);
        self.handle(now);
    }

    pub(super) fn handle(&mut self, now: Instant) {
        loop {
            match self.conn.handle_frame(
                &mut self.recv,
                &mut RequestHead::default(),
                &mut self.out,
                now,
            ) {
                ServerInput::NeedBytes => break,
                ServerInput::Handled => {}
                ServerInput::Call { request, payload, deadline } => {
                    let body = payload.into_body();
                    self.ran.push(request.call);
                    self.deadlines.push(deadline);
                    let number = body.first_chunk().map_or(0, |b| u32::from_le_bytes(*b));
                    self.numbers.push(number);
                    match self.serve {
                        Serve::Echo => put_reply(&mut self.out, request.call, &body),
                        Serve::Park => {
                            self.conn.park(request.call, deadline, number);
                        }
                    }
                }
                ServerInput::Cancelled { call, .. } => self.dropped.push(call),
                ServerInput::StreamData { call, cost, end, payload, .. } => {
                    let body = payload.into_body();
                    self.events.push(Event::Data { call, body, cost, end });
                }
                ServerInput::StreamEnd { call, code, payload } => {
                    self.events.push(Event::End { call, code, body: payload.into_body() });
                }
                ServerInput::Writable { call } => self.events.push(Event::Writable(call)),
                ServerInput::OneWayDropped(why) => self.events.push(Event::OneWayDropped(why)),
                ServerInput::Closed(reason) => {
                    assert_eq!(self.conn.close_reason(), Some(reason));
                    return;
                }
            }
        }
        self.conn.handle_rest(&self.recv, now);
    }

    pub(super) fn fire(&mut self, now: Instant) {
        self.conn.handle_timeout(&mut self.out, now);
        while let Some((call, _)) = self.conn.poll_expired(&mut self.out, now) {
            self.dropped.push(call);
        }
        if self.conn.poll_finish(now) {
            self.dropped.extend(self.conn.unpark_all().map(|(call, _)| call));
        }
    }
}

impl ClientSide {
    pub(super) fn feed(&mut self, bytes: &[u8], now: Instant) {
        self.recv.extend_from_slice(bytes);
        self.handle(now);
    }

    pub(super) fn handle(&mut self, now: Instant) {
        loop {
            match self.conn.handle_frame(&mut self.recv, &mut self.out, now) {
                ClientInput::NeedBytes => break,
                ClientInput::Handled | ClientInput::Ready => {}
                ClientInput::Reply { work, head, payload } => {
                    let body = payload.into_body();
                    self.end(work, Outcome::Reply(head, body));
                }
                ClientInput::Opened { call, .. } => {
                    assert!(self.conn.work_mut(call).is_some());
                    self.events.push(Event::Opened(call));
                }
                ClientInput::StreamData { call, cost, payload, .. } => {
                    let body = payload.into_body();
                    self.events.push(Event::Data { call, body, cost, end: false });
                }
                ClientInput::StreamEnd { work, code, payload } => {
                    let body = payload.into_body();
                    self.end(work, Outcome::StreamEnd(code, body));
                }
                ClientInput::Writable { call } => self.events.push(Event::Writable(call)),
                ClientInput::GoAway => {
                    while let Some(work) = self.conn.poll_refused() {
                        self.end(work, Outcome::Refused);
                    }
                }
                ClientInput::Closed(reason) => {
                    assert_eq!(self.conn.close_reason(), Some(reason));
                    return;
                }
            }
        }
        self.conn.handle_rest(&self.recv, now);
    }

    pub(super) fn fire(&mut self, now: Instant) {
        self.conn.handle_timeout(&mut self.out, now);
        while let Some(Expired { work, sent }) = self.conn.poll_expired(&mut self.out, now) {
            self.end(work, if sent { Outcome::Expired } else { Outcome::ExpiredUnsent });
        }
    }

    /// The connection is over: what is in flight fails.
    pub(super) fn fail_all(&mut self) {
        for failed in self.conn.fail_all().collect::<Vec<_>>() {
            self.end(failed.work, Outcome::Failed { may_have_run: failed.may_have_run });
        }
    }

    fn end(&mut self, number: u32, outcome: Outcome) {
        let before = self.outcomes.insert(number, outcome);
        assert_eq!(before, None, "call {number} ended twice");
    }
}

pub(super) fn put_request(out: &mut SendBuffer, head: &RequestHead, body: &[u8]) {
    let mut writer = out.request(head, None);
    writer.put_slice(body);
    writer.finish(u32::MAX).unwrap();
}

pub(super) fn put_reply(out: &mut SendBuffer, call: u32, body: &[u8]) {
    let mut writer = out.reply(&ReplyHead::ok(call), None);
    writer.put_bytes(Bytes::copy_from_slice(body));
    writer.finish(u32::MAX).unwrap();
}

/// The bytes of frames that a test writes.
pub(super) fn bytes(write: impl FnOnce(&mut SendBuffer)) -> Vec<u8> {
    let mut out = SendBuffer::new();
    write(&mut out);
    out.first_chunk().to_vec()
}

/// What a side said: its hello, and its frames.
pub(super) fn said(out: &SendBuffer) -> (Hello, Vec<Head>) {
    let mut recv = RecvBuffer::new();
    recv.extend_from_slice(out.first_chunk());
    let hello = recv.next_hello().expect("a hello comes first").expect("a whole hello");
    (hello, frames(recv))
}

/// What a side said after its hello was taken.
pub(super) fn said_later(out: &SendBuffer) -> Vec<Head> {
    let mut recv = RecvBuffer::new();
    recv.extend_from_slice(out.first_chunk());
    frames(recv)
}

fn frames(mut recv: RecvBuffer) -> Vec<Head> {
    let mut heads = Vec::new();
    while let Some(frame) = recv.next_frame(u32::MAX).unwrap() {
        heads.push(frame.head);
    }
    assert!(recv.is_empty());
    heads
}

/// The last words of a side that blames the other.
pub(super) fn blame(accepted: u32, rule: Rule) -> Head {
    Head::GoAway(GoAway { accepted, rule: rule.number() })
}

pub(super) fn misbehaved(rule: Rule) -> Option<CloseReason> {
    Some(CloseReason::PeerMisbehaved(rule))
}

/// A server's configuration with a limit on calls in flight.
pub(super) fn in_flight(limit: u32) -> ServerConfig {
    let mut config = ServerConfig::default();
    config.limits.in_flight = InFlight::new(limit).unwrap();
    config
}

pub(super) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
