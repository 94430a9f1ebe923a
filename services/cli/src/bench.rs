//! A load generator for the echo service. Its closed loop is here: each of `conns × inflight` callers
//! makes its next call when it has the reply of the last one. With `--rate`, the open loop of
//! `open.rs` takes its place.

use clap::Args;
use corewire::echo::EchoClient;
use corewire::{Bytes, Channel, ChannelConfig, ClientShard, Spin, Task, sleep, spawn};
use corewire_cli::pace::{Arrivals, parse_rate};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use std::cell::{Cell, RefCell};
use std::io::IsTerminal;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::process::Process;
use crate::report::{Probe, Report, Spread, micros, quantile_us};

/// Calls made before the measurement begins.
pub(crate) const WARM_UP: Duration = Duration::from_millis(500);

/// The wait after a failed call, so that a dead server is not called in a tight loop.
const FAILURE_PAUSE: Duration = Duration::from_millis(1);

/// The flags of `corewire bench`.
#[derive(Args, Clone, Debug)]
pub(crate) struct BenchFlags {
    /// The server's address, host:port
    pub(crate) addr: String,

    /// Bytes of each request and reply
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(0..=16_777_208))]
    pub(crate) payload: u32,

    /// Connections
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) conns: u32,

    /// Calls in flight on each connection [default: 1]; with --rate, the most that may be [default:
    /// 256]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4096))]
    inflight: Option<u32>,

    /// Open loop: send this many calls per second over all connections, whatever earlier calls do
    ///
    /// Each call is timed from when it was due, so that a stall of the server is in the latency of
    /// every call that fell due meanwhile. The line "send lateness" says how late the client itself
    /// was: where its p99 is not far below the p99 of the latency, the client or the limit of
    /// --inflight was slow, and not the server alone. Calls that found no room until the end are
    /// missed. The client spins for this, which wants a core of its own; see --park.
    #[arg(long, value_name = "CALLS", value_parser = parse_rate, conflicts_with_all = ["probe", "per_connection"])]
    pub(crate) rate: Option<f64>,

    /// How the calls of --rate are spread: constant or poisson
    #[arg(long, default_value = "constant", requires = "rate")]
    pub(crate) arrivals: Arrivals,

    /// What poisson arrivals are drawn from: the same seed, the same times
    #[arg(long, default_value_t = 1, requires = "rate")]
    pub(crate) seed: u64,

    /// With --rate: sleep until the next call is due, and be late by what waking up takes
    #[arg(long, requires = "rate", conflicts_with = "spin")]
    park: bool,

    /// With --rate: of a hundred calls, how many have the highest priority, 7; their figures are reported
    /// separately
    #[arg(long, value_name = "PERCENT", requires = "rate", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=99))]
    pub(crate) high: u8,

    /// How long a call may take, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=600_000))]
    timeout: u32,

    /// Calls may fail: they are counted, and the exit code is still 0
    #[arg(long)]
    pub(crate) failures: bool,

    /// Also make calls with this many bytes meanwhile, one after the other; they are counted separately
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=16_777_208))]
    probe: Option<u32>,

    /// Where the calls of --probe are made: on a connection of their own, or on the first of the others
    #[arg(long, value_enum, default_value_t = ProbeOn::Own, requires = "probe")]
    probe_on: ProbeOn,

    /// Also report how evenly the connections are served: the spread of their p99 and of their calls
    #[arg(long)]
    per_connection: bool,

    /// How long to measure, in seconds (fractions allowed)
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    pub(crate) secs: f64,

    /// Make exactly this many calls, without a warm-up, instead of measuring for a time
    #[arg(long, conflicts_with_all = ["secs", "probe"], value_parser = clap::value_parser!(u64).range(1..))]
    calls: Option<u64>,

    /// The CPU to run on
    #[arg(long)]
    cpu: Option<usize>,

    /// Look for replies instead of sleeping: always if no value is given, or for up to this many
    /// microseconds where that pays. With --rate, the client looks all the time unless it parks
    #[arg(long, value_name = "off|always|MICROSECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "always")]
    spin: Option<Spin>,

    /// A server on this machine whose CPU time and memory are reported
    #[arg(long)]
    pub(crate) server_pid: Option<i32>,

    /// Print one line of JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

