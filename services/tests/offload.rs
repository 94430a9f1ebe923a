//! Slow work on threads beside the shards, over real sockets.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use corewire::{
    CallError, OffloadError, Placement, Running, Server, ServerBuilder, Status, StatusCode,
    allowed_cpus, offload, on_tokio, spawn,
};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;
use support::{address, client, count, end, until};

/// What a test and its handlers share.
#[derive(Debug, Default)]
struct Gate {
    open: AtomicBool,
    /// Handlers that waited here.
    came: AtomicU32,
    /// Handlers that were let go.
    passed: AtomicU32,
}

impl Gate {
    fn pass(&self) {
        self.came.fetch_add(1, Ordering::SeqCst);
        while !self.open.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.passed.fetch_add(1, Ordering::SeqCst);
    }
}

#[corewire::service]
pub trait Work {
    /// The name of its thread, its CPUs, and the bytes.
    #[blocking]
    fn hash(&self, body: corewire::Bytes) -> Result<(String, Vec<u32>, u64), Status>;
    /// Passes the gate.
    #[blocking]
    fn wait(&self) -> Result<(), Status>;
    #[blocking]
    fn fall(&self) -> Result<(), Status>;
    #[blocking]
    #[one_way]
    fn note(&self, by: u32);
    /// Needs nothing of the service.
    #[blocking]
    fn double(number: u32) -> Result<u32, Status>;
    async fn noted(&self) -> Result<u32, Status>;
}

#[derive(Clone, Default)]
struct Worker {
    gate: Arc<Gate>,
    noted: Arc<AtomicU32>,
}

fn here() -> (String, Vec<u32>) {
    let cpus = allowed_cpus().unwrap().into_iter().map(|cpu| u32::try_from(cpu).unwrap());
    (std::thread::current().name().unwrap_or_default().to_owned(), cpus.collect())
}

impl Work for Worker {
    fn hash(&self, body: corewire::Bytes) -> Result<(String, Vec<u32>, u64), Status> {
        let (name, cpus) = here();
        Ok((name, cpus, body.iter().map(|byte| u64::from(*byte)).sum()))
    }

    fn wait(&self) -> Result<(), Status> {
        self.gate.pass();
        Ok(())
    }

    fn fall(&self) -> Result<(), Status> {
        panic!("no such row, as the test wants")
    }

    fn note(&self, by: u32) {
        self.noted.fetch_add(by, Ordering::SeqCst);
    }

    fn double(number: u32) -> Result<u32, Status> {
        Ok(number * 2)
    }

    async fn noted(&self) -> Result<u32, Status> {
        Ok(self.noted.load(Ordering::SeqCst))
    }
}

/// A service with state of its shard: it offloads by hand.
#[corewire::service]
pub trait Desk {
    async fn sum(&self, up_to: u64) -> Result<(u64, u32), Status>;
    async fn fall(&self) -> Result<(), Status>;
    async fn tokio(&self, how: u8) -> Result<String, Status>;
}

struct Shelf {
    asked: Cell<u32>,
    runtime: tokio::runtime::Handle,
    dropped: Arc<AtomicU32>,
}

struct Dropped(Arc<AtomicU32>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Desk for Shelf {
    async fn sum(&self, up_to: u64) -> Result<(u64, u32), Status> {
        self.asked.set(self.asked.get() + 1);
        let sum = offload(move || (1..=up_to).sum()).await?;
        Ok((sum, self.asked.get()))
    }

    async fn fall(&self) -> Result<(), Status> {
        Ok(offload(|| panic!("no such row, as the test wants")).await?)
    }

    async fn tokio(&self, how: u8) -> Result<String, Status> {
        let dropped = Dropped(Arc::clone(&self.dropped));
        Ok(on_tokio(&self.runtime, async move {
            let _dropped = dropped;
            tokio::time::sleep(Duration::from_millis(1)).await;
            match how {
                0 => std::thread::current().name().unwrap_or_default().to_owned(),
                1 => panic!("no such row, as the test wants"),
                _ => std::future::pending().await,
            }
        })
        .await?)
    }
}

/// Panics that the tests want are not worth a line each; all others are shown.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info.payload_as_str().is_some_and(|text| text.ends_with("as the test wants")) {
                usual(info);
            }
        }));
    });
}

fn builder(worker: &Worker) -> ServerBuilder {
    let worker = worker.clone();
    Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Unpinned(1))
        .service(move |_| WorkServer::new(worker.clone()))
}

fn start(worker: &Worker) -> Running {
    builder(worker).offload_threads(1).offload_queue(2).start().unwrap()
}

