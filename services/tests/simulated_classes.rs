//! Service classes at a simulated server, where polls take no time and count alike: shares are those of polls.
#![allow(clippy::unwrap_used, reason = "tests")]

use corewire::testing::Simulation;
use corewire::{ClassShares, Placement, Server, Status, spawn};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Calls of each class.
const CALLS: usize = 8;

#[corewire::service]
trait Loops {
    #[corewire(class = "latency")]
    async fn urgent(&self, polls: u64) -> Result<u64, Status>;
    #[corewire(class = "batch")]
    async fn bulk(&self, polls: u64) -> Result<(), Status>;
    async fn plain(&self) -> Result<u64, Status>;
}

#[derive(Clone, Default)]
struct Looper {
    bulk: Arc<AtomicU64>,
}

impl Loops for Looper {
    /// How often bulk calls were polled meanwhile.
    async fn urgent(&self, polls: u64) -> Result<u64, Status> {
        let before = self.bulk.load(SeqCst);
        for _ in 0..polls {
            futures_lite::future::yield_now().await;
        }
        Ok(self.bulk.load(SeqCst) - before)
    }

    async fn bulk(&self, polls: u64) -> Result<(), Status> {
        for _ in 0..polls {
            self.bulk.fetch_add(1, SeqCst);
            futures_lite::future::yield_now().await;
        }
        Ok(())
    }

    async fn plain(&self) -> Result<u64, Status> {
        Ok(self.bulk.load(SeqCst))
    }
}

#[corewire::test(seeds = 3)]
async fn a_tenth_of_the_shares_is_a_tenth_of_the_polls(sim: Simulation) {
    let looper = Looper::default();
    let server = Server::builder()
        .address("0.0.0.0:7000")
        .placement(Placement::Unpinned(1))
        .class_shares(ClassShares { latency: 1000, normal: 1000, batch: 100 })
        .service(move |_| LoopsServer::new(looper.clone()));
    sim.server("loops", server);
    let loops = LoopsClient::connect("loops:7000").await.unwrap();
    let done = Rc::new(Cell::new(0));
    let mut bulk = Vec::new();
    for _ in 0..CALLS {
        let (loops, done) = (loops.clone(), Rc::clone(&done));
        bulk.push(spawn(async move {
            loops.bulk(2000).await.unwrap();
            done.set(done.get() + 1);
        }));
    }
    // Alone they go on, and calls of other classes come between them.
    while loops.plain().await.unwrap() < 100 {}
    let urgent: Vec<_> = (0..CALLS)
        .map(|_| {
            let loops = loops.clone();
            spawn(async move { loops.urgent(1000).await.unwrap() })
        })
        .collect();
    for one in urgent {
        let meanwhile = one.await;
        // 8,000 urgent polls or so, and a tenth of that.
        assert!((700..950).contains(&meanwhile), "{meanwhile} polls of bulk calls");
    }
    assert_eq!(done.get(), 0, "bulk calls go on meanwhile");
    for one in bulk {
        one.await;
    }
}
