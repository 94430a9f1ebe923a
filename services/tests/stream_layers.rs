//! Layers around calls that stream, at servers and at clients: asked once when a call begins, told once when
//! its last stream has ended.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::layer::{
    Authorize, CallTime, CallTimer, CallView, ConcurrencyLimit, LayeredChannel, TimeLimit,
};
use corewire::{
    CallError, CallOptions, Channel, ChannelConfig, ClientShard, ClientThread, NotSent, SendStream,
    Status, StatusCode, StreamTransport, blocking,
};
use futures_lite::future::block_on;
use futures_lite::{StreamExt, stream};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::streams::{FeedClient, feed, feed_with};
use support::{address, client, end, until};

/// Notes what a [`CallTimer`] layer tells.
#[derive(Clone, Debug, Default)]
struct Notes(Arc<Mutex<Vec<CallTime>>>);

impl Notes {
    fn layer(&self) -> CallTimer<impl Fn(&CallTime) + Send + Sync + 'static + use<>> {
        let notes = self.clone();
        CallTimer::new(move |timed: &CallTime| notes.0.lock().unwrap().push(*timed))
    }

    fn take(&self) -> Vec<(&'static str, Option<StatusCode>)> {
        let taken = std::mem::take(&mut *self.0.lock().unwrap());
        taken.iter().map(|timed| (timed.method.method, timed.code)).collect()
    }
}

#[test]
fn strangers_reach_no_stream() {
    let check = |call: &CallView<'_>| match call.metadata().text("token") {
        Some("secret") => Ok(()),
        _ => Err(Status::unauthenticated("say who you are")),
    };
    let (server, seen) = feed_with(|it| it.layer(move |_| Authorize::new(check)));
    let to = address(&server);
    client(move || async move {
        let feed = FeedClient::connect(to).await.unwrap();
        let numbers = || Channel::from_stream(stream::iter((0..10_000).map(Ok)));
        let refused = [
            feed.silent().await.unwrap_err(),
            feed.sum(0, numbers()).await.unwrap_err(),
            feed.double(0, numbers()).await.unwrap_err(),
        ];
        for error in refused {
            assert!(matches!(error, CallError::Refused(_)) && !error.may_have_run(), "{error:?}");
            assert_eq!(error.code(), StatusCode::Unauthenticated);
        }
        let known = feed.with(CallOptions::new().metadata("token", b"secret").unwrap());
        assert_eq!(known.sum(0, numbers()).await, Ok(49_995_000));
        let mut answers =
            known.double(1, Channel::from_stream(stream::iter([Ok(5)]))).await.unwrap();
        assert_eq!((answers.next().await, answers.next().await), (Some(Ok(11)), None));
    });
    assert_eq!(seen.begun(), 0);
    end(server);
}

/// A permit is held until the last stream of its call has ended, in whichever way.
#[test]
fn a_permit_is_held_until_its_stream_has_ended() {
    let limit = ConcurrencyLimit::new(3);
    let shared = limit.clone();
    let (server, _) = feed_with(|it| it.layer(move |_| shared.clone()));
    let to = address(&server);
    let running = limit.clone();
    client(move || async move {
        let feed = FeedClient::connect(to).await.unwrap();
        let silent = feed.silent().await.unwrap();
        let (mut sender, numbers) = Channel::channel();
        let mut answers = feed.double(0, numbers).await.unwrap();
        let (kept, numbers) = Channel::channel();
        let never = feed.never(numbers).begin().await.unwrap();
        SendStream::send(&mut sender, 2).await.unwrap();
        assert_eq!(answers.next().await, Some(Ok(4)));
        support::streams::eventually("three run", || running.running() == 3).await;
        let shed = feed.count(3).await.unwrap_err();
        assert!(matches!(&shed, CallError::Refused(status) if status.retry_after().is_some()));
        // One ends well, and the next has its permit.
        drop(sender);
        assert_eq!(answers.next().await, None);
        support::streams::eventually("it is back", || running.running() == 2).await;
        assert_eq!(feed.fail(Some(2)).await.unwrap().collect::<Vec<_>>().await.len(), 3);
        // Others are dropped, or run out of time.
        drop((silent, never, kept));
        support::streams::eventually("all are back", || running.running() == 0).await;
        let hasty = feed.clone().with_timeout(Duration::from_millis(30));
        let mut late = hasty.silent().await.unwrap();
        let end = late.next().await.unwrap().unwrap_err();
        assert_eq!(end.code(), StatusCode::DeadlineExceeded);
    });
    until("all permits are back", || limit.running() == 0);
    end(server);
}

