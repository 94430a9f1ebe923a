//! Calls by key from plain connections: wherever a call lands, it runs on the shard that owns its key, and ends as if it
//! had landed there.
#![allow(clippy::unwrap_used, reason = "tests")]

use corewire::layer::TimeLimit;
use corewire::{
    CallError, CallOptions, Channel, ClientShard, Context, Limits, Placement, Running, Server,
    ShardId, Status, StatusCode, Streaming, block_on_shard, owner_of_key, sleep,
};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const SHARDS: u16 = 3;
const KEYS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

#[corewire::service]
trait Store {
    /// Adds to what is under the key; returns the sum, and the shard that ran it.
    #[corewire(key = "key")]
    async fn add(&self, amount: u64, key: String) -> Result<(u64, u16), Status>;

    /// As `add`, after a while, with what the context says in the reply's metadata.
    #[corewire(key = "key")]
    async fn add_slowly(&self, context: &Context, key: String) -> Result<(u64, u16), Status>;

    #[one_way]
    #[corewire(key = "key")]
    async fn note(&self, key: String, amount: u64);

    #[corewire(key = "key")]
    async fn blow_up(&self, key: String, later: bool) -> Result<(), Status>;

    /// Never returns; counts when it is dropped.
    #[corewire(key = "key")]
    async fn hang(&self, key: String) -> Result<(), Status>;

    /// Numbers from 0, each with a kilobyte, and the shard's in front.
    #[corewire(key = "key")]
    async fn count_up(&self, key: String, to: u64) -> Result<Streaming<(u64, Vec<u8>)>, Status>;

    #[corewire(key = "key")]
    async fn sum(&self, key: String, numbers: Streaming<u64>) -> Result<(u64, u16), Status>;

    #[corewire(key = "key")]
    async fn double(&self, key: String, numbers: Streaming<u64>) -> Result<Streaming<u64>, Status>;

    #[corewire(key = "key")]
    async fn refuse_stream(&self, key: String) -> Result<Streaming<u64>, Status>;

    /// Has no key.
    async fn here(&self) -> Result<u16, Status>;
}

struct Part {
    shard: ShardId,
    sums: RefCell<BTreeMap<String, u64>>,
    dropped: Arc<AtomicUsize>,
}

impl Part {
    fn add_to(&self, key: String, amount: u64) -> (u64, u16) {
        let mut sums = self.sums.borrow_mut();
        let sum = sums.entry(key).or_default();
        *sum += amount;
        (*sum, self.shard.0)
    }
}

struct CountsDrop(Arc<AtomicUsize>);

impl Drop for CountsDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Store for Part {
    async fn add(&self, amount: u64, key: String) -> Result<(u64, u16), Status> {
        Ok(self.add_to(key, amount))
    }

    async fn add_slowly(&self, context: &Context, key: String) -> Result<(u64, u16), Status> {
        sleep(Duration::from_millis(1)).await;
        assert_eq!(context.shard(), self.shard);
        let echo = context.metadata().text("echo").unwrap_or_default().as_bytes().to_vec();
        context.add_reply_metadata("echo", &echo)?;
        Ok(self.add_to(key, 1))
    }

    async fn note(&self, key: String, amount: u64) {
        self.add_to(key, amount);
    }

    async fn blow_up(&self, _: String, later: bool) -> Result<(), Status> {
        if later {
            sleep(Duration::from_millis(1)).await;
        }
        panic!("as the test wants")
    }

    async fn hang(&self, _: String) -> Result<(), Status> {
        let _counts = CountsDrop(Arc::clone(&self.dropped));
        std::future::pending().await
    }

    async fn count_up(&self, _: String, to: u64) -> Result<Streaming<(u64, Vec<u8>)>, Status> {
        let (mut sender, stream) = Streaming::channel();
        let (shard, counts) = (self.shard.0, CountsDrop(Arc::clone(&self.dropped)));
        corewire::spawn(async move {
            let _counts = counts;
            let first = sender.send((shard.into(), Vec::new())).await;
            for number in 0..to {
                if first.is_err() || sender.send((number, vec![7; 1000])).await.is_err() {
                    return;
                }
            }
        })
        .detach();
        Ok(stream)
    }

    async fn sum(&self, _: String, mut numbers: Streaming<u64>) -> Result<(u64, u16), Status> {
        let mut sum = 0;
        while let Some(number) = numbers.next().await {
            sum += number?;
        }
        Ok((sum, self.shard.0))
    }

