//! The driver on sockets that a test fills and empties: what one turn may do is counted, not timed.

#![allow(clippy::unwrap_used, reason = "tests")]

mod away;
mod budgets;
mod channels;
mod remote;
mod shares;
mod streams;
mod turns;

use super::*;
use crate::budgets::Budgets;
use crate::calls::dispatch::{Dispatched, Incoming, PendingCall, ReplySlot};
use crate::classes::ClassShares;
use bytes::{Bytes, BytesMut};
use corewire_client::address::{Address, Peer};
use corewire_codec::{
    Head, Hello, HelloRecords, Limits, MethodId, Raw, RecvBuffer, RequestHead, Role, VERSION,
};
use corewire_proto::Timeouts;
use corewire_proto::{ShardId, ShardInfo};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};

/// One end of a connection whose other end is the test.
#[derive(Default)]
struct Fake {
    token: Option<Token>,
    news: bool,
    input: BytesMut,
    output: BytesMut,
    /// How many more bytes the peer takes, if it is slow.
    takes: Option<usize>,
    /// How often it was asked to take something and took nothing.
    refusals: usize,
    /// What the peer has not acknowledged, if that is to be known.
    unacknowledged: Option<usize>,
    /// What was received and sent since the test looked, operation by operation.
    receives: Vec<usize>,
    sends: Vec<usize>,
}

struct Net {
    now: Instant,
    waiting: VecDeque<usize>,
    ends: Vec<Fake>,
    /// For how long the last poll would have slept.
    slept: Duration,
}

/// The number of a client that is gone by the time it is accepted.
const GONE: usize = usize::MAX;

/// Sockets are numbers; what is sent finds room, unless the peer is slow.
struct FakeIo(Rc<RefCell<Net>>);

impl Io for FakeIo {
    type Socket = usize;
    type Listener = ();

    fn now(&self) -> Instant {
        self.0.borrow().now
    }

    fn poll(&mut self, news: &mut Vec<Readiness>, wait: Duration) -> io::Result<()> {
        let mut net = self.0.borrow_mut();
        net.slept = wait;
        for end in &mut net.ends {
            if let Some(token) = end.token.filter(|_| std::mem::take(&mut end.news)) {
                let writable = end.takes != Some(0);
                news.push(Readiness {
                    token,
                    readable: true,
                    writable,
                    hangup: false,
                    urgent: false,
                });
            }
        }
        Ok(())
    }

    fn watch_listener(&mut self, (): &(), _: Token) -> io::Result<()> {
        Ok(())
    }

    fn retire_listener(&mut self, (): &()) {}

