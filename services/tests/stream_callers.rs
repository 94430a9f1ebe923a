//! What callers off the shard may do with their streams beyond what all channels have in common: move them,
//! wait for them without an executor, and talk in turns on one thread.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{
    Bytes, ChannelConfig, ClientShard, ClientThread, SendError, SharedChannel, Status, StatusCode,
    blocking, shared,
};
use futures_lite::stream;
use support::streams::{FeedClient, feed};
use support::{address, client, end, until};

/// Calls, their streams and their senders go where they are told.
#[test]
fn shared_streams_go_from_thread_to_thread() {
    fn is_send<T: Send>(it: T) -> T {
        it
    }
    let (server, seen) = feed();
    let to = address(&server);
    let thread = ClientThread::start(ClientShard::default()).unwrap();
    let feed = FeedClient::new(thread.channel(to, ChannelConfig::default()).unwrap());
    let (mut sender, numbers) = shared::Streaming::channel();
    let call = is_send(feed.double(0, numbers));
    let (mut sender, mut answers) = std::thread::spawn(move || {
        let answers = call.wait().unwrap();
        sender.send(20).wait().unwrap();
        is_send((sender, answers))
    })
    .join()
    .unwrap();
    assert_eq!(answers.next().wait(), Some(Ok(40)));
    let writer = std::thread::spawn(move || {
        for number in 21..5000 {
            sender.send(number).wait().unwrap();
        }
    });
    for number in 21..5000 {
        assert_eq!(answers.next().wait(), Some(Ok(2 * number)));
    }
    assert_eq!(answers.next().wait(), None);
    writer.join().unwrap();
    // Both ways on one thread, and the call waited for from another.
    let (mut sender, numbers) = shared::Streaming::channel();
    let call = feed.sum(0, numbers).begin().wait().unwrap();
    let sum = std::thread::spawn(move || call.with_response().wait().unwrap().value);
    for number in 0..1000 {
        sender.send(number).wait().unwrap();
    }
    drop(sender);
    assert_eq!(sum.join().unwrap(), 499_500);
    // The handles go, and the stream goes on.
    let mut counted = feed.count(100_000).wait().unwrap();
    drop((feed, thread));
    for number in 0..100_000 {
        assert_eq!(counted.next().wait(), Some(Ok(number)));
    }
    assert!(counted.next().wait().is_none());
    drop((counted, answers));
    until("the handlers are gone", || seen.ended() == seen.begun());
    end(server);
}

/// Calls that stream are spawned like any other future.
#[test]
fn streams_run_in_tokio_tasks() {
    let (server, _) = feed();
    let to = address(&server);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async move {
        let channel = SharedChannel::on_tokio(to, ChannelConfig::default()).unwrap();
        let feed = FeedClient::new(channel);
        let mut tasks = tokio::task::JoinSet::new();
        for up_to in 0..50u64 {
            let feed = feed.clone();
            tasks.spawn(async move {
                let mut counted = feed.count(up_to).await?;
                let mut sum = 0;
                while let Some(number) = counted.next().await {
                    sum += number?;
                }
                let numbers = stream::iter((0..up_to).map(Ok));
                let other = feed.sum(0, shared::Streaming::from_stream(numbers)).await?;
                Ok::<_, Status>((up_to, sum, other))
            });
        }
        while let Some(outcome) = tasks.join_next().await {
            let (up_to, sum, other) = outcome.unwrap().unwrap();
            assert_eq!((sum, other), ((0..up_to).sum(), (0..up_to).sum()));
        }
        // Waiting would block the runtime; nothing is lost by the attempt.
        let mut silent = feed.silent().await.unwrap();
        let refused = silent.next().wait().unwrap().unwrap_err();
        assert_eq!(refused.code(), StatusCode::FailedPrecondition);
        let (mut sender, numbers) = shared::Streaming::channel();
        let mut answers = feed.double(0, numbers).await.unwrap();
        assert!(matches!(sender.send(1).wait(), Err(SendError::WouldBlock(1))));
        sender.send(2).await.unwrap();
        assert_eq!(answers.next().await, Some(Ok(4)));
        assert!(feed.count(1).wait().is_err());
    });
    end(server);
}

