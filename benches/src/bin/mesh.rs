//! What a call from one shard to another one costs, next to two threads that wake each other with eventfds.
//!
//! ```text
//! cargo run --release -p corewire-benches --bin mesh
//! ```
//!
//! One process, two cores: shard 0 calls a closure on shard 1 that does nothing, and waits for it, again and again.
//! *Parked*: both sleep when they have nothing to do. *Spinning*: neither ever sleeps. *Batched*: 512 calls are in
//! flight, so that both are busy. The two threads with eventfds have the same cores in the same round. A message is
//! one way: a call is two of them.
//!
//! Last, a thread outside sends closures to shard 0, which is idle, or busy with a task that works for 5 µs between two looks. What is
//! measured there is the way to the shard: from the send until the closure runs.

#![expect(clippy::print_stdout, reason = "this is a command, and its tables are its output")]

use std::future::poll_fn;
use std::pin::Pin;
use std::process::ExitCode;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use clap::Parser;
use corewire::{On, Placement, Server, ShardId, Sharded, Spin, echo, spawn};
use corewire_benches::load::flags::{self, Cores, whole, within};
use corewire_benches::load::host::Host;
use corewire_benches::measure::stats::{Summary, paired_ratios};
use corewire_benches::report::{self, spread, table};
use futures_lite::future::{block_on, yield_now};
use hdrhistogram::Histogram;
use rustix::event::{EventfdFlags, eventfd};
use rustix::thread::{CpuSet, sched_setaffinity};

/// No call takes longer.
const LONGEST_NS: u64 = 60_000_000_000;

/// Calls in flight of a batch.
const BATCH: usize = 512;

/// Measure what a call from one shard to another costs
#[derive(Debug, Parser)]
struct Arguments {
    /// Rounds of each
    #[arg(long, default_value_t = 5, value_parser = whole(1..=100_usize))]
    rounds: usize,

    /// Measured seconds of each run, after a tenth as much of warm-up
    #[arg(long, default_value_t = 1.0, value_parser = within("seconds", 0.05..=600.0))]
    secs: f64,

    /// One round of 0.1 seconds: shows that everything works, and measures nothing
    #[arg(long, conflicts_with_all = ["rounds", "secs"])]
    quick: bool,

    #[command(flatten)]
    cores: Cores,

    /// Also write every run to this file
    #[arg(long, value_name = "PATH")]
    json: Option<std::path::PathBuf>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Eventfd,
    Parked,
    Spinning,
    Batched,
    OutsideIdle,
    OutsideBusy,
}

impl Kind {
    const ALL: [Self; 6] = [
        Self::Eventfd,
        Self::Parked,
        Self::Spinning,
        Self::Batched,
        Self::OutsideIdle,
        Self::OutsideBusy,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Eventfd => "two threads and eventfds",
            Self::Parked => "shards, parked",
            Self::Spinning => "shards, spinning",
            Self::Batched => "shards, 512 in flight",
            Self::OutsideIdle => "from a thread, to an idle shard, one way",
            Self::OutsideBusy => "from a thread, to a busy shard, one way",
        }
    }
}

/// One run.
#[derive(Clone, Copy, Debug, serde::Serialize)]
struct Run {
    round: usize,
    kind: Kind,
    p50_ns: f64,
    p99_ns: f64,
    calls_per_second: f64,
}

fn main() -> ExitCode {
    flags::end(measure(&Arguments::parse()))
}

