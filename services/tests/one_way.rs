//! One-way calls over real sockets, on a shard: what runs, what is dropped, and that it is counted.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::{Duration, Instant};
use support::streams::{FeedClient, eventually, feed, feed_with};
use support::{address, client, count, end, until};

/// One-way calls that may not pend are dropped and counted; those that run are not.
#[test]
fn dropped_one_way_calls_are_counted() {
    let (server, seen) = feed_with(|it| it.one_way_pending_max(3));
    let to = address(&server);
    let lingering = seen.clone();
    client(move || async move {
        let feed = FeedClient::connect(to).await.unwrap();
        for _ in 0..10 {
            feed.linger().await.unwrap();
        }
        for _ in 0..10 {
            feed.touch(1).await.unwrap();
        }
        assert_eq!(feed.add(1, 2).await, Ok(3));
        assert_eq!(lingering.begun(), 3);
        // While as many pend as may, none is taken.
        assert_eq!(lingering.touched(), 0);
    });
    assert_eq!(count(&server, |shard| shard.one_way_dropped.value()), 17);
    until("the lingering ones go with their connection", || seen.ended() == 3);
    end(server);
}

/// A one-way call has a deadline like any other; its handler is dropped there.
#[test]
fn one_way_calls_end_at_their_deadline() {
    let (server, seen) = feed();
    let to = address(&server);
    client(move || async move {
        let feed = FeedClient::connect(to).await.unwrap();
        let sent = Instant::now();
        feed.clone().with_timeout(Duration::from_millis(50)).linger().await.unwrap();
        assert_eq!(feed.add(1, 2).await, Ok(3));
        assert_eq!(seen.begun(), 1);
        eventually("it is dropped", || seen.ended() == 1).await;
        assert!(sent.elapsed() < Duration::from_secs(2), "{:?}", sent.elapsed());
    });
    end(server);
}

/// More one-way calls than the connection takes at once wait for it and are not lost.
#[test]
fn many_one_way_calls_wait_for_the_socket() {
    const CALLS: u64 = 200_000;
    let (server, seen) = feed();
    let to = address(&server);
    client(move || async move {
        let feed = FeedClient::connect(to).await.unwrap();
        for _ in 0..CALLS {
            feed.touch(1).await.unwrap();
        }
        assert_eq!(feed.add(1, 2).await, Ok(3));
        assert_eq!(seen.touched(), CALLS);
    });
    assert_eq!(count(&server, |shard| shard.one_way_dropped.value()), 0);
    end(server);
}
