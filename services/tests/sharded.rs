//! State on all shards: who owns what, what comes back, and what becomes of callers when something goes wrong.
#![allow(clippy::unwrap_used, reason = "tests")]

use corewire::{
    ClientShard, OnShardError, Placement, Running, Server, ServerBuilder, ShardId, Sharded, Spin,
    Status, block_on_shard, echo, sleep,
};
use futures_lite::future::block_on;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

fn builder(shards: u16) -> ServerBuilder {
    Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Unpinned(shards))
        .service(|_| echo::EchoServer::new(echo::Echoer))
}

fn serve<T: 'static>(shards: u16, sharded: &Sharded<T>) -> Running {
    builder(shards).sharded(sharded).start().unwrap()
}

/// Runs `work` on shard 0 of the server.
fn on_first<R, F>(work: impl FnOnce(Sharded<()>) -> F + Send + 'static, shards: u16) -> R
where
    R: Send + 'static,
    F: Future<Output = R> + 'static,
{
    let here = Sharded::new(|_| ());
    let server = serve(shards, &here);
    let inner = here.clone();
    let outcome = block_on(here.on_async(ShardId(0), move |_| work(inner)));
    server.stop();
    assert_eq!(server.wait().unwrap().shards_lost, 0);
    outcome.unwrap()
}

/// Each key has one owner, whoever asks; each shard has its own value, and code runs on the owner's thread.
#[test]
fn every_shard_finds_the_same_owner_and_runs_there() {
    let words: Sharded<RefCell<BTreeMap<String, u32>>> = Sharded::new(|_| RefCell::default());
    let threads = Sharded::new(|_| thread::current().id());
    let server = builder(3).sharded(&words).sharded(&threads).start().unwrap();
    for id in 0..3 {
        let (words, threads) = (words.clone(), threads.clone());
        let counting = words.clone().on_async(ShardId(id), async move |_| {
            for word in ["apple", "pear", "plum", "fig", "lime", "date"] {
                let owner = words.of(word);
                let ran_on = words
                    .on(owner, move |words| {
                        *words.borrow_mut().entry(word.to_owned()).or_default() += 1;
                        thread::current().id()
                    })
                    .await?;
                assert_eq!(ran_on, threads.on(owner, |id| *id).await?);
            }
            Ok::<_, OnShardError>(())
        });
        block_on(counting).unwrap().unwrap();
    }
    let parts = block_on(words.map_all(|words| words.borrow().clone()));
    let mut all = BTreeMap::new();
    for part in parts {
        for (word, count) in part.unwrap() {
            assert_eq!(all.insert(word, count), None, "a word has two owners");
        }
    }
    assert_eq!(all.len(), 6);
    assert!(all.values().all(|count| *count == 3), "{all:?}");
    let ids = block_on(threads.map_all(|id| *id));
    let ids: Vec<_> = ids.into_iter().map(Result::unwrap).collect();
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
    server.stop();
    assert_eq!(server.wait().unwrap().shards_lost, 0);
}

/// Many calls at once: more than may be away, from two shards to each other, all of them counted once.
#[test]
fn all_calls_of_a_crowd_come_back() {
    let counts = Sharded::new(|_| Cell::new(0_u64));
    let server = serve(2, &counts);
    let crowd = |from: u16| {
        let counts = counts.clone();
        counts.clone().on_async(ShardId(from), async move |_| {
            let calls: Vec<_> = (0..5000)
                .map(|_| {
                    let counts = counts.clone();
                    corewire::spawn(async move {
                        let add = |count: &Cell<u64>| count.replace(count.get() + 1);
                        counts.on(ShardId(1 - from), add).await.unwrap()
                    })
                })
                .collect();
            let mut seen = Vec::new();
            for call in calls {
                seen.push(call.await);
            }
            seen
        })
    };
    let (one, other) = (crowd(0), crowd(1));
    let other = thread::spawn(move || block_on(other).unwrap());
    let mut seen = [block_on(one).unwrap(), other.join().unwrap()];
    for seen in &mut seen {
        seen.sort_unstable();
        assert!(seen.iter().copied().eq(0..5000), "each call saw another count");
    }
    drop(server);
}

/// What is sent arrives in the order in which it was sent.
#[test]
fn calls_arrive_in_order() {
    let list = Sharded::new(|_| RefCell::new(Vec::new()));
    let server = serve(2, &list);
    let inner = list.clone();
    let sending = list.on_async(ShardId(0), async move |_| {
        let mut sent = Vec::new();
        for number in 0..1000 {
            let inner = inner.clone();
            sent.push(corewire::spawn(async move {
                inner.on(ShardId(1), move |list| list.borrow_mut().push(number)).await
            }));
        }
        for sent in sent {
            sent.await.unwrap();
        }
        inner.on(ShardId(1), |list| list.take()).await.unwrap()
    });
    let arrived: Vec<u32> = block_on(sending).unwrap();
    let wrong = arrived.iter().zip(0..).find(|(number, place)| *number != place);
    assert_eq!((arrived.len(), wrong), (1000, None));
    drop(server);
}

#[test]
fn a_panic_fails_one_call_and_the_value_stays() {
    let value = Sharded::new(|_| Cell::new(7));
    let outcome = on_first(
        {
            let value = value.clone();
            move |_| async move {
                let there = ShardId(1);
                let closure = value.on(there, |_| -> u8 { panic!("as the test wants") }).await;
                let future = value
                    .on_async(there, async |_| -> u8 {
                        sleep(Duration::from_millis(1)).await;
                        panic!("as the test wants")
                    })
                    .await;
                let here = value.on(ShardId(0), |_| -> u8 { panic!("as the test wants") }).await;
                (closure, future, here, value.on(there, Cell::get).await)
            }
        },
        2,
    );
    let panicked = Err(OnShardError::Panicked);
    assert_eq!(outcome, (panicked, panicked, panicked, Ok(7)));
}

/// The other shard's code is dropped when nobody waits for it any more, or when the deadline passes.
#[test]
fn what_waits_elsewhere_ends_with_its_caller() {
    let begun = Arc::new(AtomicUsize::new(0));
    let ended = Arc::new(AtomicUsize::new(0));
    struct Ends(Arc<AtomicUsize>);
    impl Drop for Ends {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let counts = (Arc::clone(&begun), Arc::clone(&ended));
    let expired = on_first(
        move |here| async move {
            let (begun, ended) = counts;
            let wait = |to: u16| {
                let (begun, ended) = (Arc::clone(&begun), Ends(Arc::clone(&ended)));
                here.on_async(ShardId(to), move |_| async move {
                    let _ended = ended;
                    begun.fetch_add(1, Ordering::SeqCst);
                    std::future::pending::<u8>().await
                })
            };
            for to in [1, 0] {
                // Dropped while it runs.
                let mut call = Box::pin(wait(to));
                while begun.load(Ordering::SeqCst) % 2 == 0 {
                    let _ = futures_lite::future::poll_once(&mut call).await;
                    sleep(Duration::from_micros(100)).await;
                }
                drop(call);
                // Expired while it runs.
                let late = wait(to).within(Duration::from_millis(5)).await;
                assert_eq!(late, Err(OnShardError::Expired));
            }
            while ended.load(Ordering::SeqCst) < 4 {
                sleep(Duration::from_micros(100)).await;
            }
            let past = Instant::now().checked_sub(Duration::from_secs(1));
            here.on(ShardId(1), |()| ()).until(past).await
        },
        2,
    );
    assert_eq!(expired, Err(OnShardError::Expired));
    assert_eq!((begun.load(Ordering::SeqCst), ended.load(Ordering::SeqCst)), (4, 4));
}

/// A shard that stands still: callers with a deadline are told in time, and what they sent does not run afterwards.
#[test]
fn a_stalled_shard_keeps_nobody_longer_than_the_deadline() {
    let hits = Sharded::new(|_| Cell::new(0));
    let outcome = on_first(
        {
            let hits = hits.clone();
            move |here| async move {
                let (release, held) = std::sync::mpsc::channel::<()>();
                let stalling = corewire::spawn(async move {
                    here.on(ShardId(1), move |()| held.recv().is_ok()).await
                });
                sleep(Duration::from_millis(1)).await;
                let hit = |hits: &Cell<i32>| hits.set(hits.get() + 1);
                let late = hits.on(ShardId(1), hit).within(Duration::from_millis(5)).await;
                release.send(()).unwrap();
                assert_eq!(stalling.await, Ok(true));
                (late, hits.on(ShardId(1), Cell::get).await)
            }
        },
        2,
    );
    assert_eq!(outcome, (Err(OnShardError::Expired), Ok(0)));
}

#[test]
fn there_is_no_other_shard_than_there_is() {
    let lost = on_first(|here| async move { here.on(ShardId(2), |()| ()).await }, 2);
    assert_eq!(lost, Err(OnShardError::Lost));
    // No server, and no shard here.
    let homeless = Sharded::new(|_| ());
    assert_eq!(block_on(homeless.on(ShardId(0), |()| ())), Err(OnShardError::Lost));
    assert_eq!(Status::from(OnShardError::Lost).code(), corewire::StatusCode::Unavailable);
}

/// After the end of the server, threads outside learn that nobody is there, and those that wait do so, too.
#[test]
fn a_server_that_ends_leaves_nobody_waiting() {
    let value = Sharded::new(|_| ());
    let server = serve(2, &value);
    let forever = value.on_async(ShardId(1), async |_| std::future::pending::<u8>().await);
    let waiting = thread::spawn(move || block_on(forever));
    block_on(value.broadcast(|()| ())).unwrap();
    server.stop();
    server.wait().unwrap();
    assert_eq!(waiting.join().unwrap(), Err(OnShardError::Lost));
    assert_eq!(block_on(value.on(ShardId(0), |()| ())), Err(OnShardError::Lost));
}

/// Shards that never sleep, and shards alone.
#[test]
fn spinning_shards_and_lone_ones_work_as_well() {
    let value = Sharded::new(|_| Cell::new(0));
    let server = builder(2).spin(Spin::Always).sharded(&value).start().unwrap();
    let inner = value.clone();
    let sum = value.on_async(ShardId(0), async move |_| {
        for _ in 0..1000 {
            inner.on(ShardId(1), |value| value.set(value.get() + 1)).await.unwrap();
        }
        inner.on(ShardId(1), Cell::get).await.unwrap()
    });
    assert_eq!(block_on(sum), Ok(1000));
    drop(server);
    let alone = Sharded::new(|shard| shard.count);
    let seen = block_on_shard(ClientShard::default(), || async move {
        let owner = alone.of("anything");
        (alone.shard_count(), alone.on(owner, |count| *count).await, *alone.here())
    });
    assert_eq!(seen.unwrap(), (1, Ok(1), 1));
}

#[corewire::service]
trait Late {
    /// Waits for the drain to begin and then asks the other shard.
    async fn ask(&self) -> Result<u32, Status>;
}

struct Asks {
    shard: ShardId,
    value: Sharded<Cell<u32>>,
    asked: std::sync::mpsc::Sender<()>,
}

impl Late for Asks {
    async fn ask(&self) -> Result<u32, Status> {
        self.asked.send(()).unwrap();
        corewire::drain_begun().await;
        sleep(Duration::from_millis(20)).await;
        Ok(self.value.on(ShardId(1 - self.shard.0), Cell::get).await?)
    }
}

/// A shard without connections waits for the others in a drain: a handler that still runs elsewhere may need it.
#[test]
fn a_drain_ends_no_shard_that_another_one_needs() {
    let value = Sharded::new(|_| Cell::new(5));
    let (asked, hears) = std::sync::mpsc::channel();
    let inner = value.clone();
    let server = Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Unpinned(2))
        .sharded(&value)
        .service(move |shard| {
            LateServer::new(Asks { shard: shard.id, value: inner.clone(), asked: asked.clone() })
        })
        .start()
        .unwrap();
    let address = server.addresses()[0].clone();
    let calling = thread::spawn(move || {
        block_on_shard(ClientShard::default(), || async move {
            LateClient::connect(address).await.unwrap().ask().await
        })
    });
    hears.recv_timeout(Duration::from_secs(10)).unwrap();
    server.stop();
    assert_eq!(calling.join().unwrap().unwrap().unwrap(), 5);
    assert_eq!(server.wait().unwrap().shards_lost, 0);
}
