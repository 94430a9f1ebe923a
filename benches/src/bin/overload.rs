//! Overload: what a server still answers when it is asked for twice as much as it can answer.
//!
//! ```text
//! cargo run --release -p corewire-benches --bin overload
//! ```
//!
//! Each call is 20 µs of work for `echo_server`. A round measures the peak in a closed loop, and then an open loop at
//! half of that, at twice that with shedding, and at twice that without. A tenth of the calls have the highest
//! priority. *Goodput* is what is answered within the calls' deadline of 100 ms.

#![expect(clippy::print_stdout, reason = "this is a command, and its tables are its output")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Parser;
use corewire_benches::load::flags::{self, Cores, whole, within};
use corewire_benches::load::host::Host;
use corewire_benches::load::process::{self, Server, run_to_end};
use corewire_benches::load::toolbox;
use corewire_benches::measure::stats::Summary;
use corewire_benches::report::{short, spread, table};
use serde::Deserialize;

const CONNECTIONS: &str = "32";
const PEAK_IN_FLIGHT: &str = "8";
const WORK_US: &str = "20";
const SHED_US: &str = "5000";
const DEADLINE_MS: &str = "100";
const HIGH_PERCENT: &str = "10";
const BAR: f64 = 0.85;
const AIM: f64 = 0.95;

/// Measure what a server answers when it is asked for twice as much as it can answer
#[derive(Debug, Parser)]
struct Arguments {
    /// Rounds of the four runs
    #[arg(long, default_value_t = 5, value_parser = whole(1..=100_u32))]
    rounds: u32,

    /// Measured seconds of each run, after half a second of warm-up
    #[arg(long, default_value_t = 3.0, value_parser = within("seconds", 0.1..=600.0))]
    secs: f64,

    /// One round of 0.5 seconds: shows that everything works, and measures nothing
    #[arg(long, conflicts_with_all = ["rounds", "secs"])]
    quick: bool,

    #[command(flatten)]
    cores: Cores,

    /// Use the release binaries as they are
    #[arg(long)]
    no_build: bool,

    /// End with exit code 1 when the bar is missed
    #[arg(long)]
    enforce: bool,
}

/// The part of the load generator's JSON line that is used.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Run {
    rps: f64,
    p50_us: f64,
    p99_us: f64,
    high: Option<High>,
}

/// The calls of the highest priority.
#[derive(Debug, Clone, Copy, Deserialize)]
struct High {
    calls: u32,
    errors: u32,
    p50_us: f64,
    p99_us: f64,
}

/// The four runs of a round.
#[derive(Debug)]
struct Round {
    peak: Run,
    half: Run,
    twice: Run,
    unprotected: Run,
}

fn main() -> ExitCode {
    flags::end(measure(&Arguments::parse()))
}

/// One load on a fresh server.
fn run(arguments: &Arguments, secs: f64, shed: bool, load: &[&str]) -> Result<Run> {
    let mut command = toolbox::serve_echo(arguments.cores.server);
    command.args(["--work", WORK_US]);
    if shed {
        command.args(["--shed", SHED_US]);
    }
    let server = Server::start("the server", &mut command)?;
    let mut command = toolbox::bench(server.address());
    command.args(["--conns", CONNECTIONS, "--failures"]);
    command.args(["--cpu", &arguments.cores.client.to_string(), "--secs", &secs.to_string()]);
    command.args(["--timeout", DEADLINE_MS]).args(load);
    let limit = Duration::from_secs_f64(secs) + Duration::from_secs(20);
    // A server that answers nothing in time is a result, not a failure of the load generator.
    let line = run_to_end("the load generator", &mut command, limit)?;
    server.stop()?;
    serde_json::from_str(&line).with_context(|| format!("the load generator says {line:?}"))
}

fn measure(arguments: &Arguments) -> Result<ExitCode> {
    arguments.cores.check()?;
    let (count, secs) = if arguments.quick { (1, 0.5) } else { (arguments.rounds, arguments.secs) };
    process::kill_children_on_signal()?;
    toolbox::make_corewire(arguments.no_build)?;
    let (host, begun) = (Host::look(), Instant::now());
    let mut rounds = Vec::new();
    for number in 0..count {
        eprintln!("[{}/{count}]", number + 1);
        let round = measure_round(arguments, secs);
        rounds.push(round.with_context(|| format!("round {}", number + 1))?);
    }
    println!(
        "{host}, {WORK_US} µs of work a call, rounds: {count}, seconds each: {secs}, measured in {:.0} s\n",
        begun.elapsed().as_secs_f64()
    );
    let goodput = write_out(&rounds);
    let holds = goodput.is_some_and(|goodput| goodput.median >= BAR);
    Ok(if arguments.enforce && !holds { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn measure_round(arguments: &Arguments, secs: f64) -> Result<Round> {
    let peak = run(arguments, secs, false, &["--inflight", PEAK_IN_FLIGHT])?;
    let open = |times: f64, shed| {
        let rate = format!("{:.0}", peak.rps * times);
        run(arguments, secs, shed, &["--rate", &rate, "--high", HIGH_PERCENT])
    };
    let (half, twice, unprotected) = (open(0.5, true)?, open(2.0, true)?, open(2.0, false)?);
    Ok(Round { peak, half, twice, unprotected })
}

/// Prints the table; returns the goodput with shedding as a fraction of the peak.
fn write_out(rounds: &[Round]) -> Option<Summary> {
    let over =
        |value: &dyn Fn(&Round) -> f64| Summary::of(&rounds.iter().map(value).collect::<Vec<_>>());
    let header = [
        "load",
        "answered/s",
        "of the peak",
        "p50, µs",
        "p99, µs",
        "high: failed of all",
        "high: p50, µs",
        "high: p99, µs",
    ];
    let mut table = table(&header, 1);
    let mut row = |name: &str, of: &dyn Fn(&Round) -> Run| {
        let high = |read: &dyn Fn(High) -> f64| {
            let values = rounds.iter().filter_map(|round| of(round).high.map(read));
            spread(Summary::of(&values.collect::<Vec<_>>()))
        };
        let all: Vec<High> = rounds.iter().filter_map(|round| of(round).high).collect();
        let failed: u32 = all.iter().map(|high| high.errors).sum();
        let calls: u32 = all.iter().map(|high| high.calls + high.errors).sum();
        table.add_row([
            name.to_owned(),
            spread(over(&|round| of(round).rps)),
            spread(over(&|round| of(round).rps / round.peak.rps)),
            spread(over(&|round| of(round).p50_us)),
            spread(over(&|round| of(round).p99_us)),
            if all.is_empty() { "-".to_owned() } else { format!("{failed} of {calls}") },
            high(&|high| high.p50_us),
            high(&|high| high.p99_us),
        ]);
    };
    row("peak (closed loop)", &|round| round.peak);
    row("half of the peak", &|round| round.half);
    row("twice the peak", &|round| round.twice);
    row("the same, not shed", &|round| round.unprotected);
    println!(
        "Median (lowest..highest); latencies from when a call was due, of those answered:\n\n{table}\n"
    );
    let goodput = over(&|round| round.twice.rps / round.peak.rps);
    if let Some(goodput) = goodput {
        let verdict = |limit: f64| if goodput.median >= limit { "holds" } else { "MISSES" };
        println!(
            "Goodput at twice the peak is {} of it: >= {BAR} (bar) {}, >= {AIM} (aim) {}.",
            short(goodput.median),
            verdict(BAR),
            verdict(AIM)
        );
    }
    goodput
}
