//! Streams over real sockets, on a shard.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{
    Bytes, CallError, Channel, ChannelConfig, Limits, Status, StatusCode, Streaming, Timeouts,
    codec, spawn,
};
use futures_lite::future::yield_now;
use futures_lite::stream;
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};
use support::streams::{FeedClient, eventually, feed, feed_with};
use support::{address, client, count, end, until};

async fn collect<T>(mut stream: Streaming<T>) -> Vec<T> {
    let mut all = Vec::new();
    while let Some(item) = stream.next().await {
        all.push(item.unwrap());
    }
    all
}

/// The status with which a stream ends, and how many messages came before.
async fn end_of<T>(mut stream: Streaming<T>) -> (usize, Option<Status>) {
    let mut messages = 0;
    loop {
        match stream.next().await {
            Some(Ok(_)) => messages += 1,
            Some(Err(status)) => {
                assert!(stream.next().await.is_none(), "an error is the last item");
                return (messages, Some(status));
            }
            None => return (messages, None),
        }
    }
}

fn numbers(up_to: u64) -> Streaming<u64> {
    Streaming::from_stream(stream::iter((0..up_to).map(Ok)))
}

/// Bodies without end.
fn endless(bytes: usize, made: &Rc<Cell<usize>>) -> Streaming<Bytes> {
    let (body, made) = (Bytes::from(vec![3; bytes]), Rc::clone(made));
    Streaming::from_stream(stream::repeat_with(move || {
        made.set(made.get() + 1);
        Ok(body.clone())
    }))
}

#[test]
fn every_kind_of_call_brings_what_it_should() {
    let (server, seen) = feed();
    let to = address(&server);
    client(move || async move {
        let feed = FeedClient::connect(to).await.unwrap();
        assert_eq!(feed.add(1, 2).await, Ok(3));
        for up_to in [0, 1, 5, 10_000] {
            let counted = collect(feed.count(up_to).await.unwrap()).await;
            assert!(counted.into_iter().eq(0..up_to), "{up_to}");
            assert_eq!(feed.sum(5, numbers(up_to)).await, Ok(5 + (0..up_to).sum::<u64>()));
            let doubled = collect(feed.double(1, numbers(up_to.min(13))).await.unwrap()).await;
            assert!(doubled.into_iter().eq((0..up_to.min(13)).map(|n| 2 * n + 1)), "{up_to}");
        }
        feed.touch(4).await.unwrap();
        feed.touch(5).await.unwrap();
        assert_eq!(feed.add(1, 2).await, Ok(3));
    });
    assert_eq!(seen.touched(), 9);
    end(server);
}

/// Sizes around what is copied, what is a slice, what a stream writes at once, and its whole credit.
#[test]
fn bodies_of_all_sizes_come_back_as_they_were() {
    let (server, _) = feed();
    let to = address(&server);
    client(move || async move {
        let feed = FeedClient::connect(to).await.unwrap();
        let sizes = [0, 1, 100, 4095, 4096, 16_383, 16_384, 70_000, 262_144, 1_000_000, 0, 5];
        let bodies: Vec<Bytes> = sizes
            .iter()
            .enumerate()
            .map(|(index, &size)| Bytes::from(vec![u8::try_from(index).unwrap(); size]))
            .collect();
        let sent = Streaming::from_stream(stream::iter(bodies.clone().into_iter().map(Ok)));
        let back = collect(feed.echo(sent).await.unwrap()).await;
        assert!(back == bodies, "{:?}", back.iter().map(Bytes::len).collect::<Vec<_>>());
        let sent = Streaming::from_stream(stream::iter(bodies.clone().into_iter().map(Ok)));
        let all: usize = sizes.iter().sum();
        assert_eq!(feed.measure(sent).await, Ok((sizes.len() as u64, all as u64)));
    });
    end(server);
}

/// A stream that begins before the server's hello is here has less credit at first, and goes on with all of
/// it then.
#[test]
fn a_stream_may_begin_before_the_hello() {
    let (server, _) = feed();
    let to = address(&server);
    client(move || async move {
        for _ in 0..20 {
            let channel = Channel::new(to, ChannelConfig::default()).unwrap();
            let parts = (0..10).map(|_| Ok(Bytes::from(vec![1; 10_000])));
            let measured = FeedClient::new(channel)
                .with_timeout(Duration::from_secs(5))
                .measure(Streaming::from_stream(stream::iter(parts)));
            assert_eq!(measured.await, Ok((10, 100_000)));
        }
    });
    end(server);
}

