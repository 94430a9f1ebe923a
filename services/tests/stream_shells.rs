//! The scenarios of calls that stream, for every kind of channel over TCP and over Unix sockets: what a
//! caller sees must not depend on who drives the connection. `shells.rs` has those of other calls.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{
    Bytes, CallError, CallOptions, Limits, SendError, SendStream, Status, StatusCode,
    StreamTransport, codec,
};
use futures_core::Stream;
use futures_lite::{StreamExt, stream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::shells::{Shell, World, eventually};
use support::streams::FeedClient;

/// The least windows that there are.
fn small() -> Limits {
    Limits {
        stream_credit: codec::StreamCredit::new(16_384).unwrap(),
        connection_credit: codec::ConnectionCredit::new(65_536).unwrap(),
        ..Limits::default()
    }
}

table! {
    FeedClient, Limits::default() =>
    all_kinds turns early_ends early_answers dropped_streams slow_readers slow_handlers
    stalled_streams senders_of_one_stream a_server_that_stops a_server_that_drains deadlines large_messages what_a_call_carries
}

table! {
    FeedClient, small() =>
    small_windows many_streams openings_without_credit
}

async fn collect<T>(mut stream: impl Stream<Item = Result<T, Status>> + Unpin) -> Vec<T> {
    let mut all = Vec::new();
    while let Some(item) = stream.next().await {
        all.push(item.unwrap());
    }
    all
}

/// The status with which a stream ends, and how many messages came before.
async fn end_of<T>(
    mut stream: impl Stream<Item = Result<T, Status>> + Unpin,
) -> (u64, Option<StatusCode>) {
    let mut messages = 0;
    loop {
        match stream.next().await {
            Some(Ok(_)) => messages += 1,
            Some(Err(status)) => {
                assert!(stream.next().await.is_none(), "an error is the last item");
                return (messages, Some(status.code()));
            }
            None => return (messages, None),
        }
    }
}

fn numbers<C: StreamTransport>(up_to: u64) -> C::Streaming<u64> {
    C::from_stream(stream::iter((0..up_to).map(Ok)))
}

/// Bodies without end, counted as they are asked for.
fn endless<C: StreamTransport>(bytes: usize, made: &Arc<AtomicU64>) -> C::Streaming<Bytes> {
    let (body, made) = (Bytes::from(vec![3; bytes]), Arc::clone(made));
    C::from_stream(stream::repeat_with(move || {
        made.fetch_add(1, Ordering::SeqCst);
        Ok(body.clone())
    }))
}

/// Every handler that began is gone.
async fn all_handlers_gone(world: &World) {
    eventually("all handlers are gone", || world.seen.ended() == world.seen.begun()).await;
}

async fn all_kinds<C: StreamTransport>(feed: FeedClient<C>, world: World) {
    assert_eq!(feed.add(1, 2).await, Ok(3));
    feed.touch(4).await.unwrap();
    for up_to in [0, 1, 5, 10_000] {
        let counted = collect(feed.count(up_to).await.unwrap()).await;
        assert!(counted.into_iter().eq(0..up_to), "{up_to}");
        assert_eq!(feed.sum(5, numbers::<C>(up_to)).await, Ok(5 + (0..up_to).sum::<u64>()));
        let doubled = collect(feed.double(1, numbers::<C>(up_to.min(13))).await.unwrap()).await;
        assert!(doubled.into_iter().eq((0..up_to.min(13)).map(|n| 2 * n + 1)), "{up_to}");
    }
    assert_eq!(feed.sum(7, C::empty()).await, Ok(7));
    assert_eq!(feed.add(1, 2).await, Ok(3));
    assert_eq!(world.seen.touched(), 4);
}

/// Each message is sent when the answer to the one before has come, by one task or thread.
async fn turns<C: StreamTransport>(feed: FeedClient<C>, _world: World) {
    let (mut sender, numbers) = C::channel();
    let mut answers = feed.double(0, numbers).await.unwrap();
    for number in 20..1000 {
        sender.send(number).await.unwrap();
        assert_eq!(answers.next().await, Some(Ok(2 * number)));
    }
    // The client's half ends first, and the server's then.
    drop(sender);
    assert_eq!(answers.next().await, None);
    // One that was begun is filled before its result is waited for.
    let (mut sender, numbers) = C::channel();
    sender.send(1).await.unwrap();
    let call = feed.sum(0, numbers).begin().await.unwrap();
    for number in 2..=2000 {
        sender.send(number).await.unwrap();
    }
    drop(sender);
    assert_eq!(call.await, Ok(2_001_000));
}

async fn senders_of_one_stream<C: StreamTransport>(feed: FeedClient<C>, _world: World) {
    let (mut one, numbers) = C::channel();
    let mut two = one.clone();
    let call = feed.sum(0, numbers).begin().await.unwrap();
    // More than fits: each waits for room from time to time.
    let send = async |sender: &mut C::Sender<u64>| {
        for number in 0..1000 {
            sender.send(number).await.unwrap();
        }
    };
    futures_lite::future::zip(send(&mut one), send(&mut two)).await;
    drop(one);
    two.send(1).await.unwrap();
    drop(two);
    assert_eq!(call.await, Ok(999_001));
    // One of them fails the stream for all.
    let (mut one, numbers) = C::channel();
    let two = one.clone();
    let call = feed.sum(0, numbers).begin().await.unwrap();
    one.send(1).await.unwrap();
    two.fail(Status::data_loss("mine is gone"));
    assert_eq!(call.await.unwrap_err().code(), StatusCode::DataLoss);
    assert!(matches!(one.send(0).await, Err(SendError::Closed(0))));
    drop(one);
    assert_eq!(feed.add(1, 2).await, Ok(3));
}

async fn early_ends<C: StreamTransport>(feed: FeedClient<C>, _world: World) {
    let Err(CallError::Status(status)) = feed.fail(None).await else { panic!("it fails") };
    assert_eq!((status.code(), status.message()), (StatusCode::NotFound, "there is no stream"));
    for after in [0, 1, 3000] {
        let end = end_of(feed.fail(Some(after)).await.unwrap()).await;
        assert_eq!(end, (after, Some(StatusCode::DataLoss)));
    }
    let end = end_of(feed.double(0, numbers::<C>(100)).await.unwrap()).await;
    assert_eq!(end, (13, Some(StatusCode::OutOfRange)));
    // The other way round: the client's stream fails, and the handler hears why.
    let failing = || {
        let stop = Err(Status::aborted("I was wrong"));
        C::from_stream(stream::iter((0..3).map(Ok).chain([stop])))
    };
    let Err(CallError::Status(status)) = feed.sum(0, failing()).await else { panic!("it fails") };
    assert_eq!((status.code(), status.message()), (StatusCode::Aborted, "I was wrong"));
    let (mut sender, numbers) = C::channel();
    let call = feed.sum(0, numbers).begin().await.unwrap();
    sender.send(1).await.unwrap();
    sender.fail(Status::data_loss("and so was I"));
    assert_eq!(call.await.unwrap_err().code(), StatusCode::DataLoss);
    let Err(CallError::Status(status)) = feed.panic(false).await else { panic!("it panics") };
    assert_eq!(status.code(), StatusCode::Internal);
    assert_eq!(feed.add(1, 2).await, Ok(3));
}

/// A handler that answers without having read all: the rest is dropped, and the sender stops.
async fn early_answers<C: StreamTransport>(feed: FeedClient<C>, _world: World) {
    for _ in 0..20 {
        let (mut sender, numbers) = C::channel();
        let call = feed.sum_some(10, numbers).begin().await.unwrap();
        for number in 0..10 {
            sender.send(number).await.unwrap();
        }
        assert_eq!(call.await, Ok(45));
        let mut more = 0;
        while sender.send(more).await.is_ok() {
            more += 1;
            assert!(more < 100_000, "nobody stops the sender");
            futures_lite::future::yield_now().await;
        }
        assert!(sender.is_closed());
        assert!(matches!(sender.send(0).await, Err(SendError::Closed(0))));
        assert_eq!(feed.sum_some(3, numbers_for_ever::<C>()).await, Ok(3));
    }
    assert_eq!(feed.add(1, 2).await, Ok(3));
}

fn numbers_for_ever<C: StreamTransport>() -> C::Streaming<u64> {
    C::from_stream(stream::iter((0..).map(Ok)))
}

async fn dropped_streams<C: StreamTransport>(feed: FeedClient<C>, world: World) {
    for take in [0, 1, 50] {
        let mut stream = feed.flood(u64::MAX, 10_000).await.unwrap();
        for _ in 0..take {
            stream.next().await.unwrap().unwrap();
        }
        drop(stream);
    }
    drop(feed.silent().await.unwrap());
    all_handlers_gone(&world).await;
    assert_eq!(world.seen.ended(), 4);
    // A call of which the client streams, and its stream with it.
    let made = Arc::new(AtomicU64::new(0));
    let call = feed.ignore(endless::<C>(100, &made)).begin().await.unwrap();
    eventually("it is called", || world.seen.begun() == 5).await;
    drop(call);
    all_handlers_gone(&world).await;
    eventually("its stream is gone", || Arc::strong_count(&made) == 1).await;
    let (mut sender, numbers) = C::channel();
    drop(feed.double(0, numbers).await.unwrap());
    let start = Instant::now();
    while sender.send(1).await.is_ok() {
        assert!(start.elapsed() < support::PATIENCE, "nobody tells the sender");
        futures_lite::future::yield_now().await;
    }
    // One that was prepared and not begun does nothing.
    drop(feed.silent());
    assert_eq!(feed.add(1, 2).await, Ok(3));
    assert_eq!(world.seen.begun(), 5);
}

/// What a server makes for a reader that does not read: one window, and what waits to be sent.
async fn slow_readers<C: StreamTransport>(feed: FeedClient<C>, world: World) {
    for (bytes, most) in [(1000u32, 330u64), (100_000, 6)] {
        let before = world.seen.made();
        let mut stream = feed.flood(20_000, bytes).await.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap().len(), bytes as usize);
        // Calls go on, and give the stream many turns.
        for number in 0..200 {
            assert_eq!(feed.add(number, 1).await, Ok(number + 1));
        }
        let made = world.seen.made() - before;
        assert!(made <= most, "{made} messages of {bytes} bytes for a reader that took one");
        for _ in 0..most * 4 {
            assert!(stream.next().await.unwrap().is_ok());
        }
        assert!(world.seen.made() - before > most * 4);
        drop(stream);
        all_handlers_gone(&world).await;
    }
}

