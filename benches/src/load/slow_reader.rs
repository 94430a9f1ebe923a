//! Slow readers: a service with an endless stream, and a client that reads it slowly or not at all while it makes unary
//! calls on the same connection.
//!
//! The command `slow_reader` measures what the stream costs those calls, and what the server keeps for it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use corewire::{
    Bytes, Channel, ClientShard, Running, ServerBuilder, Spin, Status, Streaming, block_on_shard,
    sleep, spawn,
};
use corewire_cli::open_loop::{OpenLoop, Outcome, Plan};
use corewire_cli::pace::Arrivals;
use corewire_cli::shard::drive;
use futures_lite::stream;
use serde::{Deserialize, Serialize};

use crate::load::calls;
use crate::load::pair::Target;
use crate::measure::memory::{self, Memory};

/// Bytes of each unary body.
const BODY: usize = 64;

/// Bytes of each message of a stream.
const MESSAGE: usize = 8 * 1024;

/// The most unary calls in flight.
const IN_FLIGHT: u32 = 1024;

/// How long the server may take to notice that a stream is not wanted any more.
const PATIENCE: Duration = Duration::from_secs(5);

/// Cheap calls, and endless streams.
#[corewire::service(name = "bench.Slow")]
pub trait Slow {
    /// Answers with the request's own bytes.
    async fn echo(&self, body: Bytes) -> Result<Bytes, Status>;
    /// Messages of this size for as long as somebody takes them, each in its own memory.
    async fn endless(&self, bytes: u32) -> Result<Streaming<Bytes>, Status>;
    /// Streams that are open, and messages that all streams made so far.
    async fn census(&self) -> Result<(u64, u64), Status>;
}

#[derive(Debug, Default)]
struct Source {
    made: Rc<Cell<u64>>,
    /// Each open stream holds a clone.
    open: Rc<()>,
}

impl Slow for Source {
    async fn echo(&self, body: Bytes) -> Result<Bytes, Status> {
        Ok(body)
    }

    async fn endless(&self, bytes: u32) -> Result<Streaming<Bytes>, Status> {
        let (made, open) = (Rc::clone(&self.made), Rc::clone(&self.open));
        Ok(Streaming::from_stream(stream::repeat_with(move || {
            let _open = &open;
            made.set(made.get() + 1);
            Ok(Bytes::from(vec![7; bytes as usize]))
        })))
    }

    async fn census(&self) -> Result<(u64, u64), Status> {
        Ok((Rc::strong_count(&self.open) as u64 - 1, self.made.get()))
    }
}

/// Starts a server of this service.
///
/// # Errors
///
/// When it cannot start.
pub fn serve(builder: ServerBuilder) -> Result<Running> {
    Ok(builder.service(|_shard| SlowServer::new(Source::default())).start()?)
}

/// What the client is asked to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Load {
    /// Unary calls per second, at constant intervals.
    pub rate: f64,
    /// Streams on the connection.
    pub streams: usize,
    /// Bytes per second that the reader of each takes; 0 for one that takes nothing.
    pub read_rate: f64,
    /// Rounds, each without the streams and then with them.
    pub rounds: u32,
    /// Measured seconds of each half of a round.
    pub secs: f64,
}

/// The unary calls of one half of a round.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Calls {
    /// Calls answered per second.
    pub rps: f64,
    /// Median of their latency in µs, from when each was due.
    pub p50_us: f64,
    /// The 99th percentile.
    pub p99_us: f64,
    /// The longest latency.
    pub max_us: f64,
    /// Calls that were due.
    pub offered: u64,
    /// How many of them found no room, and were not made.
    pub missed: u64,
}

/// One round.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Round {
    /// Without streams.
    pub alone: Calls,
    /// With them, on the same connection.
    pub with: Calls,
    /// The server's memory before the streams began, in KiB.
    pub before_kib: f64,
    /// Its peak while they were open.
    pub peak_kib: f64,
    /// MiB per second that the readers took, all together.
    pub read_mib_s: f64,
    /// How much more the server made than was read, in KiB for each stream: in its own memory, in the sockets, and in
    /// the reader's window.
    pub ahead_kib: f64,
}

/// Makes the load.
///
/// # Errors
///
/// When the server cannot be reached, a call or a stream fails, or the server's memory cannot be read.
pub fn load(target: Target, load: Load) -> Result<Vec<Round>> {
    let shard =
        ClientShard { cpu: Some(target.core), spin: Spin::Always, ..ClientShard::default() };
    block_on_shard(shard, move || run(target, load))?
}