/// Chat: each message is sent when the answer to the one before has come.
#[test]
fn both_sides_talk_in_turns() {
    let (server, _) = feed();
    let to = address(&server);
    client(move || async move {
        let feed = FeedClient::connect(to).await.unwrap();
        let (mut sender, numbers) = Streaming::channel();
        let mut answers = feed.double(0, numbers).await.unwrap();
        for number in 0..12 {
            sender.send(number).await.unwrap();
            assert_eq!(answers.next().await, Some(Ok(2 * number)));
        }
        // The client's half ends first, and the server's then.
        drop(sender);
        assert_eq!(answers.next().await, None);
    });
    end(server);
}

#[test]
fn a_handlers_failure_before_and_in_its_stream() {
    let (server, _) = feed();
    let to = address(&server);
    client(move || async move {
        let feed = FeedClient::connect(to).await.unwrap();
        let Err(CallError::Status(status)) = feed.fail(None).await else { panic!("it fails") };
        assert_eq!(status.code(), StatusCode::NotFound);
        for after in [0, 1, 3000] {
            let (messages, status) = end_of(feed.fail(Some(after)).await.unwrap()).await;
            let status = status.unwrap();
            assert_eq!((messages as u64, status.code()), (after, StatusCode::DataLoss));
            assert_eq!(status.message(), "it stops here");
        }
        let stream = feed.double(0, numbers(100)).await.unwrap();
        let (messages, status) = end_of(stream).await;
        assert_eq!((messages, status.unwrap().code()), (13, StatusCode::OutOfRange));
        let Err(CallError::Status(status)) = feed.panic(false).await else { panic!("it panics") };
        assert_eq!(status.code(), StatusCode::Internal);
        // It panics when it is polled first, so that it never opens.
        let Err(CallError::Status(status)) = feed.panic(true).await else { panic!("it panics") };
        assert_eq!(status.code(), StatusCode::Internal);
        assert_eq!(feed.add(1, 2).await, Ok(3));
    });
    assert_eq!(count(&server, |shard| shard.panics.value()), 2);
    end(server);
}

/// The client's stream fails; the handler reads why, and answers it.
#[test]
fn a_clients_failure_reaches_the_handler() {
    let (server, _) = feed();
    let to = address(&server);
    client(move || async move {
        let feed = FeedClient::connect(to).await.unwrap();
        let stop = Err(Status::aborted("I was wrong"));
        let sent = Streaming::from_stream(stream::iter((0..3).map(Ok).chain([stop])));
        let Err(CallError::Status(status)) = feed.sum(0, sent).await else { panic!("it fails") };
        assert_eq!((status.code(), status.message()), (StatusCode::Aborted, "I was wrong"));
    });
    end(server);
}

/// A handler that answers early: the rest of what is sent is dropped, the sender stops.
#[test]
fn a_handler_that_answers_early_stops_the_client() {
    let (server, _) = feed();
    let to = address(&server);
    client(move || async move {
        let feed = FeedClient::connect(to).await.unwrap();
        for _ in 0..100 {
            let (mut sender, numbers) = Streaming::channel();
            let task = spawn(async move {
                let mut number = 0;
                while sender.send(number).await.is_ok() {
                    number += 1;
                }
                number
            });
            assert_eq!(feed.sum_some(10, numbers).await, Ok(45));
            assert!(task.await >= 10);
        }
        assert_eq!(feed.add(1, 2).await, Ok(3));
    });
    end(server);
}

/// What a sender holds for a reader that does not read, in each direction, and that it goes on.
#[test]
fn a_slow_reader_bounds_its_sender() {
    let (server, seen) = feed();
    let to = address(&server);
    client(move || async move {
        let feed = FeedClient::connect(to).await.unwrap();
        const MESSAGES: u64 = 20_000;
        for (bytes, most) in [(1000u32, 330u64), (100_000, 6)] {
            let before = seen.made();
            let mut stream = feed.flood(MESSAGES, bytes).await.unwrap();
            assert_eq!(stream.next().await.unwrap().unwrap().len(), bytes as usize);
            // Calls go on, and give the stream many turns.
            for number in 0..200 {
                assert_eq!(feed.add(number, 1).await, Ok(number + 1));
            }
            let made = seen.made() - before;
            assert!(made <= most, "{made} messages of {bytes} bytes for a reader that took one");
            for _ in 0..most * 4 {
                assert!(stream.next().await.unwrap().is_ok());
            }
            assert!(seen.made() - before > most * 4);
            drop(stream);
            eventually("the handler's stream is dropped", || seen.ended() == seen.begun()).await;
        }
        // The other way: nobody reads what the client sends.
        let made = Rc::new(Cell::new(0));
        let (calls, parts) = (feed.clone(), endless(1000, &made));
        let call = spawn(async move { calls.ignore(parts).await });
        for number in 0..200 {
            assert_eq!(feed.add(number, 1).await, Ok(number + 1));
        }
        assert!((256..=330).contains(&made.get()), "{}", made.get());
        drop(call);
        eventually("the handler is dropped", || seen.ended() == seen.begun()).await;
    });
    end(server);
}

