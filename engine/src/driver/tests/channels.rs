//! Channels whose server is the test.

use super::*;
use crate::channel::Channel;
use crate::shard::tasks::Task;
use corewire_client::config::ChannelConfig;
use corewire_client::failure::{CallFailure, NotSent};
use corewire_codec::{InFlight, ReplyHead};
use std::convert::Infallible;
use std::pin::pin;
use std::task::Waker;

fn channel() -> Channel {
    Channel::new(Address::Unix("test".into()), ChannelConfig::default()).unwrap()
}

impl Bench {
    /// A turn and what follows it on a shard.
    pub(super) fn step(&mut self) {
        self.driver.turn(Duration::ZERO).unwrap();
        self.driver.local.run_tasks();
        self.driver.settle();
    }

    /// The server on the connection that a channel made says hello, and takes as few calls at once as possible.
    pub(super) fn say_hello(&mut self, end: usize) {
        let limits = Limits { in_flight: InFlight::MIN, ..Limits::default() };
        let records = HelloRecords { limits, codecs: 3, ..HelloRecords::default() };
        let mut out = SendBuffer::new();
        out.hello(&Hello { version: VERSION, role: Role::Server, records });
        self.send(end, &out);
        self.replies.resize_with(end + 1, RecvBuffer::new);
        self.take_output(end);
        assert!(self.replies[end].next_hello().unwrap().is_some());
    }

    fn send(&self, end: usize, out: &SendBuffer) {
        let end = &mut self.net.borrow_mut().ends[end];
        end.input.extend_from_slice(out.first_chunk());
        end.news = true;
    }

    /// Answers all calls that were made; returns how many.
    fn answer_all(&mut self, end: usize) -> usize {
        self.take_output(end);
        let mut out = SendBuffer::new();
        let mut answered = 0;
        while let Some(frame) = self.replies[end].next_frame(u32::MAX).unwrap() {
            let Head::Request(request) = frame.head else { panic!("only calls are to come") };
            out.reply(&ReplyHead::ok(request.call), None).finish(u32::MAX).unwrap();
            answered += 1;
        }
        self.send(end, &out);
        answered
    }
}

/// A handler closes a channel in the very turn in which its connect is decided.
#[test]
fn a_channel_that_is_closed_while_it_connects_is_closed() {
    let mut bench = Bench::new(0);
    let channel = channel();
    let mut context = Context::from_waker(Waker::noop());
    let mut ready = pin!(channel.ready());
    assert!(ready.as_mut().poll(&mut context).is_pending());
    bench.driver.turn(Duration::ZERO).unwrap();
    let mut closed = pin!(channel.close());
    assert!(closed.as_mut().poll(&mut context).is_pending());
    assert!(bench.net.borrow().ends[0].news, "the next turn finds it connected");
    (0..3).for_each(|_| bench.step());
    assert!(closed.as_mut().poll(&mut context).is_ready());
    assert!(ready.as_mut().poll(&mut context).is_ready(), "who waits for it is told");
}

