//! Mixed load: what calls that burn CPU in their handler do to the cheap calls beside them.
//!
//! ```text
//! cargo run --release -p corewire-benches --bin mixed
//! ```
//!
//! One call in a hundred burns 5 ms of CPU. Each round measures what one shard can answer of that mix, then the latency
//! of the cheap calls at 70 % of it with the burning calls, and the same rate of cheap calls without them.

#![expect(clippy::print_stdout, reason = "this is a command, and its tables are its output")]

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Parser, Subcommand};
use corewire_benches::host::Host;
use corewire_benches::mixed::{self, Load};
use corewire_benches::process::{self, Server, run_to_end};
use corewire_benches::report::{short, spread, table};
use corewire_benches::sample::{Figure, Sample};
use corewire_benches::stats::{Summary, paired_ratios};

/// What no shard can answer: the load then is whatever finds room.
const MORE_THAN_ANYONE: f64 = 1_000_000.0;
const CONNECTIONS: usize = 32;
/// Calls in flight on each connection when the capacity is measured, as in workload C.
const CLOSED_IN_FLIGHT: u32 = 8;
const OPEN_IN_FLIGHT: u32 = 256;
const BURN_PERCENT: u8 = 1;
const BURN_US: u32 = 5000;
/// The load, as a part of the capacity.
const LOAD: f64 = 0.7;
const BAR: f64 = 10.0;
const AIM: f64 = 2.0;

/// Measure what burning calls do to the cheap ones beside them
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,

    /// Rounds of capacity, with and without
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,

    /// Measured seconds of each run, after half a second of warm-up
    #[arg(long, default_value_t = 4.0, value_parser = seconds)]
    secs: f64,

    /// One round of 0.5 seconds: shows that everything works, and measures nothing
    #[arg(long, conflicts_with_all = ["rounds", "secs"])]
    quick: bool,

    /// The server spins instead of sleeping
    #[arg(long)]
    spin: bool,

    /// The core that the server runs on
    #[arg(long, default_value_t = 0)]
    server_core: usize,

    /// The core that the load generator runs on
    #[arg(long, default_value_t = 1)]
    client_core: usize,

    /// Also write every run to this file
    #[arg(long, value_name = "PATH")]
    json: Option<PathBuf>,

    /// End with exit code 1 when the bar is missed
    #[arg(long)]
    enforce: bool,
}

/// The two processes of a run, which this program starts by itself.
#[derive(Debug, Subcommand)]
enum Part {
    #[command(hide = true)]
    Serve {
        #[arg(long)]
        core: usize,
        #[arg(long)]
        spin: bool,
    },
    #[command(hide = true)]
    Load(LoadFlags),
}

