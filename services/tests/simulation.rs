//! What a user's simulation promises: runs that replay, faults that do what they are called, time that costs nothing.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs, reason = "tests")]

mod support;

use corewire::layer::{CallTime, CallTimer, TimeLimit};
use corewire::testing::{FailureKind, Network, Simulation};
use corewire::{
    CallError, Channel, ChannelConfig, Context, Placement, Server, ServerBuilder, Status,
    Streaming, sleep, spawn,
};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::pending;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::child::{role, run, say};

#[corewire::service]
pub trait Work {
    /// Notes the number, takes some time, and returns the number.
    async fn work(&self, number: u64, ms: u64) -> Result<u64, Status>;
    async fn who(&self, context: &Context) -> Result<String, Status>;
    async fn numbers(&self, count: u64) -> Result<Streaming<u64>, Status>;
    #[one_way]
    async fn note(&self, number: u64);
}

/// How often each number was worked on.
#[derive(Clone, Default)]
struct Worker(Arc<Mutex<BTreeMap<u64, u32>>>);

impl Worker {
    fn runs(&self, number: u64) -> u32 {
        self.0.lock().unwrap().get(&number).copied().unwrap_or(0)
    }

    fn most_runs(&self) -> u32 {
        self.0.lock().unwrap().values().copied().max().unwrap_or(0)
    }

    fn server(&self) -> ServerBuilder {
        let this = self.clone();
        Server::builder().service(move |_| WorkServer::new(this.clone()))
    }
}

impl Work for Worker {
    async fn work(&self, number: u64, ms: u64) -> Result<u64, Status> {
        *self.0.lock().unwrap().entry(number).or_default() += 1;
        if ms > 0 {
            sleep(Duration::from_millis(ms)).await;
        }
        Ok(number)
    }

    async fn who(&self, context: &Context) -> Result<String, Status> {
        Ok(format!("{} at shard {}", context.peer(), context.shard()))
    }

    async fn numbers(&self, count: u64) -> Result<Streaming<u64>, Status> {
        let (mut sender, stream) = Streaming::channel();
        spawn(async move {
            for number in 0..count {
                sleep(Duration::from_secs(60)).await;
                if sender.send(number).await.is_err() {
                    return;
                }
            }
        })
        .detach();
        Ok(stream)
    }

    async fn note(&self, number: u64) {
        *self.0.lock().unwrap().entry(number).or_default() += 1;
    }
}

