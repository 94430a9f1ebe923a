//! A blocking channel over a network and a clock that only it moves.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::time::{Duration, Instant};

use corewire_codec::{
    FrameKind, FrameWriter, GoAway, Head, Hello, HelloRecords, InFlight, MethodId, RecvBuffer,
    ReplyHead, RequestHead, Role, SendBuffer, Status, VERSION, request_flags,
};
use corewire_proto::StreamKind;

use super::channel::Channel;
use super::system::{Connect, Connected, Socket, System};
use crate::address::Address;
use crate::config::ChannelConfig;
use crate::failure::{CallFailure, NotSent};
use crate::resolver::Resolver;
use crate::transport::{Outcome, Pending, Transport};

/// What the server does with requests, and how connects go.
#[derive(Debug, Default)]
struct Script {
    /// It replies to unary calls, at once.
    replies: bool,
    /// It leaves pings without a pong.
    ignores_pings: bool,
    /// How many calls in flight it accepts; 0 is the default.
    in_flight: u32,
    /// How long a connect takes.
    connect_takes: Duration,
    refuses_connects: bool,
    /// How many writes the socket takes nothing of, from now on.
    full_for: usize,
}

#[derive(Debug)]
struct World {
    now: Instant,
    script: Script,
    connects: usize,
    /// The frames that the server has received, and "hello" for one.
    heard: Vec<String>,
    /// What the server of the last connection has said and the client has not received.
    said: SendBuffer,
    /// The server has closed its side.
    has_left: bool,
}

type Shared = Rc<RefCell<World>>;

#[derive(Debug)]
struct Net(Shared);

impl System for Net {
    fn now(&self) -> Instant {
        self.0.borrow().now
    }

    fn connect(&self, _: &Address, _: &Resolver, _: Duration) -> io::Result<Box<dyn Connect>> {
        let world = &mut *self.0.borrow_mut();
        world.connects += 1;
        world.said = SendBuffer::new();
        world.has_left = false;
        let at = world.now + world.script.connect_takes;
        Ok(Box::new(Attempt { world: Rc::clone(&self.0), at }))
    }
}

#[derive(Debug)]
struct Attempt {
    world: Shared,
    at: Instant,
}

impl Connect for Attempt {
    fn wait(&mut self, until: Option<Instant>) -> Option<Connected> {
        let world = &mut *self.world.borrow_mut();
        if let Some(until) = until.filter(|until| *until < self.at) {
            world.now = world.now.max(until);
            return None;
        }
        world.now = world.now.max(self.at);
        if world.script.refuses_connects {
            return Some(Err(io::Error::from_raw_os_error(111)));
        }
        let (world, recv) = (Rc::clone(&self.world), RecvBuffer::new());
        Some(Ok((
            Box::new(End { world, recv, is_nonblocking: false, knows_hello: false }),
            self.at,
        )))
    }
}

#[derive(Debug)]
struct End {
    world: Shared,
    recv: RecvBuffer,
    is_nonblocking: bool,
    knows_hello: bool,
}

impl Socket for End {
    fn set_nonblocking(&mut self, on: bool) -> io::Result<()> {
        self.is_nonblocking = on;
        Ok(())
    }

