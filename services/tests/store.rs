//! One store over two shards, under many mixed operations from many connections, agrees with a model.
//!
//! `STORE_OPS=1000000 cargo test --release -p corewire --test store -- --nocapture` makes a million of them, and says how fast they were
//! and how many landed on their owner.
#![allow(clippy::unwrap_used, reason = "tests")]

use corewire::{
    Address, Channel, ClientShard, Placement, Running, Server, Sharded, ShardedChannel, Status,
    Transport, block_on_shard, spawn,
};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

const CONNECTIONS: u64 = 16;
const KEYS_EACH: u64 = 50;

#[corewire::service]
trait Store {
    #[corewire(key = "key")]
    async fn get(&self, key: String) -> Result<Option<u64>, Status>;
    #[corewire(key = "key")]
    async fn put(&self, key: String, value: u64) -> Result<Option<u64>, Status>;
    #[corewire(key = "key")]
    async fn add(&self, key: String, by: u64) -> Result<u64, Status>;
    #[corewire(key = "key")]
    async fn remove(&self, key: String) -> Result<Option<u64>, Status>;
}

type Part = RefCell<HashMap<String, u64>>;

struct Kept(Rc<Part>);

impl Store for Kept {
    async fn get(&self, key: String) -> Result<Option<u64>, Status> {
        Ok(self.0.borrow().get(&key).copied())
    }

    async fn put(&self, key: String, value: u64) -> Result<Option<u64>, Status> {
        Ok(self.0.borrow_mut().insert(key, value))
    }

    async fn add(&self, key: String, by: u64) -> Result<u64, Status> {
        let mut part = self.0.borrow_mut();
        let sum = part.entry(key).or_default();
        *sum += by;
        Ok(*sum)
    }

    async fn remove(&self, key: String) -> Result<Option<u64>, Status> {
        Ok(self.0.borrow_mut().remove(&key))
    }
}

/// A server of so many shards, and its store.
fn serve(shards: u16) -> (Running, Sharded<Part>) {
    let parts = Sharded::new(|_| Part::default());
    let inner = parts.clone();
    let server = Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Unpinned(shards))
        .sharded(&parts)
        .service(move |_| StoreServer::new(Kept(inner.here())))
        .start()
        .unwrap();
    (server, parts)
}

/// What one caller has done.
#[derive(Default)]
struct Done {
    ops: u64,
    forwarded: u64,
    added: u64,
}

/// Operations on keys of its own, which it compares with a map, and on a key that it shares with all.
async fn work<C>(store: StoreClient<C>, caller: u64, ops: u64) -> Done
where
    C: Transport + Clone,
{
    let mut model = HashMap::new();
    let mut done = Done::default();
    let mut word = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(caller + 1);
    for op in 0..ops {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let key = format!("{caller}/{}", (word >> 33) % KEYS_EACH);
        let forwarded = match (word >> 60) % 8 {
            0 => {
                let reply = store.put(key.clone(), op).with_response().await.unwrap();
                assert_eq!(reply.value, model.insert(key, op));
                reply.forwarded()
            }
            1 => {
                let reply = store.remove(key.clone()).with_response().await.unwrap();
                assert_eq!(reply.value, model.remove(&key));
                reply.forwarded()
            }
            2 => {
                let reply = store.add(key.clone(), 3).with_response().await.unwrap();
                let sum = model.entry(key).or_default();
                *sum += 3;
                assert_eq!(reply.value, *sum);
                reply.forwarded()
            }
            3 => {
                done.added += 1;
                let shared = format!("all/{}", (word >> 40) % 4);
                store.add(shared, 1).with_response().await.unwrap().forwarded()
            }
            _ => {
                let reply = store.get(key.clone()).with_response().await.unwrap();
                assert_eq!(reply.value, model.get(&key).copied(), "{key}");
                reply.forwarded()
            }
        };
        done.ops += 1;
        done.forwarded += u64::from(forwarded.is_some());
    }
    done
}

fn ops() -> u64 {
    std::env::var("STORE_OPS").ok().and_then(|ops| ops.parse().ok()).unwrap_or(20_000)
}

/// Runs all callers, and returns what they did and how long it took. Checks the sum of the shared keys.
///
/// The callers share the servers out among themselves.
fn run<C, F>(
    servers: Vec<(Running, Sharded<Part>)>,
    connect: impl Fn(Address) -> F + 'static,
) -> (Done, Duration)
where
    C: Transport + Clone + 'static,
    F: Future<Output = StoreClient<C>> + 'static,
    StoreClient<C>: 'static,
{
    let addresses: Vec<Address> =
        servers.iter().map(|(server, _)| server.addresses()[0].clone()).collect();
    let outcome = block_on_shard(ClientShard::default(), move || async move {
        let mut clients = Vec::new();
        for address in addresses.iter().cycle().take(usize::try_from(CONNECTIONS).unwrap()) {
            clients.push(connect(address.clone()).await);
        }
        let begun = Instant::now();
        let each = ops() / CONNECTIONS;
        let tasks: Vec<_> = clients
            .into_iter()
            .zip(0..)
            .map(|(client, caller)| spawn(work(client, caller, each)))
            .collect();
        let mut all = Done::default();
        for task in tasks {
            let done = task.await;
            all.ops += done.ops;
            all.forwarded += done.forwarded;
            all.added += done.added;
        }
        (all, begun.elapsed())
    })
    .unwrap();
    let shared = |part: &Part| -> u64 {
        let part = part.borrow();
        part.iter().filter(|(key, _)| key.starts_with("all/")).map(|(_, sum)| sum).sum()
    };
    let mut sum = 0;
    for (server, parts) in servers {
        let sums = futures_lite::future::block_on(parts.map_all(shared));
        sum += sums.into_iter().map(Result::unwrap).sum::<u64>();
        server.stop();
        assert_eq!(server.wait().unwrap().shards_lost, 0);
    }
    assert_eq!(sum, outcome.0.added, "each addition counts once");
    outcome
}

#[allow(clippy::print_stdout, clippy::cast_precision_loss, reason = "a figure for people")]
fn tell(what: &str, done: &Done, took: Duration) {
    let rate = done.ops as f64 / took.as_secs_f64();
    let share = 100.0 * (1.0 - done.forwarded as f64 / done.ops as f64);
    println!(
        "{what}: {} operations, {rate:.0} a second, {share:.2} % on the owner's connection",
        done.ops
    );
}

#[test]
fn plain_connections_agree_with_a_model() {
    let (done, took) =
        run(vec![serve(2)], |address| async move { StoreClient::connect(address).await.unwrap() });
    tell("plain connections", &done, took);
    // 16 connections all land on the same shard once in 32,768 runs; then as many calls are forwarded.
    assert!(done.forwarded > done.ops / 4, "{} of {} were forwarded", done.forwarded, done.ops);
}

#[test]
fn calls_of_a_core_aware_channel_land_on_the_owner() {
    let (done, took) = run(vec![serve(2)], |address| async move {
        let channel: ShardedChannel<Channel> = ShardedChannel::connect(address).await.unwrap();
        StoreClient::new(channel)
    });
    tell("core-aware channels", &done, took);
    assert!(done.forwarded * 100 <= done.ops, "{} of {} were forwarded", done.forwarded, done.ops);
}

/// What is to be compared with: nothing is shared, so nothing is forwarded.
#[test]
fn separate_stores_agree_with_a_model() {
    let (done, took) = run(vec![serve(1), serve(1)], |address| async move {
        StoreClient::connect(address).await.unwrap()
    });
    tell("two separate stores", &done, took);
    assert_eq!(done.forwarded, 0);
}
