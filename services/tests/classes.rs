//! Service classes over real sockets, on both hosts: bulk work beside calls that somebody waits for. What a call waited for is
//! counted in pieces of bulk work, not in time.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use corewire::{
    ClassShares, Host, Placement, Running, Server, Service, ServiceClass, Status, spawn,
};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};
use support::{address, client, end};

const HOSTS: [Host; 2] = [Host::Auto, Host::Plain];

/// Bulk calls in flight.
const BULK: usize = 16;

/// Calls beside them.
const CALLS: usize = 100;

/// What a piece of bulk work takes.
const PIECE: Duration = Duration::from_micros(200);

#[corewire::service]
pub trait Desk {
    /// How many pieces of bulk work there have been.
    async fn ask(&self) -> Result<u64, Status>;
}

#[corewire::service(class = "batch")]
pub trait Mill {
    /// Pieces without end, each of which lets others run.
    async fn grind(&self) -> Result<(), Status>;
    /// A piece, at once.
    async fn chop(&self) -> Result<(), Status>;
    #[corewire(class = "latency")]
    async fn look(&self) -> Result<u64, Status>;
}

/// The same as `Mill`, without a class.
#[corewire::service]
pub trait PlainMill {
    async fn grind(&self) -> Result<(), Status>;
    async fn chop(&self) -> Result<(), Status>;
}

#[derive(Clone, Default)]
struct Miller {
    pieces: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Miller {
    fn piece(&self) {
        let end = Instant::now() + PIECE;
        while Instant::now() < end {
            std::hint::spin_loop();
        }
        self.pieces.fetch_add(1, SeqCst);
    }

    async fn pieces(&self) {
        while !self.over.load(SeqCst) {
            self.piece();
            futures_lite::future::yield_now().await;
        }
    }
}

impl Mill for Miller {
    async fn grind(&self) -> Result<(), Status> {
        self.pieces().await;
        Ok(())
    }

    async fn chop(&self) -> Result<(), Status> {
        self.piece();
        Ok(())
    }

    async fn look(&self) -> Result<u64, Status> {
        Ok(self.pieces.load(SeqCst))
    }
}

impl PlainMill for Miller {
    async fn grind(&self) -> Result<(), Status> {
        self.pieces().await;
        Ok(())
    }