impl BenchFlags {
    /// Calls in flight on each connection: exactly this many, or at most.
    pub(crate) fn inflight(&self) -> u32 {
        let default = if self.rate.is_some() { OPEN_IN_FLIGHT } else { 1 };
        self.inflight.unwrap_or(default)
    }

    /// Whether the calls of `--probe` have a connection of their own.
    fn own_probe(&self) -> bool {
        self.probe.is_some() && self.probe_on == ProbeOn::Own
    }

    /// Whether an open loop never sleeps, which is usual: a client that sleeps wakes up late, and its
    /// calls are sent in bursts that no caller makes.
    pub(crate) fn paces_awake(&self) -> bool {
        self.rate.is_some() && !self.park
    }

    pub(crate) fn shard(&self) -> ClientShard {
        let spin = if self.paces_awake() { Spin::Always } else { self.spin.unwrap_or_default() };
        ClientShard { cpu: self.cpu, spin, ..ClientShard::default() }
    }
}

/// The most calls in flight on a connection of an open loop, unless another number is given.
const OPEN_IN_FLIGHT: u32 = 256;

/// Which connection carries the calls of `--probe`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ProbeOn {
    Own,
    Same,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(secs) if (0.05..=3600.0).contains(&secs) => Ok(secs),
        _ => Err("give seconds between 0.05 and 3600".into()),
    }
}

/// What all callers share.
struct Run {
    /// Bytes to cut payloads from; each call sends another part, so a reply of another call shows.
    pattern: Bytes,
    payload: usize,
    start: Instant,
    end: Instant,
    /// Calls that are still to be made, if their number was given: the time does not count then.
    left: Option<Cell<u64>>,
    seen: RefCell<Seen>,
    /// Latencies in µs by connection, if they are wanted.
    by_connection: RefCell<Vec<Vec<u32>>>,
}

impl Run {
    /// Whether a call that is sent now is still one of the run's.
    fn takes_another(&self, now: Instant) -> bool {
        match &self.left {
            None => now < self.end,
            Some(left) => left.replace(left.get().saturating_sub(1)) > 0,
        }
    }

    /// Whether a call is counted: always, or when it lies within the measured time.
    fn counts(&self, sent: Instant, done: Instant) -> bool {
        self.left.is_some() || (sent >= self.start && done <= self.end)
    }

    /// Counts a failure, whenever it happens: a wrong reply counts during the warm-up, too.
    fn fail(&self, failure: String) {
        let mut seen = self.seen.borrow_mut();
        seen.errors += 1;
        seen.first_error.get_or_insert(failure);
    }
}

impl Run {
    /// A run of calls with `payload` bytes that is measured for `secs` from `start` on.
    fn new(
        payload: usize,
        start: Instant,
        secs: f64,
        calls: Option<u64>,
    ) -> Result<Rc<Self>, String> {
        let latency_ns =
            Histogram::new_with_bounds(1, 60_000_000_000, 3).map_err(|error| error.to_string())?;
        Ok(Rc::new(Self {
            pattern: pattern(payload),
            payload,
            start,
            end: start + Duration::from_secs_f64(secs),
            left: calls.map(Cell::new),
            seen: RefCell::new(Seen { latency_ns, errors: 0, first_error: None }),
            by_connection: RefCell::default(),
        }))
    }
}

/// What was seen between `start` and `end`.
struct Seen {
    latency_ns: Histogram<u64>,
    errors: u64,
    first_error: Option<String>,
}

/// One client per connection.
pub(crate) async fn connect(flags: &BenchFlags) -> Result<Vec<EchoClient>, String> {
    let mut config = ChannelConfig::default();
    config.connection.limits.in_flight = corewire::codec::InFlight::MAX;
    let own_probe = flags.own_probe();
    let mut clients = Vec::new();
    for _ in 0..flags.conns + u32::from(own_probe) {
        let channel = Channel::connect_with(flags.addr.as_str(), config.clone()).await;
        let channel = channel.map_err(|error| error.to_string())?;
        let timeout = Duration::from_millis(flags.timeout.into());
        clients.push(EchoClient::new(channel).with_timeout(timeout));
    }
    Ok(clients)
}