/// Three stalled streams alongside unary calls and a stream that flows.
#[test]
fn stalled_streams_hold_up_nothing_else() {
    let (server, seen) = feed();
    let to = address(&server);
    client(move || async move {
        let feed = FeedClient::connect(to).await.unwrap();
        let mut stalled = Vec::new();
        for _ in 0..3 {
            stalled.push(feed.flood(u64::MAX, 5000).await.unwrap());
        }
        let made = Rc::new(Cell::new(0));
        let unread = endless(5000, &made);
        let calls = feed.clone();
        let ignored = spawn(async move { calls.ignore(unread).await });
        let counted = collect(feed.count(200_000).await.unwrap()).await;
        assert_eq!(counted.len(), 200_000);
        assert_eq!(feed.sum(0, numbers(1000)).await, Ok(499_500));
        for number in 0..1000 {
            assert_eq!(feed.add(number, 1).await, Ok(number + 1));
        }
        // They go on where they were.
        for stream in &mut stalled {
            for _ in 0..1000 {
                assert_eq!(stream.next().await.unwrap().unwrap().len(), 5000);
            }
        }
        drop((stalled, ignored));
        eventually("all handlers are gone", || seen.ended() == seen.begun()).await;
    });
    end(server);
}

/// Streams that flow at once share the connection: none is far ahead of the others.
#[test]
fn streams_write_in_turns() {
    let (server, _) = feed();
    let to = address(&server);
    client(move || async move {
        let feed = FeedClient::connect(to).await.unwrap();
        let taken: Rc<[Cell<usize>; 4]> = Rc::default();
        let mut readers = Vec::new();
        for index in 0..4 {
            let mut stream = feed.flood(u64::MAX, 2000).await.unwrap();
            let taken = Rc::clone(&taken);
            readers.push(spawn(async move {
                while taken.iter().map(Cell::get).sum::<usize>() < 20_000 {
                    stream.next().await.unwrap().unwrap();
                    taken[index].set(taken[index].get() + 1);
                }
            }));
        }
        for reader in readers {
            reader.await;
        }
        let least = taken.iter().map(Cell::get).min().unwrap();
        assert!(least > 3000, "{taken:?}");
    });
    end(server);
}

#[test]
fn dropping_either_end_stops_the_other() {
    let (server, seen) = feed();
    let to = address(&server);
    client(move || async move {
        let feed = FeedClient::connect(to).await.unwrap();
        // A reader that goes, at various times.
        for take in [0, 1, 50] {
            let mut stream = feed.flood(u64::MAX, 10_000).await.unwrap();
            for _ in 0..take {
                stream.next().await.unwrap().unwrap();
            }
            drop(stream);
        }
        drop(feed.silent().await.unwrap());
        eventually("their handlers are gone", || seen.ended() == seen.begun()).await;
        assert_eq!(seen.ended(), 4);
        // A call whose future goes, and its stream with it.
        let made = Rc::new(Cell::new(0));
        let parts = endless(100, &made);
        let calls = feed.clone();
        let call = spawn(async move { calls.ignore(parts).await });
        eventually("it is called", || seen.begun() == 5).await;
        drop(call);
        eventually("its handler is gone", || seen.ended() == 5).await;
        // The client's stream is dropped as well: nobody holds its counter any more.
        eventually("its stream is gone", || Rc::strong_count(&made) == 1).await;
        assert_eq!(feed.add(1, 2).await, Ok(3));
    });
    assert_eq!(count(&server, |shard| shard.calls_dropped.value()), 5);
    end(server);
}

