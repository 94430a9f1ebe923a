//! Connections that change shards: the load evens out, and nobody notices.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod support;

use corewire::{
    Balance, ChannelConfig, Context, Placement, Running, Server, ServerBuilder, Spin, Status,
    Streaming, blocking, sleep,
};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

#[corewire::service]
trait Work {
    /// Computes for so many microseconds; returns the number of the shard.
    async fn burn(&self, context: &Context, micros: u64) -> Result<u16, Status>;

    /// Notes the number, which comes once; answers at once or later.
    async fn note(&self, number: u64, later: bool) -> Result<u64, Status>;

    /// So many numbers from 0.
    async fn count(&self, to: u64) -> Result<Streaming<u64>, Status>;

    /// The sum of what comes.
    async fn sum(&self, numbers: Streaming<u64>) -> Result<u64, Status>;

    /// As `burn`, by key.
    #[corewire(key = "key")]
    async fn keyed(&self, context: &Context, key: String) -> Result<u16, Status>;
}

#[derive(Clone, Default)]
struct Notes(Arc<Mutex<BTreeSet<u64>>>, Arc<AtomicU64>);

impl Work for Notes {
    async fn burn(&self, context: &Context, micros: u64) -> Result<u16, Status> {
        let until = Instant::now() + Duration::from_micros(micros);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        Ok(context.shard().0)
    }

    async fn note(&self, number: u64, later: bool) -> Result<u64, Status> {
        if later {
            sleep(Duration::from_micros(300)).await;
        }
        if !self.0.lock().unwrap().insert(number) {
            self.1.fetch_add(1, Ordering::Relaxed);
        }
        Ok(number)
    }

    async fn count(&self, to: u64) -> Result<Streaming<u64>, Status> {
        let (mut sender, stream) = Streaming::channel();
        corewire::spawn(async move {
            for number in 0..to {
                if sender.send(number).await.is_err() {
                    return;
                }
            }
        })
        .detach();
        Ok(stream)
    }

    async fn sum(&self, mut numbers: Streaming<u64>) -> Result<u64, Status> {
        let mut sum = 0;
        while let Some(number) = numbers.next().await {
            sum += number?;
        }
        Ok(sum)
    }

    async fn keyed(&self, context: &Context, _: String) -> Result<u16, Status> {
        Ok(context.shard().0)
    }
}

fn builder(shards: u16, balance: Balance, notes: &Notes) -> ServerBuilder {
    let notes = notes.clone();
    Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Unpinned(shards))
        .balance(balance)
        .service(move |_| WorkServer::new(notes.clone()))
}

type Client = WorkClient<blocking::Channel>;

fn address(server: &Running) -> SocketAddr {
    server.addresses()[0].tcp().unwrap()
}

fn connect(to: SocketAddr) -> Client {
    WorkClient::new(blocking::Channel::new(to, ChannelConfig::default()).unwrap())
}

fn shard_of(client: &Client) -> u16 {
    client.burn(0).wait().unwrap()
}

/// A client whose connection the kernel gave to this shard.
fn connect_to(to: SocketAddr, shard: u16) -> Client {
    loop {
        let client = connect(to);
        if shard_of(&client) == shard {
            return client;
        }
    }
}

fn moved(server: &Running) -> u64 {
    support::count(server, |it| it.connections_moved_here.value())
}

/// Greatest over mean of what the shards worked while `during` ran.
fn max_over_mean(server: &Running, during: impl FnOnce()) -> f64 {
    let busy = || -> Vec<f64> {
        let busy = server.shards().iter().map(|shard| shard.counters.busy_us.value());
        busy.map(|us| u32::try_from(us).unwrap().into()).collect()
    };
    let before = busy();
    during();
    let worked: Vec<f64> =
        busy().iter().zip(before).map(|(after, before)| after - before).collect();
    let mean = worked.iter().sum::<f64>() / f64::from(u16::try_from(worked.len()).unwrap());
    worked.iter().copied().fold(0.0, f64::max) / mean
}