#[test]
fn blocking_methods_run_on_threads_of_their_own_beside_the_shards() {
    let worker = Worker::default();
    let cpus = allowed_cpus().unwrap();
    let (shard, beside) = (cpus[0], cpus[1..].to_vec());
    let server = builder(&worker).placement(Placement::Cpus(vec![shard])).start().unwrap();
    let to = address(&server);
    assert_eq!(server.offload_counts().threads, 0, "none before there is work");
    let told = client(move || async move {
        let work = WorkClient::connect(to).await.unwrap();
        work.note(3).await.unwrap();
        assert_eq!(work.double(21).await.unwrap(), 42);
        let small = work.hash(vec![1; 100].into()).await.unwrap();
        let large = work.hash(vec![1; 1_000_000].into()).await.unwrap();
        assert_eq!((small.2, large.2), (100, 1_000_000));
        while work.noted().await.unwrap() != 3 {}
        small
    });
    assert_eq!(told.0, "corewire-work");
    let ran_on = told.1.into_iter().map(|cpu| cpu as usize).collect::<BTreeSet<_>>();
    // On a machine with one CPU there is none beside the shard's.
    let expected = if beside.is_empty() { cpus } else { beside };
    assert_eq!(ran_on, expected.into_iter().collect());
    let counts = server.offload_counts();
    assert_eq!((counts.run, counts.queued, counts.running, counts.refused), (4, 0, 0, 0));
    end(server);
}

#[test]
fn a_full_queue_is_told_at_once_and_nothing_has_run() {
    let worker = Worker::default();
    let server = start(&worker);
    let to = address(&server);
    let gate = Arc::clone(&worker.gate);
    client(move || async move {
        let work = WorkClient::connect(to).await.unwrap();
        let mut waiting = Vec::new();
        for number in 0..3 {
            let work = work.clone();
            waiting.push(spawn(async move { work.wait().await }));
            // The first is on the thread before the others are in the queue.
            while number == 0 && gate.came.load(Ordering::SeqCst) == 0 {
                corewire::sleep(Duration::from_millis(1)).await;
            }
        }
        // On the same connection: after the second of these the server has begun all three.
        work.noted().await.unwrap();
        work.noted().await.unwrap();
        let refused = work.double(1).await.unwrap_err();
        assert_eq!(refused.code(), StatusCode::ResourceExhausted);
        assert!(!refused.may_have_run(), "{refused}");
        assert!(refused.to_string().contains("overloaded"), "{refused}");
        assert_eq!(work.noted().await.unwrap(), 0, "the shard itself answers");
        gate.open.store(true, Ordering::SeqCst);
        for one in waiting {
            one.await.unwrap();
        }
        assert_eq!(work.double(1).await.unwrap(), 2);
    });
    let counts = server.offload_counts();
    assert_eq!((counts.run, counts.refused, counts.threads), (4, 1, 1));
    end(server);
}

#[test]
fn who_gives_up_leaves_the_queue() {
    let worker = Worker::default();
    let server = start(&worker);
    let to = address(&server);
    let gate = Arc::clone(&worker.gate);
    client(move || async move {
        let work = WorkClient::connect(to).await.unwrap();
        let first = spawn({
            let work = work.clone();
            async move { work.wait().await }
        });
        while gate.came.load(Ordering::SeqCst) == 0 {
            corewire::sleep(Duration::from_millis(1)).await;
        }
        for _ in 0..20 {
            // One by its deadline, one by its caller.
            let hasty = work.with_timeout(Duration::from_millis(5));
            let late = spawn(async move { hasty.wait().await });
            let cancelled = spawn({
                let work = work.clone();
                async move { work.wait().await }
            });
            let failed = late.await.unwrap_err();
            assert_eq!(failed.code(), StatusCode::DeadlineExceeded);
            drop(cancelled);
            work.noted().await.unwrap();
        }
        assert_eq!(gate.came.load(Ordering::SeqCst), 1, "no other has begun");
        gate.open.store(true, Ordering::SeqCst);
        first.await.unwrap();
        // Behind all that was ever in the queue.
        assert_eq!(work.double(4).await.unwrap(), 8);
        assert_eq!(gate.came.load(Ordering::SeqCst), 1, "nor will it");
    });
    let counts = server.offload_counts();
    assert_eq!((counts.run, counts.cancelled, counts.queued, counts.refused), (2, 40, 0, 0));
    end(server);
}