#[test]
fn a_server_bounds_the_time_of_streams() {
    let layer = |_| TimeLimit::at_most(Duration::from_millis(60));
    let (server, seen) = feed_with(|it| it.layer(layer));
    let to = address(&server);
    client(move || async move {
        let feed = FeedClient::connect(to).await.unwrap();
        let mut silent = feed.silent().await.unwrap();
        assert_eq!(silent.next().await.unwrap().unwrap_err().code(), StatusCode::DeadlineExceeded);
        let (_kept, numbers) = Channel::channel();
        let over = feed.never(numbers).await.unwrap_err();
        assert_eq!(over.code(), StatusCode::DeadlineExceeded);
        assert_eq!(feed.count(1).await.unwrap().collect::<Vec<_>>().await, [Ok(0)]);
    });
    until("the handlers are dropped", || seen.ended() == 2);
    end(server);
}

/// What a layer of a client learns of calls that stream: each once, and how it ended.
async fn is_told<C: StreamTransport>(channel: C) {
    let notes = Notes::default();
    let limit = ConcurrencyLimit::new(1);
    let layered = LayeredChannel::new(channel, (notes.layer(), limit.clone()));
    let feed = FeedClient::new(LayeredChannel::new(layered, notes.layer()));
    let twice = |method, code| vec![(method, code), (method, code)];
    let numbers = || C::from_stream(stream::iter((0..3).map(Ok)));
    assert_eq!(feed.sum(0, numbers()).await, Ok(3));
    assert_eq!(notes.take(), twice("sum", Some(StatusCode::Ok)));
    let mut counted = feed.count(2).await.unwrap();
    // Its stream has it still.
    assert_eq!(limit.running(), 1);
    assert_eq!(notes.take(), []);
    let shed = feed.count(2).await.unwrap_err();
    assert!(matches!(shed, CallError::NotSent(NotSent::TurnedAway(_))), "{shed:?}");
    assert_eq!(notes.take(), twice("count", Some(StatusCode::ResourceExhausted)));
    while let Some(number) = counted.next().await {
        number.unwrap();
    }
    assert_eq!((limit.running(), notes.take()), (0, twice("count", Some(StatusCode::Ok))));
    let mut failing = feed.fail(Some(0)).await.unwrap();
    assert_eq!(failing.next().await.unwrap().unwrap_err().code(), StatusCode::DataLoss);
    assert_eq!(notes.take(), twice("fail", Some(StatusCode::DataLoss)));
    assert_eq!(feed.fail(None).await.unwrap_err().code(), StatusCode::NotFound);
    assert_eq!(notes.take(), twice("fail", Some(StatusCode::NotFound)));
    // What is dropped has no code, whether its stream was there or not.
    drop(feed.silent().await.unwrap());
    assert_eq!(notes.take(), twice("silent", None));
    let (_kept, numbers) = C::channel();
    drop(feed.never(numbers).begin().await.unwrap());
    assert_eq!(notes.take(), twice("never", None));
    drop(feed.silent());
    assert_eq!((limit.running(), notes.take()), (0, vec![]));
    let (mut sender, numbers) = C::channel();
    let mut doubled = feed.double(0, numbers).await.unwrap();
    sender.send(4).await.unwrap();
    assert_eq!(doubled.next().await, Some(Ok(8)));
    sender.fail(Status::aborted("enough"));
    while doubled.next().await.is_some() {}
    assert_eq!(notes.take().len(), 2);
}

/// A layer of a client may bound the time of streams, which have none of their own.
async fn is_bounded<C: StreamTransport>(channel: C) {
    let time = TimeLimit::at_most(Duration::from_millis(60));
    let feed = FeedClient::new(LayeredChannel::new(channel, time));
    let mut silent = feed.silent().await.unwrap();
    assert_eq!(silent.next().await.unwrap().unwrap_err().code(), StatusCode::DeadlineExceeded);
}

#[test]
fn a_clients_layers_hear_of_streams() {
    let (server, _) = feed();
    let to = address(&server);
    client(move || async move {
        is_told(Channel::connect(to).await.unwrap()).await;
        is_bounded(Channel::connect(to).await.unwrap()).await;
    });
    let thread = ClientThread::start(ClientShard::default()).unwrap();
    block_on(is_told(thread.channel(to, ChannelConfig::default()).unwrap()));
    block_on(is_bounded(thread.channel(to, ChannelConfig::default()).unwrap()));
    block_on(is_told(blocking::Channel::connect(to).unwrap()));
    block_on(is_bounded(blocking::Channel::connect(to).unwrap()));
    end(server);
}
