//! A simulated server of several shards: they reach each other as those of a real one do.
#![allow(clippy::unwrap_used, reason = "tests")]

use corewire::testing::Simulation;
use corewire::{
    OnShardError, Placement, Server, ShardId, Sharded, Status, Streaming, owner_of_key, sleep,
};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

#[corewire::service]
trait Tally {
    #[corewire(key = "name")]
    async fn add(&self, name: String) -> Result<(u64, u16), Status>;
    #[corewire(key = "name")]
    async fn count(&self, name: String, to: u64) -> Result<Streaming<u64>, Status>;
    async fn total(&self) -> Result<u64, Status>;
}

type Sums = RefCell<BTreeMap<String, u64>>;

struct Tallies {
    shard: ShardId,
    sums: Sharded<Sums>,
}

impl Tally for Tallies {
    async fn add(&self, name: String) -> Result<(u64, u16), Status> {
        sleep(Duration::from_secs(1)).await;
        let sums = self.sums.here();
        let mut sums = sums.borrow_mut();
        let sum = sums.entry(name).or_default();
        *sum += 1;
        Ok((*sum, self.shard.0))
    }

    async fn count(&self, _: String, to: u64) -> Result<Streaming<u64>, Status> {
        Ok(Streaming::from_stream(futures_lite::stream::iter((0..to).map(Ok))))
    }

    async fn total(&self) -> Result<u64, Status> {
        let sums = self.sums.map_all(|sums| sums.borrow().values().sum::<u64>()).await;
        Ok(sums.into_iter().sum::<Result<u64, OnShardError>>()?)
    }
}

/// The shards of a simulated server reach each other as real ones do, also in its next life.
#[corewire::test(seeds = 5)]
async fn calls_by_key_find_their_shard(sim: Simulation) {
    let sums = Sharded::new(|_| Sums::default());
    let inner = sums.clone();
    let server = Server::builder()
        .address("0.0.0.0:7000")
        .placement(Placement::Unpinned(3))
        .sharded(&sums)
        .service(move |shard| TallyServer::new(Tallies { shard: shard.id, sums: inner.clone() }));
    sim.server("tally", server);
    let mut forwarded = 0;
    for life in 0..2 {
        for round in 1..=4 {
            let tally = TallyClient::connect("tally:7000").await.unwrap();
            for name in ["a", "b", "c", "d", "e"] {
                let reply = tally.add(name.to_owned()).with_response().await.unwrap();
                assert_eq!(reply.value, (round, owner_of_key(name, 3).0), "{name} in life {life}");
                forwarded += u32::from(reply.forwarded().is_some());
                let mut counted = tally.count(name.to_owned(), 100).await.unwrap();
                let mut next = 0;
                while let Some(number) = counted.next().await {
                    assert_eq!(number, Ok(next));
                    next += 1;
                }
                assert_eq!(next, 100);
            }
            assert_eq!(tally.total().await, Ok(5 * round));
        }
        sim.restart("tally");
    }
    assert!(forwarded > 0, "no connection landed on another shard");
}
