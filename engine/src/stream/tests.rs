//! The cell and the queue without a connection's socket: what is copied, counted and left behind.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::cell::{Side, StreamCell};
use super::*;
use crate::net::doorbell::Doorbell;
use crate::net::io::Token;
use crate::shard::account::{StreamAccount, Totals};
use crate::shard::context::ShardContext;
use corewire_client::WriteMessages;
use corewire_codec::{
    CodecId, EncodedBody, Encoding, FrameWriter, Hello, HelloRecords, Limits, MethodId, RecvBuffer,
    RequestHead, Role, SendBuffer, VERSION,
};
use corewire_proto::{ServerConfig, ServerConnection, ServerIdentity, ServerInput, StreamKind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Instant;

fn token() -> Token {
    Token::connection(0, 1)
}

struct World {
    arrivals: Rc<StreamArrivals>,
    account: Rc<StreamAccount>,
    proto: ServerConnection<()>,
    out: SendBuffer,
    queue: StreamQueue,
    calls: u32,
}

impl World {
    /// A server's connection, whose client has said hello and takes as little as possible.
    fn new() -> Self {
        let config = ServerConfig { streams: true, ..ServerConfig::default() };
        let identity = ServerIdentity { connection_id: 1 };
        let local = ShardContext::new(Arc::new(Doorbell::new().unwrap()));
        let mut world = Self {
            arrivals: StreamArrivals::new(local),
            account: StreamAccount::of_server(Totals::default()),
            proto: ServerConnection::new(Rc::new(config), identity, Instant::now()),
            out: SendBuffer::new(),
            queue: StreamQueue::default(),
            calls: 0,
        };
        let records = HelloRecords { limits: Limits::EARLY, ..HelloRecords::default() };
        world.hear(|out| out.hello(&Hello { version: VERSION, role: Role::Client, records }));
        world.out.clear();
        world
    }

    /// The client says something.
    fn hear(&mut self, say: impl FnOnce(&mut SendBuffer)) {
        let (mut said, mut recv) = (SendBuffer::new(), RecvBuffer::new());
        say(&mut said);
        recv.extend_from_slice(said.first_chunk());
        loop {
            let mut head = RequestHead::default();
            match self.proto.handle_frame(&mut recv, &mut head, &mut self.out, Instant::now()) {
                ServerInput::NeedBytes => return,
                ServerInput::Call { request, .. } => {
                    let call = request.call;
                    self.proto.park(call, None, ());
                }
                _ => {}
            }
        }
    }

    /// A call that streams, and the end that its handler writes to.
    fn stream(&mut self) -> (Rc<StreamCell>, StreamWriter) {
        let call = self.calls;
        self.calls += 1;
        self.hear(|out| {
            let mut head = RequestHead::new(call, MethodId(1));
            head.flags = StreamKind::Server.request_flags();
            out.request(&head, None).finish(u32::MAX).unwrap();
        });
        let side = Side::Server { token: token(), call };
        let (arrivals, account) = (Rc::clone(&self.arrivals), Rc::clone(&self.account));
        let cell = StreamCell::new(arrivals, account, side, (false, true));
        let writer = StreamEnds::new(StreamKind::Server, &cell).writer.unwrap();
        (cell, writer)
    }

    /// What the driver does with what arrived, and the connection in its turn.
    fn turn(&mut self, unsent_max: usize) {
        let queue = &mut self.queue;
        self.arrivals.take_of(token(), |cell| queue.push(cell));
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
    let (_cell, mut writer) = world.stream();
    let mut sent = 0;
    while is_ready(&mut writer) {
        writer.send(RAW, body(1000));
        sent += 1;
    }
    // 32 KiB, each message with 16 bytes more.
    assert_eq!(sent, 33);
    world.turn(usize::MAX);
    // The credit of the stream is 16 KiB, and one message may overdraw it.
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
    let (cell, mut writer) = world.stream();
    while is_ready(&mut writer) {
        writer.send(RAW, body(1000));
    }
    world.turn(usize::MAX);
    cell.close();
    assert!(is_ready(&mut writer), "nothing more can be sent");
    drop(writer);
    world.turn(usize::MAX);
    assert_eq!(Rc::strong_count(&cell), 1);
}

/// Streams stop writing when too much waits for the socket, and stay in the queue.
#[test]
fn the_unsent_budget_holds_streams_back() {
    let mut world = World::new();
    let mut writers = Vec::new();
    for _ in 0..4 {
        let (cell, mut writer) = world.stream();
        writer.send(RAW, body(10_000));
        writers.push((cell, writer));
    }
    world.turn(15_000);
    assert!(world.queue.has_ready());
    assert!((20_000..21_000).contains(&world.out.len()), "{}", world.out.len());
    world.out.clear();
    world.turn(15_000);
    assert!(!world.queue.has_ready());
    assert!((20_000..21_000).contains(&world.out.len()), "{}", world.out.len());
}