/// The driver has not begun the connect yet: there is no socket whose end could be told.
#[test]
fn a_channel_that_is_closed_before_its_connect_begins_is_closed() {
    let mut bench = Bench::new(0);
    let channel = channel();
    let flag = Arc::new(remote::Flag::default());
    let waker = Waker::from(Arc::clone(&flag));
    let mut ready = pin!(channel.ready());
    assert!(ready.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let mut context = Context::from_waker(Waker::noop());
    assert!(pin!(channel.close()).as_mut().poll(&mut context).is_ready());
    assert!(flag.is_woken(), "who waits for the connection is told");
    assert_eq!(ready.as_mut().poll(&mut context), Poll::Ready(Err(NotSent::Closed)));
    bench.step();
    assert!(bench.net.borrow().ends.is_empty(), "nothing is connected");
}

/// One caller more than there are slots: all of them call again as soon as they are answered, and the one
/// that waits must not wait for ever.
#[test]
fn who_waits_for_a_slot_comes_before_who_calls_again() {
    const CALLERS: usize = InFlight::MIN.get() as usize + 1;
    let mut bench = Bench::new(0);
    let channel = channel();
    let done: Rc<RefCell<[u32; CALLERS]>> = Rc::new(RefCell::new([0; CALLERS]));
    let call_again = |caller: usize| {
        let (channel, done) = (channel.clone(), Rc::clone(&done));
        bench.driver.local.spawn(async move {
            loop {
                let head = RequestHead::new(0, ECHO);
                channel.call(head, None, |_| Ok::<_, Infallible>(())).await.unwrap();
                done.borrow_mut()[caller] += 1;
            }
        })
    };
    let _callers: Vec<Task<()>> = (0..CALLERS).map(call_again).collect();
    (0..3).for_each(|_| bench.step());
    bench.say_hello(0);
    let mut calls = 0;
    for _ in 0..200 {
        bench.step();
        calls += bench.answer_all(0);
    }
    let done = done.borrow();
    assert!(calls > 1_000, "{calls} calls were made");
    let (least, most) = (done.iter().min().unwrap(), done.iter().max().unwrap());
    assert!(least * 2 > *most, "{done:?}");
}

/// The sizes of the requests that came, behind the client's hello if that is still to come.
fn early_requests(bench: &mut Bench) -> Vec<usize> {
    let is_first = bench.replies.is_empty();
    bench.replies.resize_with(1, RecvBuffer::new);
    bench.take_output(0);
    if is_first {
        assert!(bench.replies[0].next_hello().unwrap().is_some());
    }
    let mut sizes = Vec::new();
    while let Some(frame) = bench.replies[0].next_frame(u32::MAX).unwrap() {
        assert!(matches!(frame.head, Head::Request(_)));
        sizes.push(frame.payload.body().len());
    }
    sizes
}

/// Small calls go out behind the client's own hello. A large one waits for the server's, and those behind it with it.
#[test]
fn calls_are_written_before_the_hello_unless_they_are_large() {
    let mut bench = Bench::new(0);
    let channel = channel();
    let mut context = Context::from_waker(Waker::noop());
    let call = |bytes: usize| {
        let encode = move |frame: &mut corewire_codec::FrameWriter<'_>| {
            frame.put_slice(&vec![1; bytes]);
            Ok::<_, Infallible>(())
        };
        Box::pin(channel.call(RequestHead::new(0, ECHO), None, encode))
    };
    let mut first = [call(1), call(2)];
    first.iter_mut().for_each(|call| assert!(call.as_mut().poll(&mut context).is_pending()));
    (0..2).for_each(|_| bench.step());
    assert_eq!(early_requests(&mut bench), [1, 2]);
    let large = Limits::EARLY.frame_bytes.get() as usize;
    let mut then = [call(3), call(large), call(4)];
    then.iter_mut().for_each(|call| assert!(call.as_mut().poll(&mut context).is_pending()));
    assert_eq!(channel.snapshot().waiting, 3);
    bench.step();
    assert_eq!(early_requests(&mut bench), [3]);
    let mut out = SendBuffer::new();
    out.hello(&Hello { version: VERSION, role: Role::Server, records: HelloRecords::default() });
    bench.send(0, &out);
    bench.step();
    assert_eq!(early_requests(&mut bench), [large, 4]);
}

/// A call that waits is given up: it is never written, and its place is free.
#[test]
fn a_call_that_waits_is_given_up() {
    let mut bench = Bench::new(0);
    let channel = channel();
    let mut context = Context::from_waker(Waker::noop());
    let call = || {
        let head = RequestHead::new(0, ECHO);
        Box::pin(channel.call(head, None, |_| Ok::<_, Infallible>(())))
    };
    let mut calls: Vec<_> = (0..InFlight::MIN.get() + 3).map(|_| call()).collect();
    calls.iter_mut().for_each(|call| assert!(call.as_mut().poll(&mut context).is_pending()));
    (0..3).for_each(|_| bench.step());
    bench.say_hello(0);
    bench.step();
    assert_eq!((channel.snapshot().waiting, channel.snapshot().calls), (3, calls.len()));
    drop(calls.remove(InFlight::MIN.get() as usize));
    assert_eq!(bench.answer_all(0), InFlight::MIN.get() as usize);
    bench.step();
    assert_eq!(bench.answer_all(0), 2, "those that still wait have the slots that are free");
    bench.step();
    for call in &mut calls {
        assert!(matches!(call.as_mut().poll(&mut context), Poll::Ready(Ok(_))));
    }
    assert_eq!(channel.snapshot().calls, 0);
}

/// The code that writes a request panics: the caller is not told that it was sent, and the slot is free.
#[test]
fn a_call_whose_encoder_panicked_is_not_sent() {
    for is_greeted in [false, true] {
        let mut bench = Bench::new(0);
        let channel = channel();
        let mut context = Context::from_waker(Waker::noop());
        if is_greeted {
            assert!(pin!(channel.ready()).as_mut().poll(&mut context).is_pending());
            (0..2).for_each(|_| bench.step());
            bench.say_hello(0);
            bench.step();
        }
        let encode = |_: &mut corewire_codec::FrameWriter<'_>| -> Result<(), Infallible> {
            panic!("as the test wants")
        };
        let mut call = channel.call(RequestHead::new(0, ECHO), None, encode);
        let poll = || pin!(&mut call).poll(&mut context).map(drop);
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(poll)).is_err());
        let Poll::Ready(Err(failure)) = pin!(&mut call).poll(&mut context) else {
            panic!("it has ended")
        };
        let not_sent = CallFailure::NotSent(NotSent::Encode(
            "the code that writes the request panicked".to_owned(),
        ));
        assert_eq!(failure, not_sent, "{is_greeted}");
        assert_eq!(channel.snapshot().in_flight + channel.snapshot().calls, 0);
    }
}