    async fn chop(&self) -> Result<(), Status> {
        self.piece();
        Ok(())
    }
}

#[derive(Clone, Default)]
struct Clerk(Arc<AtomicU64>);

impl Desk for Clerk {
    async fn ask(&self) -> Result<u64, Status> {
        Ok(self.0.load(SeqCst))
    }
}

/// A server with or without classes.
fn server(host: Host, miller: &Miller, classed: bool) -> Running {
    let (miller, clerk) = (miller.clone(), Clerk(Arc::clone(&miller.pieces)));
    let builder =
        Server::builder().address("127.0.0.1:0").placement(Placement::Unpinned(1)).host(host);
    let builder = match classed {
        true => builder
            .service(move |_| DeskServer::new(clerk.clone()).in_class(ServiceClass::Latency))
            .service(move |_| MillServer::new(miller.clone())),
        false => builder
            .service(move |_| DeskServer::new(clerk.clone()))
            .service(move |_| PlainMillServer::new(miller.clone())),
    };
    builder.start().unwrap()
}

/// How many pieces of bulk work ran from when a call was made until its handler ran, for each of some calls, in order. Now and
/// then the client loses its CPU before it sends.
async fn waits(desk: DeskClient, pieces: Arc<AtomicU64>) -> Vec<u64> {
    let mut waits = Vec::new();
    for _ in 0..CALLS {
        let before = pieces.load(SeqCst);
        waits.push(desk.ask().await.unwrap() - before);
        corewire::sleep(Duration::from_micros(50)).await;
    }
    waits.sort_unstable();
    waits
}

/// Bulk work that yields, 16 calls at once: a call beside it waits for one round of pieces, not for one of each call.
#[test]
fn calls_wait_for_few_pieces_of_batch_work() {
    for host in HOSTS {
        for classed in [true, false] {
            let miller = Miller::default();
            let server = server(host, &miller, classed);
            let (to, of) = (address(&server), miller.clone());
            let waits = client(move || async move {
                let desk = DeskClient::connect(to).await.unwrap();
                let mut bulk = Vec::new();
                for _ in 0..BULK {
                    let mill = MillClient::connect(to).await.unwrap();
                    let plain = PlainMillClient::connect(to).await.unwrap();
                    bulk.push(spawn(async move {
                        match classed {
                            true => mill.without_timeout().grind().await.unwrap(),
                            false => plain.without_timeout().grind().await.unwrap(),
                        }
                    }));
                }
                while of.pieces.load(SeqCst) < 100 {
                    corewire::sleep(Duration::from_millis(1)).await;
                }
                let waits = waits(desk, Arc::clone(&of.pieces)).await;
                of.over.store(true, SeqCst);
                for one in bulk {
                    one.await;
                }
                waits
            });
            // Three pieces fit into a round of 500 µs, and a call may come at the beginning of one.
            let [p50, p95] = [50, 95].map(|percent| waits[CALLS * percent / 100]);
            let found = format!("{host:?} classed {classed}: p50 {p50}, p95 {p95} pieces");
            match classed {
                true => assert!(p50 <= 3 && p95 <= 5, "{found}"),
                false => assert!(p95 >= BULK as u64 / 2, "{found}"),
            }
            end(server);
        }
    }
}

/// Bulk calls that burn at once, 400 of them in one go on one connection: they wait before they begin, so that others do not.
#[test]
fn a_flood_of_batch_calls_is_queued() {
    for host in HOSTS {
        let median = |classed: bool| {
            let miller = Miller::default();
            let server = server(host, &miller, classed);
            let (to, of) = (address(&server), miller.clone());
            let median = client(move || async move {
                let desk = DeskClient::connect(to).await.unwrap();
                let mill = MillClient::connect(to).await.unwrap();
                let other = PlainMillClient::connect(to).await.unwrap();
                let left = Rc::new(Cell::new(400));
                for _ in 0..400 {
                    let (mill, other, left) = (mill.clone(), other.clone(), Rc::clone(&left));
                    spawn(async move {
                        match classed {
                            true => mill.without_timeout().chop().await.unwrap(),
                            false => other.without_timeout().chop().await.unwrap(),
                        }
                        left.set(left.get() - 1);
                    })
                    .detach();
                }
                while of.pieces.load(SeqCst) < 3 {
                    corewire::sleep(Duration::from_micros(50)).await;
                }
                let mut waits = Vec::new();
                while left.get() > 100 {
                    let before = of.pieces.load(SeqCst);
                    waits.push(desk.ask().await.unwrap() - before);
                }
                while left.get() > 0 {
                    corewire::sleep(Duration::from_millis(1)).await;
                }
                waits.sort_unstable();
                waits[waits.len() / 2]
            });
            end(server);
            median
        };
        let (classed, plain) = (median(true), median(false));
        assert!(classed <= 5, "{host:?}: {classed} pieces");
        assert!(plain >= 16, "{host:?}: without classes they run as they come: {plain} pieces");
    }
}

/// A cancelled call that waits for its class never begins, and one whose time is over neither.
#[test]
fn what_waits_can_be_cancelled() {
    let miller = Miller::default();
    let server = server(Host::Auto, &miller, true);
    let (to, of) = (address(&server), miller.clone());
    client(move || async move {
        let mill = MillClient::connect(to).await.unwrap();
        let grinding = mill.clone();
        let bulk = spawn(async move { grinding.without_timeout().grind().await.unwrap() });
        while mill.look().await.unwrap() == 0 {}
        for _ in 0..200 {
            let dropped = mill.clone();
            drop(spawn(async move { dropped.chop().await.unwrap() }));
            let late = mill.with_timeout(Duration::from_micros(1)).chop().await;
            assert!(late.is_err());
        }
        of.over.store(true, SeqCst);
        bulk.await;
        // The connection is as it was.
        mill.chop().await.unwrap();
        assert!(mill.look().await.unwrap() > 0);
    });
    end(server);
}

#[test]
fn shares_out_of_range_are_refused() {
    let with = |shares| {
        let builder = Server::builder().address("127.0.0.1:0").placement(Placement::Unpinned(1));
        builder.service(|_| DeskServer::new(Clerk::default())).class_shares(shares).start()
    };
    let error = with(ClassShares { batch: 0, ..ClassShares::default() }).unwrap_err().to_string();
    assert!(error.contains("class_shares.batch is 0; it must be between 1 and 1000"), "{error}");
    end(with(ClassShares { latency: 1, normal: 1000, batch: 1 }).unwrap());
}