/// Makes the load of the closed loop and reports it.
pub(crate) async fn load(flags: BenchFlags, server: Option<Process>) -> Result<Report, String> {
    let mut clients = connect(&flags).await?;
    let own_probe = flags.own_probe();
    let prober = if own_probe { clients.pop() } else { clients.first().cloned() };
    let start = Instant::now() + WARM_UP;
    let run = Run::new(flags.payload as usize, start, flags.secs, flags.calls)?;
    if flags.per_connection {
        run.by_connection.borrow_mut().resize(flags.conns as usize, Vec::new());
    }
    let before = Reading::now(server)?;
    let mut callers = Vec::new();
    let mut probe = None;
    if let Some((payload, client)) = flags.probe.zip(prober) {
        let run = Run::new(payload as usize, start, flags.secs, None)?;
        callers.push(spawn(call_until_end(client, Rc::clone(&run), 0, 0)));
        probe = Some(run);
    }
    for (index, client) in clients.iter().enumerate() {
        for caller in 0..flags.inflight() as usize {
            let seed = index * flags.inflight() as usize + caller;
            callers.push(spawn(call_until_end(client.clone(), Rc::clone(&run), index, seed)));
        }
    }
    let timed = flags.calls.is_none();
    let bar = timed.then(|| show_progress(&flags, run.start, run.end)).flatten();
    let clocks = timed.then(|| spawn(read_clocks(run.start, run.end, server)));
    for caller in callers {
        caller.await;
    }
    let clocks = match clocks {
        Some(clocks) => clocks.await?,
        None => Reading::now(server)?.since(&before),
    };
    let secs = if timed { flags.secs } else { clocks.secs };
    if let Some(bar) = bar {
        bar.await;
    }
    let seen = run.seen.borrow();
    let probe = probe.as_ref().map(|run| (run.payload, run.seen.borrow()));
    let probe_errors = probe.as_ref().map_or(0, |(_, seen)| seen.errors);
    let probe_first_error = probe.as_ref().and_then(|(_, seen)| seen.first_error.clone());
    let latency_ns = &seen.latency_ns;
    let calls = latency_ns.len();
    Ok(Report {
        payload: run.payload,
        conns: flags.conns as usize,
        inflight: flags.inflight() as usize,
        secs,
        calls,
        errors: seen.errors + probe_errors,
        rps: rate(calls, secs),
        p50_us: quantile_us(latency_ns, 0.50),
        p90_us: quantile_us(latency_ns, 0.90),
        p99_us: quantile_us(latency_ns, 0.99),
        p999_us: quantile_us(latency_ns, 0.999),
        max_us: micros(latency_ns.max()),
        // The clocks were read within a few milliseconds of the window that calls were counted in.
        client_cpu_s: clocks.client_s * secs / clocks.secs,
        server_cpu_s: clocks.server_s.map(|server_s| server_s * secs / clocks.secs),
        server_rss_mb: server.map(Process::peak_rss_mib).transpose()?,
        open: None,
        high: None,
        connections: flags.per_connection.then(|| Spread::of(&mut run.by_connection.borrow_mut())),
        probe: probe.map(|(payload, seen)| Probe {
            payload,
            calls: seen.latency_ns.len(),
            p50_us: quantile_us(&seen.latency_ns, 0.50),
            p99_us: quantile_us(&seen.latency_ns, 0.99),
        }),
        first_error: seen.first_error.clone().or(probe_first_error),
    })
}

/// A bar for people who watch; it ends with the run.
pub(crate) fn show_progress(flags: &BenchFlags, start: Instant, end: Instant) -> Option<Task<()>> {
    (!flags.json && std::io::stderr().is_terminal()).then(|| spawn(progress(start, end)))
}