fn measure(arguments: &Arguments) -> Result<ExitCode> {
    arguments.cores.check()?;
    let (rounds, secs) =
        if arguments.quick { (1, 0.1) } else { (arguments.rounds, arguments.secs) };
    let (host, begun) = (Host::look(), Instant::now());
    let cores = [arguments.cores.server, arguments.cores.client];
    let time = Duration::from_secs_f64(secs);
    let mut runs = Vec::new();
    for round in 0..rounds {
        for kind in Kind::ALL {
            eprintln!("[round {round}] {}", kind.name());
            let times = match kind {
                Kind::Eventfd => eventfds(cores, time)?,
                Kind::Parked => shards(cores, Spin::Off, 1, time)?,
                Kind::Spinning => shards(cores, Spin::Always, 1, time)?,
                Kind::Batched => shards(cores, Spin::Off, BATCH, time)?,
                Kind::OutsideIdle => from_outside(cores, false, time)?,
                Kind::OutsideBusy => from_outside(cores, true, time)?,
            };
            runs.push(times.run(round, kind));
        }
    }
    println!(
        "{host}, rounds: {rounds}, seconds each: {secs}, measured in {:.0} s\n",
        begun.elapsed().as_secs_f64()
    );
    write_out(&runs);
    if let Some(path) = &arguments.json {
        report::write_document(path, &serde_json::json!({ "host": host, "runs": runs }))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The round trips of one run.
struct Times {
    calls: Histogram<u64>,
    took: Duration,
}

impl Times {
    fn run(&self, round: usize, kind: Kind) -> Run {
        #[expect(
            clippy::cast_precision_loss,
            reason = "nanoseconds of a call, and counts of seconds"
        )]
        let as_float = |value: u64| value as f64;
        Run {
            round,
            kind,
            p50_ns: as_float(self.calls.value_at_quantile(0.5)),
            p99_ns: as_float(self.calls.value_at_quantile(0.99)),
            calls_per_second: as_float(self.calls.len()) / self.took.as_secs_f64(),
        }
    }
}

/// Counts calls from the end of the warm-up until the end of the measurement.
struct Clock {
    from: Instant,
    until: Instant,
    calls: Histogram<u64>,
}

impl Clock {
    fn new(time: Duration) -> Result<Self> {
        let from = Instant::now() + time / 10;
        Ok(Self { from, until: from + time, calls: Histogram::new_with_bounds(1, LONGEST_NS, 3)? })
    }

    /// Notes a call that began at `begun` and has ended; returns whether to go on.
    fn note(&mut self, begun: Instant) -> bool {
        self.note_until(begun, Instant::now())
    }

    /// The same for one that ended at `now`.
    fn note_until(&mut self, begun: Instant, now: Instant) -> bool {
        if begun >= self.from && now <= self.until {
            let ns =
                u64::try_from(now.saturating_duration_since(begun).as_nanos()).unwrap_or(u64::MAX);
            self.calls.saturating_record(ns);
        }
        now < self.until
    }

    fn times(self) -> Times {
        Times { calls: self.calls, took: self.until - self.from }
    }
}

/// Two threads, each on its core, that wake each other.
fn eventfds(cores: [usize; 2], time: Duration) -> Result<Times> {
    let pair = [eventfd(0, EventfdFlags::CLOEXEC)?, eventfd(0, EventfdFlags::CLOEXEC)?];
    let [there, back] = &pair;
    let mut clock = Clock::new(time)?;
    thread::scope(|scope| {
        let answering = scope.spawn(move || -> Result<()> {
            pin(cores[1])?;
            let mut counter = [0; 8];
            loop {
                rustix::io::read(there, &mut counter)?;
                rustix::io::write(back, &1_u64.to_le_bytes())?;
                // Adding two is the end.
                if u64::from_le_bytes(counter) > 1 {
                    return Ok(());
                }
            }
        });
        let asking = scope.spawn(move || -> Result<Times> {
            pin(cores[0])?;
            let mut counter = [0; 8];
            loop {
                let begun = Instant::now();
                rustix::io::write(there, &1_u64.to_le_bytes())?;
                rustix::io::read(back, &mut counter)?;
                if !clock.note(begun) {
                    break;
                }
            }
            rustix::io::write(there, &2_u64.to_le_bytes())?;
            Ok(clock.times())
        });
        let times = asking.join().map_err(|_| anyhow!("the asking thread panicked"))??;
        answering.join().map_err(|_| anyhow!("the answering thread panicked"))??;
        Ok(times)
    })
}

fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).with_context(|| format!("cannot pin a thread to CPU {core}"))
}