#[derive(Debug, Args)]
struct LoadFlags {
    addr: String,
    #[arg(long)]
    rate: f64,
    #[arg(long)]
    inflight: u32,
    #[arg(long)]
    burn_percent: u8,
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    secs: f64,
    #[arg(long)]
    core: usize,
    #[arg(long)]
    server_pid: i32,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=600.0).contains(&seconds) => Ok(seconds),
        _ => Err("give seconds from 0.1 to 600".to_owned()),
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.part {
        Some(Part::Serve { core, spin }) => mixed::serve(*core, *spin).map(|()| ExitCode::SUCCESS),
        Some(Part::Load(flags)) => load(flags).map(|()| ExitCode::SUCCESS),
        None => measure(&arguments),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn load(flags: &LoadFlags) -> Result<()> {
    let sample = mixed::load(Load {
        addr: flags.addr.clone(),
        rate: flags.rate,
        conns: CONNECTIONS,
        inflight: flags.inflight,
        burn_percent: flags.burn_percent,
        burn_us: BURN_US,
        seed: flags.seed,
        secs: flags.secs,
        core: flags.core,
        server_pid: flags.server_pid,
    })?;
    println!("{}", serde_json::to_string(&sample)?);
    Ok(())
}

/// The three runs of a round.
#[derive(Debug, serde::Serialize)]
struct Round {
    capacity: Sample,
    with: Sample,
    without: Sample,
}

/// One load on a fresh server.
fn run_once(
    arguments: &Arguments,
    secs: f64,
    seed: u64,
    (rate, inflight, burn_percent): (f64, u32, u8),
) -> Result<Sample> {
    let own = || std::env::current_exe().map(Command::new).context("where is this program?");
    let mut command = own()?;
    command.args(["serve", "--core", &arguments.server_core.to_string()]);
    if arguments.spin {
        command.arg("--spin");
    }
    let server = Server::start("the server", &mut command)?;
    let mut command = own()?;
    command.args(["load", server.address()]);
    for (flag, value) in [
        ("--rate", format!("{rate:.1}")),
        ("--inflight", inflight.to_string()),
        ("--burn-percent", burn_percent.to_string()),
        ("--seed", seed.to_string()),
        ("--secs", secs.to_string()),
        ("--core", arguments.client_core.to_string()),
        ("--server-pid", server.pid().to_string()),
    ] {
        command.arg(flag).arg(value);
    }
    let limit = Duration::from_secs_f64(secs) + Duration::from_secs(20);
    let stdout = run_to_end("the load generator", &mut command, limit)?;
    let sample = Sample::parse(&stdout)?;
    server.stop()?;
    Ok(sample)
}

fn measure(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.server_core == arguments.client_core {
        bail!(
            "--server-core and --client-core are both {}: choose two cores",
            arguments.server_core
        );
    }
    let (count, secs) = if arguments.quick { (1, 0.5) } else { (arguments.rounds, arguments.secs) };
    process::kill_children_on_signal()?;
    let host = Host::look();
    eprintln!(
        "plan: {count} rounds of 3 runs of {secs} s and their warm-ups; about {:.0} s in all",
        f64::from(count) * 3.0 * (secs + 0.7)
    );
    let begin = Instant::now();
    let mut rounds = Vec::new();
    for round in 0..count {
        let run = |what: &str, load| {
            eprintln!("[{}/{count}] {what}", round + 1);
            run_once(arguments, secs, u64::from(round) + 1, load)
                .with_context(|| format!("round {}, {what}", round + 1))
        };
        let closed = (MORE_THAN_ANYONE, CLOSED_IN_FLIGHT, BURN_PERCENT);
        let capacity = run("capacity of the mix", closed)?;
        let rate = capacity.rps * LOAD;
        let with = run("cheap calls with burning ones", (rate, OPEN_IN_FLIGHT, BURN_PERCENT))?;
        let cheap = rate * f64::from(100 - BURN_PERCENT) / 100.0;
        let without = run("cheap calls alone", (cheap, OPEN_IN_FLIGHT, 0))?;
        rounds.push(Round { capacity, with, without });
    }
    println!(
        "{host}, server {}, rounds: {count}, seconds each: {secs}, measured in {:.0} s\n",
        if arguments.spin { "spinning" } else { "parked" },
        begin.elapsed().as_secs_f64()
    );
    let ratio = write_out(&rounds);
    if let Some(path) = &arguments.json {
        let document =
            serde_json::json!({ "host": host, "spin": arguments.spin, "rounds": rounds });
        std::fs::write(path, serde_json::to_string_pretty(&document)? + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let holds = ratio.is_some_and(|ratio| ratio.median <= BAR);
    Ok(if arguments.enforce && !holds { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Prints the tables; answers the ratio of the p99 with burning calls to that without.
fn write_out(rounds: &[Round]) -> Option<Summary> {
    const FIGURES: [Figure; 9] = [
        Figure::Offered,
        Figure::CallsPerSecond,
        Figure::P50,
        Figure::P99,
        Figure::P999,
        Figure::Max,
        Figure::SendLateness,
        Figure::Missed,
        Figure::ServerCpu,
    ];
    let values = |figure: Figure, of: fn(&Round) -> &Sample| -> Vec<(usize, f64)> {
        let rounds = rounds.iter().enumerate();
        rounds.filter_map(|(number, round)| Some((number, figure.of(of(round))?))).collect()
    };
    let summary = |values: Vec<(usize, f64)>| {
        Summary::of(&values.into_iter().map(|(_, value)| value).collect::<Vec<_>>())
    };
    let ratio = |figure: Figure| {
        let (with, without) =
            (values(figure, |round| &round.with), values(figure, |round| &round.without));
        Summary::of(&paired_ratios(&with, &without))
    };
    let capacity = summary(values(Figure::CallsPerSecond, |round| &round.capacity));
    println!(
        "Capacity of the mix, where {BURN_PERCENT} % of the calls burn {BURN_US} µs: {} calls per second. The load is {:.0} % of it.\n",
        spread(capacity),
        LOAD * 100.0
    );
    let mut header = vec!["cheap calls".to_owned()];
    header.extend(FIGURES.iter().map(|figure| format!("{figure}, {}", figure.unit())));
    let mut table = table(&header, 1);
    let row = |name: &str, cell: &dyn Fn(Figure) -> Option<Summary>| {
        let mut row = vec![name.to_owned()];
        row.extend(FIGURES.iter().map(|&figure| spread(cell(figure))));
        row
    };
    table
        .add_row(row("with burning calls", &|figure| summary(values(figure, |round| &round.with))));
    table.add_row(row("alone", &|figure| summary(values(figure, |round| &round.without))));
    table.add_row(row("ratio", &|figure| {
        let compared = [Figure::P50, Figure::P99, Figure::P999, Figure::Max, Figure::ServerCpu];
        compared.contains(&figure).then(|| ratio(figure)).flatten()
    }));
    println!(
        "Median (lowest..highest); latencies are those of the cheap calls, from when they were due:\n\n{table}\n"
    );
    let p99 = ratio(Figure::P99);
    if let Some(p99) = p99 {
        let verdict = |limit: f64| if p99.median <= limit { "holds" } else { "MISSES" };
        println!(
            "p99 with burning calls is {} times that without: <= {BAR:.0} (bar) {}, <= {AIM:.0} (aim) {}.",
            short(p99.median),
            verdict(BAR),
            verdict(AIM)
        );
    }
    p99
}