#[allow(clippy::cast_precision_loss, reason = "no run makes 2⁵³ calls")]
pub(crate) fn rate(calls: u64, secs: f64) -> f64 {
    calls as f64 / secs
}

/// Bytes that do not repeat within a payload: a linear congruential sequence (Knuth's MMIX constants).
pub(crate) fn pattern(payload: usize) -> Bytes {
    let mut state = 1u64;
    let mut bytes = Vec::with_capacity(payload + PATTERN_EXTRA);
    for _ in 0..payload + PATTERN_EXTRA {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.push(state.to_le_bytes()[7]);
    }
    bytes.into()
}

/// How many different payloads there are.
pub(crate) const PATTERN_EXTRA: usize = 1021;

async fn call_until_end(client: EchoClient, run: Rc<Run>, connection: usize, seed: usize) {
    let mut offset = seed % PATTERN_EXTRA;
    let mut sent = Instant::now();
    while run.takes_another(sent) {
        offset = (offset + 1) % PATTERN_EXTRA;
        let body = run.pattern.slice(offset..offset + run.payload);
        let outcome = client.echo(body.clone()).await;
        let done = Instant::now();
        let failure = match outcome {
            Ok(reply) => wrong(&reply, &body),
            Err(error) => Some(error.to_string()),
        };
        if let Some(failure) = failure {
            run.fail(failure);
            sleep(FAILURE_PAUSE).await;
            sent = Instant::now();
            continue;
        }
        if run.counts(sent, done) {
            let took = u64::try_from((done - sent).as_nanos()).unwrap_or(u64::MAX);
            run.seen.borrow_mut().latency_ns.saturating_record(took);
            if let Some(own) = run.by_connection.borrow_mut().get_mut(connection) {
                own.push(u32::try_from(took / 1000).unwrap_or(u32::MAX));
            }
        }
        // The next call begins now: one clock read serves both.
        sent = done;
    }
}

/// What is wrong with a reply, in words.
pub(crate) fn wrong(reply: &Bytes, body: &Bytes) -> Option<String> {
    if reply == body {
        None
    } else if reply.len() == body.len() {
        Some("a reply has the right length and other bytes".to_owned())
    } else {
        Some(format!("a reply has {} bytes instead of {}", reply.len(), body.len()))
    }
}

/// What the clocks said over the measured time.
pub(crate) struct Clocks {
    pub(crate) secs: f64,
    pub(crate) client_s: f64,
    pub(crate) server_s: Option<f64>,
}

/// What the clocks said at one moment.
struct Reading {
    at: Instant,
    client: Duration,
    server: Option<Duration>,
}

impl Reading {
    fn now(server: Option<Process>) -> Result<Self, String> {
        let server = server.map(Process::cpu_time).transpose()?;
        Ok(Self { at: Instant::now(), client: Process::own().cpu_time()?, server })
    }

    fn since(&self, before: &Self) -> Clocks {
        let server = self.server.zip(before.server);
        Clocks {
            secs: (self.at - before.at).as_secs_f64(),
            client_s: self.client.saturating_sub(before.client).as_secs_f64(),
            server_s: server.map(|(after, before)| after.saturating_sub(before).as_secs_f64()),
        }
    }
}

pub(crate) async fn read_clocks(
    start: Instant,
    end: Instant,
    server: Option<Process>,
) -> Result<Clocks, String> {
    sleep(start.saturating_duration_since(Instant::now())).await;
    let before = Reading::now(server)?;
    sleep(end.saturating_duration_since(Instant::now())).await;
    Ok(Reading::now(server)?.since(&before))
}

async fn progress(start: Instant, end: Instant) {
    let total = u64::try_from((end - start).as_millis()).unwrap_or(u64::MAX);
    let style = ProgressStyle::with_template("{msg} {bar:40} {percent}%");
    let bar =
        ProgressBar::new(total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message("warming up");
    while Instant::now() < end {
        let now = Instant::now();
        if now >= start {
            bar.set_message("measuring");
            bar.set_position(u64::try_from((now - start).as_millis()).unwrap_or(total));
        }
        sleep(Duration::from_millis(100)).await;
    }
    bar.finish_and_clear();
}