/// A server of two shards. A task of shard 0 calls shard 1.
fn shards(cores: [usize; 2], spin: Spin, in_flight: usize, time: Duration) -> Result<Times> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let numbers = Sharded::new(|_shard| ());
    let server = Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Cpus(cores.to_vec()))
        .spin(spin)
        .service(move |shard| {
            if shard.id == ShardId(0) {
                let (numbers, sender) = (numbers.clone(), sender.clone());
                spawn(async move {
                    // Nobody listens if the measurement has failed.
                    let _ = sender.send(call(&numbers, in_flight, time).await);
                })
                .detach();
            }
            echo::EchoServer::new(echo::Echoer)
        })
        .start()?;
    let times = receiver.recv_timeout(time * 2 + Duration::from_secs(20))?;
    drop(server);
    times
}

/// Keeps `in_flight` calls to shard 1 in flight.
async fn call(numbers: &Sharded<()>, in_flight: usize, time: Duration) -> Result<Times> {
    // The other shard starts a moment later.
    numbers.on(ShardId(1), |()| ()).await?;
    let mut clock = Clock::new(time)?;
    if in_flight == 1 {
        loop {
            let begun = Instant::now();
            numbers.on(ShardId(1), |()| ()).await?;
            if !clock.note(begun) {
                return Ok(clock.times());
            }
        }
    }
    let make = || (Instant::now(), numbers.on(ShardId(1), |()| ()));
    let mut calls: Vec<(Instant, On<()>)> = (0..in_flight).map(|_| make()).collect();
    let mut goes_on = true;
    poll_fn(|context| {
        for place in &mut calls {
            while let Poll::Ready(outcome) = Pin::new(&mut place.1).poll(context) {
                outcome?;
                goes_on = clock.note(place.0);
                *place = make();
            }
        }
        if goes_on { Poll::Pending } else { Poll::Ready(Ok::<_, corewire::OnShardError>(())) }
    })
    .await?;
    Ok(clock.times())
}

/// A server of one shard, and a thread outside that sends it closures, one after the other.
fn from_outside([shard, outside]: [usize; 2], busy: bool, time: Duration) -> Result<Times> {
    let numbers = Sharded::new(|_shard| ());
    let server = Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Cpus(vec![shard]))
        .sharded(&numbers)
        .service(move |_shard| {
            if busy {
                spawn(work_on()).detach();
            }
            echo::EchoServer::new(echo::Echoer)
        })
        .start()?;
    let sending = thread::spawn(move || -> Result<Times> {
        pin(outside)?;
        let mut clock = Clock::new(time)?;
        loop {
            let begun = Instant::now();
            let ran = numbers.on(ShardId(0), |()| Instant::now());
            if !clock.note_until(begun, block_on(ran)?) {
                return Ok(clock.times());
            }
        }
    });
    let times = sending.join().map_err(|_| anyhow!("the sending thread panicked"))?;
    drop(server);
    times
}

/// Works for 5 µs at a time, and lets others in after each.
async fn work_on() {
    loop {
        let until = Instant::now() + Duration::from_micros(5);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        yield_now().await;
    }
}

fn write_out(runs: &[Run]) {
    let values = |kind: Kind, of: fn(&Run) -> f64| -> Vec<(usize, f64)> {
        runs.iter().filter(|run| run.kind == kind).map(|run| (run.round, of(run))).collect()
    };
    let plain =
        |values: Vec<(usize, f64)>| values.into_iter().map(|(_, it)| it).collect::<Vec<_>>();
    let header = ["", "p50, ns", "p99, ns", "p50, x", "p99, x", "messages per second, M"];
    let mut table = table(&header, 1);
    for kind in Kind::ALL {
        let (p50, p99) = (|run: &Run| run.p50_ns, |run: &Run| run.p99_ns);
        let ratio = |of| paired_ratios(&values(kind, of), &values(Kind::Eventfd, of));
        let rate = values(kind, |run| run.calls_per_second * 2.0 / 1e6);
        table.add_row([
            kind.name().to_owned(),
            spread(Summary::of(&plain(values(kind, p50)))),
            spread(Summary::of(&plain(values(kind, p99)))),
            spread(Summary::of(&ratio(p50))),
            spread(Summary::of(&ratio(p99))),
            spread(Summary::of(&plain(rate))),
        ]);
    }
    println!("Median (lowest..highest); x is the ratio to two threads and eventfds:\n\n{table}");
}
