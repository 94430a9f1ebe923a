//! The kinds of channels: an echo service, and a closed loop of callers over each kind.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, ensure};
use corewire::echo::{EchoClient, EchoServer, Echoer};
use corewire::{
    Bytes, Channel, ChannelConfig, ClientShard, ClientThread, Running, ServerBuilder,
    SharedChannel, Transport, blocking,
};
use futures_lite::future::block_on;
use hdrhistogram::Histogram;
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

use crate::load::calls;
use crate::load::pair::Target;
use crate::measure::clocks::Clocks;
use crate::measure::sample::{self, Sample};

/// Bytes of each body.
const BODY: usize = 64;
/// Longer latencies count as this one.
const LATENCY_MAX_NS: u64 = 60_000_000_000;

/// Who makes the calls, and over which kind of channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Tasks of a shard, over a channel of that shard.
    Shard,
    /// Another thread than the client thread that drives the connection. One call is awaited on a plain thread,
    /// several by tasks of a tokio runtime.
    ClientThread,
    /// Tasks of a tokio runtime of one thread, which drives the connection as well.
    Tokio,
    /// A plain thread, one call at a time.
    Blocking,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Shard, Self::ClientThread, Self::Tokio, Self::Blocking];

    /// Whether it can have this many calls in flight.
    #[must_use]
    pub fn can(self, inflight: usize) -> bool {
        self != Self::Blocking || inflight == 1
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Shard => "Channel, on a shard",
            Self::ClientThread => "SharedChannel of a ClientThread",
            Self::Tokio => "SharedChannel::on_tokio",
            Self::Blocking => "blocking::Channel",
        })
    }
}

/// Starts a server of the echo service.
///
/// # Errors
///
/// When it cannot start.
pub fn serve(builder: ServerBuilder) -> Result<Running> {
    Ok(builder.service(|_shard| EchoServer::new(Echoer)).start()?)
}

/// What the load generator is asked to do.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Load {
    /// Who makes the calls.
    pub kind: Kind,
    /// How many calls are in flight.
    pub inflight: usize,
    /// Measured seconds.
    pub secs: f64,
}

/// What the callers have in common.
#[derive(Debug)]
struct Tally {
    begun: Instant,
    /// When the measured seconds begin and end.
    measured: (u64, u64),
    server: i32,
    before: Option<Clocks>,
    after: Option<Clocks>,
    answered: u64,
    latency_ns: Histogram<u64>,
}

impl Tally {
    fn new(secs: f64, server: i32) -> Result<Self> {
        Ok(Self {
            begun: Instant::now(),
            measured: calls::measured(secs),
            server,
            before: None,
            after: None,
            answered: 0,
            latency_ns: Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3)?,
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// A call was answered that was made at this time. Returns the time now, or `None` when the measured seconds are
    /// over.
    fn note(&mut self, sent_ns: u64) -> Result<Option<u64>> {
        let (now, (begin, end)) = (self.now(), self.measured);
        if now >= begin && self.before.is_none() {
            self.before = Some(Clocks::read(Some(self.server))?);
        }
        if now >= end {
            if self.after.is_none() {
                self.after = Some(Clocks::read(Some(self.server))?);
            }
            return Ok(None);
        }
        if sent_ns >= begin {
            self.answered += 1;
            self.latency_ns.saturating_record(now - sent_ns);
        }
        Ok(Some(now))
    }
}

/// One caller: a call, and another one as soon as it is answered.
async fn call<C: Transport>(client: EchoClient<C>, tally: Rc<RefCell<Tally>>) -> Result<()> {
    let body = Bytes::from(vec![7; BODY]);
    let mut next = Some(tally.borrow().now());
    while let Some(sent) = next {
        let reply = client.echo(body.clone()).await?;
        ensure!(reply == body, "a wrong reply came");
        next = tally.borrow_mut().note(sent)?;
    }
    Ok(())
}

/// Runs this many callers on a runtime of this thread.
fn call_on(
    runtime: &Runtime,
    inflight: usize,
    client: &EchoClient<SharedChannel>,
    tally: &Rc<RefCell<Tally>>,
) -> Result<()> {
    let local = LocalSet::new();
    let callers: Vec<_> =
        (0..inflight).map(|_| local.spawn_local(call(client.clone(), Rc::clone(tally)))).collect();
    runtime.block_on(local.run_until(async {
        for caller in callers {
            caller.await??;
        }
        Ok(())
    }))
}

async fn call_on_shard(target: Target, load: Load) -> Result<Sample> {
    let tally = Rc::new(RefCell::new(Tally::new(load.secs, target.server_pid)?));
    let client = EchoClient::new(Channel::connect(target.addr.as_str()).await?);
    let callers: Vec<_> = (0..load.inflight)
        .map(|_| corewire::spawn(call(client.clone(), Rc::clone(&tally))))
        .collect();
    for caller in callers {
        caller.await?;
    }
    finish(&load, tally)
}

/// Makes the load.
///
/// # Errors
///
/// When the server cannot be reached, a call fails, or a clock cannot be read.
pub fn load(target: Target, load: Load) -> Result<Sample> {
    let cpu = target.core;
    let shard = ClientShard { cpu: Some(cpu), ..ClientShard::default() };
    if load.kind == Kind::Shard {
        return corewire::block_on_shard(shard, move || call_on_shard(target, load))?;
    }
    // Everything that the calls need runs on the client's core.
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("cannot run on core {cpu}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (addr, config) = (target.addr.as_str(), ChannelConfig::default());
    let tally = Rc::new(RefCell::new(Tally::new(load.secs, target.server_pid)?));
    match load.kind {
        Kind::Shard => return Err(anyhow!("a shard's calls are made on the shard")),
        Kind::ClientThread => {
            let thread = ClientThread::start(shard)?;
            let client = EchoClient::new(thread.channel(addr, config)?);
            match load.inflight {
                1 => block_on(call(client, Rc::clone(&tally)))?,
                several => call_on(&runtime, several, &client, &tally)?,
            }
        }
        Kind::Tokio => {
            let channel = {
                let _entered = runtime.enter();
                SharedChannel::on_tokio(addr, config)?
            };
            call_on(&runtime, load.inflight, &EchoClient::new(channel), &tally)?;
        }
        Kind::Blocking => {
            let client = EchoClient::new(blocking::Channel::new(addr, config)?);
            block_on(call(client, Rc::clone(&tally)))?;
        }
    }
    finish(&load, tally)
}

fn finish(load: &Load, tally: Rc<RefCell<Tally>>) -> Result<Sample> {
    let tally = Rc::into_inner(tally).context("every caller has ended")?.into_inner();
    let (before, after) = tally.before.zip(tally.after).context("the seconds were measured")?;
    let used = after.since(&before, Some(tally.server));
    Ok(sample::of((BODY, 1, load.inflight), tally.answered, 0, &tally.latency_ns, &used))
}