    async fn double(
        &self,
        _: String,
        mut numbers: Streaming<u64>,
    ) -> Result<Streaming<u64>, Status> {
        let (mut sender, stream) = Streaming::channel();
        corewire::spawn(async move {
            while let Some(Ok(number)) = numbers.next().await {
                if sender.send(2 * number).await.is_err() {
                    return;
                }
            }
        })
        .detach();
        Ok(stream)
    }

    async fn refuse_stream(&self, _: String) -> Result<Streaming<u64>, Status> {
        Err(Status::failed_precondition("as the test wants"))
    }

    async fn here(&self) -> Result<u16, Status> {
        Ok(self.shard.0)
    }
}

struct Served {
    server: Running,
    dropped: Arc<AtomicUsize>,
}

fn serve() -> Served {
    serve_with(Limits::default())
}

fn serve_with(limits: Limits) -> Served {
    let dropped = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&dropped);
    let server = Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Unpinned(SHARDS))
        .limits(limits)
        .service(move |shard| {
            let (sums, dropped) = (RefCell::default(), Arc::clone(&counts));
            StoreServer::new(Part { shard: shard.id, sums, dropped })
        })
        .start()
        .unwrap();
    Served { server, dropped }
}

/// Runs `work` with a client on one plain connection.
fn with_client<R, F>(served: &Served, work: impl FnOnce(StoreClient<Channel>) -> F + 'static) -> R
where
    F: Future<Output = R> + 'static,
    R: 'static,
{
    let address = served.server.addresses()[0].clone();
    let connected = async move { work(StoreClient::connect(address).await.unwrap()).await };
    block_on_shard(ClientShard::default(), || connected).unwrap()
}

fn end(served: Served) {
    served.server.stop();
    assert_eq!(served.server.wait().unwrap().shards_lost, 0);
}

fn code(error: &CallError) -> StatusCode {
    error.to_status().code()
}

fn owner(key: &str) -> u16 {
    owner_of_key(key, SHARDS).0
}

fn numbers(up_to: u64) -> Streaming<u64> {
    Streaming::from_stream(futures_lite::stream::iter((0..up_to).map(Ok)))
}

async fn until(mut is_so: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if is_so() {
            return;
        }
        sleep(Duration::from_millis(1)).await;
    }
    panic!("it never came to be");
}

/// One after the other: the sum under a key is the same for every connection, because one shard has it.
#[test]
fn one_store_whatever_the_connection() {
    let served = serve();
    for round in 1..=12 {
        with_client(&served, move |store| async move {
            let landed = store.here().await.unwrap();
            for key in KEYS {
                let reply = store.add(round, key.to_owned()).with_response().await.unwrap();
                assert_eq!(reply.value, ((1..=round).sum(), owner(key)), "{key}");
                let told = reply.forwarded().map(|it| (it.owner(), it.shards()));
                let expected = (landed != owner(key)).then(|| (owner(key), SHARDS));
                assert_eq!(told, expected, "{key} from shard {landed}");
            }
        });
    }
    end(served);
}

/// What comes with a call goes with it: metadata, the time that is left, its priority; and what the handler adds comes back.
#[test]
fn a_call_takes_along_what_came_with_it() {
    let served = serve();
    with_client(&served, |store| async move {
        for key in KEYS {
            let options = CallOptions::new().metadata("echo", key.as_bytes()).unwrap();
            let store = store.clone().with(options);
            let reply = store.add_slowly(key.to_owned()).with_response().await.unwrap();
            assert_eq!(reply.value, (1, owner(key)));
            assert_eq!(reply.metadata().text("echo"), Some(key));
            store.note(key.to_owned(), 10).await.unwrap();
            // It arrives behind the note, by the same way.
            assert_eq!(store.add(0, key.to_owned()).await, Ok((11, owner(key))));
        }
    });
    end(served);
}

#[test]
fn a_panic_at_the_owner_fails_its_call_alone() {
    let served = serve();
    with_client(&served, |store| async move {
        for key in KEYS {
            for later in [false, true] {
                let error = store.blow_up(key.to_owned(), later).await.unwrap_err();
                assert_eq!(code(&error), StatusCode::Internal);
                assert!(!error.to_string().contains("as the test wants"), "{error}");
            }
            assert_eq!(store.add(1, key.to_owned()).await, Ok((1, owner(key))));
        }
    });
    end(served);
}