/// Eight long-lived connections, unequally loaded, all on one of two shards: after some seconds the shards have
/// about the same load, and no call has failed.
#[test]
fn eight_long_lived_connections_even_out() {
    let server = builder(2, Balance::Move, &Notes::default()).start().unwrap();
    let to = address(&server);
    let over = Arc::new(AtomicBool::new(false));
    // Microseconds of work every 10 ms: 6,900 in all.
    let loads = [1900, 1300, 1000, 800, 700, 500, 400, 300];
    let clients: Vec<_> = loads
        .into_iter()
        .map(|micros| {
            let over = Arc::clone(&over);
            thread::spawn(move || {
                let client = connect_to(to, 0);
                let mut next = Instant::now();
                let mut calls = 0_u64;
                while !over.load(Ordering::Relaxed) {
                    client.burn(micros).wait().unwrap();
                    calls += 1;
                    next += Duration::from_millis(10);
                    thread::sleep(next.saturating_duration_since(Instant::now()));
                }
                calls
            })
        })
        .collect();
    let before = max_over_mean(&server, || thread::sleep(Duration::from_secs(1)));
    assert!(before > 1.5, "they began unevenly: {before}");
    let began = Instant::now();
    let mut after = before;
    // Until it is even for a whole measure. The machine may be busy with something else.
    while after > 1.2 {
        assert!(began.elapsed() < Duration::from_secs(60), "still {after:.2}");
        after = max_over_mean(&server, || thread::sleep(Duration::from_secs(2)));
    }
    support::until("the gauge says so", || server.load_max_over_mean() <= 1.3);
    println!(
        "max/mean load {before:.2} -> {after:.2} after {:.1} s and {} moves",
        began.elapsed().as_secs_f32(),
        moved(&server)
    );
    over.store(true, Ordering::Relaxed);
    let calls: u64 = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert!(calls > 0 && moved(&server) >= 1);
    let count = |it: fn(&corewire::ShardCounters) -> u64| support::count(&server, it);
    assert_eq!(count(|it| it.connections_moved_away.value()), moved(&server));
    server.stop();
    assert_eq!(server.wait().unwrap().shards_lost, 0);
}

/// Connections move whenever they are idle, while calls of every kind run on them: each call is answered, and runs once.
#[test]
fn calls_do_not_notice_that_their_connections_move() {
    let notes = Notes::default();
    let server = builder(3, Balance::Restless, &notes).start().unwrap();
    let to = address(&server);
    let clients: Vec<_> = (0..6_u64)
        .map(|client| {
            thread::spawn(move || {
                let own = connect(to);
                let mut shards = BTreeSet::new();
                for call in 0..400 {
                    let number = client * 1_000_000 + call;
                    assert_eq!(own.note(number, call % 3 == 0).wait().unwrap(), number);
                    match call % 20 {
                        0 => {
                            let mut stream = own.count(300).wait().unwrap();
                            for expected in 0..300 {
                                assert_eq!(stream.next().unwrap().unwrap(), expected);
                            }
                        }
                        _ => drop(shards.insert(shard_of(&own))),
                    }
                    if call % 10 == 0 {
                        thread::sleep(Duration::from_millis(3));
                    }
                }
                shards.len()
            })
        })
        .collect();
    let shards: Vec<usize> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    assert!(shards.iter().all(|shards| *shards == 3), "each was on each shard: {shards:?}");
    assert_eq!(notes.0.lock().unwrap().len(), 6 * 400);
    assert_eq!(notes.1.load(Ordering::Relaxed), 0, "a call ran twice");
    println!("{} moves", moved(&server));
    assert!(moved(&server) > 100);
    support::until("the counters agree", || {
        support::count(&server, |it| it.connections_open.value()) == 0
            && support::count(&server, |it| it.connections_moved_away.value()) == moved(&server)
    });
    assert_eq!(support::count(&server, |it| it.connections_faulted.value()), 0);
    server.stop();
    assert_eq!(server.wait().unwrap().shards_lost, 0);
}

/// A drain while connections move: it ends in time, and each call that was not answered was not run or is known to be lost.
#[test]
fn a_drain_finds_every_connection() {
    for round in 0..8 {
        let notes = Notes::default();
        let server = builder(3, Balance::Restless, &notes)
            .drain_within(Duration::from_secs(10))
            .start()
            .unwrap();
        let to = address(&server);
        let clients: Vec<_> = (0..6_u64)
            .map(|client| {
                thread::spawn(move || {
                    let own = connect(to);
                    let mut answered = BTreeSet::new();
                    for call in 0.. {
                        let number = client * 1_000_000 + call;
                        match own.note(number, false).wait() {
                            Ok(number) => drop(answered.insert(number)),
                            // A drained server tells it with a go-away, never by silence.
                            Err(error) => {
                                assert!(!error.may_have_run(), "{error}");
                                return answered;
                            }
                        }
                    }
                    answered
                })
            })
            .collect();
        thread::sleep(Duration::from_millis(50 + round));
        let began = Instant::now();
        server.stop();
        let mut answered = BTreeSet::new();
        for client in clients {
            answered.append(&mut client.join().unwrap());
        }
        assert_eq!(server.wait().unwrap().shards_lost, 0);
        assert!(began.elapsed() < Duration::from_secs(8), "the drain waited for somebody");
        assert_eq!(*notes.0.lock().unwrap(), answered, "what ran was answered, and nothing else");
        assert_eq!(notes.1.load(Ordering::Relaxed), 0);
    }
}