    fn read(&mut self, into: &mut [u8], within: Option<Duration>) -> io::Result<usize> {
        let world = &mut *self.world.borrow_mut();
        if world.said.is_empty() && !world.has_left {
            if !self.is_nonblocking {
                world.now += within.expect("nobody would ever wake this thread");
            }
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let chunk = world.said.first_chunk();
        let count = chunk.len().min(into.len());
        into[..count].copy_from_slice(&chunk[..count]);
        world.said.advance(count);
        Ok(count)
    }

    fn write(&mut self, from: &[IoSlice<'_>], _: Duration) -> io::Result<usize> {
        let full_for = self.world.borrow().script.full_for;
        if full_for > 0 {
            self.world.borrow_mut().script.full_for = full_for - 1;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        from.iter().for_each(|slice| self.recv.extend_from_slice(slice));
        self.serve();
        Ok(from.iter().map(|slice| slice.len()).sum())
    }
}

impl End {
    fn serve(&mut self) {
        let world = &mut *self.world.borrow_mut();
        if !self.knows_hello {
            self.recv.next_hello().unwrap().unwrap();
            self.knows_hello = true;
            world.heard.push("hello".to_owned());
            let mut records = HelloRecords::default();
            if world.script.in_flight > 0 {
                records.limits.in_flight = InFlight::new(world.script.in_flight).unwrap();
            }
            world.said.hello(&Hello { version: VERSION, role: Role::Server, records });
        }
        while let Some(header) = self.recv.next_header(1 << 20).unwrap() {
            let frame = self.recv.front(header, 1 << 10).unwrap();
            world.heard.push(format!("{:?}", header.kind));
            match frame.head {
                Head::Request(request)
                    if world.script.replies && request.flags & request_flags::STREAM_OUT == 0 =>
                {
                    let reply = world.said.reply(&ReplyHead::ok(request.call), None);
                    reply.finish(1 << 20).unwrap();
                }
                Head::Ping(opaque) if !world.script.ignores_pings => world.said.pong(opaque),
                _ => {}
            }
        }
    }
}

fn channel(script: Script) -> (Channel, Shared) {
    channel_with(script, ChannelConfig::default())
}

fn channel_with(script: Script, config: ChannelConfig) -> (Channel, Shared) {
    let world = Rc::new(RefCell::new(World {
        now: Instant::now(),
        script,
        connects: 0,
        heard: Vec::new(),
        said: SendBuffer::new(),
        has_left: false,
    }));
    let net = Box::new(Net(Rc::clone(&world)));
    (Channel::on(net, "127.0.0.1:1", config).unwrap(), world)
}

fn body(_: &mut FrameWriter<'_>) -> Result<(), Status> {
    Ok(())
}

fn call(channel: &Channel, timeout: Option<Duration>) -> Outcome {
    channel.call(RequestHead::new(0, MethodId(1)), timeout, body).wait()
}

fn go_away(world: &Shared) {
    world.borrow_mut().said.go_away(&GoAway { accepted: 9, rule: 0 }, "leaving");
}

fn heard(world: &Shared, kind: FrameKind) -> usize {
    let kind = format!("{kind:?}");
    world.borrow().heard.iter().filter(|it| **it == kind).count()
}

const SECOND: Duration = Duration::from_secs(1);

fn no_connection(outcome: &Outcome) -> &str {
    match outcome {
        Err(CallFailure::NotSent(NotSent::NoConnection(why))) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn calls_share_a_connection_that_the_first_one_makes() {
    let (channel, world) = channel(Script { replies: true, ..Script::default() });
    assert!(world.borrow().connects == 0 && call(&channel, None).is_ok());
    assert!(call(&channel, Some(SECOND)).is_ok());
    assert_eq!((world.borrow().connects, heard(&world, FrameKind::Request)), (1, 2));
}

#[test]
fn a_connect_that_outlives_its_call_is_used_by_the_next() {
    let connect_takes = 2 * SECOND;
    let (channel, world) = channel(Script { replies: true, connect_takes, ..Script::default() });
    let start = world.borrow().now;
    let first = call(&channel, Some(SECOND));
    assert!(matches!(first, Err(CallFailure::DeadlineExceeded { sent: false })), "{first:?}");
    assert_eq!(world.borrow().now, start + SECOND);
    assert!(call(&channel, Some(2 * SECOND)).is_ok());
    assert_eq!((world.borrow().now, world.borrow().connects), (start + connect_takes, 1));
}

#[test]
fn a_failed_connect_says_why_and_is_left_alone_for_a_while() {
    let (channel, world) = channel(Script { refuses_connects: true, ..Script::default() });
    let first = call(&channel, None);
    let second = call(&channel, None);
    for outcome in [&first, &second] {
        let why = no_connection(outcome);
        assert!(why.contains("efused") && why.contains("the next try is in"), "{why}");
    }
    assert_eq!(world.borrow().connects, 1);
    world.borrow_mut().now += SECOND;
    let _ = call(&channel, None);
    assert_eq!(world.borrow().connects, 2, "the back-off is over");
}

#[test]
fn a_deadline_ends_a_call_in_flight() {
    let (channel, world) = channel(Script::default());
    let start = world.borrow().now;
    let outcome = call(&channel, Some(SECOND));
    assert!(matches!(outcome, Err(CallFailure::DeadlineExceeded { sent: true })), "{outcome:?}");
    assert_eq!(world.borrow().now, start + SECOND);
}

#[test]
fn a_connection_whose_server_left_is_found_before_the_next_call() {
    let (channel, world) = channel(Script { replies: true, ..Script::default() });
    call(&channel, None).unwrap();
    go_away(&world);
    call(&channel, None).unwrap();
    assert_eq!(world.borrow().connects, 2);
    world.borrow_mut().has_left = true;
    call(&channel, None).unwrap();
    assert_eq!(world.borrow().connects, 3);
}

/// The thread can sleep in one socket only: while streams keep the old connection, there is no next one.
#[test]
fn streams_are_finished_before_the_next_connection_is_made() {
    let (channel, world) = channel(Script { replies: true, ..Script::default() });
    call(&channel, None).unwrap();
    world.borrow_mut().script.replies = false;
    let head = RequestHead::new(0, MethodId(2));
    let (stream, _) = channel.stream(StreamKind::Server, head, None, body).unwrap();
    go_away(&world);
    let refused = call(&channel, None);
    assert!(no_connection(&refused).contains("shutting down"));
    drop(stream);
    world.borrow_mut().script.replies = true;
    call(&channel, None).unwrap();
    assert_eq!(world.borrow().connects, 2);
}

/// Only the thread that would wait could end the stream that has the slot.
#[test]
fn a_call_that_finds_no_slot_fails_at_once() {
    let in_flight = InFlight::MIN.get();
    let (channel, world) = channel(Script { in_flight, ..Script::default() });
    let head = RequestHead::new(0, MethodId(2));
    let stream = || channel.stream(StreamKind::Server, head, None, body).unwrap();
    let streams: Vec<_> = (0..in_flight).map(|_| stream()).collect();
    let full = call(&channel, None);
    assert!(matches!(full, Err(CallFailure::NotSent(NotSent::QueueFull))), "{full:?}");
    assert_eq!(heard(&world, FrameKind::Request), streams.len());
}

/// A call waits while too much is unsent. What is then written makes room for it, and the thread begins it before
/// it sleeps: nothing else would wake it.
#[test]
fn a_call_that_waits_for_room_begins_when_there_is_some() {
    let config = ChannelConfig { unsent_max: 0, ..ChannelConfig::default() };
    let (channel, world) = channel_with(Script { replies: true, ..Script::default() }, config);
    assert!(call(&channel, Some(SECOND)).is_ok());
    // Nothing of the stream's request is taken when it begins, nor when the call does.
    world.borrow_mut().script.full_for = 2;
    let head = RequestHead::new(0, MethodId(2));
    let _stream = channel.stream(StreamKind::Server, head, None, body).unwrap();
    assert!(call(&channel, Some(SECOND)).is_ok());
}

#[test]
fn a_silent_connection_is_pinged_before_a_call() {
    let config = ChannelConfig::default();
    let ping_after = config.connection.timeouts.ping_after;
    let (channel, world) = channel_with(Script { replies: true, ..Script::default() }, config);
    call(&channel, None).unwrap();
    world.borrow_mut().now += 2 * ping_after;
    call(&channel, None).unwrap();
    assert_eq!(world.borrow().heard, ["hello", "Request", "Ping", "Request"]);
    world.borrow_mut().now += 2 * ping_after;
    world.borrow_mut().script.ignores_pings = true;
    let outcome = call(&channel, Some(SECOND));
    assert!(matches!(outcome, Err(CallFailure::DeadlineExceeded { sent: false })), "{outcome:?}");
    assert_eq!(heard(&world, FrameKind::Request), 2, "it was not written");
}

#[test]
fn a_server_hears_that_its_client_leaves() {
    for closes in [false, true] {
        let (channel, world) = channel(Script { replies: true, ..Script::default() });
        call(&channel, None).unwrap();
        if closes {
            channel.close();
            assert!(matches!(call(&channel, None), Err(CallFailure::NotSent(NotSent::Closed))));
        }
        drop(channel);
        assert_eq!(world.borrow().heard, ["hello", "Request", "GoAway"]);
    }
}

/// What an encoder does with its own channel finds that in use, and a panic leaves the channel usable.
#[test]
fn an_encoder_may_use_its_channel_or_panic() {
    let (channel, world) = channel(Script { replies: true, ..Script::default() });
    for is_connected in [false, true] {
        let own = channel.clone();
        let encode = move |_: &mut FrameWriter<'_>| {
            let inner = call(&own, None);
            assert!(matches!(inner, Err(CallFailure::NotSent(NotSent::QueueFull))));
            Ok(())
        };
        assert!(channel.call(RequestHead::new(0, MethodId(1)), None, encode).wait().is_ok());
        if !is_connected {
            world.borrow_mut().has_left = true;
        }
        let panics = |_: &mut FrameWriter<'_>| panic!("an encoder's own");
        let made = channel.call(RequestHead::new(0, MethodId(1)), None, panics);
        let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| made.wait()));
        assert!(waited.is_err() && call(&channel, None).is_ok());
    }
    assert_eq!(heard(&world, FrameKind::Request), 4);
}
