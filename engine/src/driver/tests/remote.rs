//! Channels whose callers are on other threads, and whose server is the test.

use super::*;
use crate::channel::remote::RemoteChannel;
use corewire_client::config::ChannelConfig;
use corewire_client::failure::CallFailure;
use corewire_client::remote::SharedChannel;
use corewire_client::remote::mailbox::{Inbox, Mailbox};
use corewire_client::transport::{Outcome, Pending, Transport};
use corewire_codec::{GoAway, InFlight, ReplyHead};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::task::{Wake, Waker};

const SLOTS: u32 = InFlight::MIN.get();

/// A channel, with what a client thread does between its callers and the shard.
struct Remote {
    channel: Rc<RemoteChannel>,
    callers: SharedChannel,
    inbox: Inbox,
    tell: mpsc::Sender<(u32, Outcome)>,
    outcomes: mpsc::Receiver<(u32, Outcome)>,
}

impl Remote {
    fn new(bench: &Bench) -> Self {
        let (mailbox, inbox) = Mailbox::new(Waker::noop().clone());
        let address = Address::Unix("test".into());
        let config = ChannelConfig::default();
        let callers = SharedChannel::new(Arc::new(mailbox), 0, address.clone(), &config);
        let channel = RemoteChannel::new(address, config, 1, &bench.driver.channels.remote);
        let (tell, outcomes) = mpsc::channel();
        Self { channel, callers, inbox, tell, outcomes }
    }

    /// Makes calls with numbers from this range.
    fn call(&self, numbers: std::ops::Range<u32>, timeout: Option<Duration>, now: Instant) {
        for number in numbers {
            let tell = self.tell.clone();
            let head = RequestHead::new(0, ECHO);
            let done = move |outcome| tell.send((number, outcome)).unwrap();
            self.callers.call(head, timeout, |_| Ok(())).then(done);
        }
        while let Ok(command) = self.inbox.calls.try_recv() {
            self.channel.begin(command, now);
        }
        self.channel.wake();
    }

    fn ended(&self) -> Vec<(u32, Outcome)> {
        self.outcomes.try_iter().collect()
    }
}

impl Bench {
    fn clock(&self) -> Instant {
        self.net.borrow().now
    }

    fn requests(&mut self, end: usize) -> Vec<u32> {
        self.take_output(end);
        let mut calls = Vec::new();
        while let Some(frame) = self.replies[end].next_frame(u32::MAX).unwrap() {
            let Head::Request(request) = frame.head else { panic!("only calls are to come") };
            calls.push(request.call);
        }
        calls
    }

    /// The server replies to these calls; the kernel reports it if `told`.
    fn reply_to(&self, end: usize, calls: &[u32], told: bool) {
        let mut out = SendBuffer::new();
        for call in calls {
            out.reply(&ReplyHead::ok(*call), None).finish(u32::MAX).unwrap();
        }
        let end = &mut self.net.borrow_mut().ends[end];
        end.input.extend_from_slice(out.first_chunk());
        end.news |= told;
    }

    /// A channel that is connected, and has made calls with these numbers.
    fn remote(&mut self, numbers: std::ops::Range<u32>, timeout: Option<Duration>) -> Remote {
        let remote = Remote::new(self);
        remote.call(numbers, timeout, self.clock());
        (0..3).for_each(|_| self.step());
        self.say_hello(0);
        self.step();
        remote
    }
}

/// More calls than slots: the others follow in the turn that brings replies, in their order.
#[test]
fn calls_that_wait_for_a_slot_go_out_with_the_replies() {
    let mut bench = Bench::new(0);
    let remote = bench.remote(0..SLOTS + 3, None);
    let first = bench.requests(0);
    assert_eq!(first.len(), SLOTS as usize);
    bench.reply_to(0, &first[..2], true);
    bench.step();
    let ended: Vec<u32> = remote.ended().into_iter().map(|(number, _)| number).collect();
    assert_eq!(ended, [0, 1]);
    assert_eq!(bench.requests(0).len(), 2);
    assert_eq!(bench.net.borrow().ends[0].sends.len(), 3, "the hello, the calls, the other calls");
}

/// The deadline of a call that waits is kept although the connection has nothing to do.
#[test]
fn a_call_that_waits_for_a_slot_or_for_the_hello_keeps_its_deadline() {
    for is_greeted in [false, true] {
        let mut bench = Bench::new(0);
        let remote = if is_greeted { bench.remote(0..SLOTS, None) } else { Remote::new(&bench) };
        let time = Duration::from_secs(1);
        remote.call(100..101, Some(time), bench.clock());
        (0..3).for_each(|_| bench.step());
        let due = bench.driver.next_timer().unwrap();
        assert!(due <= bench.clock() + 2 * time, "{is_greeted}");
        bench.net.borrow_mut().now += 2 * time;
        bench.step();
        let ended = remote.ended();
        let [(100, Err(CallFailure::DeadlineExceeded { sent: false }))] = &ended[..] else {
            panic!("{is_greeted}: {ended:?}");
        };
    }
}