/// A client that named the key of a call chose the shard: its connection stays.
#[test]
fn connections_with_calls_by_key_stay() {
    let server = builder(2, Balance::Restless, &Notes::default()).start().unwrap();
    let to = address(&server);
    let (free, chosen) = (connect(to), connect(to));
    chosen.keyed("a".into()).wait().unwrap();
    let here = shard_of(&chosen);
    let mut shards = BTreeSet::new();
    support::until("the other one has moved", || {
        assert_eq!(shard_of(&chosen), here);
        shards.insert(shard_of(&free));
        shards.len() == 2
    });
    server.stop();
    assert_eq!(server.wait().unwrap().shards_lost, 0);
}

/// New connections go to the other shard while one has more than its share.
#[test]
fn new_connections_are_handed_off() {
    let server = builder(2, Balance::Accept, &Notes::default()).start().unwrap();
    let to = address(&server);
    let over = Arc::new(AtomicBool::new(false));
    let busy: Vec<_> = (0..2)
        .map(|_| {
            let over = Arc::clone(&over);
            thread::spawn(move || {
                let client = connect_to(to, 0);
                while !over.load(Ordering::Relaxed) {
                    client.burn(2000).wait().unwrap();
                    thread::sleep(Duration::from_micros(500));
                }
            })
        })
        .collect();
    let mut handed = Vec::new();
    support::until("some are handed off", || {
        let client = connect(to);
        handed.push((shard_of(&client), client));
        support::count(&server, |it| it.connections_handed_off.value()) >= 5
    });
    assert_eq!(server.shards()[1].counters.connections_handed_off.value(), 0);
    // They work as any other, and stay where they are.
    for (shard, client) in &handed {
        assert_eq!(shard_of(client), *shard);
    }
    over.store(true, Ordering::Relaxed);
    busy.into_iter().for_each(|client| client.join().unwrap());
    let here = server.shards()[1].counters.connections_moved_here.value();
    assert_eq!(here, server.shards()[0].counters.connections_handed_off.value());
    server.stop();
    assert_eq!(server.wait().unwrap().shards_lost, 0);
}

/// One connection is all of a shard's load: it stays, and the shard says that it is stuck.
#[test]
fn one_busy_connection_stays() {
    let server = builder(2, Balance::Move, &Notes::default()).start().unwrap();
    let to = address(&server);
    let over = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&over);
    let busy = thread::spawn(move || {
        let client = connect_to(to, 0);
        while !stop.load(Ordering::Relaxed) {
            assert_eq!(client.burn(2000).wait().unwrap(), 0);
            thread::sleep(Duration::from_millis(2));
        }
    });
    support::until("the shard says so", || server.shards()[0].counters.uneven.value() == 1);
    assert_eq!(moved(&server), 0);
    support::until("the gauge shows it", || server.load_max_over_mean() > 1.5);
    over.store(true, Ordering::Relaxed);
    busy.join().unwrap();
    support::until("it is over", || {
        server.shards()[0].counters.uneven.value() == 0 || {
            // A shard that sleeps does not look.
            drop(connect_to(to, 0));
            false
        }
    });
    support::end(server);
}

/// A shard that spins has its core, and no load.
#[test]
fn spinning_is_no_load() {
    let server =
        builder(1, Balance::default(), &Notes::default()).spin(Spin::Always).start().unwrap();
    let counters = &server.shards()[0].counters;
    let (turns, worked) = (counters.turns.value(), counters.busy_us.value());
    let began = Instant::now();
    support::until("it has looked for a while", || {
        began.elapsed() > Duration::from_secs(1) && counters.turns.value() > turns + 10_000
    });
    let worked = u128::from(counters.busy_us.value() - worked);
    assert!(worked < began.elapsed().as_micros() / 5, "{worked} µs of {:?}", began.elapsed());
    support::end(server);
}