    fn accept(&mut self, (): &()) -> io::Result<(usize, Peer)> {
        let next = self.0.borrow_mut().waiting.pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        if next == GONE {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok((next, Peer::Unix))
    }

    fn connect(&mut self, _: &Address) -> io::Result<usize> {
        let ends = &mut self.0.borrow_mut().ends;
        ends.push(Fake::default());
        Ok(ends.len() - 1)
    }

    fn connected(&mut self, _: &usize) -> io::Result<()> {
        Ok(())
    }

    fn watch(&mut self, socket: &usize, token: Token) -> io::Result<()> {
        let end = &mut self.0.borrow_mut().ends[*socket];
        (end.token, end.news) = (Some(token), true);
        Ok(())
    }

    fn recv(&mut self, socket: &usize, into: &mut BytesMut, max: usize) -> io::Result<usize> {
        let end = &mut self.0.borrow_mut().ends[*socket];
        let room = into.capacity() - into.len();
        assert!(max > 0 && room > 0, "a receive without room would look like the peer's end");
        let count = end.input.len().min(max).min(room);
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        into.extend_from_slice(&end.input.split_to(count));
        end.receives.push(count);
        Ok(count)
    }

    fn send(&mut self, socket: &usize, from: &SendBuffer, max: usize) -> io::Result<usize> {
        let end = &mut self.0.borrow_mut().ends[*socket];
        let mut slices = [IoSlice::new(&[]); 8];
        let filled = from.chunks(&mut slices, end.takes.map_or(max, |takes| takes.min(max)));
        let count: usize = slices[..filled].iter().map(|slice| slice.len()).sum();
        if count == 0 {
            end.refusals += 1;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        end.takes = end.takes.map(|takes| takes - count);
        slices[..filled].iter().for_each(|slice| end.output.extend_from_slice(slice));
        end.sends.push(count);
        Ok(count)
    }

    fn unacknowledged(&mut self, socket: &usize) -> Option<usize> {
        self.0.borrow().ends[*socket].unacknowledged
    }

    fn shutdown_write(&mut self, _: &usize) {}
}

/// Gives the body back.
const ECHO: MethodId = MethodId(1);
/// Pends until it is dropped, or woken.
const PEND: MethodId = MethodId(2);
/// Burns a millisecond first, on the test's clock.
const BURN: MethodId = MethodId(3);

/// The service; it keeps the wakers of pending handlers, in the order in which they began.
struct Subject {
    net: Rc<RefCell<Net>>,
    pending: Rc<RefCell<VecDeque<std::task::Waker>>>,
}

/// Pends at its first poll.
struct Pends(bool);

impl PendingCall for Pends {
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>, reply: &mut ReplySlot<'_>) -> Poll<()> {
        if !std::mem::replace(&mut self.0, true) {
            return Poll::Pending;
        }
        reply.send::<Raw, Bytes>(Bytes::new());
        Poll::Ready(())
    }

    fn recycle(self: Pin<Box<Self>>) {}
}

impl Dispatch for Subject {
    fn dispatch(
        &self,
        call: &mut Incoming<'_>,
        context: &mut Context<'_>,
        reply: &mut ReplySlot<'_>,
    ) -> Dispatched {
        match call.request.method {
            PEND => {
                self.pending.borrow_mut().push_back(context.waker().clone());
                return Dispatched::Pending(Box::pin(Pends(true)));
            }
            BURN => self.net.borrow_mut().now += Duration::from_millis(1),
            _ => {}
        }
        let body = call.payload.take().unwrap().into_body();
        reply.send::<Raw, Bytes>(body);
        Dispatched::Replied
    }
}

/// A driver with `conns` connections that have said hello.
struct Bench {
    driver: Driver<FakeIo>,
    net: Rc<RefCell<Net>>,
    pending: Rc<RefCell<VecDeque<std::task::Waker>>>,
    _entered: crate::channel::Entered,
    replies: Vec<RecvBuffer>,
}

impl Bench {
    fn new(conns: usize) -> Self {
        Self::with(conns, Budgets::default())
    }

    fn with(conns: usize, budgets: Budgets) -> Self {
        Self::timed(conns, budgets, Timeouts::default())
    }