fn client(to: &str) -> WorkClient {
    WorkClient::new(Channel::new(to, ChannelConfig::default()).unwrap())
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Some calls over a bad network, to a server that crashes; returns how each of them ended.
async fn rough_ride(sim: Simulation, worker: Worker) -> Vec<Result<u64, CallError>> {
    sim.server("worker", worker.server().placement(Placement::Unpinned(2)));
    sim.set_network(Network { resets: 0.02, ..Network::lossy() });
    let crasher = {
        let sim = sim.clone();
        spawn(async move {
            for _ in 0..3 {
                sleep(Duration::from_millis(sim.draw(200..1500))).await;
                sim.crash("worker");
                sleep(Duration::from_millis(sim.draw(1..500))).await;
                sim.restart("worker");
            }
        })
    };
    let calls: Vec<_> = (0..40)
        .map(|number| {
            let (to, sim) = (client("worker:1"), sim.clone());
            spawn(async move {
                sleep(Duration::from_millis(sim.draw(0..4_000))).await;
                to.with_timeout(secs(2)).work(number, number % 5 * 100).await
            })
        })
        .collect();
    let mut ends = Vec::new();
    for call in calls {
        ends.push(call.await);
    }
    crasher.await;
    ends
}

#[test]
fn the_same_seed_is_the_same_run() {
    let run = |seed| {
        let sim = Simulation::new(seed);
        let ends = sim.run(rough_ride(sim.clone(), Worker::default()));
        let ends: Vec<String> = ends.iter().map(|end| format!("{end:?}")).collect();
        (sim.trace_hash(), sim.elapsed(), ends, sim.trace())
    };
    let mut hashes = std::collections::BTreeSet::new();
    for seed in 0..8 {
        let first = run(seed);
        assert_eq!(first, run(seed), "seed {seed}");
        hashes.insert(first.0);
    }
    assert_eq!(hashes.len(), 8, "different seeds are different runs");
}

#[test]
fn a_call_never_runs_twice_and_says_whether_it_ran() {
    let (mut lost, mut whole, mut unsent) = (0, 0, 0);
    for seed in 0..30 {
        let (sim, worker) = (Simulation::new(seed), Worker::default());
        let ends = sim.run(rough_ride(sim.clone(), worker.clone()));
        assert!(worker.most_runs() <= 1, "seed {seed}");
        for (number, end) in (0..).zip(ends) {
            match end {
                Ok(value) => {
                    assert_eq!((value, worker.runs(number)), (number, 1), "seed {seed}");
                    whole += 1;
                }
                Err(error) if !error.may_have_run() => {
                    assert_eq!(worker.runs(number), 0, "seed {seed}, {number}: {error}");
                    unsent += 1;
                }
                Err(_) => lost += 1,
            }
        }
    }
    assert!(lost > 20 && whole > 200 && unsent > 0, "{lost} lost, {whole} whole, {unsent} unsent");
}

#[corewire::test(seeds = 10)]
async fn a_partition_makes_calls_time_out_and_heals(sim: Simulation) {
    sim.server("worker", Worker::default().server());
    let to = client("worker:1").with_timeout(secs(3));
    assert_eq!(to.work(1, 0).await, Ok(1));
    sim.partition("test", "worker");
    let begun = sim.elapsed();
    assert!(matches!(to.work(2, 0).await, Err(CallError::DeadlineExceeded { .. })));
    assert!(sim.elapsed() - begun >= secs(3));
    sim.heal("test", "worker");
    assert_eq!(to.work(3, 0).await, Ok(3));
    // A long one ends the connection, for want of pongs, and another one is made.
    sim.isolate("worker");
    sleep(secs(300)).await;
    assert!(to.work(4, 0).await.is_err());
    sim.heal_all();
    sleep(secs(10)).await;
    assert_eq!(to.work(5, 0).await, Ok(5));
}

#[corewire::test(seeds = 10)]
async fn a_restarted_server_has_forgotten_and_serves(sim: Simulation) {
    let worker = Worker::default();
    sim.server("worker", worker.server());
    let to = client("worker:1");
    assert_eq!(to.work(1, 0).await, Ok(1));
    let pending = {
        let to = to.clone();
        spawn(async move { to.work(2, 3_600_000).await })
    };
    sleep(secs(1)).await;
    sim.crash("worker");
    assert!(pending.await.unwrap_err().may_have_run());
    assert!(!sim.is_up("worker"));
    assert!(!to.work(3, 0).await.unwrap_err().may_have_run(), "nobody listens");
    sim.restart("worker");
    sleep(secs(6)).await;
    assert!(sim.is_up("worker"));
    assert_eq!(to.work(4, 0).await, Ok(4));
    assert_eq!(worker.most_runs(), 1);
}

#[corewire::test]
async fn hours_pass_at_once(sim: Simulation) {
    sim.server("worker", Worker::default().server());
    let to = client("worker:1").without_timeout();
    let (begun, real) = (corewire::now(), std::time::Instant::now());
    assert_eq!(to.work(1, 10 * 3_600_000).await, Ok(1));
    assert!(corewire::now() - begun >= secs(36_000));
    assert!(real.elapsed() < secs(60), "ten hours took {:?}", real.elapsed());
    let mut numbers = to.numbers(3).await.unwrap();
    let mut sum = 0;
    while let Some(number) = numbers.next().await {
        sum += number.unwrap();
    }
    assert_eq!(sum, 3);
}

#[test]
fn what_hangs_is_reported() {
    let sim = Simulation::new(3);
    let failure = sim.try_run(pending::<()>()).unwrap_err();
    assert_eq!((failure.seed, &failure.why), (3, &FailureKind::Hung));
    assert!(failure.to_string().contains("COREWIRE_SEED=3"), "{failure}");
    // With a connection there is always something due: a ping.
    let sim = Simulation::new(4);
    sim.set_time_limit(secs(3_600));
    sim.server("worker", Worker::default().server());
    let failure = sim.try_run(async {
        let to = client("worker:1").without_timeout();
        to.work(1, 100 * 3_600_000).await.unwrap();
    });
    let failure = failure.unwrap_err();
    assert_eq!(failure.why, FailureKind::TimeUp(secs(3_600)));
    let text = failure.to_string();
    assert!(text.contains("Work/work pends"), "it does not say what is waited for: {text}");
    // Time that hardly passes.
    let failure = Simulation::new(5).try_run(async {
        loop {
            futures_lite::future::yield_now().await;
        }
    });
    let failure = failure.map(|(): ()| ()).unwrap_err();
    assert!(matches!(failure.why, FailureKind::Livelock(_)), "{failure}");
}

#[test]
fn a_run_with_too_many_steps_is_ended() {
    let sim = Simulation::new(6);
    sim.set_step_limit(5_000);
    let failure = sim.try_run(async {
        loop {
            futures_lite::future::yield_now().await;
        }
    });
    let failure = failure.map(|(): ()| ()).unwrap_err();
    assert!(
        matches!(failure.why, FailureKind::Livelock(steps) if (5_000..6_000).contains(&steps)),
        "{failure}"
    );
    assert!(failure.to_string().contains("set_step_limit"), "{failure}");
    // One that keeps within its limit does not notice it.
    let sim = Simulation::new(6);
    sim.set_step_limit(5_000);
    sim.server("worker", Worker::default().server());
    assert_eq!(sim.run(async { client("worker:1").work(1, 0).await }), Ok(1));
}

/// The label of a child that has run a seed.
const RAN: &str = "child-ran ";

/// Runs some seeds, and says for each what has happened in it.
#[test]
fn a_child() {
    if role().is_none() {
        return;
    }
    Simulation::for_seeds(0..4, |sim| async move {
        rough_ride(sim.clone(), Worker::default()).await;
        say(RAN, &format!("{} {:x}", sim.seed(), sim.trace_hash()));
    });
}

/// What the child says of its seeds, and what it prints besides.
fn seeds_run(variables: &[(&str, &str)]) -> (Vec<String>, String) {
    let (status, said, printed) = run("a_child", "seeds", variables);
    assert!(status.success(), "{printed}");
    let ran = said.lines().filter_map(|line| line.strip_prefix(RAN));
    (ran.map(|line| line.trim().to_owned()).collect(), printed)
}

#[test]
fn the_environment_says_which_seeds_are_run_and_shows_them() {
    let (all, printed) = seeds_run(&[]);
    assert_eq!(all.len(), 4);
    assert!(!printed.contains("worker: crashes"), "{printed}");
    assert_eq!(seeds_run(&[("COREWIRE_SEED", "2")]).0, all[2..3], "it replays");
    assert_eq!(seeds_run(&[("COREWIRE_SEEDS", "2")]).0, all[..2]);
    let (more, _) = seeds_run(&[("COREWIRE_SEEDS", "6")]);
    assert!(more.len() == 6 && more.starts_with(&all), "{more:?}");
    // One that was not among the test's own, with all that happens in it.
    let (one, printed) = seeds_run(&[("COREWIRE_SEED", "5"), ("COREWIRE_TRACE", "1")]);
    assert_eq!(one, more[5..]);
    for part in ["worker: serves", "worker: crashes", "Work/work (handler", "bytes reach"] {
        assert!(printed.contains(part), "it does not show '{part}': {printed}");
    }
    let (status, _, printed) = run("a_child", "seeds", &[("COREWIRE_SEED", "first")]);
    assert!(!status.success());
    assert!(
        printed.contains("COREWIRE_SEED is 'first'; it takes a number, such as 42"),
        "{printed}"
    );
}

#[test]
fn panics_and_errors_come_with_their_seed() {
    let failure = Simulation::new(9).try_run(async { assert_eq!(1, 2, "as planned") });
    let failure = failure.unwrap_err();
    assert!(matches!(&failure.why, FailureKind::Panicked(text) if text.contains("as planned")));
    let sim = Simulation::new(10);
    sim.host("other", || async { Err::<(), _>("no luck") });
    let failure = sim.try_run(async { sleep(secs(1)).await }).unwrap_err();
    assert!(failure.to_string().contains("the host 'other': \"no luck\""), "{failure}");
    let caught = std::panic::catch_unwind(|| {
        Simulation::for_seeds(0..20, |sim| async move {
            if sim.seed() == 13 { Err("unlucky") } else { Ok(()) }
        });
    });
    let panic = caught.unwrap_err();
    let text = panic.downcast_ref::<String>().unwrap();
    assert!(text.contains("seed 13") && text.contains("unlucky"), "{text}");
}

#[test]
fn a_server_that_does_not_start_fails_the_run() {
    let sim = Simulation::new(1);
    let broken = Server::builder().service_with(|_| async {
        sleep(secs(1)).await;
        Err::<WorkServer<Worker>, _>("the disk is empty")
    });
    sim.server("worker", broken);
    let failure = sim.try_run(async {}).unwrap_err();
    assert!(
        failure.to_string().contains("'worker' does not start: the disk is empty"),
        "{failure}"
    );
    for (builder, part) in [
        (Server::builder(), "no service"),
        (Worker::default().server().address("unix:/tmp/a"), "Unix"),
        (Worker::default().server().backlog(0), "backlog is 0"),
    ] {
        let sim = Simulation::new(1);
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            sim.server("worker", builder);
        }));
        let panic = caught.unwrap_err();
        let text = panic.downcast_ref::<String>().unwrap();
        assert!(text.contains(part), "{text} does not say {part}");
    }
}

