//! Channels that are closed, of every kind and over every kind of socket: what was begun is finished,
//! nothing else begins, and the server sees a good end.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{CallError, Limits, NotSent, SendStream, StreamTransport, Transport};
use futures_lite::StreamExt;
use futures_lite::future::{poll_fn, poll_once};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::Poll;
use support::service::{Habits, SubjectClient};
use support::shells::{Close, Shell, World, eventually};
use support::streams::FeedClient;

table! {
    SubjectClient, Limits { in_flight: corewire::codec::InFlight::MIN, ..Limits::default() } =>
    calls_in_flight_are_finished streams_in_flight_are_finished who_waits_is_sent_home
    what_was_written_arrives a_channel_without_a_connection connections_that_were_left
}

const CLOSED: CallError = CallError::NotSent(NotSent::Closed);

/// The connection is gone, nothing begins on the channel any more, and closing it again ends at once.
async fn assert_closed<C: Transport + Clone + Close>(client: &SubjectClient<C>, world: &World) {
    eventually("the connection is gone", || world.count(|it| it.connections_open.value()) == 0)
        .await;
    assert_eq!(world.count(|it| it.connections_faulted.value()), 0);
    assert_eq!(client.add(1, 2).await, Err(CLOSED));
    assert_eq!(client.touch(1).await, Err(CLOSED));
    client.channel().close().await;
    client.channel().clone().close().await;
}

