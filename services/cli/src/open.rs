//! The open loop of `corewire bench`: calls at a given rate, whatever earlier calls do.

use corewire::{CallOptions, spawn};
use corewire_cli::open_loop::{OpenLoop, Outcome, Plan, Start};
use corewire_cli::pace::noise;
use corewire_cli::shard::drive;
use hdrhistogram::Histogram;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::bench::{
    BenchFlags, PATTERN_EXTRA, WARM_UP, connect, pattern, rate, read_clocks, show_progress, wrong,
};
use crate::process::Process;
use crate::report::{High, Report, micros, quantile_us};

/// Makes the load and reports it.
pub(crate) async fn load(
    flags: BenchFlags,
    calls_per_second: f64,
    server: Option<Process>,
) -> Result<Report, String> {
    let clients = connect(&flags).await?;
    let payload = usize::try_from(flags.payload).unwrap_or(usize::MAX);
    let pattern = pattern(payload);
    let urgent: Vec<_> =
        clients.iter().map(|client| client.with(CallOptions::new().priority(7))).collect();
    let high = Rc::new(RefCell::new(HighLoop::new()?));
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let until = WARM_UP + Duration::from_secs_f64(flags.secs);
    let plan = Plan {
        rate: calls_per_second,
        arrivals: flags.arrivals,
        seed: flags.seed,
        conns: clients.len(),
        inflight: flags.inflight(),
        begin_ns: nanos(WARM_UP),
        end_ns: nanos(until),
    };
    let (plan_begin, plan_end) = (plan.begin_ns, plan.end_ns);
    let open = Rc::new(RefCell::new(OpenLoop::new(plan).map_err(|error| error.to_string())?));
    let begun = Instant::now();
    let (start, end) = (begun + WARM_UP, begun + until);
    let clocks = spawn(read_clocks(start, end, server));
    let bar = show_progress(&flags, start, end);
    let call = |call: Start| {
        // Another part of the pattern for each call, so that a reply to another call is noticed.
        let offset = usize::try_from(call.number).unwrap_or(0) % PATTERN_EXTRA;
        let body = pattern.slice(offset..offset + payload);
        let is_high = draws_high(flags.seed, call.number, flags.high);
        let client = if is_high { &urgent[call.conn] } else { &clients[call.conn] }.clone();
        let high = is_high.then(|| Rc::clone(&high));
        let counts = (plan_begin..plan_end).contains(&call.due_ns);
        async move {
            let outcome = match client.echo(body.clone()).await {
                Ok(reply) => match wrong(&reply, &body) {
                    None => Outcome::Answered,
                    Some(sentence) => Outcome::Failed("WrongReply".to_owned(), sentence),
                },
                Err(error) => Outcome::Failed(error.code().name().to_owned(), error.to_string()),
            };
            let Some(high) = high else { return outcome };
            if counts {
                let took = nanos(begun.elapsed()).saturating_sub(call.due_ns);
                high.borrow_mut().count(&outcome, took);
            }
            match outcome {
                Outcome::Answered => Outcome::AnsweredAside,
                outcome => outcome,
            }
        }
    };
    drive(&open, begun, flags.paces_awake(), call).await;
    let clocks = clocks.await?;
    if let Some(bar) = bar {
        bar.await;
    }
    let open = open.borrow();
    let latency_ns = open.latency_ns();
    Ok(Report {
        payload,
        conns: clients.len(),
        inflight: flags.inflight() as usize,
        secs: flags.secs,
        calls: open.answered(),
        errors: open.errors(),
        rps: rate(open.answered(), flags.secs),
        p50_us: quantile_us(latency_ns, 0.50),
        p90_us: quantile_us(latency_ns, 0.90),
        p99_us: quantile_us(latency_ns, 0.99),
        p999_us: quantile_us(latency_ns, 0.999),
        max_us: micros(latency_ns.max()),
        client_cpu_s: clocks.client_s * flags.secs / clocks.secs,
        server_cpu_s: clocks.server_s.map(|server_s| server_s * flags.secs / clocks.secs),
        server_rss_mb: server.map(Process::peak_rss_mib).transpose()?,
        open: Some(open.figures()),
        high: (flags.high > 0).then(|| high.borrow().figures()),
        connections: None,
        probe: None,
        first_error: open.first_error().map(str::to_owned),
    })
}

/// Whether a call is one of those with the highest priority: picked at random, the same for the
/// same seed.
fn draws_high(seed: u64, number: u64, percent: u8) -> bool {
    let mut state = seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    noise(&mut state) % 100 < u64::from(percent)
}

/// The calls of the highest priority, counted separately.
struct HighLoop {
    latency_ns: Histogram<u64>,
    errors: u64,
}

impl HighLoop {
    fn new() -> Result<Self, String> {
        let latency_ns =
            Histogram::new_with_bounds(1, 60_000_000_000, 3).map_err(|error| error.to_string())?;
        Ok(Self { latency_ns, errors: 0 })
    }

    fn count(&mut self, outcome: &Outcome, took_ns: u64) {
        match outcome {
            Outcome::Failed(..) => self.errors += 1,
            Outcome::Answered | Outcome::AnsweredAside => {
                self.latency_ns.saturating_record(took_ns);
            }
        }
    }

    fn figures(&self) -> High {
        High {
            calls: self.latency_ns.len(),
            errors: self.errors,
            p50_us: quantile_us(&self.latency_ns, 0.50),
            p99_us: quantile_us(&self.latency_ns, 0.99),
            max_us: micros(self.latency_ns.max()),
        }
    }
}