#[test]
fn a_panic_costs_its_call_alone_and_its_text_stays_here() {
    quiet();
    let worker = Worker::default();
    let server = start(&worker);
    let to = address(&server);
    client(move || async move {
        let work = WorkClient::connect(to).await.unwrap();
        for round in 0..50 {
            let Err(CallError::Status(failed)) = work.fall().await else { panic!("it falls") };
            assert_eq!(failed.code(), StatusCode::Internal);
            assert_eq!(failed.message(), "the handler panicked");
            assert_eq!(work.double(round).await.unwrap(), 2 * round);
        }
    });
    let counts = server.offload_counts();
    assert_eq!((counts.run, counts.panicked, counts.threads), (100, 50, 1));
    assert_eq!(count(&server, |it| it.panics.value()), 0, "no shard's handler did");
    end(server);
}

#[test]
fn a_drain_finishes_what_waits_and_ends_the_threads() {
    let worker = Worker::default();
    // One may still be in the queue when the others come.
    let server = builder(&worker).offload_threads(1).offload_queue(3).start().unwrap();
    let to = address(&server);
    let callers = std::thread::spawn(move || {
        client(move || async move {
            let work = WorkClient::connect(to).await.unwrap();
            let calls: Vec<_> = (0..3)
                .map(|_| {
                    let work = work.clone();
                    spawn(async move { work.wait().await })
                })
                .collect();
            let mut outcomes = Vec::new();
            for call in calls {
                outcomes.push(call.await);
            }
            outcomes
        })
    });
    until("one runs and two wait", || {
        let counts = server.offload_counts();
        (counts.running, counts.queued) == (1, 2)
    });
    server.stop();
    until("it drains", || !server.readiness().is_ready());
    worker.gate.open.store(true, Ordering::SeqCst);
    for outcome in callers.join().unwrap() {
        outcome.unwrap();
    }
    // What ran there is gone with the server: this is the last handle.
    end(server);
    assert_eq!(worker.gate.passed.load(Ordering::SeqCst), 3);
    assert_eq!(Arc::strong_count(&worker.gate), 1);
}

#[test]
fn handlers_with_state_of_their_shard_offload_by_hand() {
    quiet();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("a-tokio-thread")
        .enable_all()
        .build()
        .unwrap();
    let (handle, dropped) = (runtime.handle().clone(), Arc::new(AtomicU32::new(0)));
    let seen = Arc::clone(&dropped);
    let server = Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Unpinned(1))
        .service(move |_| {
            let (runtime, dropped) = (handle.clone(), Arc::clone(&dropped));
            DeskServer::new(Shelf { asked: Cell::new(0), runtime, dropped })
        })
        .start()
        .unwrap();
    let to = address(&server);
    client(move || async move {
        let desk = DeskClient::connect(to).await.unwrap();
        assert_eq!(desk.sum(1000).await.unwrap(), (500_500, 1));
        let Err(CallError::Status(failed)) = desk.fall().await else { panic!("it falls") };
        let told = Status::from(OffloadError::Panicked);
        assert_eq!((failed.code(), failed.message()), (told.code(), told.message()));

        assert_eq!(desk.tokio(0).await.unwrap(), "a-tokio-thread");
        let Err(CallError::Status(failed)) = desk.tokio(1).await else { panic!("it falls") };
        assert_eq!((failed.code(), failed.message()), (StatusCode::Internal, "the work panicked"));
        // The end of the call ends the future there.
        let before = seen.load(Ordering::SeqCst);
        let hasty = desk.with_timeout(Duration::from_millis(20));
        assert_eq!(hasty.tokio(2).await.unwrap_err().code(), StatusCode::DeadlineExceeded);
        while seen.load(Ordering::SeqCst) == before {
            corewire::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(desk.sum(1).await.unwrap(), (1, 2), "the shard goes on");
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
    client(move || async move {
        let desk = DeskClient::connect(to).await.unwrap();
        assert_eq!(desk.tokio(0).await.unwrap_err().code(), StatusCode::Unavailable);
    });
    end(server);
}

#[test]
fn settings_have_ranges() {
    for (threads, queue, what) in [
        (0, 1, "offload_threads"),
        (1025, 1, "offload_threads"),
        (1, 0, "offload_queue"),
        (1, 65_537, "offload_queue"),
    ] {
        let server = builder(&Worker::default()).offload_threads(threads).offload_queue(queue);
        let error = server.start().unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
    let server = builder(&Worker::default()).warn_held_after(Duration::ZERO);
    let error = server.start().unwrap_err().to_string();
    assert!(error.contains("warn_held_after"), "{error}");
}