    fn timed(conns: usize, budgets: Budgets, timeouts: Timeouts) -> Self {
        let net = Net {
            now: Instant::now(),
            waiting: VecDeque::new(),
            ends: Vec::new(),
            slept: Duration::ZERO,
        };
        let net = Rc::new(RefCell::new(net));
        let config = DriverConfig {
            info: ShardInfo { id: ShardId(0), count: 1, cpu: None },
            server: ServerConfig {
                limits: Limits::default(),
                timeouts,
                shard: 0,
                shards: 1,
                ..ServerConfig::default()
            },
            budgets,
            connection_ids: (0, 1),
            warn_held_after: Duration::MAX,
            class_shares: ClassShares::default(),
            method_costs: 0,
        };
        let local = ChannelContext::new(ShardContext::new(Arc::new(
            crate::net::doorbell::Doorbell::new().unwrap(),
        )));
        let counters = Arc::new(ShardCounters::default());
        let io = FakeIo(Rc::clone(&net));
        let _entered = local.enter();
        let pending = Rc::default();
        let subject = Subject { net: Rc::clone(&net), pending: Rc::clone(&pending) };
        let driver = Driver::new(io, config, local, vec![()], Rc::new(subject), counters).unwrap();
        let mut bench = Self { driver, net, pending, _entered, replies: Vec::new() };
        for index in 0..conns {
            let mut fake = Fake::default();
            let records =
                HelloRecords { limits: Limits::default(), codecs: 3, ..HelloRecords::default() };
            let mut out = SendBuffer::new();
            out.hello(&Hello { version: VERSION, role: Role::Client, records });
            fake.input.extend_from_slice(out.first_chunk());
            bench.net.borrow_mut().ends.push(fake);
            bench.net.borrow_mut().waiting.push_back(index);
            bench.replies.push(RecvBuffer::new());
        }
        while bench.driver.turn(Duration::ZERO).unwrap() {}
        for end in 0..conns {
            bench.take_output(end);
            assert!(bench.replies[end].next_hello().unwrap().is_some());
            let end = &mut bench.net.borrow_mut().ends[end];
            (end.receives, end.sends) = (Vec::new(), Vec::new());
        }
        bench
    }

    /// Puts a call into the connection's input.
    fn call(&self, end: usize, call: u32, bytes: usize) {
        self.request(end, &RequestHead::new(call, ECHO), bytes);
    }

    fn request(&self, end: usize, head: &RequestHead, bytes: usize) {
        let mut out = SendBuffer::new();
        let call = head.call;
        let mut frame = out.request(head, None);
        frame.put_slice(&vec![u8::try_from(call % 251).unwrap(); bytes]);
        frame.finish(u32::MAX).unwrap();
        let end = &mut self.net.borrow_mut().ends[end];
        end.input.extend_from_slice(out.first_chunk());
        end.news = true;
    }

    fn take_output(&mut self, end: usize) {
        let output = self.net.borrow_mut().ends[end].output.split();
        self.replies[end].extend_from_slice(&output);
    }

    /// The call and size of the next whole reply, whose bytes are right.
    fn reply(&mut self, end: usize) -> Option<(u32, usize)> {
        self.take_output(end);
        let frame = self.replies[end].next_frame(u32::MAX).unwrap()?;
        let Head::Reply(head) = frame.head else { panic!("only replies are to come") };
        let body = frame.payload.body();
        assert!(body.iter().all(|&byte| u32::from(byte) == head.call % 251));
        Some((head.call, body.len()))
    }

