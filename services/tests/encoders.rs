//! What writes a request is its caller's code, and may do anything: use the channel that it writes for,
//! give up another call, close the channel, panic.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::codec::InFlight;
use corewire::{
    Bytes, Channel, ChannelConfig, Limits, NotSent, Pending, Placement, Running, Server, Status,
    Transport, blocking, spawn,
};
use corewire_client::{CallFailure, Outcome};
use corewire_codec::{CodecId, Encoding, FrameWriter, MethodId, RequestHead, request_flags};
use futures_lite::FutureExt as _;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use support::service::{Habits, SubjectServer, Target};
use support::{address, client, end, until};

type AnyCall = Pin<Box<dyn Future<Output = Outcome>>>;

const HOUR: Option<Duration> = Some(Duration::from_secs(3600));

/// A server that takes 16 calls at once: a slot that is lost shows.
fn server(habits: &Habits) -> Running {
    let habits = habits.clone();
    Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Unpinned(1))
        .limits(Limits { in_flight: InFlight::MIN, ..Limits::default() })
        .service(move |_| SubjectServer::new(Target::new(habits.clone())))
        .start()
        .unwrap()
}

fn head(method: &str) -> RequestHead {
    let mut head = RequestHead::new(0, MethodId::of("Subject", method));
    if method != "echo" {
        head.encoding = Encoding::plain(CodecId::SPEEDY);
    }
    head
}

fn call(
    channel: &Channel,
    method: &str,
    encode: impl FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
) -> AnyCall {
    Box::pin(Channel::call(channel, head(method), HOUR, encode))
}

/// A call of `echo` with these bytes.
fn echo(channel: &Channel, body: &'static [u8]) -> AnyCall {
    call(channel, "echo", |frame| {
        frame.put_slice(body);
        Ok(())
    })
}

fn poll_once(call: &mut AnyCall) -> Poll<Outcome> {
    call.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

#[track_caller]
fn assert_echoed(outcome: Outcome, body: &[u8]) {
    assert_eq!(&outcome.unwrap().body[..], body);
}

/// Runs `test` over a channel that is connected, and over one whose first call connects it.
fn over_a_channel<F: Future<Output = ()> + 'static>(
    test: impl Fn(Channel, Habits) -> F + Clone + Send + 'static,
) {
    for connected in [true, false] {
        let habits = Habits::default();
        let server = server(&habits);
        let (to, test) = (address(&server), test.clone());
        client(move || async move {
            let channel = Channel::new(to, ChannelConfig::default()).unwrap();
            if connected {
                channel.ready().await.unwrap();
            }
            test(channel.clone(), habits).await;
            // Nothing is lost: as many calls as there are slots have room.
            let calls: Vec<_> = (0..16).map(|_| spawn(echo(&channel, b"after"))).collect();
            for call in calls {
                assert_echoed(call.await, b"after");
            }
            channel.close().await;
        });
        assert_eq!(support::count(&server, |it| it.connections_faulted.value()), 0);
        end(server);
    }
}

#[test]
fn an_encoder_that_makes_a_call() {
    over_a_channel(|channel, _| async move {
        for fails in [false, true] {
            let (give, take) = std::sync::mpsc::channel();
            let inner = channel.clone();
            let outer = call(&channel, "echo", move |frame| {
                frame.put_slice(b"out");
                let mut call = echo(&inner, b"inner");
                assert!(poll_once(&mut call).is_pending());
                // What the channel says of itself is there, too.
                let _ = (inner.server_shard(), inner.connection_id(), inner.address());
                give.send(call).unwrap();
                frame.put_slice(b"er");
                if fails { Err(Status::internal("as the test wants")) } else { Ok(()) }
            });
            match outer.await {
                Err(CallFailure::NotSent(NotSent::Encode(_))) => assert!(fails),
                outcome => assert_echoed(outcome, b"outer"),
            }
            assert_echoed(take.recv().unwrap().await, b"inner");
        }
    });
}

#[test]
fn an_encoder_that_fills_the_line() {
    over_a_channel(|channel, _| async move {
        let (give, take) = std::sync::mpsc::channel();
        let inner = channel.clone();
        let outer = call(&channel, "echo", move |frame| {
            frame.put_slice(b"outer");
            for _ in 0..100 {
                let mut call = echo(&inner, b"inner");
                assert!(poll_once(&mut call).is_pending());
                give.send(call).unwrap();
            }
            Ok(())
        });
        assert_echoed(outer.await, b"outer");
        // Tasks, because each has a waker of its own.
        let calls: Vec<_> = take.iter().map(spawn).collect();
        assert_eq!(calls.len(), 100);
        for call in calls {
            assert_echoed(call.await, b"inner");
        }
    });
}