/// What a client makes for a handler that does not read.
async fn slow_handlers<C: StreamTransport>(feed: FeedClient<C>, world: World) {
    let made = Arc::new(AtomicU64::new(0));
    let call = feed.ignore(endless::<C>(1000, &made)).begin().await.unwrap();
    eventually("credit is used up", || made.load(Ordering::SeqCst) >= 256).await;
    for number in 0..200 {
        assert_eq!(feed.add(number, 1).await, Ok(number + 1));
    }
    // The window, and at most twice 32 KiB and one message on the way there.
    let made = made.load(Ordering::SeqCst);
    assert!((256..=330).contains(&made), "{made}");
    drop(call);
    all_handlers_gone(&world).await;
}

/// Streams in all directions that nobody reads, alongside calls and streams that flow.
async fn stalled_streams<C: StreamTransport>(feed: FeedClient<C>, world: World) {
    let mut stalled = Vec::new();
    for _ in 0..3 {
        stalled.push(feed.flood(u64::MAX, 5000).await.unwrap());
    }
    let made = Arc::new(AtomicU64::new(0));
    let ignored = feed.ignore(endless::<C>(5000, &made)).begin().await.unwrap();
    let counted = collect(feed.count(50_000).await.unwrap()).await;
    assert_eq!(counted.len(), 50_000);
    assert_eq!(feed.sum(0, numbers::<C>(1000)).await, Ok(499_500));
    for number in 0..300 {
        assert_eq!(feed.add(number, 1).await, Ok(number + 1));
    }
    // They go on where they were.
    for stream in &mut stalled {
        for _ in 0..300 {
            assert_eq!(stream.next().await.unwrap().unwrap().len(), 5000);
        }
    }
    drop((stalled, ignored));
    all_handlers_gone(&world).await;
}

