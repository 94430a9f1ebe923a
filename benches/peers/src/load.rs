//! Load over a peer's own client. Closed loop: as many tasks as calls in flight, each calling again at once. Open loop:
//! paced and counted by the same code as in `corewire bench`.

use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use corewire_benches::load::calls::{WARM_UP, measured};
use corewire_benches::measure::clocks::Clocks;
use corewire_benches::measure::sample::{self, Sample};
use corewire_cli::open_loop::{OpenLoop, Outcome, Plan};
use hdrhistogram::Histogram;

use crate::flags::Load;

/// How long calls that are in flight at the end of an open loop may still take.
const DRAIN: Duration = Duration::from_secs(10);

/// How many different bodies an open loop sends, so that a reply to another call is noticed.
const DIFFERENT_BODIES: usize = 251;

/// A client of one connection that may have many calls in flight.
pub trait Caller: Clone + 'static {
    /// Sends a body and returns what came back.
    ///
    /// # Errors
    ///
    /// Whatever the framework reports.
    fn call(&self, body: Bytes) -> impl Future<Output = Result<Bytes>>;
}

/// What the tasks count. They share it freely, because all of them run on one thread.
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
    if let Some(rate) = load.rate {
        return run_open(load, rate, connect).await;
    }
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
    let counted = (counts.calls.get(), counts.errors.get());
    let sample = summarise(load, counted, &counts.latency.borrow(), &before, &after);
    say(&sample, counts.first_error.borrow().as_deref())
}

/// Prints the sample, and fails with the first error if there is one.
fn say(sample: &Sample, first_error: Option<&str>) -> Result<()> {
    writeln!(std::io::stdout(), "{}", serde_json::to_string(sample)?)?;
    if let Some(error) = first_error {
        bail!("{} calls failed, the first one with: {error}", sample.errors);
    }
    Ok(())
}

/// Calls at a rate, whatever earlier calls do. The pacing task spins: it runs again after every time the runtime polls
/// its sockets, so that no call waits for a timer.
async fn run_open<C: Caller>(
    load: &Load,
    rate: f64,
    connect: impl AsyncFn() -> Result<C>,
) -> Result<()> {
    let mut callers = Vec::new();
    for _ in 0..load.conns {
        callers.push(connect().await.context("cannot connect")?);
    }
    let bodies: Vec<Bytes> = (0..DIFFERENT_BODIES).map(|seed| body(load.payload, seed)).collect();
    let (begin_ns, end_ns) = measured(load.secs);
    let inflight = u32::try_from(load.inflight)?;
    let (arrivals, seed, conns) = (load.arrivals, load.seed, load.conns);
    let plan = Plan { rate, arrivals, seed, conns, inflight, begin_ns, end_ns };
    let open = Rc::new(RefCell::new(OpenLoop::new(plan)?));
    let (mut before, mut after) = (None, None);
    let begun = Instant::now();
    loop {
        let now = nanos(begun.elapsed());
        if now >= begin_ns && before.is_none() {
            before = Some(Clocks::read(load.server_pid)?);
        }
        if now >= end_ns && after.is_none() {
            after = Some(Clocks::read(load.server_pid)?);
        }
        let drained = open.borrow().in_flight() == 0 || now >= end_ns + nanos(DRAIN);
        if now >= end_ns && drained {
            break;
        }
        loop {
            let start = open.borrow_mut().start(now);
            let Some(start) = start else { break };
            let body = bodies[usize::try_from(start.number)? % DIFFERENT_BODIES].clone();
            let (caller, open) = (callers[start.conn].clone(), Rc::clone(&open));
            tokio::task::spawn_local(async move {
                let outcome = match caller.call(body.clone()).await {
                    Ok(reply) if reply == body => Outcome::Answered,
                    Ok(_) => failed("WrongReply", "a reply is not what was sent".to_owned()),
                    Err(error) => failed("Failed", format!("{error:#}")),
                };
                open.borrow_mut().done(start, nanos(begun.elapsed()), outcome);
            });
        }
        tokio::task::yield_now().await;
    }
    open.borrow_mut().close();
    let open = open.borrow();
    let (before, after) = before.zip(after).context("the run was over before it was measured")?;
    let counted = (open.answered(), open.errors());
    let mut sample = summarise(load, counted, open.latency_ns(), &before, &after);
    sample.open = Some(open.figures());
    say(&sample, open.first_error())
}

fn failed(status: &str, sentence: String) -> Outcome {
    Outcome::Failed(status.to_owned(), sentence)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// One call in flight at all times. It ends at the first error, which fails the whole run.
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

/// The sample of these calls.
fn summarise(
    load: &Load,
    (calls, errors): (u64, u64),
    latency: &Histogram<u64>,
    before: &Clocks,
    after: &Clocks,
) -> Sample {
    let asked = (load.payload, load.conns, load.inflight);
    sample::of(asked, calls, errors, latency, &after.since(before, load.server_pid))
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
}
