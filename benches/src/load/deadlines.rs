//! Deadlines: a service whose handlers sleep for longer than anybody waits, and a client that gives them little time.
//!
//! The command `deadlines` measures when the calls end, who ends them, and what is left of them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use corewire::{
    CallError, Channel, ClientShard, Running, ServerBuilder, ShardCounters, Spin, Status,
    StatusCode, block_on_shard, sleep, spawn,
};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::load::pair::Target;
use crate::measure::memory::Memory;

/// How long a handler sleeps.
const WORK: Duration = Duration::from_secs(10);

/// How long the server may take to drop the last handlers.
const PATIENCE: Duration = Duration::from_secs(2);

/// Handlers that take their time.
#[corewire::service(name = "bench.Deadlines")]
pub trait Deadlines {
    /// Answers after `ms` milliseconds.
    async fn after(&self, ms: u32) -> Result<(), Status>;
    /// Handlers of `after` that are alive, and calls that are parked in the driver.
    async fn census(&self) -> Result<(u64, u64), Status>;
}

struct Sleeper {
    /// Each handler that is alive holds a clone.
    live: Rc<()>,
    counters: Arc<OnceLock<Arc<ShardCounters>>>,
}

impl Deadlines for Sleeper {
    async fn after(&self, ms: u32) -> Result<(), Status> {
        let _live = Rc::clone(&self.live);
        sleep(Duration::from_millis(ms.into())).await;
        Ok(())
    }

    async fn census(&self) -> Result<(u64, u64), Status> {
        let counters = self.counters.get().ok_or_else(|| Status::unavailable("it starts"))?;
        let live = Rc::strong_count(&self.live) as u64 - 1;
        Ok((live, counters.calls_pending.value()))
    }
}

/// Starts a server of this service.
///
/// # Errors
///
/// When it cannot start.
pub fn serve(builder: ServerBuilder) -> Result<Running> {
    let counters = Arc::<OnceLock<Arc<ShardCounters>>>::default();
    let shared = Arc::clone(&counters);
    let sleeper = move || Sleeper { live: Rc::default(), counters: Arc::clone(&shared) };
    let running = builder.service(move |_shard| DeadlinesServer::new(sleeper())).start()?;
    let shard = running.shards().first().context("a server has a shard")?;
    ensure!(counters.set(Arc::clone(&shard.counters)).is_ok(), "they are set once");
    Ok(running)
}

/// What the client is asked to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Load {
    /// Calls of each round.
    pub calls: u64,
    /// Connections.
    pub conns: usize,
    /// Calls in flight on each of them; each slot makes its next call when the last one has ended.
    pub inflight: usize,
    /// The timeout of each call.
    pub timeout: Duration,
    /// Rounds; the first one warms up.
    pub rounds: u32,
}

/// How the calls of a round ended.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Ends {
    /// The client's own timer ended them.
    pub by_client: u64,
    /// The server's reply said that their deadline had passed, before or while they ran.
    pub by_server: u64,
    /// They found no room on their connection in time.
    pub not_sent: u64,
    /// In any other way.
    pub otherwise: u64,
}

/// One round.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Round {
    /// How its calls ended.
    pub ends: Ends,
    /// Seconds from the start of the first call to the end of the last one.
    pub secs: f64,
    /// The shortest time that a call took, in ms, from when it was made.
    pub min_ms: f64,
    /// Their median.
    pub p50_ms: f64,
    /// Their 99th percentile.
    pub p99_ms: f64,
    /// The longest time.
    pub max_ms: f64,
    /// Handlers alive when the last call had ended at its caller, and parked calls.
    pub live_at_end: u64,
    /// Handlers and parked calls that never went away.
    pub left: u64,
    /// How long it took until there were none, in ms.
    pub gone_after_ms: f64,
    /// The server's memory before and after the round, in KiB.
    pub server_kib: (f64, f64),
    /// The client's.
    pub client_kib: (f64, f64),
}

/// Makes the load.
///
/// # Errors
///
/// When the server cannot be reached, or memory cannot be read.
pub fn load(target: Target, load: Load) -> Result<Vec<Round>> {
    let shard = ClientShard { cpu: Some(target.core), spin: Spin::Off, ..ClientShard::default() };
    block_on_shard(shard, move || run(target, load))?
}

