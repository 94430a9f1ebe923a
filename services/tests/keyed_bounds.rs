//! Calls by key that were handed to another shard: they are admitted, counted and charged as others are.
#![allow(clippy::unwrap_used, reason = "tests")]

use corewire::{
    Budgets, CallError, CallOptions, Channel, ClientShard, Placement, QueueDelay, Running, Server,
    ServerBuilder, ShardCounters, ShardId, Status, StatusCode, block_on_shard, owner_of_key, sleep,
};
use futures_lite::future::poll_once;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::thread;
use std::time::{Duration, Instant};

const SHARDS: u16 = 3;
const MS: Duration = Duration::from_millis(1);

#[corewire::service]
trait Store {
    #[corewire(key = "key")]
    async fn add(&self, key: String, amount: u64) -> Result<u64, Status>;

    #[one_way]
    #[corewire(key = "key")]
    async fn note(&self, key: String, amount: u64);

    /// Holds the shard.
    #[corewire(key = "key")]
    async fn stall(&self, key: String, ms: u64) -> Result<(), Status>;

    #[corewire(key = "key")]
    async fn blow_up(&self, key: String, later: bool) -> Result<(), Status>;

    #[corewire(key = "key")]
    async fn hang(&self, key: String) -> Result<(), Status>;

    #[one_way]
    #[corewire(key = "key")]
    async fn note_later(&self, key: String, after_ms: u64);

    #[corewire(key = "key")]
    async fn fill(&self, key: String, bytes: usize) -> Result<Vec<u8>, Status>;

    async fn here(&self) -> Result<u16, Status>;
}

struct Part {
    shard: ShardId,
    sums: RefCell<BTreeMap<String, u64>>,
}

impl Part {
    fn add_to(&self, key: String, amount: u64) -> u64 {
        let mut sums = self.sums.borrow_mut();
        let sum = sums.entry(key).or_default();
        *sum += amount;
        *sum
    }
}

impl Store for Part {
    async fn add(&self, key: String, amount: u64) -> Result<u64, Status> {
        Ok(self.add_to(key, amount))
    }

    async fn note(&self, key: String, amount: u64) {
        self.add_to(key, amount);
    }

    async fn stall(&self, _: String, ms: u64) -> Result<(), Status> {
        thread::sleep(Duration::from_millis(ms));
        Ok(())
    }

    async fn blow_up(&self, _: String, later: bool) -> Result<(), Status> {
        if later {
            sleep(MS).await;
        }
        panic!("as the test wants")
    }

    async fn hang(&self, _: String) -> Result<(), Status> {
        std::future::pending().await
    }

    async fn note_later(&self, key: String, after_ms: u64) {
        sleep(Duration::from_millis(after_ms)).await;
        self.add_to(key, 1);
    }

    async fn fill(&self, _: String, bytes: usize) -> Result<Vec<u8>, Status> {
        Ok(vec![7; bytes])
    }

    async fn here(&self) -> Result<u16, Status> {
        Ok(self.shard.0)
    }
}

fn serve_with(set: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Running {
    let builder = Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Unpinned(SHARDS))
        .service(|shard| StoreServer::new(Part { shard: shard.id, sums: RefCell::default() }));
    set(builder).start().unwrap()
}

/// Runs `work` with a client on one plain connection.
fn with_client<R, F>(server: &Running, work: impl FnOnce(StoreClient<Channel>) -> F + 'static) -> R
where
    F: Future<Output = R> + 'static,
    R: 'static,
{
    let address = server.addresses()[0].clone();
    let connected = async move { work(StoreClient::connect(address).await.unwrap()).await };
    block_on_shard(ClientShard::default(), || connected).unwrap()
}

/// A key whose owner is another shard than that of the connection, and its owner.
async fn foreign_key(store: &StoreClient<Channel>) -> (String, u16, u16) {
    let here = store.here().await.unwrap();
    let keys = (0..).map(|number: u32| format!("key {number}"));
    let mut keys = keys.map(|key| (owner_of_key(key.as_str(), SHARDS).0, key));
    let (owner, key) = keys.find(|(owner, _)| *owner != here).unwrap();
    (key, owner, here)
}

fn counter<R>(server: &Running, shard: u16, read: impl Fn(&ShardCounters) -> R) -> R {
    read(&server.shards()[usize::from(shard)].counters)
}

fn until(mut is_so: impl FnMut() -> bool) -> bool {
    let by = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        if Instant::now() > by {
            return false;
        }
        thread::sleep(MS);
    }
    true
}