async fn a_server_that_stops<C: StreamTransport>(feed: FeedClient<C>, mut world: World) {
    let silent = feed.silent().await.unwrap();
    let (mut sender, numbers) = C::channel();
    let mut answers = feed.double(0, numbers).await.unwrap();
    sender.send(20).await.unwrap();
    assert_eq!(answers.next().await, Some(Ok(40)));
    let (_kept, numbers) = C::channel();
    let never = feed.never(numbers).begin().await.unwrap();
    eventually("the handlers run", || world.seen.begun() == 2).await;
    world.stop();
    assert_eq!(end_of(silent).await, (0, Some(StatusCode::Unavailable)));
    assert_eq!(end_of(answers).await, (0, Some(StatusCode::Unavailable)));
    let error = never.await.unwrap_err();
    assert_eq!(error.code(), StatusCode::Unavailable);
    assert!(error.may_have_run(), "{error}");
    let start = Instant::now();
    while sender.send(1).await.is_ok() {
        assert!(start.elapsed() < support::PATIENCE, "nobody tells the sender");
    }
    let error = feed.silent().await.unwrap_err();
    assert!(!error.may_have_run(), "{error}");
    // It comes back, and so do streams.
    world.server = Some(world.serve_again());
    let start = Instant::now();
    while feed.add(1, 2).await.is_err() {
        assert!(start.elapsed() < support::PATIENCE);
        futures_lite::future::yield_now().await;
    }
    assert_eq!(collect(feed.count(3).await.unwrap()).await, [0, 1, 2]);
}

