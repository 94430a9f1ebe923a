//! A thread runs one shard at a time: asking for a second one within it is an error that harms nothing.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{
    Address, ClientShard, Placement, Server, StartError, Status, block_on_shard, sleep, spawn,
};
use std::time::Duration;
use support::{address, client, end, server};

/// A handler that runs a shard within its own, and then uses everything that its own shard offers.
#[corewire::service]
trait Nest {
    /// Returns what the attempt said, and a sum that needs a sleep, a task and another server.
    async fn nest(&self) -> Result<(String, u32), Status>;
}

struct Nested {
    other: Address,
}

/// What code on a shard does with its shard.
async fn use_the_shard(other: Address) -> u32 {
    sleep(Duration::from_millis(1)).await;
    let spawned = spawn(async { 1 }).await;
    let client = support::service::SubjectClient::connect(other).await.unwrap();
    spawned + client.add(20, 21).await.unwrap()
}

fn try_to_nest() -> StartError {
    block_on_shard(ClientShard::default(), || async {}).expect_err("this thread runs a shard")
}

impl Nest for Nested {
    async fn nest(&self) -> Result<(String, u32), Status> {
        let error = try_to_nest();
        Ok((error.to_string(), use_the_shard(self.other.clone()).await))
    }
}

#[test]
fn a_shard_within_a_handler_is_refused_and_the_handlers_shard_goes_on() {
    let other = server();
    let to = other.addresses()[0].clone();
    let nests = Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Unpinned(1))
        .service(move |_| {
            // Where services are made is a shard as well.
            assert!(matches!(try_to_nest(), StartError::OnShard));
            NestServer::new(Nested { other: to.clone() })
        })
        .start()
        .unwrap();
    let at = address(&nests);
    client(move || async move {
        let client = NestClient::connect(at).await.unwrap();
        for _ in 0..3 {
            let (text, sum) = client.nest().await.unwrap();
            assert_eq!(sum, 42);
            assert!(text.contains("runs a shard already") && text.contains("spawn"), "{text}");
        }
    });
    end(nests);
    end(other);
}

#[test]
fn a_shard_within_a_clients_shard_is_refused_and_the_outer_one_goes_on() {
    let other = server();
    let to = other.addresses()[0].clone();
    let sum = client(move || {
        assert!(matches!(try_to_nest(), StartError::OnShard));
        async move {
            assert!(matches!(try_to_nest(), StartError::OnShard));
            let from_a_task = spawn(async { matches!(try_to_nest(), StartError::OnShard) });
            assert!(from_a_task.await);
            use_the_shard(to).await
        }
    });
    assert_eq!(sum, 42);
    // The thread is free again when its shard has ended.
    assert_eq!(client(|| async { 7 }), 7);
    end(other);
}