async fn run(target: Target, load: Load) -> Result<Vec<Round>> {
    let client = SlowClient::new(Channel::connect(target.addr.as_str()).await?);
    let mut rounds = Vec::new();
    for _ in 0..load.rounds {
        let alone = call_for_a_while(&client, &load).await?;
        let (_, made_before) = client.census().await?;
        memory::reset_peak(target.server_pid)?;
        let before = Memory::of(target.server_pid)?;
        let begun = Instant::now();
        let mut readers = Vec::new();
        for _ in 0..load.streams {
            let stream = client.endless(u32::try_from(MESSAGE)?).await?;
            readers.push(Reader::start(stream, load.read_rate));
        }
        let with = call_for_a_while(&client, &load).await?;
        let read: u64 = readers.iter().map(|reader| reader.bytes.get()).sum();
        let took = begun.elapsed().as_secs_f64();
        let (_, made) = client.census().await?;
        let peak = Memory::of(target.server_pid)?.peak_kib;
        for reader in readers {
            reader.stop()?;
        }
        let made = (made - made_before) as f64 * MESSAGE as f64;
        rounds.push(Round {
            alone,
            with,
            before_kib: before.now_kib,
            peak_kib: peak,
            read_mib_s: read as f64 / took / f64::from(1 << 20),
            ahead_kib: (made - read as f64) / 1024.0 / load.streams as f64,
        });
        let patience = Instant::now() + PATIENCE;
        while client.census().await?.0 > 0 {
            ensure!(Instant::now() < patience, "the server keeps streams that nobody wants");
            sleep(Duration::from_millis(1)).await;
        }
    }
    Ok(rounds)
}

/// A stream that is read at its own pace, or held and not read.
struct Reader {
    bytes: Rc<Cell<u64>>,
    failure: Rc<RefCell<Option<String>>>,
    /// Reads; or does nothing but hold the stream.
    task: corewire::Task<()>,
}

impl Reader {
    fn start(mut stream: Streaming<Bytes>, rate: f64) -> Self {
        let (bytes, failure) = (Rc::<Cell<u64>>::default(), Rc::<RefCell<_>>::default());
        let (read, failed) = (Rc::clone(&bytes), Rc::clone(&failure));
        let task = spawn(async move {
            if rate <= 0.0 {
                std::future::pending::<()>().await;
            }
            let begun = Instant::now();
            loop {
                match stream.next().await {
                    Some(Ok(message)) => read.set(read.get() + message.len() as u64),
                    end => {
                        *failed.borrow_mut() = Some(format!("a stream ended: {end:?}"));
                        return;
                    }
                }
                // It takes a message, and then lets the time pass that the message is worth.
                let due = begun + Duration::from_secs_f64(read.get() as f64 / rate);
                sleep(due.saturating_duration_since(Instant::now())).await;
            }
        });
        Self { bytes, failure, task }
    }

    /// Gives up the stream.
    fn stop(self) -> Result<()> {
        drop(self.task);
        self.failure.take().map_or(Ok(()), |failure| Err(anyhow::anyhow!(failure)))
    }
}

/// Unary calls in an open loop.
async fn call_for_a_while(client: &SlowClient<Channel>, load: &Load) -> Result<Calls> {
    let (begin_ns, end_ns) = calls::measured(load.secs);
    let plan = Plan {
        rate: load.rate,
        arrivals: Arrivals::Constant,
        seed: 1,
        conns: 1,
        inflight: IN_FLIGHT,
        begin_ns,
        end_ns,
    };
    let open = Rc::new(RefCell::new(OpenLoop::new(plan)?));
    let body = Bytes::from(vec![7; BODY]);
    let call = |_| {
        let (client, body) = (client.clone(), body.clone());
        async move { calls::echoed(client.echo(body.clone()).await, &body, Outcome::Answered) }
    };
    drive(&open, Instant::now(), true, call).await;
    let open = open.borrow();
    calls::none_failed(&open)?;
    let (latency, figures) = (open.latency_ns(), open.figures());
    let us = |quantile| latency.value_at_quantile(quantile) as f64 / 1e3;
    Ok(Calls {
        rps: open.answered() as f64 / load.secs,
        p50_us: us(0.5),
        p99_us: us(0.99),
        max_us: latency.max() as f64 / 1e3,
        offered: figures.offered,
        missed: figures.missed,
    })
}