#[test]
#[should_panic(expected = "there is no host 'wroker' in this simulation; there are: test, worker")]
fn names_of_no_host_are_told() {
    let sim = Simulation::new(1);
    sim.server("worker", Worker::default().server());
    sim.crash("wroker");
}

#[test]
fn a_server_that_does_not_start_again_is_down() {
    let sim = Simulation::new(1);
    let starts = Arc::new(Mutex::new(0));
    let builder = Server::builder().service_with(move |_| {
        let mut starts = starts.lock().unwrap();
        *starts += 1;
        let first = *starts == 1;
        async move {
            if first { Ok(WorkServer::new(Worker::default())) } else { Err("the disk is full") }
        }
    });
    sim.server("worker", builder);
    let failure = sim.try_run({
        let sim = sim.clone();
        async move {
            assert_eq!(client("worker:1").work(1, 0).await, Ok(1));
            sim.restart("worker");
            sleep(secs(10)).await;
            assert!(!sim.is_up("worker"));
            pending::<()>().await;
        }
    });
    let text = failure.unwrap_err().to_string();
    assert!(text.contains("worker: down, it did not start: the disk is full"), "{text}");
}

/// Asks the next server, in the context of the call that it serves.
struct Relay(WorkClient);

impl Work for Relay {
    async fn work(&self, number: u64, ms: u64) -> Result<u64, Status> {
        self.0.work(number, ms).await.map_err(|error| error.to_status())
    }
    async fn who(&self, context: &Context) -> Result<String, Status> {
        let here = context.remaining().unwrap_or_default();
        let behind = self.0.in_context(context).who().await.map_err(|error| error.to_status())?;
        Ok(format!("{behind}, {}s before", here.as_secs()))
    }
    async fn numbers(&self, count: u64) -> Result<Streaming<u64>, Status> {
        self.0.numbers(count).await.map_err(|error| error.to_status())
    }
    async fn note(&self, number: u64) {
        drop(self.0.note(number).await);
    }
}