#[test]
fn an_encoder_that_drops_a_call_in_flight() {
    over_a_channel(|channel, habits| async move {
        for round in 1..=20 {
            let mut never = call(&channel, "never", |_| Ok(()));
            poll_fn(|context| {
                assert!(never.as_mut().poll(context).is_pending());
                if habits.begun() == round { Poll::Ready(()) } else { reschedule(context) }
            })
            .await;
            let outer = call(&channel, "echo", move |frame| {
                drop(never);
                frame.put_slice(b"outer");
                Ok(())
            });
            assert_echoed(outer.await, b"outer");
            while habits.ended() < round {
                corewire::sleep(Duration::from_millis(1)).await;
            }
        }
    });
}

fn reschedule(context: &Context<'_>) -> Poll<()> {
    context.waker().wake_by_ref();
    Poll::Pending
}

#[test]
fn an_encoder_that_panics() {
    over_a_channel(|channel, _| async move {
        for round in 0..40 {
            let inner = channel.clone();
            let outer = call(&channel, "echo", move |frame| {
                frame.put_slice(&[0; 5000]);
                frame.put_bytes(Bytes::from_static(&[0; 5000]));
                if round % 2 == 1 {
                    // It has used the channel before.
                    let _ = poll_once(&mut echo(&inner, b"dropped again"));
                }
                panic!("as the test wants");
            });
            assert!(AssertUnwindSafe(outer).catch_unwind().await.is_err());
        }
    });
}

#[test]
fn an_encoder_that_writes_a_one_way_call() {
    over_a_channel(|channel, habits| async move {
        let inner = channel.clone();
        let (give, take) = std::sync::mpsc::channel();
        let outer = call(&channel, "echo", move |frame| {
            frame.put_slice(b"outer");
            let mut touch = head("touch");
            touch.flags |= request_flags::ONE_WAY;
            let encode = |frame: &mut FrameWriter<'_>| {
                frame.put_slice(&7u64.to_le_bytes());
                Ok::<_, Status>(())
            };
            let mut call: AnyCall = Box::pin(Channel::call(&inner, touch, HOUR, encode));
            let outcome = match poll_once(&mut call) {
                // A request that is encoded before the hello holds up no other.
                Poll::Ready(outcome) => Box::pin(std::future::ready(outcome)) as AnyCall,
                Poll::Pending => call,
            };
            give.send(outcome).unwrap();
            Ok(())
        });
        assert_echoed(outer.await, b"outer");
        take.recv().unwrap().await.unwrap();
        while habits.touched.load(std::sync::atomic::Ordering::SeqCst) != 7 {
            corewire::sleep(Duration::from_millis(1)).await;
        }
    });
}

/// What was begun before is sent before the go-away.
#[test]
fn an_encoder_that_closes_the_channel() {
    let habits = Habits::default();
    let server = server(&habits);
    let to = address(&server);
    client(move || async move {
        let channel = Channel::new(to, ChannelConfig::default()).unwrap();
        channel.ready().await.unwrap();
        let inner = channel.clone();
        let outer = call(&channel, "echo", move |frame| {
            let mut closing = Box::pin(inner.close());
            let polled = closing.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending());
            frame.put_slice(b"outer");
            Ok(())
        });
        assert_echoed(outer.await, b"outer");
        let late = echo(&channel, b"late").await;
        assert_eq!(late.unwrap_err(), CallFailure::NotSent(NotSent::Closed));
        channel.close().await;
    });
    until("the connection is closed", || {
        support::count(&server, |it| it.connections_open.value()) == 0
    });
    assert_eq!(support::count(&server, |it| it.connections_faulted.value()), 0);
    end(server);
}

/// A channel that carries one call at a time says so; it neither blocks nor breaks.
#[test]
fn an_encoder_of_a_blocking_channel() {
    let habits = Habits::default();
    let server = server(&habits);
    let channel = blocking::Channel::new(address(&server), ChannelConfig::default()).unwrap();
    type Encode = Box<dyn FnOnce(&mut FrameWriter<'_>) -> Result<(), Status>>;
    let call = |encode: Encode| Transport::call(&channel, head("echo"), HOUR, encode);
    for _ in 0..20 {
        let inner = channel.clone();
        let outcome = Pending::wait(call(Box::new(move |frame| {
            let nested = Transport::call(&inner, head("echo"), HOUR, |_| Ok(()));
            let failure = Pending::wait(nested).unwrap_err();
            assert_eq!(failure, CallFailure::NotSent(NotSent::QueueFull));
            assert!(inner.address().tcp().is_some());
            frame.put_slice(b"outer");
            Ok(())
        })));
        assert_echoed(outcome, b"outer");
        let panics = || Pending::wait(call(Box::new(|_| panic!("as the test wants"))));
        assert!(std::panic::catch_unwind(AssertUnwindSafe(panics)).is_err());
    }
    drop(channel);
    end(server);
}
