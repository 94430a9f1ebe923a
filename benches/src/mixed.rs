//! Mixed load: an echo service of which some calls burn CPU in their handler, and the load generator for it.
//!
//! A handler that computes for 5 ms keeps its shard from every other call for so long. What that does to the cheap calls
//! is what the command `mixed` measures.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use corewire::{
    Bytes, Channel, ChannelConfig, ClientShard, Placement, Server, Spin, Status, sleep,
};
use corewire_cli::open_loop::{OpenLoop, Outcome, Plan, Start};
use corewire_cli::pace::{Arrivals, noise};
use corewire_cli::shard::drive;
use nix::time::ClockId;

use crate::clocks::Clocks;
use crate::sample::{self, Sample};

/// Not counted, as in every load generator here.
const WARM_UP: Duration = Duration::from_millis(500);

/// Bytes of each body.
const BODY: usize = 64;

/// Cheap calls, and calls that burn.
#[corewire::service(name = "bench.Mixed")]
pub trait Mixed {
    /// Answers with the request's own bytes.
    async fn echo(&self, body: Bytes) -> Result<Bytes, Status>;
    /// The same after `us` microseconds of CPU time.
    async fn burn(&self, us: u32, body: Vec<u8>) -> Result<Vec<u8>, Status>;
}

#[derive(Debug, Default)]
struct Burner;

impl Mixed for Burner {
    async fn echo(&self, body: Bytes) -> Result<Bytes, Status> {
        Ok(body)
    }

    async fn burn(&self, us: u32, body: Vec<u8>) -> Result<Vec<u8>, Status> {
        // The thread's own clock: a core that is taken away for a while does not shorten the work.
        let used = || {
            let now = ClockId::CLOCK_THREAD_CPUTIME_ID.now().map(Duration::from);
            now.map_err(|error| Status::internal(error.to_string()))
        };
        let until = used()? + Duration::from_micros(us.into());
        while used()? < until {}
        Ok(body)
    }
}

/// Serves on one shard until SIGTERM, and says on standard output where.
///
/// # Errors
///
/// When the server cannot start, or ends badly.
#[expect(clippy::print_stdout, reason = "every server here says where it listens")]
pub fn serve(core: usize, spins: bool) -> Result<()> {
    let running = Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Cpus(vec![core]))
        .spin(if spins { Spin::Always } else { Spin::Off })
        .service(|_shard| MixedServer::new(Burner))
        .drain_on_signal()
        .start()?;
    for address in running.addresses() {
        println!("listening {address}");
    }
    let ended = running.wait();
    anyhow::ensure!(ended.shards_lost == 0, "{} shards were lost", ended.shards_lost);
    Ok(())
}

/// What the load generator is asked for.
#[derive(Debug, Clone)]
pub struct Load {
    /// The server.
    pub addr: String,
    /// Calls per second. A rate that nobody can answer makes a closed loop of it, for then a call is sent whenever
    /// there is room.
    pub rate: f64,
    /// Connections.
    pub conns: usize,
    /// The most calls in flight on each of them.
    pub inflight: u32,
    /// Of a hundred calls, how many burn, drawn by lot.
    pub burn_percent: u8,
    /// For how many microseconds of CPU time.
    pub burn_us: u32,
    /// What the arrivals and the burning calls are drawn from.
    pub seed: u64,
    /// Measured seconds.
    pub secs: f64,
    /// The core to run on.
    pub core: usize,
    /// The server's process id.
    pub server_pid: i32,
}

impl Load {
    /// Whether that call burns.
    fn burns(&self, number: u64) -> bool {
        let mut state = self.seed ^ number.wrapping_mul(0x2545_f491_4f6c_dd1d);
        noise(&mut state) % 100 < u64::from(self.burn_percent)
    }
}

/// Makes the load. The sample's latencies are those of the cheap calls alone; its calls are all of them.
///
/// # Errors
///
/// When the server cannot be reached, or a clock cannot be read.
pub fn load(load: Load) -> Result<Sample> {
    let shard = ClientShard { cpu: Some(load.core), spin: Spin::Always };
    corewire::block_on_shard(shard, move || run(load))?
}

async fn run(load: Load) -> Result<Sample> {
    let mut clients = Vec::new();
    for _ in 0..load.conns {
        let channel = Channel::connect_with(load.addr.as_str(), ChannelConfig::default()).await?;
        clients.push(MixedClient::new(channel));
    }
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let end = WARM_UP + Duration::from_secs_f64(load.secs);
    let plan = Plan {
        rate: load.rate,
        arrivals: Arrivals::Poisson,
        seed: load.seed,
        conns: load.conns,
        inflight: load.inflight,
        begin_ns: nanos(WARM_UP),
        end_ns: nanos(end),
    };
    let open = Rc::new(RefCell::new(OpenLoop::new(plan)?));
    let begun = Instant::now();
    let pid = Some(load.server_pid);
    let clocks = corewire::spawn(async move {
        sleep((begun + WARM_UP).saturating_duration_since(Instant::now())).await;
        let before = Clocks::read(pid)?;
        sleep((begun + end).saturating_duration_since(Instant::now())).await;
        anyhow::Ok((before, Clocks::read(pid)?))
    });
    let body = Bytes::from(vec![7; BODY]);
    let call = |start: Start| {
        let (client, body) = (clients[start.conn].clone(), body.clone());
        let us = load.burns(start.number).then_some(load.burn_us);
        async move {
            let (reply, answered) = match us {
                Some(us) => {
                    let reply = client.burn(us, body.to_vec()).await;
                    (reply.map(Bytes::from), Outcome::AnsweredAside)
                }
                None => (client.echo(body.clone()).await, Outcome::Answered),
            };
            match reply {
                Ok(reply) if reply == body => answered,
                Ok(_) => Outcome::Failed("WrongReply".to_owned(), "a wrong reply".to_owned()),
                Err(error) => Outcome::Failed(error.code().name().to_owned(), error.to_string()),
            }
        }
    };
    drive(&open, begun, true, call).await;
    let (before, after) = clocks.await?;
    let open = open.borrow();
    if let Some(error) = open.first_error() {
        return Err(anyhow!("{} calls failed, the first one with: {error}", open.errors()));
    }
    let asked = (BODY, load.conns, usize::try_from(load.inflight).context("a count")?);
    let used = after.since(&before, pid);
    let mut sample = sample::of(asked, open.answered(), open.errors(), open.latency_ns(), &used);
    sample.open = Some(open.figures());
    Ok(sample)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_of(burn_percent: u8) -> Load {
        Load {
            addr: String::new(),
            rate: 1.0,
            conns: 1,
            inflight: 1,
            burn_percent,
            burn_us: 5000,
            seed: 3,
            secs: 1.0,
            core: 1,
            server_pid: 1,
        }
    }

    #[test]
    fn one_call_in_a_hundred_burns() {
        let burning = |percent| {
            let load = load_of(percent);
            (0..100_000).filter(|number| load.burns(*number)).count()
        };
        assert_eq!(burning(0), 0);
        assert_eq!(burning(100), 100_000);
        assert!((900..1100).contains(&burning(1)), "{}", burning(1));
    }
}
