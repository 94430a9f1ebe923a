//! A shard that was away: stopped, or kept by a handler. What arrived meanwhile is read before anybody is
//! judged, even if the kernel has not reported it yet.

use super::*;
use crate::channel::Channel;
use corewire_client::config::ChannelConfig;
use corewire_client::failure::CallFailure;
use corewire_codec::ReplyHead;
use std::convert::Infallible;
use std::pin::pin;
use std::task::Waker;

const STOP: Duration = Duration::from_secs(600);

impl Bench {
    fn is_open(&self, end: usize) -> bool {
        self.driver.conns.iter().any(|(_, entry)| entry.token.index() == end)
    }

    fn elapse(&self, time: Duration) {
        self.net.borrow_mut().now += time;
    }
}

/// REQ-23: a request is whole in the socket, and only half of it was read in time.
#[test]
fn half_a_request_whose_rest_came_while_the_shard_was_away() {
    for told in [true, false] {
        let mut bench = Bench::new(1);
        bench.call(0, 7, 100);
        let rest = bench.net.borrow_mut().ends[0].input.split_off(50);
        bench.turn();
        bench.elapse(STOP);
        {
            let end = &mut bench.net.borrow_mut().ends[0];
            end.input.extend_from_slice(&rest);
            end.news = told;
        }
        bench.turn();
        assert_eq!(bench.reply(0), Some((7, 100)));
        assert!(bench.is_open(0));
    }
}

/// REQ-58: the pong lies in the socket.
#[test]
fn a_pong_that_came_while_the_shard_was_away() {
    let mut bench = Bench::new(1);
    bench.elapse(Duration::from_secs(60));
    bench.turn();
    bench.take_output(0);
    let Some(Head::Ping(ping)) =
        bench.replies[0].next_frame(u32::MAX).unwrap().map(|frame| frame.head)
    else {
        panic!("a ping is due");
    };
    let mut out = SendBuffer::new();
    out.pong(ping);
    bench.net.borrow_mut().ends[0].input.extend_from_slice(out.first_chunk());
    bench.elapse(STOP);
    bench.turn();
    assert!(bench.is_open(0));
    bench.call(0, 7, 100);
    bench.turn();
    assert_eq!(bench.reply(0), Some((7, 100)));
}

/// REQ-59: the client has taken everything meanwhile, and the socket says so when it is tried.
#[test]
fn a_socket_that_became_empty_while_the_shard_was_away() {
    let mut bench = Bench::new(1);
    bench.net.borrow_mut().ends[0].takes = Some(1_000);
    bench.call(0, 7, 10_000);
    bench.turn();
    bench.elapse(STOP);
    {
        let end = &mut bench.net.borrow_mut().ends[0];
        (end.takes, end.news) = (None, true);
    }
    bench.turn();
    assert_eq!(bench.reply(0), Some((7, 10_000)));
    assert!(bench.is_open(0));
}

/// REQ-58: more than a turn reads lies there, and what the client owes is behind it.
#[test]
fn what_is_owed_lies_behind_more_than_a_turn_reads() {
    let budgets = Budgets::default();
    let mut bench = Bench::new(1);
    let large = budgets.receive_bytes * budgets.receives_per_turn * 3;
    bench.call(0, 7, large);
    let rest = bench.net.borrow_mut().ends[0].input.split_off(50);
    bench.turn();
    bench.elapse(STOP);
    bench.net.borrow_mut().ends[0].input.extend_from_slice(&rest);
    for _ in 0..turns_for(large, budgets.receive_bytes) {
        bench.turn();
    }
    assert_eq!(bench.reply(0), Some((7, large)));
}

/// Replies that arrived while the client's shard was away are taken, whatever the deadlines say; calls
/// without a reply are over.
#[test]
fn an_answered_call_is_not_lost_to_its_deadline() {
    let mut bench = Bench::new(0);
    let channel = Channel::new(Address::Unix("test".into()), ChannelConfig::default()).unwrap();
    let mut context = Context::from_waker(Waker::noop());
    let timeout = Some(Duration::from_secs(1));
    let call = || {
        let head = RequestHead::new(0, ECHO);
        Box::pin(channel.call(head, timeout, |_| Ok::<_, Infallible>(())))
    };
    let (mut answered, mut other) = (call(), call());
    assert!(answered.as_mut().poll(&mut context).is_pending());
    (0..2).for_each(|_| bench.step());
    bench.say_hello(0);
    (0..2).for_each(|_| bench.step());
    assert!(answered.as_mut().poll(&mut context).is_pending());
    assert!(other.as_mut().poll(&mut context).is_pending());
    bench.step();
    bench.take_output(0);
    let Some(Head::Request(request)) =
        bench.replies[0].next_frame(u32::MAX).unwrap().map(|frame| frame.head)
    else {
        panic!("the request is to come");
    };
    let mut out = SendBuffer::new();
    out.reply(&ReplyHead::ok(request.call), None).finish(u32::MAX).unwrap();
    // The kernel reports it at the next look.
    bench.net.borrow_mut().ends[0].input.extend_from_slice(out.first_chunk());
    bench.elapse(STOP);
    bench.step();
    let Poll::Ready(Ok(_)) = answered.as_mut().poll(&mut context) else {
        panic!("the answered call has its answer");
    };
    let Poll::Ready(Err(failure)) = pin!(other).poll(&mut context) else {
        panic!("the other call's time is over");
    };
    assert!(matches!(failure, CallFailure::DeadlineExceeded { .. }), "{failure:?}");
}