/// On a shard a shared channel's streams can be awaited, and not waited for.
#[test]
fn shared_streams_do_not_block_a_shard() {
    let (server, _) = feed();
    let to = address(&server);
    let thread = ClientThread::start(ClientShard::default()).unwrap();
    let feed = FeedClient::new(thread.channel(to, ChannelConfig::default()).unwrap());
    client(move || async move {
        assert!(feed.count(1).wait().is_err());
        let mut counted = feed.count(2).await.unwrap();
        assert_eq!(counted.next().await, Some(Ok(0)));
        let refused = counted.next().wait().unwrap().unwrap_err();
        assert_eq!(refused.code(), StatusCode::FailedPrecondition);
        assert_eq!(counted.next().await, Some(Ok(1)));
        assert_eq!(counted.next().await, None);
    });
    end(server);
}

/// One thread, no executor: an iterator to read, a sender that writes at once.
#[test]
fn one_thread_talks_in_both_directions() {
    let (server, _) = feed();
    let to = address(&server);
    let feed = FeedClient::new(blocking::Channel::connect(to).unwrap());
    let counted: Result<Vec<u64>, Status> = feed.count(1000).wait().unwrap().collect();
    assert!(counted.unwrap().into_iter().eq(0..1000));
    let (mut sender, numbers) = blocking::Streaming::channel();
    let mut answers = feed.double(1, numbers).wait().unwrap();
    for number in 20..2000 {
        sender.send(number).unwrap();
        assert_eq!(answers.next(), Some(Ok(2 * number + 1)));
        if number % 500 == 0 {
            assert_eq!(feed.add(1, 2).wait(), Ok(3), "beside an open stream");
        }
    }
    drop(sender);
    assert_eq!(answers.next(), None);
    let items = (0..5).map(|_| Ok(Bytes::from(vec![1; 200_000])));
    let parts = blocking::Streaming::from_items(items);
    assert_eq!(feed.measure(parts).wait(), Ok((5, 1_000_000)));
    end(server);
}

/// A thread that would wait for itself is told so, and loses nothing.
#[test]
fn one_thread_cannot_deadlock_with_itself() {
    let (server, _) = feed();
    let to = address(&server);
    let feed = FeedClient::new(blocking::Channel::connect(to).unwrap());
    // Before the call has begun, nobody takes what is sent.
    let (mut sender, numbers) = blocking::Streaming::channel();
    for number in 0..8 {
        sender.send(number).unwrap();
    }
    assert!(matches!(sender.send(8), Err(SendError::Full(8))));
    let call = feed.sum(0, numbers).begin().wait().unwrap();
    sender.send(8).unwrap();
    drop(sender);
    assert_eq!(call.wait(), Ok(36));
    // An echo that nobody reads fills both windows; then this thread has to read.
    let (mut sender, parts) = blocking::Streaming::channel();
    let mut back = feed.echo(parts).wait().unwrap();
    let (mut sent, mut read) = (0u32, 0u32);
    while sent < 3000 {
        let message = Bytes::from([sent.to_le_bytes().to_vec(), vec![0; 996]].concat());
        match sender.send(message) {
            Ok(()) => sent += 1,
            Err(SendError::Full(_)) => {
                assert!(sent > 200, "{sent}");
                let part = back.next().unwrap().unwrap();
                assert_eq!(part[..4], read.to_le_bytes());
                read += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(read > 1000, "{read}");
    drop(sender);
    for part in back {
        assert_eq!(part.unwrap()[..4], read.to_le_bytes());
        read += 1;
    }
    assert_eq!(read, sent);
    // Its own stream, read by itself, ends with a word and not in silence.
    let (_sender, mut nobody) = blocking::Streaming::<u8>::channel();
    assert_eq!(nobody.next().unwrap().unwrap_err().code(), StatusCode::FailedPrecondition);
    end(server);
}
