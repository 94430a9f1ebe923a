//! Closed-loop load over a peer's own client: as many tasks as calls in flight, each calling again at once.

use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use corewire_benches::sample::Sample;
use hdrhistogram::Histogram;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

use crate::flags::Load;

/// Not counted: long enough for connections to be made and caches to be warm.
const WARM_UP: Duration = Duration::from_millis(500);

/// A client of one connection that may have many calls in flight.
pub trait Caller: Clone + 'static {
    /// Sends a body and returns what came back.
    ///
    /// # Errors
    ///
    /// Whatever the framework reports.
    fn call(&self, body: Bytes) -> impl Future<Output = Result<Bytes>>;
}

/// What the tasks count. They share it freely, for all of them run on one thread.
#[derive(Debug)]
struct Counts {
    measuring: Cell<bool>,
    calls: Cell<u64>,
    errors: Cell<u64>,
    first_error: RefCell<Option<String>>,
    latency: RefCell<Histogram<u64>>,
}

/// Makes the load with the connections that `connect` gives, and prints the sample.
///
/// # Errors
///
/// When a connection cannot be made, a clock cannot be read, or any call failed.
pub async fn run<C: Caller>(load: &Load, connect: impl AsyncFn() -> Result<C>) -> Result<()> {
    let counts = Rc::new(Counts {
        measuring: Cell::new(false),
        calls: Cell::new(0),
        errors: Cell::new(0),
        first_error: RefCell::new(None),
        // Three digits, so an error of at most 0.1 %, up to a minute.
        latency: RefCell::new(
            Histogram::new_with_bounds(1, 60_000_000_000, 3).context("no histogram")?,
        ),
    });
    let mut tasks = Vec::new();
    for connection in 0..load.conns {
        let caller = connect().await.context("cannot connect")?;
        for slot in 0..load.inflight {
            let body = body(load.payload, connection * load.inflight + slot);
            tasks.push(tokio::task::spawn_local(call_again(
                caller.clone(),
                body,
                Rc::clone(&counts),
            )));
        }
    }
    tokio::time::sleep(WARM_UP).await;
    let before = Clocks::read(load.server_pid)?;
    counts.measuring.set(true);
    tokio::time::sleep(Duration::from_secs_f64(load.secs)).await;
    counts.measuring.set(false);
    let after = Clocks::read(load.server_pid)?;
    for task in &tasks {
        task.abort();
    }
    let sample = summarise(load, &counts, &before, &after);
    writeln!(std::io::stdout(), "{}", serde_json::to_string(&sample)?)?;
    if let Some(error) = counts.first_error.borrow().as_ref() {
        bail!("{} calls failed, the first one with: {error}", sample.errors);
    }
    Ok(())
}

/// One call in flight, for ever. It ends at the first error, which fails the whole run.
async fn call_again<C: Caller>(caller: C, body: Bytes, counts: Rc<Counts>) {
    loop {
        let begin = Instant::now();
        let error = match caller.call(body.clone()).await {
            Ok(reply) if reply == body => None,
            Ok(_) => Some("a reply is not what was sent".to_owned()),
            Err(error) => Some(format!("{error:#}")),
        };
        if let Some(error) = error {
            counts.errors.set(counts.errors.get() + 1);
            counts.first_error.borrow_mut().get_or_insert(error);
            return;
        }
        if counts.measuring.get() {
            counts.calls.set(counts.calls.get() + 1);
            let nanoseconds = u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
            counts.latency.borrow_mut().saturating_record(nanoseconds);
        }
    }
}

/// A body that no other call in flight has.
fn body(bytes: usize, seed: usize) -> Bytes {
    let mut noise = seed as u64 + 1;
    let next = || {
        noise =
            noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        noise.to_le_bytes()[7]
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

/// All clocks at one moment.
#[derive(Debug)]
struct Clocks {
    wall: Instant,
    client_cpu: TimeSpec,
    server_cpu: Option<TimeSpec>,
}

impl Clocks {
    fn read(server: Option<i32>) -> Result<Self> {
        let of_server = |pid| {
            let clock = clock_getcpuclockid(Pid::from_raw(pid))
                .with_context(|| format!("there is no process {pid}"))?;
            clock.now().with_context(|| format!("cannot read the CPU clock of process {pid}"))
        };
        Ok(Self {
            wall: Instant::now(),
            client_cpu: ClockId::CLOCK_PROCESS_CPUTIME_ID
                .now()
                .context("cannot read the CPU clock")?,
            server_cpu: server.map(of_server).transpose()?,
        })
    }
}

fn seconds_between(before: TimeSpec, after: TimeSpec) -> f64 {
    Duration::from(after).saturating_sub(Duration::from(before)).as_secs_f64()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "calls and nanoseconds of some seconds are far below 2^53"
)]
fn summarise(load: &Load, counts: &Counts, before: &Clocks, after: &Clocks) -> Sample {
    let secs = after.wall.duration_since(before.wall).as_secs_f64();
    let latency = counts.latency.borrow();
    let us = |nanoseconds: u64| nanoseconds as f64 / 1e3;
    let calls = counts.calls.get();
    Sample {
        payload: load.payload,
        conns: load.conns,
        inflight: load.inflight,
        secs,
        calls,
        errors: counts.errors.get(),
        rps: calls as f64 / secs,
        p50_us: us(latency.value_at_quantile(0.5)),
        p90_us: us(latency.value_at_quantile(0.9)),
        p99_us: us(latency.value_at_quantile(0.99)),
        p999_us: us(latency.value_at_quantile(0.999)),
        max_us: us(latency.max()),
        client_cpu_s: seconds_between(before.client_cpu, after.client_cpu),
        server_cpu_s: before
            .server_cpu
            .zip(after.server_cpu)
            .map(|(before, after)| seconds_between(before, after)),
        server_rss_mb: load.server_pid.and_then(peak_memory),
    }
}

/// The peak of a process' resident memory in MiB.
fn peak_memory(pid: i32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_differ_and_have_their_length() {
        assert_eq!(body(0, 0).len(), 0);
        assert_eq!(body(64, 3).len(), 64);
        assert_ne!(body(64, 3), body(64, 4));
    }

    #[test]
    fn this_process_has_clocks_and_memory() {
        let pid = i32::try_from(std::process::id()).expect("pids are small");
        let clocks = Clocks::read(Some(pid)).expect("its own clocks can be read");
        assert!(clocks.server_cpu.is_some_and(|cpu| cpu >= clocks.client_cpu));
        assert!(peak_memory(pid).is_some_and(|mib| mib > 0.1));
        // The kernel gives out no number above 2^22.
        assert!(Clocks::read(Some(5_000_000)).is_err());
    }
}