/// A caller that gives up, and one whose time is over: the owner drops the handler.
#[test]
fn a_call_that_ends_early_ends_at_the_owner() {
    let served = serve();
    let dropped = Arc::clone(&served.dropped);
    with_client(&served, |store| async move {
        for (number, key) in KEYS.into_iter().enumerate() {
            let short = CallOptions::new().timeout(Duration::from_millis(20));
            let error = store.clone().with(short).hang(key.to_owned()).await.unwrap_err();
            assert_eq!(code(&error), StatusCode::DeadlineExceeded, "{error:?}");
            let mut call = Box::pin(store.hang(key.to_owned()).into_future());
            // The second call is there when a third has been answered behind it.
            assert!(futures_lite::future::poll_once(&mut call).await.is_none());
            store.add(1, key.to_owned()).await.unwrap();
            drop(call);
            until(|| dropped.load(Ordering::SeqCst) == 2 * (number + 1)).await;
        }
    });
    end(served);
}

#[test]
fn streams_of_all_kinds_pass_through() {
    let served = serve();
    with_client(&served, |store| async move {
        for key in KEYS {
            for up_to in [0, 1, 10, 2000] {
                let mut counted = store.count_up(key.to_owned(), up_to).await.unwrap();
                let first = counted.next().await.unwrap().unwrap();
                assert_eq!(first.0, u64::from(owner(key)));
                let mut next = 0;
                while let Some(item) = counted.next().await {
                    let (number, body) = item.unwrap();
                    assert_eq!((number, body.len()), (next, 1000));
                    next += 1;
                }
                assert_eq!(next, up_to, "{key}");
                let summed = store.sum(key.to_owned(), numbers(up_to)).await;
                assert_eq!(summed, Ok(((0..up_to).sum(), owner(key))), "{key}");
                let mut doubled = store.double(key.to_owned(), numbers(up_to)).await.unwrap();
                let mut next = 0;
                while let Some(number) = doubled.next().await {
                    assert_eq!(number, Ok(2 * next));
                    next += 1;
                }
                assert_eq!(next, up_to, "{key}");
            }
            let Err(error) = store.refuse_stream(key.to_owned()).await else { panic!("{key}") };
            assert_eq!(code(&error), StatusCode::FailedPrecondition);
        }
    });
    end(served);
}

/// What a forwarded stream has used of the connection's credit comes back, also after its end: with the least credit there is, many
/// streams pass, one after the other.
#[test]
fn the_credit_of_forwarded_streams_comes_back() {
    let limits = Limits { connection_credit: Limits::EARLY.connection_credit, ..Limits::default() };
    let served = serve_with(limits);
    with_client(&served, |store| async move {
        for _ in 0..20 {
            for key in KEYS {
                let summed = store.sum(key.to_owned(), numbers(500)).await;
                assert_eq!(summed, Ok(((0..500).sum(), owner(key))), "{key}");
            }
        }
    });
    end(served);
}

/// A client that stops reading holds no more than its windows, and one that goes away ends the handler's stream.
#[test]
fn a_stream_that_nobody_reads_waits_and_ends() {
    let served = serve();
    let dropped = Arc::clone(&served.dropped);
    with_client(&served, |store| async move {
        for (number, key) in KEYS.into_iter().enumerate() {
            let mut counted = store.count_up(key.to_owned(), u64::MAX).await.unwrap();
            assert!(counted.next().await.unwrap().is_ok());
            // The rest of the credit, the outboxes and the windows fill; the shards go on.
            for other in KEYS {
                store.add(1, other.to_owned()).await.unwrap();
            }
            assert_eq!(dropped.load(Ordering::SeqCst), number);
            drop(counted);
            until(|| dropped.load(Ordering::SeqCst) == number + 1).await;
        }
    });
    end(served);
}

/// Layers see a call where it runs: the owner's time limit ends a forwarded call.
#[test]
fn layers_see_a_call_at_the_owner() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&dropped);
    let server = Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Unpinned(SHARDS))
        .layer(|_| TimeLimit::at_most(Duration::from_millis(20)))
        .service(move |shard| {
            let (sums, dropped) = (RefCell::default(), Arc::clone(&counts));
            StoreServer::new(Part { shard: shard.id, sums, dropped })
        })
        .start()
        .unwrap();
    let served = Served { server, dropped };
    with_client(&served, |store| async move {
        for key in KEYS {
            let error = store.hang(key.to_owned()).await.unwrap_err();
            assert_eq!(code(&error), StatusCode::DeadlineExceeded, "{key}: {error:?}");
        }
    });
    end(served);
}