#[corewire::test(seeds = 5)]
async fn three_servers_and_their_layers_live_in_virtual_time(sim: Simulation) {
    let times = Arc::new(Mutex::new(Vec::new()));
    let relay = |to: &'static str| {
        Server::builder().service(move |_| WorkServer::new(Relay(client(to).without_timeout())))
    };
    sim.server("front", relay("middle:1"));
    sim.server("middle", relay("back:1"));
    let back = Worker::default().server();
    let (clock, told) = (Arc::clone(&times), Arc::clone(&times));
    let timing = move |_| {
        let told = Arc::clone(&told);
        CallTimer::new(move |timed: &CallTime| told.lock().unwrap().push(timed.elapsed))
    };
    sim.server("back", back.layer(|_| TimeLimit::at_most(secs(7_200))).layer(timing));
    let to = client("front:1").without_timeout();
    let reply = to.work(1, 3_600_000).with_response().await.unwrap();
    assert_eq!(reply.value, 1);
    assert!(reply.handler_time().unwrap() >= secs(3_600));
    let late = to.work(2, 8_000_000).await.unwrap_err();
    assert!(late.to_string().to_lowercase().contains("deadline"), "{late}");
    let times = clock.lock().unwrap().clone();
    assert!(times.len() == 2 && times.iter().all(|time| *time >= secs(3_600)), "{times:?}");
    let who = to.with_timeout(secs(100)).who().await.unwrap();
    assert!(who.contains("10.0.0.3:") && who.ends_with("100s before, 100s before"), "{who}");
}