fn end(server: Running) {
    server.stop();
    assert_eq!(server.wait().unwrap().shards_lost, 0);
}

type Call<T> = Pin<Box<dyn Future<Output = Result<T, CallError>>>>;

/// Replies that came from the owner are held by the connection's shard until its client reads; there they are charged, and when they
/// have left, all of it is given back.
#[test]
fn replies_on_their_way_back_are_charged() {
    const REPLY: usize = 1 << 20;
    const CALLS: usize = 48;
    let server = serve_with(|it| it);
    let shards: Vec<_> = server.shards().iter().map(|it| it.counters.clone()).collect();
    let here = with_client(&server, move |store| async move {
        let (key, _, here) = foreign_key(&store).await;
        let fill = |_| Box::pin(store.fill(key.clone(), REPLY).into_future()) as Call<Vec<u8>>;
        let mut calls: Vec<Call<Vec<u8>>> = (0..CALLS).map(fill).collect();
        for call in &mut calls {
            assert!(poll_once(call).await.is_none());
        }
        // The requests leave; from here on this thread reads nothing.
        sleep(Duration::from_micros(1)).await;
        let held = &shards[usize::from(here)].held_bytes;
        let most = until(|| held.value() > 24 << 20);
        assert!(most, "the shard counts {} bytes", held.value());
        for call in calls {
            assert_eq!(call.await.unwrap().len(), REPLY);
        }
        here
    });
    let counters = server.shards()[usize::from(here)].counters.clone();
    assert!(until(|| counters.held_bytes.value() == 0 && counters.calls_pending.value() == 0));
    end(server);
}

/// A connection that has its share of the owner, although not of its own shard, is refused there, as not run.
#[test]
fn the_owner_refuses_what_it_has_no_room_for() {
    let budgets = Budgets { shard_calls_max: 64, refuse_after: MS, ..Budgets::default() };
    let server = serve_with(|it| it.budgets(budgets));
    let address = server.addresses()[0].clone();
    let shards: Vec<_> = server.shards().iter().map(|it| it.counters.clone()).collect();
    block_on_shard(ClientShard::default(), || async move {
        // One owner; a connection at each of the others.
        let mut stores: BTreeMap<u16, StoreClient<Channel>> = BTreeMap::new();
        while stores.len() < usize::from(SHARDS) {
            let store = StoreClient::connect(address.clone()).await.unwrap();
            let here = store.here().await.unwrap();
            stores.entry(here).or_insert(store);
        }
        let key = "anything".to_owned();
        let owner = owner_of_key(key.as_str(), SHARDS).0;
        let owners = &shards[usize::from(owner)];
        stores.remove(&owner);
        let mut calls: Vec<Call<()>> = Vec::new();
        for store in stores.values() {
            for _ in 0..28 {
                calls.push(Box::pin(store.hang(key.clone()).into_future()));
            }
        }
        let mut refused = Vec::new();
        let by = Instant::now() + Duration::from_secs(20);
        while refused.is_empty() && Instant::now() < by {
            for call in &mut calls {
                if let Some(outcome) = poll_once(call).await {
                    refused.push(outcome.unwrap_err());
                    break;
                }
            }
            sleep(MS).await;
        }
        assert!(owners.calls_refused.value() > 0, "the owner has refused none");
        assert!(owners.calls_pending.value() >= 28, "the owner counts what pends there");
        let error = &refused[0];
        assert_eq!(error.code(), StatusCode::ResourceExhausted, "{error}");
        assert!(!error.may_have_run(), "{error}");
        drop(calls);
        while owners.calls_pending.value() > 0 {
            assert!(Instant::now() < by, "what was given up pends");
            sleep(MS).await;
        }
    })
    .unwrap();
    end(server);
}

