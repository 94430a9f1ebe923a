//! Streams and one-way calls over real sockets, on a shard.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{Bytes, CallError, StatusCode, Streaming};
use futures_lite::{StreamExt, stream};
use support::streams::{FeedClient, feed};
use support::{address, client, end};

async fn collect<T>(mut stream: Streaming<T>) -> Vec<T> {
    let mut all = Vec::new();
    while let Some(item) = stream.next().await {
        all.push(item.unwrap());
    }
    all
}

fn numbers(up_to: u64) -> Streaming<u64> {
    Streaming::from_stream(stream::iter((0..up_to).map(Ok)))
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