/// A timeout that was asked for ends streams of all kinds, on both sides; none is there otherwise.
#[test]
fn deadlines_end_streams() {
    let (server, seen) = feed();
    let to = address(&server);
    client(move || async move {
        let feed = FeedClient::connect(to).await.unwrap();
        let hasty = feed.clone().with_timeout(Duration::from_millis(80));
        let (messages, status) = end_of(hasty.silent().await.unwrap()).await;
        assert_eq!((messages, status.unwrap().code()), (0, StatusCode::DeadlineExceeded));
        let (_kept, numbers) = Streaming::channel();
        let late = hasty.never(numbers).await.unwrap_err();
        // Either side may find out first.
        assert_eq!(late.code(), StatusCode::DeadlineExceeded);
        let (_kept, numbers) = Streaming::channel();
        let stream = hasty.double(0, numbers).await.unwrap();
        assert_eq!(end_of(stream).await.1.unwrap().code(), StatusCode::DeadlineExceeded);
        // What came before the deadline can be read behind it.
        let stream = hasty.flood(u64::MAX, 1000).await.unwrap();
        corewire::sleep(Duration::from_millis(120)).await;
        let (messages, status) = end_of(stream).await;
        assert!(messages > 200, "{messages}");
        assert_eq!(status.unwrap().code(), StatusCode::DeadlineExceeded);
        eventually("all handlers are gone", || seen.ended() == seen.begun()).await;
        assert_eq!(seen.begun(), 3);
    });
    end(server);
}

/// Streams that are open when a server drains go on; what is left at its deadline ends with a status.
#[test]
fn a_drain_lets_streams_finish() {
    let (server, seen) = feed_with(|it| it.drain_within(Duration::from_millis(500)));
    let to = address(&server);
    let (server, started) = client(move || async move {
        let feed = FeedClient::connect(to).await.unwrap();
        let (mut sender, numbers) = Streaming::channel();
        let mut answers = feed.double(0, numbers).await.unwrap();
        let silent = feed.silent().await.unwrap();
        let started = Instant::now();
        server.stop();
        // New calls are not taken any more, and those that are open go on.
        eventually("the server drains", {
            let feed = feed.clone();
            let refused = Rc::new(Cell::new(false));
            move || {
                let (feed, told) = (feed.clone(), Rc::clone(&refused));
                spawn(async move { told.set(feed.add(1, 2).await.is_err()) }).detach();
                refused.get()
            }
        })
        .await;
        assert!(!feed.count(1).await.unwrap_err().may_have_run());
        for number in 0..12 {
            sender.send(number).await.unwrap();
            assert_eq!(answers.next().await, Some(Ok(2 * number)));
        }
        drop(sender);
        assert_eq!(answers.next().await, None);
        let (messages, status) = end_of(silent).await;
        assert_eq!((messages, status.unwrap().code()), (0, StatusCode::Unavailable));
        (server, started)
    });
    assert_eq!(server.wait().unwrap().shards_lost, 0);
    assert!(started.elapsed() >= Duration::from_millis(500), "{:?}", started.elapsed());
    assert_eq!(seen.ended(), seen.begun());
}

#[test]
fn the_end_of_a_drain_ends_all_streams() {
    let (server, seen) = feed_with(|it| it.drain_within(Duration::ZERO));
    let to = address(&server);
    client(move || async move {
        let feed = FeedClient::connect(to).await.unwrap();
        let silent = feed.silent().await.unwrap();
        let (sender, numbers) = Streaming::channel();
        let answers = feed.double(0, numbers).await.unwrap();
        let calls = feed.clone();
        let (_kept, numbers) = Streaming::channel();
        let never = spawn(async move { calls.never(numbers).await });
        eventually("the handlers run", || seen.begun() == 2).await;
        end(server);
        assert_eq!(end_of(silent).await.1.unwrap().code(), StatusCode::Unavailable);
        assert_eq!(end_of(answers).await.1.unwrap().code(), StatusCode::Unavailable);
        assert_eq!(never.await.unwrap_err().code(), StatusCode::Unavailable);
        eventually("the sender hears of it", || sender.is_closed()).await;
        assert_eq!(seen.ended(), 2);
    });
}

/// The client goes, with everything open: the server's handlers are dropped.
#[test]
fn a_client_that_goes_leaves_no_handlers() {
    let (server, seen) = feed();
    let to = address(&server);
    let begun = seen.clone();
    client(move || async move {
        let feed = FeedClient::connect(to).await.unwrap();
        let silent = feed.silent().await.unwrap();
        let flood = feed.flood(u64::MAX, 3000).await.unwrap();
        let calls = feed.clone();
        let (kept, numbers) = Streaming::channel();
        spawn(async move { calls.never(numbers).await }).detach();
        eventually("the handlers run", || begun.begun() == 3).await;
        // Nothing of it is dropped by the program: the shard ends.
        spawn(async move {
            let _kept = (silent, flood, kept);
            std::future::pending::<()>().await
        })
        .detach();
        yield_now().await;
    });
    until("they are gone", || seen.ended() == 3);
    end(server);
}