async fn run(target: Target, load: Load) -> Result<Vec<Round>> {
    let own = i32::try_from(std::process::id())?;
    // The connections that are loaded, and one to ask what is there.
    let mut clients = Vec::new();
    for _ in 0..load.conns {
        let channel = Channel::connect(target.addr.as_str()).await?;
        clients.push(DeadlinesClient::new(channel).with_timeout(load.timeout));
    }
    let watch = DeadlinesClient::new(Channel::connect(target.addr.as_str()).await?);
    let mut rounds = Vec::new();
    for _ in 0..load.rounds {
        let before = (Memory::of(target.server_pid)?, Memory::of(own)?);
        let begun = Instant::now();
        let tally = expire(&clients, &load).await?;
        let (secs, ended) = (begun.elapsed().as_secs_f64(), Instant::now());
        let (live_at_end, mut left) = (left(&watch).await?, u64::MAX);
        while left > 0 && ended.elapsed() < PATIENCE {
            left = self::left(&watch).await?;
            sleep(Duration::from_micros(200)).await;
        }
        let gone_after_ms = ended.elapsed().as_secs_f64() * 1e3;
        let after = (Memory::of(target.server_pid)?, Memory::of(own)?);
        let ms = |us: u64| us as f64 / 1e3;
        let took = &tally.took_us;
        rounds.push(Round {
            ends: tally.ends,
            secs,
            min_ms: ms(took.min()),
            p50_ms: ms(took.value_at_quantile(0.5)),
            p99_ms: ms(took.value_at_quantile(0.99)),
            max_ms: ms(took.max()),
            live_at_end,
            left,
            gone_after_ms,
            server_kib: (before.0.now_kib, after.0.now_kib),
            client_kib: (before.1.now_kib, after.1.now_kib),
        });
    }
    Ok(rounds)
}

/// Handlers that are alive, or parked calls, whichever are more.
async fn left(watch: &DeadlinesClient<Channel>) -> Result<u64> {
    let (live, parked) = watch.census().await?;
    Ok(live.max(parked))
}

struct Tally {
    ends: Ends,
    took_us: Histogram<u64>,
}

/// Makes all calls of a round and waits for their ends.
async fn expire(clients: &[DeadlinesClient<Channel>], load: &Load) -> Result<Tally> {
    let took_us = Histogram::new_with_bounds(1, 60_000_000, 3)?;
    let tally = Rc::new(RefCell::new(Tally { ends: Ends::default(), took_us }));
    let left = Rc::new(Cell::new(load.calls));
    let ms = u32::try_from(WORK.as_millis())?;
    let mut slots = Vec::new();
    for slot in 0..load.inflight * load.conns {
        let client = clients[slot % load.conns].clone();
        let (tally, left) = (Rc::clone(&tally), Rc::clone(&left));
        slots.push(spawn(async move {
            while let Some(fewer) = left.get().checked_sub(1) {
                left.set(fewer);
                let begun = Instant::now();
                let outcome = client.after(ms).await;
                let us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                let tally = &mut *tally.borrow_mut();
                tally.took_us.saturating_record(us);
                *tally.ends.of(&outcome) += 1;
            }
        }));
    }
    for slot in slots {
        slot.await;
    }
    Rc::into_inner(tally).map(RefCell::into_inner).context("all slots are done")
}

impl Ends {
    /// The count of calls that ended like this.
    fn of(&mut self, outcome: &Result<(), CallError>) -> &mut u64 {
        match outcome {
            Err(CallError::DeadlineExceeded { sent: true }) => &mut self.by_client,
            Err(CallError::DeadlineExceeded { sent: false }) => &mut self.not_sent,
            // A call is refused if its deadline passed before its handler began.
            Err(CallError::Status(status) | CallError::Refused(status))
                if status.code() == StatusCode::DeadlineExceeded =>
            {
                &mut self.by_server
            }
            Ok(()) | Err(_) => &mut self.otherwise,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_apart() {
        let mut ends = Ends::default();
        let status = |status| Err(CallError::Status(status));
        for outcome in [
            Err(CallError::DeadlineExceeded { sent: true }),
            Err(CallError::DeadlineExceeded { sent: false }),
            status(Status::deadline_exceeded("over")),
            Err(CallError::Refused(Status::deadline_exceeded("over before it ran"))),
            Err(CallError::Refused(Status::resource_exhausted("too many"))),
            status(Status::internal("broken")),
            Ok(()),
        ] {
            *ends.of(&outcome) += 1;
        }
        let Ends { by_client, by_server, not_sent, otherwise } = ends;
        assert_eq!((by_client, by_server, not_sent, otherwise), (1, 2, 1, 3));
    }
}
