//! The cell and the queue without a connection's socket: what is copied, counted and left behind.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::net::doorbell::Doorbell;
use crate::net::io::Token;
use crate::shard::context::ShardContext;
use corewire_client::WriteMessages;
use corewire_codec::{CodecId, EncodedBody, Encoding, FrameWriter, SendBuffer};
use corewire_proto::StreamKind;
use corewire_proto::{ClientConfig, ClientConnection};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Instant;

struct World {
    arrivals: Rc<StreamArrivals>,
    proto: ClientConnection<usize>,
    out: SendBuffer,
    queue: StreamQueue,
}

impl World {
    fn new() -> Self {
        let mut out = SendBuffer::new();
        let proto =
            ClientConnection::new(Arc::new(ClientConfig::default()), 0, &mut out, Instant::now());
        out.clear();
        let local = ShardContext::new(Arc::new(Doorbell::new().unwrap()));
        let arrivals = StreamArrivals::new(local);
        Self { arrivals, proto, out, queue: StreamQueue::default() }
    }

    fn stream(&mut self) -> Rc<StreamCell> {
        let call = self.proto.begin_stream(StreamKind::Bidirectional, 0, None).unwrap();
        let token = Token::connection(0, 1);
        StreamCell::new(Rc::clone(&self.arrivals), token, call, Side::Client, (true, true))
    }

    /// What the driver does with what arrived, and the connection in its turn.
    fn turn(&mut self, unsent_max: usize) {
        let queue = &mut self.queue;
        self.arrivals.take_of(Token::connection(0, 1), |cell| queue.push(cell));
        queue.serve(&mut self.proto, &mut self.out, unsent_max);
    }
}

fn body(bytes: usize) -> EncodedBody {
    let write = |frame: &mut FrameWriter<'_>| {
        frame.put_slice(&vec![1; bytes]);
        Ok::<_, ()>(())
    };
    EncodedBody::encode(write).unwrap()
}

fn is_ready(writer: &mut StreamWriter) -> bool {
    writer.poll_ready(&mut Context::from_waker(Waker::noop())).is_ready()
}

const RAW: Encoding = Encoding::plain(CodecId::RAW);

#[test]
fn an_outbox_is_bounded_and_empties_by_credit() {
    let mut world = World::new();
    let (_call, writer) = StreamCall::new(StreamKind::Bidirectional, world.stream());
    let mut writer = writer.unwrap();
    let mut sent = 0;
    while is_ready(&mut writer) {
        writer.send(RAW, body(1000));
        sent += 1;
    }
    // 32 KiB, each message with 16 bytes more.
    assert_eq!(sent, 33);
    world.turn(usize::MAX);
    // Before the hello the credit of a stream is 16 KiB, and one message may overdraw it.
    let gone = world.out.len();
    assert!((16_384..18_000).contains(&gone), "{gone}");
    assert!(is_ready(&mut writer));
    assert!(!world.queue.has_ready(), "it waits for credit");
}

/// A stream whose call is over is forgotten, even while it waits for credit: otherwise a connection would
/// keep one for each call that was given up.
#[test]
fn a_blocked_stream_is_forgotten_with_its_call() {
    let mut world = World::new();
    let cell = world.stream();
    let (call, writer) = StreamCall::new(StreamKind::Bidirectional, Rc::clone(&cell));
    let mut writer = writer.unwrap();
    while is_ready(&mut writer) {
        writer.send(RAW, body(1000));
    }
    world.turn(usize::MAX);
    drop((call, writer));
    world.turn(usize::MAX);
    assert_eq!(world.queue.pop_ended(), Some(cell.call));
    assert_eq!(Rc::strong_count(&cell), 1);

    let cell = world.stream();
    let (call, writer) = StreamCall::new(StreamKind::Bidirectional, Rc::clone(&cell));
    let mut writer = writer.unwrap();
    while is_ready(&mut writer) {
        writer.send(RAW, body(1000));
    }
    world.turn(usize::MAX);
    cell.finish(None);
    assert!(is_ready(&mut writer), "nothing more can be sent");
    drop((call, writer));
    world.turn(usize::MAX);
    assert_eq!(world.queue.pop_ended(), None);
    assert_eq!(Rc::strong_count(&cell), 1);
}

/// Streams stop writing when too much waits for the socket, and stay in the queue.
#[test]
fn the_unsent_budget_holds_streams_back() {
    let mut world = World::new();
    let mut writers = Vec::new();
    for _ in 0..4 {
        let (call, writer) = StreamCall::new(StreamKind::Bidirectional, world.stream());
        let mut writer = writer.unwrap();
        writer.send(RAW, body(10_000));
        writers.push((call, writer));
    }
    world.turn(15_000);
    assert!(world.queue.has_ready());
    assert!((20_000..21_000).contains(&world.out.len()), "{}", world.out.len());
    world.out.clear();
    world.turn(15_000);
    assert!(!world.queue.has_ready());
    assert!((20_000..21_000).contains(&world.out.len()), "{}", world.out.len());
}