#[test]
fn a_thousand_streams_on_one_connection() {
    const STREAMS: u64 = 1000;
    let (server, seen) = feed();
    let to = address(&server);
    client(move || async move {
        let feed = FeedClient::connect(to).await.unwrap();
        let mut open = Vec::new();
        for _ in 0..STREAMS {
            let (sender, numbers) = Streaming::channel();
            open.push((sender, feed.double(0, numbers).await.unwrap()));
        }
        for round in 0..10 {
            for (sender, _) in &mut open {
                sender.send(round).await.unwrap();
            }
            for (_, answers) in &mut open {
                assert_eq!(answers.next().await, Some(Ok(2 * round)));
            }
        }
        drop(open);
        // And as many that flow at once.
        let mut readers = Vec::new();
        for _ in 0..STREAMS {
            let calls = feed.clone();
            readers
                .push(spawn(async move { collect(calls.count(500).await.unwrap()).await.len() }));
        }
        for reader in readers {
            assert_eq!(reader.await, 500);
        }
        assert_eq!(feed.add(1, 2).await, Ok(3));
    });
    assert_eq!(seen.begun(), seen.ended());
    end(server);
}

/// The least windows that there are: everything goes by single messages, and still goes.
#[test]
fn the_smallest_windows_do() {
    let limits = Limits {
        stream_credit: codec::StreamCredit::new(16_384).unwrap(),
        connection_credit: codec::ConnectionCredit::new(65_536).unwrap(),
        ..Limits::default()
    };
    let (server, _) = feed_with(|it| it.limits(limits));
    let to = address(&server);
    client(move || async move {
        let feed = over(to, |config| config.connection.limits = limits).await;
        let mut echoes = Vec::new();
        for size in [1usize, 1000, 20_000, 100_000] {
            let feed = feed.clone();
            echoes.push(spawn(async move {
                let body = Bytes::from(vec![5; size]);
                let sent = Streaming::from_stream(stream::iter((0..200).map({
                    let body = body.clone();
                    move |_| Ok(body.clone())
                })));
                let back = collect(feed.echo(sent).await.unwrap()).await;
                assert!(back.len() == 200 && back.iter().all(|it| *it == body));
            }));
        }
        for echo in echoes {
            echo.await;
        }
    });
    end(server);
}

async fn over(to: SocketAddr, change: impl FnOnce(&mut ChannelConfig)) -> FeedClient {
    let mut config = ChannelConfig::default();
    change(&mut config);
    FeedClient::new(Channel::connect_with(to, config).await.unwrap())
}

/// A message that the peer does not accept ends its stream, and nothing else.
#[test]
fn a_message_that_is_too_large_ends_its_stream() {
    let limits =
        Limits { frame_bytes: codec::FrameBytes::new(65_536).unwrap(), ..Limits::default() };
    let (server, _) = feed_with(|it| it.limits(limits));
    let to = address(&server);
    client(move || async move {
        let feed = over(to, |config| config.connection.limits = limits).await;
        let parts = stream::iter([10, 70_000, 20].map(|bytes| Ok(Bytes::from(vec![1; bytes]))));
        let error = feed.measure(Streaming::from_stream(parts)).await.unwrap_err();
        assert_eq!(error.code(), StatusCode::ResourceExhausted);
        let (messages, status) = end_of(feed.flood(3, 70_000).await.unwrap()).await;
        assert_eq!((messages, status.unwrap().code()), (0, StatusCode::ResourceExhausted));
        assert_eq!(feed.add(1, 2).await, Ok(3));
    });
    end(server);
}

/// A connection whose streams are all idle is kept alive by its pings.
#[test]
fn an_idle_stream_outlives_silence() {
    let timeouts = Timeouts {
        ping_after: Duration::from_millis(60),
        ping: Duration::from_millis(2000),
        ..Timeouts::default()
    };
    let (server, _) = feed_with(|it| it.timeouts(timeouts));
    let to = address(&server);
    client(move || async move {
        let feed = over(to, |config| config.connection.timeouts = timeouts).await;
        let (mut sender, numbers) = Streaming::channel();
        let mut answers = feed.double(0, numbers).await.unwrap();
        corewire::sleep(Duration::from_millis(400)).await;
        sender.send(4).await.unwrap();
        assert_eq!(answers.next().await, Some(Ok(8)));
    });
    end(server);
}