    /// One turn; asserts that no connection did more than its budgets allow. Returns the bytes that all of
    /// them received and sent.
    fn turn(&mut self) -> usize {
        self.driver.turn(Duration::ZERO).unwrap();
        let budgets = self.driver.shared.config.budgets;
        let mut moved = 0;
        for end in &mut self.net.borrow_mut().ends {
            let (receives, sends) =
                (std::mem::take(&mut end.receives), std::mem::take(&mut end.sends));
            assert!(receives.len() <= budgets.receives_per_turn, "{receives:?}");
            assert!(receives.iter().all(|&bytes| bytes <= budgets.receive_bytes), "{receives:?}");
            assert!(sends.iter().sum::<usize>() <= budgets.send_bytes_per_turn, "{sends:?}");
            moved += receives.iter().chain(&sends).sum::<usize>();
        }
        moved
    }
}

impl Bench {
    fn turns(&mut self, count: usize) {
        for _ in 0..count {
            self.turn();
        }
    }
}

/// Turns in which `bytes` can come and go, with `in_a_turn` in a turn: each way costs one turn for
/// every share of it, plus a few for the rests.
fn turns_for(bytes: usize, in_a_turn: usize) -> usize {
    2 * bytes.div_ceil(in_a_turn) + 8
}

/// A small call is answered in the very turn in which it comes, however much the other connections
/// send and get; and those make progress all the while.
#[test]
fn small_calls_wait_one_turn_beside_large_ones() {
    const LARGE: usize = 3;
    const CALLS: u32 = 4;
    for bytes in [64 << 10, 1 << 20, 16_000_000] {
        let mut bench = Bench::new(LARGE + 1);
        for end in 0..LARGE {
            (0..CALLS).for_each(|call| bench.call(end, call, bytes));
        }
        let mut left = [CALLS; LARGE];
        let mut turns = 0;
        while left != [0; LARGE] {
            let small = 100 + u32::try_from(turns).unwrap();
            bench.call(LARGE, small, 64);
            bench.turn();
            turns += 1;
            assert_eq!(bench.reply(LARGE), Some((small, 64)), "not in the turn in which it came");
            for (end, left) in left.iter_mut().enumerate() {
                while let Some((call, size)) = bench.reply(end) {
                    assert_eq!((call, size), (CALLS - *left, bytes));
                    *left -= 1;
                }
            }
            let most = turns_for(bytes * CALLS as usize, Budgets::default().receive_bytes);
            assert!(turns <= most, "{left:?} are left after {turns} turns");
        }
    }
}

/// On one connection a small call waits for what was sent before it, and for nothing else.
#[test]
fn small_calls_wait_for_those_before_them_on_one_connection() {
    const BYTES: usize = 4 << 20;
    let mut bench = Bench::new(1);
    for round in 0..4 {
        bench.call(0, 2 * round, BYTES);
        bench.call(0, 2 * round + 1, 64);
    }
    let mut replies = Vec::new();
    for _ in 0..turns_for(4 * BYTES, Budgets::default().send_bytes_per_turn) {
        bench.turn();
        replies.extend(std::iter::from_fn(|| bench.reply(0)));
    }
    let wanted: Vec<(u32, usize)> =
        (0..8).map(|call| (call, if call % 2 == 0 { BYTES } else { 64 })).collect();
    assert_eq!(replies, wanted);
}

/// A client that is gone by the time it is accepted uses up the turn's accepts. Others wait behind it, and the
/// kernel has reported them already: a shard that spins must not look only at its busy connection, and then
/// sleep.
#[test]
fn a_shard_that_spins_takes_who_waits_to_be_accepted() {
    let mut bench = Bench::with(1, Budgets { accepts_per_turn: 1, ..Budgets::default() });
    let waiting = {
        let net = &mut *bench.net.borrow_mut();
        net.ends.push(Fake::default());
        net.waiting.extend([GONE, net.ends.len() - 1]);
        net.ends.len() - 1
    };
    bench.driver.set_acceptable();
    bench.call(0, 1, 64);
    bench.turn();
    assert!(bench.driver.hot.is_some(), "one connection was busy alone");
    assert_eq!(bench.net.borrow().waiting, [waiting]);
    for _ in 0..HOT_TRIES {
        assert_eq!(bench.driver.try_hot(), None, "it has something else to do");
    }
    bench.turn();
    assert!(bench.net.borrow().waiting.is_empty());
}

/// What comes while the socket is full is handled, and does not ask for room that the kernel will report.
#[test]
fn a_full_socket_is_not_asked_for_room_in_each_turn() {
    let mut bench = Bench::new(1);
    bench.net.borrow_mut().ends[0].takes = Some(0);
    for call in 0..20 {
        bench.call(0, call, 64);
        bench.turn();
    }
    assert_eq!(bench.net.borrow().ends[0].refusals, 1);
    assert_eq!(bench.reply(0), None);
    {
        let end = &mut bench.net.borrow_mut().ends[0];
        (end.takes, end.news) = (None, true);
    }
    bench.turn();
    let replies: Vec<(u32, usize)> = std::iter::from_fn(|| bench.reply(0)).collect();
    assert_eq!(replies, (0..20).map(|call| (call, 64)).collect::<Vec<_>>());
}
