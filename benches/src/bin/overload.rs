//! Overload: what a server still answers that is asked for twice as much as it can.
//!
//! ```text
//! cargo run --release -p corewire-benches --bin overload
//! ```
//!
//! Each call is 20 µs of work for `echo_server`. A round measures the peak in a closed loop, and then an open loop at
//! half of that, at twice of it with shedding, and at twice of it without. A tenth of the calls have the highest
//! priority. *Goodput* is what is answered within the calls' deadline of 100 ms.

#![expect(clippy::print_stdout, reason = "this is a command, and its tables are its output")]

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use corewire_benches::host::Host;
use corewire_benches::process::{self, Server, run_to_end};
use corewire_benches::report::{short, spread, table};
use corewire_benches::stats::Summary;
use corewire_benches::toolbox;
use serde::Deserialize;

const CONNECTIONS: &str = "32";
const PEAK_IN_FLIGHT: &str = "8";
const WORK_US: &str = "20";
const SHED_US: &str = "5000";
const DEADLINE_MS: &str = "100";
const HIGH_PERCENT: &str = "10";
const BAR: f64 = 0.85;
const AIM: f64 = 0.95;

/// Measure what a server answers that is asked for twice as much as it can
#[derive(Debug, Parser)]
struct Arguments {
    /// Rounds of the four runs
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,

    /// Measured seconds of each run, after half a second of warm-up
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    secs: f64,

    /// One round of 0.5 seconds: shows that everything works, and measures nothing
    #[arg(long, conflicts_with_all = ["rounds", "secs"])]
    quick: bool,

    /// The core that the server runs on
    #[arg(long, default_value_t = 0)]
    server_core: usize,

    /// The core that the load generator runs on
    #[arg(long, default_value_t = 1)]
    client_core: usize,

    /// Use the release binaries as they are
    #[arg(long)]
    no_build: bool,

    /// End with exit code 1 when the bar is missed
    #[arg(long)]
    enforce: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=600.0).contains(&seconds) => Ok(seconds),
        _ => Err("give seconds from 0.1 to 600".to_owned()),
    }
}

/// What is used of the load generator's JSON line.
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
    measure(&Arguments::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// One load on a fresh server.
fn run(arguments: &Arguments, secs: f64, shed: bool, load: &[&str]) -> Result<Run> {
    let release = toolbox::release();
    let mut command = Command::new(release.join("examples/echo_server"));
    let core = arguments.server_core.to_string();
    command.args(["--addr", "127.0.0.1:0", "--cores", &core, "--work", WORK_US]);
    if shed {
        command.args(["--shed", SHED_US]);
    }
    let server = Server::start("the server", &mut command)?;
    let mut command = Command::new(release.join("corewire"));
    command.args(["bench", server.address(), "--conns", CONNECTIONS, "--json", "--failures"]);
    command.args(["--cpu", &arguments.client_core.to_string(), "--secs", &secs.to_string()]);
    command.args(["--timeout", DEADLINE_MS]).args(load);
    let limit = Duration::from_secs_f64(secs) + Duration::from_secs(20);
    // A server that answers nothing in time is a result, and not a failure of the load generator.
    let line = run_to_end("the load generator", &mut command, limit)?;
    server.stop()?;
    serde_json::from_str(&line).with_context(|| format!("the load generator says {line:?}"))
}

fn measure(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.server_core == arguments.client_core {
        let core = arguments.server_core;
        bail!("--server-core and --client-core are both {core}: choose two cores");
    }
    let (count, secs) = if arguments.quick { (1, 0.5) } else { (arguments.rounds, arguments.secs) };
    process::kill_children_on_signal()?;
    if !arguments.no_build {
        toolbox::build(toolbox::BUILD_COREWIRE)?;
    }
    let release = toolbox::release();
    toolbox::require(&[
        (release.join("examples/echo_server"), toolbox::BUILD_COREWIRE),
        (release.join("corewire"), toolbox::BUILD_COREWIRE),
    ])?;
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

/// Prints the table; answers the goodput with shedding as a part of the peak.
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
    let mut table = table(&header.map(str::to_owned), 1);
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
