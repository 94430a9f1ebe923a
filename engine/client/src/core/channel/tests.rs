//! The core without a socket: what a server says is written into the connection's buffer.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, Instant};

use corewire_codec::{
    GoAway, Head, Hello, HelloRecords, RecvBuffer, Role, SendBuffer, VERSION, request_flags,
};
use corewire_proto::CloseReason;

use super::{CallFailure, ConnectionId, NotSent, RETIRED_MAX};
use crate::config::ChannelConfig;
use crate::remote::command::ClientCore;
use crate::remote::command::tests::{awaited, noted};
use crate::transport::Outcome;

fn core() -> ClientCore {
    ClientCore::new("127.0.0.1:1".parse().unwrap(), ChannelConfig::default())
}

/// A connection of the core, whose server has said hello.
fn connected(core: &mut ClientCore, now: Instant) -> ConnectionId {
    assert!(core.takes_connect() && !core.takes_connect(), "it is told once");
    let id = core.handle_connected(now);
    hear(core, id, now, |out| {
        out.hello(&Hello {
            version: VERSION,
            role: Role::Server,
            records: HelloRecords::default(),
        });
    });
    id
}

/// The server of this connection says something.
fn hear(core: &mut ClientCore, id: ConnectionId, now: Instant, say: impl FnOnce(&mut SendBuffer)) {
    let mut out = SendBuffer::new();
    say(&mut out);
    let connection = core.connection(id).unwrap();
    connection.session.recv.extend_from_slice(out.first_chunk());
    connection.handle_received(now);
}

fn go_away(core: &mut ClientCore, id: ConnectionId, now: Instant) {
    hear(core, id, now, |out| out.go_away(&GoAway { accepted: 1, rule: 0 }, "leaving"));
}

fn call(core: &mut ClientCore, now: Instant) -> flume::Receiver<Outcome> {
    let (command, outcomes) = noted();
    core.begin(command, now);
    core.advance(now);
    outcomes
}

/// Of two calls that wait, one is given up, and the other one leaves the queue and fills the connection.
#[test]
fn a_call_that_is_given_up_is_not_kept_when_those_around_it_have_gone() {
    let config = ChannelConfig { unsent_max: 0, ..ChannelConfig::default() };
    let mut core = ClientCore::new("127.0.0.1:1".parse().unwrap(), config);
    let now = Instant::now();
    let outcome = call(&mut core, now);
    let (command, given_up) = awaited();
    core.begin(command, now);
    drop(given_up);
    core.cancel(1);
    assert_eq!(core.snapshot().waiting, 2, "half of the queue may be given up");
    let id = connected(&mut core, now);
    core.connection(id).unwrap().session.out = SendBuffer::new();
    core.advance(now);
    assert!(core.connection(id).unwrap().unsent() > 0 && outcome.is_empty());
    assert_eq!(core.snapshot().waiting, 0);
}

/// The socket takes nothing more, and the server may still say something: what lies in the buffer was not sent.
#[test]
fn a_call_whose_write_failed_was_not_sent() {
    let (mut core, now) = (core(), Instant::now());
    let (mut command, outcomes) = noted();
    let by = now + Duration::from_millis(100);
    command.deadline = Some(by);
    core.begin(command, now);
    let id = connected(&mut core, now);
    let connection = core.connection(id).unwrap();
    connection.session.out = SendBuffer::new();
    core.advance(now);
    let connection = core.connection(id).unwrap();
    connection.handle_write_error(&std::io::Error::from(std::io::ErrorKind::BrokenPipe), now);
    assert!(!connection.prepare_write(now));
    core.expire(by);
    let outcome = outcomes.try_recv().unwrap();
    assert!(matches!(outcome, Err(CallFailure::DeadlineExceeded { sent: false })), "{outcome:?}");
}

#[test]
fn a_failed_connect_fails_who_waits_and_is_not_tried_again_at_once() {
    let (mut core, now) = (core(), Instant::now());
    let waiting = call(&mut core, now);
    assert!(core.takes_connect() && waiting.is_empty());
    core.handle_connect_failed(CloseReason::ConnectTimeout, now);
    assert!(matches!(waiting.try_recv(), Ok(Err(CallFailure::NotSent(NotSent::NoConnection(_))))));
    let next = call(&mut core, now);
    assert!(matches!(next.try_recv(), Ok(Err(CallFailure::NotSent(NotSent::NoConnection(_))))));
    assert!(!core.takes_connect());
    let later = now + Duration::from_millis(60);
    assert!(call(&mut core, later).is_empty() && core.takes_connect(), "the back-off is over");
}

/// Who closes a channel goes on only when the shell has dropped the connect.
#[test]
fn a_channel_that_is_closed_gives_its_connect_up_first() {
    let (mut core, now) = (core(), Instant::now());
    let waiting = call(&mut core, now);
    assert!(core.takes_connect());
    let (hold, closed) = oneshot::channel();
    core.close(hold.into());
    core.release_closed();
    assert!(!closed.is_closed(), "nobody has looked yet");
    core.advance(now);
    assert!(matches!(waiting.try_recv(), Ok(Err(CallFailure::NotSent(NotSent::Closed)))));
    assert!(!core.is_connecting() && !closed.is_closed());
    core.release_closed();
    assert!(closed.is_closed());
}

