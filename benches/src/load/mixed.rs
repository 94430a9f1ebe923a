//! Mixed load: an echo service in which some calls burn CPU in their handler, and the load generator for it.
//!
//! A handler that computes for 5 ms keeps its shard from every other call for that long, unless it is a blocking method.
//! The command `mixed` measures what either does to the cheap calls.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;
use corewire::{Bytes, Channel, ClientShard, Running, ServerBuilder, Spin, Status, sleep};
use corewire_cli::open_loop::{OpenLoop, Outcome, Plan, Start};
use corewire_cli::pace::{Arrivals, noise};
use corewire_cli::shard::drive;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::time::ClockId;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::load::calls;
use crate::load::pair::Target;
use crate::measure::clocks::Clocks;
use crate::measure::sample::{self, Sample};

/// Bytes of each body.
const BODY: usize = 64;

/// Cheap calls, and calls that burn.
#[corewire::service(name = "bench.Mixed")]
pub trait Mixed {
    /// Answers with the request's own bytes.
    async fn echo(&self, body: Bytes) -> Result<Bytes, Status>;
    /// The same after `us` microseconds of CPU time.
    async fn burn(&self, us: u32, body: Vec<u8>) -> Result<Vec<u8>, Status>;
    /// The same on a thread beside the shard.
    #[blocking]
    fn burn_beside(us: u32, body: Vec<u8>) -> Result<Vec<u8>, Status>;
}

#[derive(Debug, Default)]
struct Burner;

impl Mixed for Burner {
    async fn echo(&self, body: Bytes) -> Result<Bytes, Status> {
        Ok(body)
    }

    async fn burn(&self, us: u32, body: Vec<u8>) -> Result<Vec<u8>, Status> {
        Self::burn_beside(us, body)
    }

    fn burn_beside(us: u32, body: Vec<u8>) -> Result<Vec<u8>, Status> {
        // The thread's own clock: if the core is taken away for a while, the work does not get shorter.
        let used = || {
            let now = ClockId::CLOCK_THREAD_CPUTIME_ID.now().map(Duration::from);
            now.map_err(|error| Status::internal(error.to_string()))
        };
        let until = used()? + Duration::from_micros(us.into());
        while used()? < until {}
        Ok(body)
    }
}

/// Starts a server of this service.
///
/// # Errors
///
/// When it cannot start.
pub fn serve(builder: ServerBuilder) -> Result<Running> {
    Ok(builder.service(|_shard| MixedServer::new(Burner)).start()?)
}

/// Keeps this thread, and all that it starts, to one core: what the server offloads shares the core with its shard, and
/// not with the load generator.
///
/// # Errors
///
/// When the system refuses it.
pub fn keep_to(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// What the load generator is asked to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Load {
    /// Calls per second. A rate that nobody can answer makes it a closed loop, because then a call is sent
    /// whenever there is room.
    pub rate: f64,
    /// Connections.
    pub conns: usize,
    /// The most calls in flight on each of them.
    pub inflight: u32,
    /// Of as many calls one burns, drawn at random; of 0 none does.
    pub burn_one_in: u32,
    /// For how many microseconds of CPU time.
    pub burn_us: u32,
    /// Whether they do it beside the shard.
    pub beside: bool,
    /// What the arrivals and the burning calls are drawn from.
    pub seed: u64,
    /// Measured seconds.
    pub secs: f64,
}

impl Load {
    /// Whether that call burns.
    fn burns(&self, number: u64) -> bool {
        let mut state = self.seed ^ number.wrapping_mul(0x2545_f491_4f6c_dd1d);
        self.burn_one_in > 0 && noise(&mut state).is_multiple_of(u64::from(self.burn_one_in))
    }
}

/// Makes the load. The sample's latencies are those of the cheap calls alone; its calls are all of them.
///
/// # Errors
///
/// When the server cannot be reached, or a clock cannot be read.
pub fn load(target: Target, load: Load) -> Result<Sample> {
    let shard =
        ClientShard { cpu: Some(target.core), spin: Spin::Always, ..ClientShard::default() };
    corewire::block_on_shard(shard, move || run(target, load))?
}

async fn run(target: Target, load: Load) -> Result<Sample> {
    let mut clients = Vec::new();
    for _ in 0..load.conns {
        let channel = Channel::connect(target.addr.as_str()).await?;
        clients.push(MixedClient::new(channel));
    }
    let (begin_ns, end_ns) = calls::measured(load.secs);
    let Load { rate, seed, conns, inflight, .. } = load;
    let arrivals = Arrivals::Poisson;
    let plan = Plan { rate, arrivals, seed, conns, inflight, begin_ns, end_ns };
    let open = Rc::new(RefCell::new(OpenLoop::new(plan)?));
    let begun = Instant::now();
    let pid = Some(target.server_pid);
    let clocks = corewire::spawn(async move {
        let until = |ns| Duration::from_nanos(ns).saturating_sub(begun.elapsed());
        sleep(until(begin_ns)).await;
        let before = Clocks::read(pid)?;
        sleep(until(end_ns)).await;
        anyhow::Ok((before, Clocks::read(pid)?))
    });
    let body = Bytes::from(vec![7; BODY]);
    let call = |start: Start| {
        let (client, body) = (clients[start.conn].clone(), body.clone());
        let us = load.burns(start.number).then_some(load.burn_us);
        let beside = load.beside;
        async move {
            let (reply, answered) = match us {
                Some(us) => {
                    let reply = match beside {
                        false => client.burn(us, body.to_vec()).await,
                        true => client.burn_beside(us, body.to_vec()).await,
                    };
                    (reply.map(Bytes::from), Outcome::AnsweredAside)
                }
                None => (client.echo(body.clone()).await, Outcome::Answered),
            };
            calls::echoed(reply, &body, answered)
        }
    };
    drive(&open, begun, true, call).await;
    let (before, after) = clocks.await?;
    let open = open.borrow();
    calls::none_failed(&open)?;
    let asked = (BODY, conns, usize::try_from(inflight)?);
    let used = after.since(&before, pid);
    let mut sample = sample::of(asked, open.answered(), open.errors(), open.latency_ns(), &used);
    sample.open = Some(open.figures());
    Ok(sample)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_of(burn_one_in: u32) -> Load {
        let (burn_us, beside) = (5000, false);
        Load { rate: 1.0, conns: 1, inflight: 1, burn_one_in, burn_us, beside, seed: 3, secs: 1.0 }
    }

    #[test]
    fn one_call_in_a_hundred_burns() {
        let burning = |one_in| {
            let load = load_of(one_in);
            (0..100_000).filter(|number| load.burns(*number)).count()
        };
        assert_eq!(burning(0), 0);
        assert_eq!(burning(1), 100_000);
        assert!((900..1100).contains(&burning(100)), "{}", burning(100));
    }
}
