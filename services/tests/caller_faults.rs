//! What a caller does wrong costs that call alone, over every kind of channel: it is told what is wrong,
//! nothing false about whether the call ran, and the connection goes on.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::codec::MetadataBytes;
use corewire::layer::{LayeredChannel, TimeLimit};
use corewire::{CallError, CallOptions, Limits, NotSent, StatusCode, StreamTransport, Transport};
use futures_lite::future::poll_once;
use futures_lite::stream;
use std::fmt::Debug;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;
use support::service::SubjectClient;
use support::shells::{World, eventually};
use support::streams::FeedClient;

table! {
    SubjectClient, limits() => a_finished_call too_much_metadata
}

table! {
    FeedClient, limits() => a_finished_stream_call
}

fn limits() -> Limits {
    Limits { metadata_bytes: MetadataBytes::new(2000).unwrap(), ..Limits::default() }
}

/// The outcome of a call, and what it says when it is polled again.
async fn twice<T: Debug>(
    call: impl Future<Output = Result<T, CallError>>,
) -> (Result<T, CallError>, CallError) {
    let mut call = pin!(call);
    let outcome = call.as_mut().await;
    (outcome, call.await.unwrap_err())
}

#[track_caller]
fn assert_reused(error: &CallError) {
    assert_eq!(*error, CallError::Reused);
    assert!(error.may_have_run(), "it says nothing about the call");
    assert_eq!(error.code(), StatusCode::FailedPrecondition);
}

async fn a_finished_call<C: Transport + Clone>(client: SubjectClient<C>, mut world: World) {
    let (outcome, again) = twice(client.add(1, 2)).await;
    assert_eq!(outcome, Ok(3));
    assert_reused(&again);
    let (outcome, again) = twice(client.add(1, 2).with_response()).await;
    assert_eq!(outcome.unwrap().value, 3);
    assert_reused(&again);
    let (outcome, again) = twice(client.touch(1)).await;
    assert_eq!(outcome, Ok(()));
    assert_reused(&again);
    let layer = TimeLimit::at_most(Duration::from_secs(5));
    let layered = SubjectClient::new(LayeredChannel::new(client.channel().clone(), layer));
    let (outcome, again) = twice(layered.add(1, 2)).await;
    assert_eq!(outcome, Ok(3));
    assert_reused(&again);
    let touched = world.habits.clone();
    eventually("the one-way call runs once", || touched.touched.load(Ordering::SeqCst) == 1).await;
    // One that was not sent is over, too.
    world.stop();
    let (outcome, again) = loop {
        let both = twice(client.add(1, 2)).await;
        if matches!(both.0, Err(CallError::NotSent(_))) {
            break both;
        }
    };
    assert!(!outcome.unwrap_err().may_have_run());
    assert_reused(&again);
}

async fn a_finished_stream_call<C: StreamTransport>(client: FeedClient<C>, _world: World) {
    let numbers = C::from_stream(stream::iter([Ok(5)]));
    let (outcome, again) = twice(client.sum(1, numbers)).await;
    assert_eq!(outcome, Ok(6));
    assert_reused(&again);
    let mut call = pin!(client.count(3));
    drop(call.as_mut().await.unwrap());
    assert_reused(&call.await.err().unwrap());
}

/// REQ-21: the server would end the connection over it, with all its calls.
async fn too_much_metadata<C: Transport + Clone>(client: SubjectClient<C>, world: World) {
    client.add(0, 0).await.unwrap();
    let connections = world.count(|shard| shard.connections_accepted.value());
    let options = |bytes: usize| CallOptions::new().metadata("fill-bin", &vec![7; bytes - 11]);
    let full = client.with(options(2001).unwrap());
    let wanted = CallError::NotSent(NotSent::MetadataTooLarge { bytes: 2001, max: 2000 });
    assert_eq!(full.touch(1).await, Err(wanted.clone()));
    assert_eq!(full.add(1, 2).await, Err(wanted));
    let fitting = client.with(options(2000).unwrap());
    fitting.touch(2).await.unwrap();
    assert_eq!(fitting.add(1, 2).await, Ok(3));
    assert_eq!(world.habits.touched.load(Ordering::SeqCst), 2);
    assert_eq!(world.count(|shard| shard.connections_accepted.value()), connections);
}

/// Waiting for a call that is in flight is refused where the thread must not block, and the call is dropped:
/// it may have run.
#[test]
fn waiting_for_a_call_in_flight_on_a_shard() {
    use corewire::Channel;
    let server = support::server();
    let to = support::address(&server);
    support::client(move || async move {
        let client = SubjectClient::new(Channel::connect(to).await.unwrap());
        let mut call = client.later(1);
        assert!(poll_once(&mut call).await.is_none());
        assert_reused(&call.wait().unwrap_err());
        assert_eq!(client.add(1, 2).wait(), Err(CallError::NotSent(NotSent::WouldBlock)));
    });
    support::end(server);
}