#[test]
fn a_connection_whose_server_leaves_finishes_its_calls_beside_the_next() {
    let (mut core, now) = (core(), Instant::now());
    let first = call(&mut core, now);
    let old = connected(&mut core, now);
    core.advance(now);
    go_away(&mut core, old, now);
    assert_eq!(core.poll_ended(now), None, "its call is in flight");
    let second = call(&mut core, now + Duration::from_secs(1));
    let new = connected(&mut core, now);
    assert!(new != old && first.is_empty() && second.is_empty());
    core.connection(old).unwrap().session.handle_eof();
    assert_eq!(core.poll_ended(now), Some(old));
    assert!(matches!(first.try_recv(), Ok(Err(CallFailure::Unknown(_)))));
    assert!(core.connection(new).is_some() && second.is_empty());
}

/// One of as many as there may be has ended when the next server leaves: its place is taken.
#[test]
fn what_has_ended_makes_room_for_what_is_retired() {
    let (mut core, mut now) = (core(), Instant::now());
    let mut retired = Vec::new();
    let mut calls = Vec::new();
    for _ in 0..=RETIRED_MAX {
        calls.push(call(&mut core, now));
        let id = connected(&mut core, now);
        core.advance(now);
        go_away(&mut core, id, now);
        retired.push(id);
        if retired.len() <= RETIRED_MAX {
            assert_eq!(core.poll_ended(now), None);
            // Past the back-off of a connection that brought no reply.
            now += Duration::from_secs(10);
        }
    }
    core.connection(retired[3]).unwrap().session.handle_eof();
    assert_eq!(core.poll_ended(now), Some(retired[3]));
    assert_eq!(core.poll_ended(now), None);
    assert_eq!(core.retired.len(), RETIRED_MAX, "the last one is among them");
    assert!(calls.last().unwrap().is_empty(), "its call goes on");
}

/// The last handle is gone: what nothing is in flight on is left, though a retired connection has a call yet.
#[test]
fn an_idle_connection_is_left_with_the_last_handle() {
    let (mut core, now) = (core(), Instant::now());
    let _first = call(&mut core, now);
    let old = connected(&mut core, now);
    core.advance(now);
    go_away(&mut core, old, now);
    assert_eq!(core.poll_ended(now), None);
    let later = now + Duration::from_secs(1);
    let (command, second) = noted();
    core.begin(command, later);
    let new = connected(&mut core, later);
    core.cancel(1);
    drop(second);
    let unsent = core.connection(new).unwrap().unsent();
    core.connection(new).unwrap().session.handle_write(unsent, later);
    core.waiting.fail(&CallFailure::Refused);
    core.handle_released();
    assert!(
        core.connection(new).unwrap().session.is_draining(),
        "its server hears that it is left"
    );
    assert!(!core.is_idle());
}

/// A call with these flags, and what it is told.
fn call_with(core: &mut ClientCore, flags: u8, now: Instant) -> flume::Receiver<Outcome> {
    let (mut command, outcomes) = noted();
    command.head.flags |= flags;
    core.begin(command, now);
    outcomes
}

/// They take no slot, so they do not wait behind calls that wait for one; otherwise the order is that of the calls.
#[test]
fn a_one_way_call_does_not_wait_for_a_slot() {
    let (mut core, now) = (core(), Instant::now());
    let slots = HelloRecords::default().limits.in_flight.get() as usize;
    let before = call_with(&mut core, request_flags::ONE_WAY, now);
    let calls: Vec<_> = (0..=slots).map(|_| call_with(&mut core, 0, now)).collect();
    let behind = call_with(&mut core, request_flags::ONE_WAY, now);
    assert_eq!(core.waiting.len(), slots + 3);
    let id = connected(&mut core, now);
    let unsent = core.connection(id).unwrap().unsent();
    core.connection(id).unwrap().session.handle_write(unsent, now);
    core.advance(now);
    assert!(matches!(before.try_recv(), Ok(Ok(_))) && matches!(behind.try_recv(), Ok(Ok(_))));
    assert_eq!(core.waiting.len(), 1, "one call more than there are slots");
    let mut recv = RecvBuffer::new();
    let out = &mut core.connection(id).unwrap().session.out;
    while !out.is_empty() {
        let count = out.first_chunk().len();
        recv.extend_from_slice(out.first_chunk());
        out.advance(count);
    }
    let mut order = Vec::new();
    while let Some(frame) = recv.next_frame(u32::MAX).unwrap() {
        let Head::Request(head) = frame.head else { panic!("only calls are to come") };
        order.push(head.flags & request_flags::ONE_WAY != 0);
    }
    let is_one_way = |place: &usize| order[*place];
    let places: Vec<usize> = (0..order.len()).filter(is_one_way).collect();
    assert_eq!(places, [0, slots + 1]);
    assert!(calls.iter().all(flume::Receiver::is_empty));
}

/// The queue has room for one: calls of both kinds count.
#[test]
fn one_way_calls_that_wait_are_bounded() {
    let config = ChannelConfig { waiting_max: 1, ..ChannelConfig::default() };
    let mut core = ClientCore::new("127.0.0.1:1".parse().unwrap(), config);
    let now = Instant::now();
    let first = call_with(&mut core, request_flags::ONE_WAY, now);
    let second = call_with(&mut core, request_flags::ONE_WAY, now);
    assert!(first.is_empty());
    assert!(matches!(second.try_recv(), Ok(Err(CallFailure::NotSent(NotSent::QueueFull)))));
}