/// While a server finishes its streams, new calls go to the one that took its place. A blocking channel has
/// one connection at a time, and finishes first.
async fn a_server_that_drains<C: StreamTransport>(feed: FeedClient<C>, mut world: World) {
    world.stop();
    let first = world.serve_until(support::PATIENCE);
    let feed = feed.with_timeout(support::PATIENCE);
    eventually_answers(&feed).await;
    let (mut sender, numbers) = C::channel();
    let mut answers = feed.double(0, numbers).await.unwrap();
    let mut counted = feed.count(100_000).await.unwrap();
    first.stop();
    world.server = Some(world.serve_when_free(&world.habits));
    if world.shell == Shell::Blocking {
        let refused = eventually_refused(&feed).await;
        assert!(!refused.may_have_run(), "{refused}");
    } else {
        eventually_answers(&feed).await;
        assert_eq!(collect(feed.count(3).await.unwrap()).await, [0, 1, 2]);
    }
    for number in 0..12 {
        sender.send(number).await.unwrap();
        assert_eq!(answers.next().await, Some(Ok(2 * number)));
    }
    drop(sender);
    assert_eq!(answers.next().await, None);
    let mut count = 0;
    while let Some(number) = counted.next().await {
        assert_eq!(number, Ok(count));
        count += 1;
    }
    assert_eq!(count, 100_000);
    eventually_answers(&feed).await;
    drop((answers, counted));
    assert_eq!(first.ended().await.shards_lost, 0);
}

/// Makes calls until one is answered; the others have not run.
async fn eventually_answers<C: StreamTransport>(feed: &FeedClient<C>) {
    let start = Instant::now();
    while let Err(error) = feed.add(1, 2).await {
        assert!(!error.may_have_run(), "{error}");
        assert!(start.elapsed() < support::PATIENCE);
        futures_lite::future::yield_now().await;
    }
}

async fn eventually_refused<C: StreamTransport>(feed: &FeedClient<C>) -> CallError {
    let start = Instant::now();
    loop {
        if let Err(error) = feed.add(1, 2).await {
            return error;
        }
        assert!(start.elapsed() < support::PATIENCE);
    }
}