/// What waited too long for the owner is shed there, and what is too late does not run.
#[test]
fn the_owner_sheds_what_waited_too_long() {
    let delay = QueueDelay { target: MS, interval: 10 * MS };
    let budgets = Budgets { queue_delay: Some(delay), ..Budgets::default() };
    let server = serve_with(|it| it.budgets(budgets));
    let (owner, all, late) = with_client(&server, |store| async move {
        let (key, owner, _) = foreign_key(&store).await;
        let stall = |ms| Box::pin(store.stall(key.clone(), ms).into_future()) as Call<()>;
        let add = || Box::pin(store.add(key.clone(), 1).into_future()) as Call<u64>;
        let (mut stalls, mut adds) = (Vec::new(), Vec::new());
        for _ in 0..4 {
            stalls.push(stall(40));
            adds.push(add());
        }
        for (stall, add) in stalls.iter_mut().zip(&mut adds) {
            assert!(poll_once(stall).await.is_none());
            assert!(poll_once(add).await.is_none());
        }
        let mut shed = 0;
        for add in adds {
            if let Err(error) = add.await {
                assert_eq!(error.code(), StatusCode::ResourceExhausted, "{error}");
                assert!(!error.may_have_run(), "{error}");
                shed += 1;
            }
        }
        let mut all = shed;
        for stall in stalls {
            all += u64::from(stall.await.is_err());
        }
        assert!(shed > 0, "none was shed");
        // Calm again, then one that is late.
        sleep(30 * MS).await;
        let before = store.add(key.clone(), 0).await.unwrap();
        assert_eq!(before, 4 - shed, "what was shed did not run");
        let mut stalled = stall(100);
        assert!(poll_once(&mut stalled).await.is_none());
        let short = store.clone().with(CallOptions::new().timeout(20 * MS));
        let error = short.add(key.clone(), 1).await.unwrap_err();
        assert_eq!(error.code(), StatusCode::DeadlineExceeded, "{error}");
        let _ = stalled.await;
        sleep(30 * MS).await;
        let after = store.add(key.clone(), 0).await.unwrap();
        (owner, all, after - before)
    });
    assert_eq!(counter(&server, owner, |it| it.calls_shed.value()), all);
    assert_eq!(late, 0, "a late call has run");
    assert_eq!(counter(&server, owner, |it| it.calls_expired.value()), 1);
    end(server);
}

/// The owner counts the panics of what it runs.
#[test]
fn panics_are_counted_at_the_owner() {
    let server = serve_with(|it| it);
    let (owner, here) = with_client(&server, |store| async move {
        let (key, owner, here) = foreign_key(&store).await;
        for later in [false, true, true] {
            let error = store.blow_up(key.clone(), later).await.unwrap_err();
            assert_eq!(error.code(), StatusCode::Internal);
        }
        (owner, here)
    });
    assert_eq!(counter(&server, owner, |it| it.panics.value()), 3);
    assert_eq!(counter(&server, here, |it| it.panics.value()), 0);
    end(server);
}

/// A one-way call that was sent to its owner takes no place among those that pend: with one place, all of a burst run.
#[test]
fn one_way_calls_take_no_place_while_they_are_handed_over() {
    let server = serve_with(|it| it.one_way_pending_max(1));
    let sum = with_client(&server, |store| async move {
        let (key, ..) = foreign_key(&store).await;
        let notes = (0..200).map(|_| Box::pin(store.note(key.clone(), 1).into_future()));
        let mut notes: Vec<_> = notes.collect();
        for note in &mut notes {
            let _ = poll_once(note).await;
        }
        for _ in 0..3 {
            sleep(MS).await;
        }
        // Behind them, by the same way.
        store.add(key, 0).await.unwrap()
    });
    let dropped = |it: &ShardCounters| it.one_way_dropped.value();
    let dropped: u64 = (0..SHARDS).map(|shard| counter(&server, shard, dropped)).sum();
    assert_eq!((sum, dropped), (200, 0));
    end(server);
}

/// One that pends at its owner takes a place there, and one more is dropped and counted there. A drain lets the first one end.
#[test]
fn one_way_calls_that_pend_at_the_owner_are_bounded_there() {
    let server = serve_with(|it| it.one_way_pending_max(1));
    let owner = with_client(&server, |store| async move {
        let (key, owner, _) = foreign_key(&store).await;
        for _ in 0..3 {
            store.note_later(key.clone(), 30).await.unwrap();
        }
        store.add(key.clone(), 0).await.unwrap();
        let by = Instant::now() + Duration::from_secs(20);
        while store.add(key.clone(), 0).await.unwrap() == 0 {
            assert!(Instant::now() < by, "it never ends");
            sleep(MS).await;
        }
        owner
    });
    assert_eq!(counter(&server, owner, |it| it.one_way_dropped.value()), 2);
    assert_eq!(counter(&server, owner, |it| it.calls_pending.value()), 0);
    end(server);
}
