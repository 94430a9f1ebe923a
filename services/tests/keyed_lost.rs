//! Calls by key whose owner has died: whatever their kind, and whether they were under way or come later, they fail at once.
#![allow(clippy::unwrap_used, reason = "tests")]

use corewire::{
    Address, CallError, Channel, ClientShard, Placement, Server, ShardId, ShardedChannel, Status,
    StatusCode, Streaming, Transport, block_on_shard, owner_of_key, sleep,
};
use futures_lite::future::poll_once;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const SHARDS: u16 = 3;
const AT_ONCE: Duration = Duration::from_secs(5);

#[corewire::service]
trait Store {
    #[corewire(key = "key")]
    async fn get(&self, key: String) -> Result<u64, Status>;

    #[corewire(key = "key")]
    async fn hang(&self, key: String) -> Result<(), Status>;

    #[one_way]
    #[corewire(key = "key")]
    async fn note(&self, key: String);

    #[corewire(key = "key")]
    async fn endless(&self, key: String) -> Result<Streaming<u64>, Status>;

    #[corewire(key = "key")]
    async fn sum(&self, key: String, numbers: Streaming<u64>) -> Result<u64, Status>;

    async fn here(&self) -> Result<u16, Status>;

    /// Ends the shard that runs it.
    async fn die(&self) -> Result<(), Status>;
}

struct Part(ShardId);

/// What panics again when the panic that carries it is dropped: no handler may do this, and it ends its shard.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("as the test wants, again");
    }
}

impl Store for Part {
    async fn get(&self, _: String) -> Result<u64, Status> {
        Ok(7)
    }

    async fn hang(&self, _: String) -> Result<(), Status> {
        std::future::pending().await
    }

    async fn note(&self, _: String) {}

    async fn endless(&self, _: String) -> Result<Streaming<u64>, Status> {
        let (mut sender, stream) = Streaming::channel();
        corewire::spawn(async move {
            let _ = sender.send(1).await;
            std::future::pending::<()>().await;
        })
        .detach();
        Ok(stream)
    }

    async fn sum(&self, _: String, mut numbers: Streaming<u64>) -> Result<u64, Status> {
        let mut sum = 0;
        while let Some(number) = numbers.next().await {
            sum += number?;
        }
        Ok(sum)
    }

    async fn here(&self) -> Result<u16, Status> {
        Ok(self.0.0)
    }

    async fn die(&self) -> Result<(), Status> {
        std::panic::panic_any(Bomb)
    }
}

/// A connection at each shard.
async fn stores(address: &Address) -> BTreeMap<u16, StoreClient<Channel>> {
    let mut stores = BTreeMap::new();
    while stores.len() < usize::from(SHARDS) {
        let store = StoreClient::connect(address.clone()).await.unwrap();
        let here = store.here().await.unwrap();
        stores.entry(here).or_insert(store);
    }
    stores
}

fn check<T>(kind: &str, outcome: Result<T, CallError>) {
    let Err(error) = outcome else { panic!("{kind}: it succeeded") };
    assert_eq!(error.code(), StatusCode::Unavailable, "{kind}: {error}");
}

/// All kinds of calls, none of which has begun.
async fn all_fail<C>(store: &StoreClient<C>, key: &str)
where
    C: Transport + corewire::StreamTransport<Streaming<u64> = Streaming<u64>>,
{
    let key = || key.to_owned();
    check("unary", store.get(key()).await);
    check("streams", store.endless(key()).await.map(drop));
    let numbers = Streaming::from_stream(futures_lite::stream::iter([Ok(1), Ok(2)]));
    check("takes a stream", store.sum(key(), numbers).await);
}

#[test]
fn calls_for_a_dead_shard_fail_at_once() {
    let server = Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Unpinned(SHARDS))
        .service(|shard| StoreServer::new(Part(shard.id)))
        .start()
        .unwrap();
    let address = server.addresses()[0].clone();
    let shards: Vec<_> = server.shards().iter().map(|it| it.counters.clone()).collect();
    block_on_shard(ClientShard::default(), || async move {
        let mut stores = stores(&address).await;
        let key = "anything";
        let owner = owner_of_key(key, SHARDS).0;
        let dying = stores.remove(&owner).unwrap();
        let (mut hanging, mut endless) = (Vec::new(), Vec::new());
        for store in stores.values() {
            let mut call = Box::pin(store.hang(key.to_owned()).into_future());
            assert!(poll_once(&mut call).await.is_none());
            hanging.push(call);
            let mut stream = store.endless(key.to_owned()).await.unwrap();
            assert_eq!(stream.next().await, Some(Ok(1)));
            endless.push(stream);
            assert_eq!(store.get(key.to_owned()).await, Ok(7));
        }
        let began = Instant::now();
        assert!(dying.die().await.is_err());
        for call in hanging {
            check("under way", call.await);
        }
        for mut stream in endless {
            let end = stream.next().await;
            let Some(Err(error)) = end else { panic!("a stream ended with {end:?}") };
            assert_eq!(error.code(), StatusCode::Unavailable, "{error}");
        }
        for (here, store) in &stores {
            all_fail(store, key).await;
            let counters = &shards[usize::from(*here)];
            let before = counters.one_way_dropped.value();
            store.note(key.to_owned()).await.unwrap();
            while counters.one_way_dropped.value() == before {
                assert!(began.elapsed() < AT_ONCE, "a one-way call is not counted");
                sleep(Duration::from_millis(1)).await;
            }
        }
        // What chooses the connection by the key has none for this owner.
        let channel: ShardedChannel<Channel> = ShardedChannel::connect(address).await.unwrap();
        assert_eq!(channel.shards(), Some(SHARDS));
        let store = StoreClient::new(channel);
        all_fail(&store, key).await;
        store.channel().close().await;
        assert!(began.elapsed() < AT_ONCE, "it took {:?}", began.elapsed());
    })
    .unwrap();
    server.stop();
    assert_eq!(server.wait().unwrap().shards_lost, 1);
}