async fn deadlines<C: StreamTransport>(feed: FeedClient<C>, world: World) {
    let late = Some(StatusCode::DeadlineExceeded);
    let hasty = feed.clone().with_timeout(Duration::from_millis(80));
    let start = Instant::now();
    assert_eq!(end_of(hasty.silent().await.unwrap()).await, (0, late));
    assert!(start.elapsed() >= Duration::from_millis(80), "{:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    let (_kept, numbers) = C::channel();
    // Either side may find out first.
    let error = hasty.never(numbers).await.unwrap_err();
    assert_eq!(error.code(), StatusCode::DeadlineExceeded, "{error}");
    let (_kept, numbers) = C::channel();
    assert_eq!(end_of(hasty.double(0, numbers).await.unwrap()).await, (0, late));
    let (messages, end) = end_of(hasty.flood(u64::MAX, 1000).await.unwrap()).await;
    assert!(messages > 200, "{messages}");
    assert_eq!(end, late);
    all_handlers_gone(&world).await;
    assert_eq!(feed.add(1, 2).await, Ok(3), "the connection goes on");
}

/// Sizes around what is copied, what is a slice, what a stream writes at once, its credit, and the frame.
async fn large_messages<C: StreamTransport>(feed: FeedClient<C>, _world: World) {
    let sizes = [0, 1, 4096, 16_383, 16_384, 70_000, 262_144, 1_000_000, 5 << 20, 0, 5];
    let bodies: Vec<Bytes> = sizes
        .iter()
        .enumerate()
        .map(|(index, &size)| Bytes::from(vec![u8::try_from(index).unwrap(); size]))
        .collect();
    let sent = || C::from_stream(stream::iter(bodies.clone().into_iter().map(Ok)));
    let back = collect(feed.echo(sent()).await.unwrap()).await;
    assert!(back == bodies, "{:?}", back.iter().map(Bytes::len).collect::<Vec<_>>());
    let all: usize = sizes.iter().sum();
    assert_eq!(feed.measure(sent()).await, Ok((sizes.len() as u64, all as u64)));
    // One that the server does not accept ends its stream and nothing else.
    let parts = stream::iter([10, 17 << 20, 20].map(|bytes| Ok(Bytes::from(vec![1; bytes]))));
    let error = feed.measure(C::from_stream(parts)).await.unwrap_err();
    assert_eq!(error.code(), StatusCode::ResourceExhausted, "{error}");
    let end = end_of(feed.flood(3, 17 << 20).await.unwrap()).await;
    assert_eq!(end, (0, Some(StatusCode::ResourceExhausted)));
    assert_eq!(feed.add(1, 2).await, Ok(3));
}

/// Metadata, an attachment and a priority go along, and metadata comes back with an opening as with a reply.
async fn what_a_call_carries<C: StreamTransport>(feed: FeedClient<C>, _world: World) {
    let options = CallOptions::new()
        .metadata("word", &b"x".repeat(3000))
        .unwrap()
        .attachment(Bytes::from(vec![1; 10_000]))
        .priority(6)
        .timeout(Duration::from_secs(3600));
    let expected = format!("{} 10000 6 true", "x".repeat(3000));
    let loaded = feed.with(options);
    let opened = loaded.describe().with_response().await.unwrap();
    assert_eq!(opened.metadata().text("answer"), Some("opened"));
    assert_eq!(collect(opened.value).await, std::slice::from_ref(&expected));
    let replied = loaded.report(numbers::<C>(5)).with_response().await.unwrap();
    assert_eq!(replied.value, (10, expected.clone()));
    assert_eq!(replied.metadata().text("answer"), Some("replied"));
    assert_eq!(&replied.attachment()[..], b"beside");
    let discussed = loaded.discuss(numbers::<C>(500)).with_response().await.unwrap();
    assert_eq!(discussed.metadata().text("answer"), Some(&expected[..]));
    assert_eq!(collect(discussed.value).await.len(), 500);
    // Without options there is nothing, and no deadline.
    assert_eq!(collect(feed.describe().await.unwrap()).await, ["no word 0 3 false"]);
}

/// The least windows that there are: everything goes by single messages, and still goes.
async fn small_windows<C: StreamTransport>(feed: FeedClient<C>, _world: World) {
    for size in [1usize, 1000, 20_000, 100_000] {
        let body = Bytes::from(vec![5; size]);
        let again = body.clone();
        let sent = C::from_stream(stream::iter((0..200).map(move |_| Ok(again.clone()))));
        let back = collect(feed.echo(sent).await.unwrap()).await;
        assert!(back.len() == 200 && back.iter().all(|it| *it == body), "{size}");
    }
    let mut flood = feed.flood(3000, 500).await.unwrap();
    for _ in 0..3000 {
        assert_eq!(flood.next().await.unwrap().unwrap().len(), 500);
    }
    assert!(flood.next().await.is_none());
}

/// The handler's answer needs no credit: it comes also when streams that nobody reads have used up all.
async fn openings_without_credit<C: StreamTransport>(feed: FeedClient<C>, world: World) {
    let mut open = Vec::new();
    for _ in 0..20 {
        open.push(feed.flood(u64::MAX, 1000).await.unwrap());
    }
    assert_eq!(feed.add(1, 2).await, Ok(3));
    drop(open);
    all_handlers_gone(&world).await;
}

/// Many streams share a connection's window, which they fill again and again, and what is taken of each comes
/// back to all.
async fn many_streams<C: StreamTransport>(feed: FeedClient<C>, world: World) {
    for _ in 0..20 {
        // Together they have less than the half of the window that is there in any case.
        let mut open = Vec::new();
        for _ in 0..50 {
            open.push(feed.flood(5, 100).await.unwrap());
        }
        for _ in 0..5 {
            for stream in &mut open {
                assert_eq!(stream.next().await.unwrap().unwrap().len(), 100);
            }
        }
        for stream in &mut open {
            assert!(stream.next().await.is_none());
        }
    }
    // One that stalls leaves the others enough.
    let stalled = feed.flood(u64::MAX, 1000).await.unwrap();
    let mut flowing = feed.flood(1000, 1000).await.unwrap();
    for _ in 0..1000 {
        assert_eq!(flowing.next().await.unwrap().unwrap().len(), 1000);
    }
    assert_eq!(feed.add(1, 2).await, Ok(3));
    drop((stalled, flowing));
    all_handlers_gone(&world).await;
}