#[corewire::test(seeds = 5)]
async fn a_stopped_host_goes_on_where_it_was(sim: Simulation) {
    let worker = Worker::default();
    sim.server("worker", worker.server());
    let to = client("worker:1");
    assert_eq!(to.work(1, 0).await, Ok(1));
    sim.stop("worker");
    sleep(secs(1)).await;
    let call = {
        let to = to.clone();
        spawn(async move { to.work(2, 0).await })
    };
    sleep(secs(5)).await;
    assert_eq!((worker.runs(2), call.is_finished()), (0, false));
    sim.resume("worker");
    assert_eq!(call.await, Ok(2));
    let begun = sim.elapsed();
    sim.pause("worker", secs(4));
    sleep(Duration::from_millis(1)).await;
    assert_eq!(to.work(3, 0).await, Ok(3));
    let took = sim.elapsed() - begun;
    assert!(took >= secs(4) && took < secs(5), "{took:?}");
}

#[corewire::test(seeds = 5)]
async fn a_drain_finishes_what_is_in_flight(sim: Simulation) {
    sim.server("worker", Worker::default().server().drain_within(secs(30)));
    let to = client("worker:1").with_timeout(secs(3_600));
    let call = |number, ms| {
        let to = to.clone();
        spawn(async move { to.work(number, ms).await })
    };
    let (short, long) = (call(1, 20_000), call(2, 60_000));
    sleep(secs(1)).await;
    sim.drain("worker");
    sleep(secs(1)).await;
    assert!(!to.work(3, 0).await.unwrap_err().may_have_run());
    assert_eq!(short.await, Ok(1));
    assert!(long.await.is_err());
    sleep(secs(5)).await;
    assert!(!sim.is_up("worker"));
}

#[corewire::test]
async fn the_network_is_as_slow_as_it_is_told(sim: Simulation) {
    sim.server("worker", Worker::default().server());
    let ms = Duration::from_millis;
    sim.set_network(Network { latency: ms(50)..=ms(50), ..Network::default() });
    let to = client("worker:1");
    to.work(1, 0).await.unwrap();
    let begun = sim.elapsed();
    to.work(2, 0).await.unwrap();
    let took = sim.elapsed() - begun;
    assert!((ms(100)..ms(101)).contains(&took), "{took:?}");
    // A second call does not ride on the first.
    let first = {
        let to = to.clone();
        spawn(async move { to.work(3, 0).await })
    };
    sleep(ms(40)).await;
    let begun = sim.elapsed();
    to.work(4, 0).await.unwrap();
    assert!(sim.elapsed() - begun >= ms(100));
    first.await.unwrap();
    sim.set_link(
        "test",
        "worker",
        Network { latency: ms(1)..=ms(1), bandwidth: Some(1_000), ..Network::default() },
    );
    let begun = sim.elapsed();
    to.work(5, 0).await.unwrap();
    let took = sim.elapsed() - begun;
    // A request and a reply of some dozens of bytes, at one byte a millisecond.
    assert!(took > ms(30) && took < ms(300), "{took:?}");
}

/// A refused connect is told at once; one that is delayed works.
#[test]
fn connects_are_refused_or_delayed_as_often_as_it_is_told() {
    let connects = |refusals: f64| {
        let (mut refused, mut delayed) = (0, 0);
        for seed in 0..30 {
            let sim = Simulation::new(seed);
            sim.server("worker", Worker::default().server());
            sim.set_network(Network { refusals, ..Network::default() });
            let connected = sim.run(async {
                let begun = corewire::now();
                WorkClient::connect("worker:1").await.map(|_| corewire::now() - begun)
            });
            match connected {
                Ok(took) => delayed += u32::from(took >= secs(1)),
                Err(_) => refused += 1,
            }
        }
        (refused, delayed)
    };
    assert_eq!(connects(0.0), (0, 0));
    assert_eq!(connects(1.0), (30, 0), "those that are delayed are refused in the end");
    let (refused, delayed) = connects(0.4);
    assert!(refused > 0 && delayed > 0 && refused + delayed < 30, "{refused}, {delayed}");
}