/// Replies that arrived while the shard was away are taken, whatever the deadlines say.
#[test]
fn an_answered_call_of_another_thread_is_not_lost_to_its_deadline() {
    let mut bench = Bench::new(0);
    let remote = bench.remote(0..2, Some(Duration::from_secs(1)));
    let calls = bench.requests(0);
    bench.reply_to(0, &calls[..1], false);
    bench.net.borrow_mut().now += Duration::from_secs(600);
    bench.step();
    let ended = remote.ended();
    let [(0, Ok(_)), (1, Err(CallFailure::DeadlineExceeded { sent: true }))] = &ended[..] else {
        panic!("{ended:?}");
    };
}

/// A turn handles no more frames than its budget has, and what is left wants another turn.
#[test]
fn a_turn_handles_as_many_replies_as_its_budget_has() {
    let budgets = Budgets { frames_per_turn: 8, ..Budgets::default() };
    let mut bench = Bench::with(0, budgets);
    let remote = bench.remote(0..SLOTS, None);
    let calls = bench.requests(0);
    bench.reply_to(0, &calls, true);
    bench.driver.turn(Duration::ZERO).unwrap();
    assert_eq!(remote.ended().len(), 8);
    assert!(bench.driver.has_queue(), "the rest is not forgotten");
    bench.driver.turn(Duration::ZERO).unwrap();
    assert_eq!(remote.ended().len(), 8);
}

/// The server goes away: its calls in flight go on there, and the next call is made on another connection.
#[test]
fn calls_in_flight_stay_with_a_server_that_goes_away() {
    let mut bench = Bench::new(0);
    let remote = bench.remote(0..2, None);
    let calls = bench.requests(0);
    // It has shown that it works.
    bench.reply_to(0, &calls[..1], true);
    bench.step();
    let mut out = SendBuffer::new();
    out.go_away(&GoAway { accepted: 2, rule: 0 }, "leaving");
    {
        let end = &mut bench.net.borrow_mut().ends[0];
        end.input.extend_from_slice(out.first_chunk());
        end.news = true;
    }
    bench.step();
    remote.call(2..3, None, bench.clock());
    (0..3).for_each(|_| bench.step());
    bench.say_hello(1);
    bench.step();
    assert_eq!(bench.requests(1).len(), 1);
    assert_eq!(bench.driver.conns.len(), 2);
    bench.reply_to(0, &calls[1..], true);
    (0..2).for_each(|_| bench.step());
    let ended: Vec<u32> = remote.ended().into_iter().map(|(number, _)| number).collect();
    assert_eq!(ended, [0, 1]);
    assert_eq!(bench.driver.conns.len(), 1, "the first connection is over with its last call");
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// The last handle is dropped while a call is in flight: the connection stays until the call is over, and whoever
/// waits for that is woken.
#[test]
fn a_released_channel_leaves_with_its_last_call() {
    let mut bench = Bench::new(0);
    let remote = bench.remote(0..1, None);
    let calls = bench.requests(0);
    let flag = Arc::new(Flag(AtomicBool::new(false)));
    remote.channel.release(Waker::from(Arc::clone(&flag)));
    remote.channel.wake();
    bench.step();
    assert!(!flag.0.load(Ordering::SeqCst) && bench.driver.conns.len() == 1);
    bench.reply_to(0, &calls, true);
    (0..3).for_each(|_| bench.step());
    assert!(flag.0.load(Ordering::SeqCst));
    bench.take_output(0);
    let last = bench.replies[0].next_frame(u32::MAX).unwrap().unwrap();
    assert!(matches!(last.head, Head::GoAway(_)), "the server is told");
    assert_eq!(bench.driver.conns.len(), 0);
}

/// A channel is closed while it connects, and its hold is dropped when the socket is gone.
#[test]
fn a_channel_of_another_thread_that_is_closed_while_it_connects_is_closed() {
    let mut bench = Bench::new(0);
    let remote = Remote::new(&bench);
    remote.call(0..1, None, bench.clock());
    bench.driver.settle();
    assert_eq!(bench.driver.conns.len(), 1);
    let (hold, closed) = oneshot::channel();
    remote.channel.close(Arc::new(hold), bench.clock());
    remote.channel.wake();
    assert!(!closed.is_closed(), "its socket is there");
    (0..2).for_each(|_| bench.step());
    assert!(closed.is_closed() && bench.driver.conns.is_empty());
    assert!(matches!(remote.ended()[..], [(0, Err(CallFailure::NotSent(_)))]));
}

/// The shard ends: calls in flight and calls that wait end, and say which of them may have run.
#[test]
fn calls_of_another_thread_end_with_the_shard() {
    let mut bench = Bench::new(0);
    let remote = bench.remote(0..SLOTS + 1, None);
    assert_eq!(bench.requests(0).len(), SLOTS as usize);
    bench.driver.end_channels();
    let ended = remote.ended();
    assert_eq!(ended.len(), SLOTS as usize + 1);
    for (number, outcome) in ended {
        let may_have_run = matches!(outcome, Err(CallFailure::Unknown(_)));
        assert_eq!(may_have_run, number < SLOTS, "{number}: {outcome:?}");
    }
}
