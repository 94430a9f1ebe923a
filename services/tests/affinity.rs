//! Which CPUs threads may use: a shard pins its own thread, and nothing else for longer than it runs.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{
    ClientShard, Host, Placement, Server, Status, allowed_cpus, block_on_shard, with_all_cpus,
};
use rustix::thread::{CpuSet, sched_getaffinity};

/// Tells which CPUs there are for a handler, and for what it starts.
#[corewire::service]
pub trait Masks {
    /// How many: the handler's own, and its one CPU; those of a thread that it starts.
    async fn pinned(&self) -> Result<(usize, Option<usize>, usize), Status>;
    /// The same with all CPUs: of a thread, a worker of a pool, and of threads that the pool makes later.
    async fn free(&self) -> Result<Vec<usize>, Status>;
}

struct Target;

impl Masks for Target {
    async fn pinned(&self) -> Result<(usize, Option<usize>, usize), Status> {
        let own = mask();
        let first = (0..CpuSet::MAX_CPU).find(|&cpu| own.is_set(cpu));
        Ok((count(own), first, count(inherited())))
    }

    async fn free(&self) -> Result<Vec<usize>, Status> {
        let mut pool = tokio::runtime::Builder::new_multi_thread();
        let pool = with_all_cpus(|| pool.worker_threads(1).build().unwrap());
        let worker = pool.spawn(async { mask() }).await.unwrap();
        let by_task = pool.spawn(async { tokio::task::spawn_blocking(mask).await.unwrap() });
        let by_task = by_task.await.unwrap();
        let here = with_all_cpus(|| pool.spawn_blocking(mask)).await.unwrap();
        pool.shutdown_background();
        let thread = with_all_cpus(inherited);
        Ok([thread, worker, by_task, here].map(count).to_vec())
    }
}

fn count(mask: CpuSet) -> usize {
    usize::try_from(mask.count()).unwrap()
}

fn mask() -> CpuSet {
    sched_getaffinity(None).unwrap()
}

/// The mask of a thread that is started here.
fn inherited() -> CpuSet {
    std::thread::spawn(mask).join().unwrap()
}

/// On a machine with one CPU this shows nothing.
#[test]
fn a_thread_that_ran_a_shard_is_not_pinned_afterwards() {
    let (before, cpu) = (mask(), allowed_cpus().unwrap()[0]);
    let shard = ClientShard { cpu: Some(cpu), ..ClientShard::default() };
    let pinned = block_on_shard(shard, || async { mask() }).unwrap();
    assert!(pinned.is_set(cpu) && pinned.count() == 1, "{pinned:?}");
    assert_eq!(mask(), before);

    // A panic of the work restores it, too.
    let panics = || {
        block_on_shard(shard, move || async move { assert!(!mask().is_set(cpu), "it is pinned") })
    };
    assert!(std::panic::catch_unwind(panics).is_err());
    assert_eq!(mask(), before);
}

#[test]
fn threads_that_a_shard_starts_can_have_all_cpus() {
    let (before, cpu) = (mask(), allowed_cpus().unwrap()[0]);
    let shard = ClientShard { cpu: Some(cpu), ..ClientShard::default() };
    let (trap, free, after) = block_on_shard(shard, || async {
        let trap = inherited();
        let free = with_all_cpus(inherited);
        assert!(
            std::panic::catch_unwind(|| with_all_cpus(|| panic!("as the test wants"))).is_err()
        );
        (trap, free, mask())
    })
    .unwrap();
    assert_eq!((trap.count(), free), (1, before));
    assert_eq!(after.count(), 1, "the shard is pinned again");
    // Elsewhere it changes nothing.
    assert_eq!(with_all_cpus(inherited), before);
}

/// On either host, at a server and at a client.
#[test]
fn a_shard_is_pinned_and_what_its_handlers_start_need_not_be() {
    let (all, cpu) = (count(mask()), *allowed_cpus().unwrap().last().unwrap());
    for host in [Host::Auto, Host::Plain] {
        let shard = ClientShard { cpu: Some(cpu), host, ..ClientShard::default() };
        let pinned = block_on_shard(shard, || async { mask() }).unwrap();
        assert!(pinned.is_set(cpu) && pinned.count() == 1, "{host}: {pinned:?}");

        let server = Server::builder()
            .address("127.0.0.1:0")
            .placement(Placement::Cpus(vec![cpu]))
            .host(host)
            .service(|_| MasksServer::new(Target))
            .start()
            .unwrap();
        let to = support::address(&server);
        support::client(move || async move {
            let client = MasksClient::connect(to).await.unwrap();
            assert_eq!(client.pinned().await, Ok((1, Some(cpu), 1)), "{host}");
            assert_eq!(client.free().await, Ok(vec![all; 4]), "{host}");
            assert_eq!(client.pinned().await, Ok((1, Some(cpu), 1)), "{host}: pinned again");
        });
        support::end(server);
    }
}

/// With one CPU this shows nothing.
#[test]
fn a_server_after_a_pinned_shard_has_a_shard_for_each_cpu() {
    let cpus = allowed_cpus().unwrap();
    for host in [Host::Auto, Host::Plain] {
        let shard = ClientShard { cpu: Some(cpus[0]), host, ..ClientShard::default() };
        block_on_shard(shard, || async {}).unwrap();
        let server = Server::builder()
            .address("127.0.0.1:0")
            .host(Host::Plain)
            .service(|_| MasksServer::new(Target))
            .start()
            .unwrap();
        let placed: Vec<_> = server.shards().iter().filter_map(|shard| shard.info.cpu).collect();
        assert_eq!(placed, cpus, "{host}");
        support::end(server);
    }
}