#[test]
fn what_is_cut_arrives_in_more_pieces_and_whole() {
    let pieces = |cuts: f64| {
        let sim = Simulation::new(1);
        sim.server("worker", Worker::default().server());
        sim.set_network(Network { cuts, ..Network::default() });
        assert_eq!(sim.run(async { client("worker:1").work(u64::MAX, 0).await }), Ok(u64::MAX));
        sim.trace().iter().filter(|line| line.contains("bytes reach")).count()
    };
    let (whole, cut) = (pieces(0.0), pieces(1.0));
    assert!(cut > whole, "{cut} pieces, and {whole} without cuts");
}

#[corewire::test(seeds = 3)]
async fn hosts_have_addresses_ports_and_shards(sim: Simulation) {
    let server = Worker::default().server();
    let server = server.address("0.0.0.0:7000").placement(Placement::Unpinned(3));
    sim.server("worker", server);
    let mut shards = std::collections::BTreeSet::new();
    for _ in 0..30 {
        let who = client("worker:7000").who().await.unwrap();
        assert!(who.starts_with("10.0.0.1:"), "{who}");
        shards.insert(who.rsplit(' ').next().unwrap().to_owned());
    }
    assert_eq!(shards.len(), 3, "{shards:?}");
    let by_ip = std::net::SocketAddr::new(sim.ip("worker"), 7000);
    let connected = WorkClient::connect(by_ip).await.unwrap();
    assert!(connected.who().await.is_ok());
    assert!(WorkClient::connect("worker:7001").await.is_err(), "nobody listens there");
    assert!(WorkClient::connect("wroker:7000").await.is_err(), "nobody has that name");
}

#[corewire::test(seeds = 3)]
async fn hosts_run_clients_and_one_way_calls(sim: Simulation) {
    let worker = Worker::default();
    sim.server("worker", worker.server());
    sim.host("caller", || async {
        let to = client("worker:1");
        for number in 0..10 {
            to.note(number).await?;
            sleep(secs(1)).await;
        }
        Ok::<_, CallError>(())
    });
    sleep(secs(5)).await;
    sim.restart("caller");
    sleep(secs(60)).await;
    assert_eq!((worker.runs(0), worker.runs(9)), (2, 1));
}

#[test]
fn a_pair_shares_its_state_with_the_test() {
    struct Counter(Rc<Cell<u64>>);

    impl Work for Counter {
        async fn work(&self, number: u64, _: u64) -> Result<u64, Status> {
            self.0.set(self.0.get() + number);
            Ok(self.0.get())
        }
        async fn who(&self, context: &Context) -> Result<String, Status> {
            // A deadline in virtual time.
            sleep(context.remaining().unwrap() * 2).await;
            Ok("nobody".into())
        }
        async fn numbers(&self, _: u64) -> Result<Streaming<u64>, Status> {
            Err(Status::unimplemented("not here"))
        }
        async fn note(&self, _: u64) {}
    }

    let count = Rc::new(Cell::new(1));
    let service = WorkServer::new(Counter(Rc::clone(&count)));
    let reply = corewire::testing::pair(service, |channel| async move {
        let to = WorkClient::new(channel);
        let late = to.with_timeout(secs(7_200)).who().await;
        assert!(matches!(late, Err(CallError::DeadlineExceeded { .. })), "{late:?}");
        to.work(4, 0).await
    });
    assert_eq!((reply, count.get()), (Ok(5), 5));
}

#[corewire::test]
async fn a_test_without_a_simulation_has_real_sockets() -> Result<(), Box<dyn std::error::Error>> {
    let server = Worker::default().server().address("127.0.0.1:0");
    let server = server.placement(Placement::Unpinned(1)).start()?;
    let to = WorkClient::connect(&server.addresses()[0]).await?;
    assert_eq!(to.work(1, 1).await?, 1);
    server.stop();
    server.ended().await;
    Ok(())
}