/// Polls all of them until this many handlers wait at the gate; none may end before.
async fn until_at_gate<F: Future>(calls: &mut [Pin<Box<F>>], habits: &Habits, handlers: usize) {
    poll_fn(|context| {
        for call in &mut *calls {
            assert!(call.as_mut().poll(context).is_pending());
        }
        context.waker().wake_by_ref();
        if habits.at_gate() == handlers { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

async fn calls_in_flight_are_finished<C>(client: SubjectClient<C>, world: World)
where
    C: Transport + Clone + Close,
{
    assert_eq!(client.add(1, 2).await, Ok(3));
    let channel = client.channel().clone();
    if world.shell == Shell::Blocking {
        // Its calls are over when this thread comes to close anything.
        channel.close().await;
        return assert_closed(&client, &world).await;
    }
    let mut held = vec![Box::pin(client.gate(7))];
    until_at_gate(&mut held, &world.habits, 1).await;
    let mut closing = Box::pin(channel.close());
    assert!(poll_once(&mut closing).await.is_none(), "a call is in flight");
    // It is closed for all clones.
    assert_eq!(client.add(1, 2).await, Err(CLOSED));
    assert_eq!(client.touch(1).await, Err(CLOSED));
    assert!(poll_once(&mut closing).await.is_none(), "a call is in flight");
    assert_eq!(world.count(|it| it.connections_open.value()), 1);
    world.habits.open();
    assert_eq!(held.remove(0).await, Ok(7));
    closing.await;
    assert_closed(&client, &world).await;
}

async fn streams_in_flight_are_finished<C>(client: SubjectClient<C>, world: World)
where
    C: StreamTransport + Close,
{
    let channel = client.channel().clone();
    let feed = FeedClient::new(channel.clone());
    let (mut sender, numbers) = C::channel();
    let mut doubled = feed.double(1, numbers).await.unwrap();
    sender.send(2).await.unwrap();
    assert_eq!(doubled.next().await, Some(Ok(5)));
    // Dropping it does not stop it. A drop that blocks would wait for itself, so it does not block.
    let over = poll_once(channel.close()).await.is_some();
    assert_eq!(over, world.shell == Shell::Blocking);
    assert_eq!(feed.count(1).await.unwrap_err(), CLOSED);
    assert_eq!(client.add(1, 2).await, Err(CLOSED));
    assert_eq!(world.count(|it| it.connections_open.value()), 1);
    for number in 3..12 {
        sender.send(number).await.unwrap();
        assert_eq!(doubled.next().await, Some(Ok(2 * number + 1)));
    }
    drop(sender);
    assert_eq!(doubled.next().await, None);
    assert_closed(&client, &world).await;
}

/// Callers that wait for a slot are told that there will be none, and the others end as usual.
async fn who_waits_is_sent_home<C>(client: SubjectClient<C>, world: World)
where
    C: Transport + Clone + Close,
{
    if world.shell == Shell::Blocking {
        // It has no waiting callers.
        return;
    }
    let slots = world.limits.in_flight.get();
    assert_eq!(client.add(1, 2).await, Ok(3));
    let mut calls: Vec<_> = (0..slots + 4).map(|number| Box::pin(client.gate(number))).collect();
    until_at_gate(&mut calls, &world.habits, slots as usize).await;
    let channel = client.channel().clone();
    let (mut first, mut second) = (Box::pin(channel.close()), Box::pin(channel.close()));
    assert!(poll_once(&mut first).await.is_none());
    assert!(poll_once(&mut second).await.is_none());
    for call in calls.split_off(slots as usize) {
        assert_eq!(call.await, Err(CLOSED));
    }
    // Dropping one does not stop the closing, nor does it end the other.
    drop(first);
    assert!(poll_once(&mut second).await.is_none());
    world.habits.open();
    for (number, call) in (0..).zip(calls) {
        assert_eq!(call.await, Ok(number));
    }
    second.await;
    assert_closed(&client, &world).await;
}

/// What was begun before, in whatever way, is sent before the server hears the go-away.
async fn what_was_written_arrives<C>(client: SubjectClient<C>, world: World)
where
    C: Transport + Clone + Close,
{
    assert_eq!(client.add(1, 2).await, Ok(3));
    for _ in 0..2000 {
        client.touch(1).await.unwrap();
    }
    let mut calls: Vec<_> = (0..8).map(|number| Box::pin(client.later(number))).collect();
    let mut outcomes = Vec::new();
    for call in &mut calls {
        outcomes.push(poll_once(call).await);
    }
    client.channel().close().await;
    for ((number, call), outcome) in (0..).zip(calls).zip(outcomes) {
        let outcome = match outcome {
            Some(outcome) => outcome,
            None => call.await,
        };
        assert_eq!(outcome, Ok(number));
    }
    let touched = || world.habits.touched.load(Ordering::SeqCst);
    eventually("all were handled", || touched() == 2000).await;
    assert_closed(&client, &world).await;
}

async fn a_channel_without_a_connection<C>(client: SubjectClient<C>, world: World)
where
    C: Transport + Clone + Close,
{
    client.channel().close().await;
    assert_closed(&client, &world).await;
    assert_eq!(world.count(|it| it.connections_accepted.value()), 0);
}

/// A connection whose server went away has its calls to finish, too.
async fn connections_that_were_left<C>(client: SubjectClient<C>, mut world: World)
where
    C: Transport + Clone + Close,
{
    if world.shell == Shell::Blocking {
        // It has one connection at a time.
        return;
    }
    world.stop();
    let first = world.serve_until(support::PATIENCE);
    let client = client.with_timeout(support::PATIENCE);
    assert_eq!(client.add(1, 2).await, Ok(3));
    let mut held = vec![Box::pin(client.gate(7))];
    until_at_gate(&mut held, &world.habits, 1).await;
    first.stop();
    world.server = Some(world.serve_when_free(&Habits::default()));
    let mut answered = false;
    while !answered {
        match client.add(1, 2).await {
            Ok(sum) => answered = sum == 3,
            Err(error) => assert!(!error.may_have_run(), "{error}"),
        }
        futures_lite::future::yield_now().await;
    }
    let channel = client.channel().clone();
    let mut closing = Box::pin(channel.close());
    assert!(poll_once(&mut closing).await.is_none());
    // The second server's connection is gone, and the first one's is not.
    eventually("one is gone", || world.count(|it| it.connections_open.value()) == 0).await;
    assert!(poll_once(&mut closing).await.is_none(), "a call is in flight");
    world.habits.open();
    assert_eq!(held.remove(0).await, Ok(7));
    closing.await;
    assert_eq!(first.ended().await.shards_lost, 0);
    assert_closed(&client, &world).await;
}
