//! Mixed load: what calls that burn CPU in their handler do to the cheap calls on the same shard.
//!
//! ```text
//! cargo run --release -p corewire-benches --bin mixed
//! ```
//!
//! One call in a hundred burns 5 ms of CPU, unless other figures are given. Each round measures how much of that mix one shard can answer, then the
//! latency of the cheap calls at 70 % of it: with the burning calls inline, with them on threads beside the shard
//! (`#[blocking]`), and the same rate of cheap calls without them. The whole server has one core: what is offloaded shares it with
//! the shard, which is the hard case.

#![expect(clippy::print_stdout, reason = "this is a command, and its tables are its output")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Parser;
use corewire_benches::load::flags::{self, Cores, whole, within};
use corewire_benches::load::host::Host;
use corewire_benches::load::mixed::{self, Load};
use corewire_benches::load::pair::{self, Part};
use corewire_benches::load::process;
use corewire_benches::measure::sample::{Figure, Sample};
use corewire_benches::measure::stats::{Summary, paired_ratios};
use corewire_benches::report::{self, short, spread, table};

/// More than any shard can answer: the load then is whatever finds room.
const MORE_THAN_ANYONE: f64 = 1_000_000.0;
const CONNECTIONS: usize = 32;
/// Calls in flight on each connection when the capacity is measured, as in workload C.
const CLOSED_IN_FLIGHT: u32 = 8;
const OPEN_IN_FLIGHT: u32 = 256;
/// The load, as a part of the capacity.
const LOAD: f64 = 0.7;
/// For the ratio of the p99 with burning calls to that without: inline, and beside the shard.
const BAR_INLINE: f64 = 10.0;
const BAR: f64 = 3.0;
const AIM: f64 = 2.0;

/// Measure what burning calls do to the cheap ones on the same shard
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,

    /// Rounds of capacity, with and without
    #[arg(long, default_value_t = 3, value_parser = whole(1..=100_u32))]
    rounds: u32,

    /// Measured seconds of each run, after half a second of warm-up
    #[arg(long, default_value_t = 4.0, value_parser = within("seconds", 0.1..=600.0))]
    secs: f64,

    /// One round of 0.5 seconds: shows that everything works, and measures nothing
    #[arg(long, conflicts_with_all = ["rounds", "secs"])]
    quick: bool,

    /// Of as many calls one burns
    #[arg(long, default_value_t = 100, value_parser = whole(2..=1_000_000_u32))]
    burn_one_in: u32,

    /// For how many microseconds of CPU time
    #[arg(long, default_value_t = 5000, value_parser = whole(1..=1_000_000_u32))]
    burn_us: u32,

    /// Calls per second, in place of a part of the capacity
    #[arg(long, value_parser = within("calls per second", 1.0..=10_000_000.0))]
    rate: Option<f64>,

    /// The server spins instead of sleeping
    #[arg(long)]
    spin: bool,

    #[command(flatten)]
    cores: Cores,

    /// Also write every run to this file
    #[arg(long, value_name = "PATH")]
    json: Option<PathBuf>,

    /// End with exit code 1 when the bar is missed
    #[arg(long)]
    enforce: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    flags::end(match &arguments.part {
        Some(part) => play(part),
        None => measure(&arguments),
    })
}

fn play(part: &Part) -> Result<ExitCode> {
    if let Part::Serve { core, .. } = part {
        mixed::keep_to(*core)?;
    }
    part.play(mixed::serve, mixed::load)
}

/// The four runs of a round.
#[derive(Debug, serde::Serialize)]
struct Round {
    capacity: Sample,
    with: Sample,
    beside: Sample,
    without: Sample,
}

/// One run of a round.
type OfRound = fn(&Round) -> &Sample;

/// One load on a fresh server.
fn run_once(
    arguments: &Arguments,
    secs: f64,
    seed: u64,
    (rate, inflight, burn_one_in, beside): (f64, u32, u32, bool),
) -> Result<Sample> {
    let (conns, burn_us) = (CONNECTIONS, arguments.burn_us);
    let load = Load { rate, conns, inflight, burn_one_in, burn_us, beside, seed, secs };
    let limit = Duration::from_secs_f64(secs) + Duration::from_secs(20);
    pair::run::<Sample>(arguments.cores, arguments.spin, &load, limit)?.checked()
}

fn measure(arguments: &Arguments) -> Result<ExitCode> {
    arguments.cores.check()?;
    let (count, secs) = if arguments.quick { (1, 0.5) } else { (arguments.rounds, arguments.secs) };
    process::kill_children_on_signal()?;
    let host = Host::look();
    eprintln!(
        "plan: {count} rounds of 4 runs of {secs} s and their warm-ups; about {:.0} s in all",
        f64::from(count) * 4.0 * (secs + 0.7)
    );
    let begin = Instant::now();
    let mut rounds = Vec::new();
    for round in 0..count {
        let run = |what: &str, load| {
            eprintln!("[{}/{count}] {what}", round + 1);
            run_once(arguments, secs, u64::from(round) + 1, load)
                .with_context(|| format!("round {}, {what}", round + 1))
        };
        let one_in = arguments.burn_one_in;
        let closed = (MORE_THAN_ANYONE, CLOSED_IN_FLIGHT, one_in, false);
        let capacity = run("capacity of the mix", closed)?;
        let rate = arguments.rate.unwrap_or(capacity.rps * LOAD);
        let mixed = |beside| (rate, OPEN_IN_FLIGHT, one_in, beside);
        let with = run("cheap calls with burning ones", mixed(false))?;
        let beside = run("cheap calls with burning ones beside the shard", mixed(true))?;
        let cheap = rate * (1.0 - 1.0 / f64::from(one_in));
        let without = run("cheap calls alone", (cheap, OPEN_IN_FLIGHT, 0, false))?;
        rounds.push(Round { capacity, with, beside, without });
    }
    println!(
        "{host}, server {}, rounds: {count}, seconds each: {secs}, measured in {:.0} s\n",
        if arguments.spin { "spinning" } else { "parked" },
        begin.elapsed().as_secs_f64()
    );
    let ratio = write_out(arguments, &rounds);
    if let Some(path) = &arguments.json {
        let spin = arguments.spin;
        let document = serde_json::json!({ "host": host, "spin": spin, "rounds": rounds });
        report::write_document(path, &document)?;
    }
    let holds = ratio.is_some_and(|ratio| ratio.median <= BAR);
    Ok(if arguments.enforce && !holds { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Prints the tables; returns the ratio of the p99 with offloaded burning calls to that without.
fn write_out(arguments: &Arguments, rounds: &[Round]) -> Option<Summary> {
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
    let ratio = |figure: Figure, of: OfRound| {
        let (with, without) = (values(figure, of), values(figure, |round| &round.without));
        Summary::of(&paired_ratios(&with, &without))
    };
    let capacity = summary(values(Figure::CallsPerSecond, |round| &round.capacity));
    let load = match arguments.rate {
        Some(rate) => format!("{} calls per second", short(rate)),
        None => format!("{:.0} % of it", LOAD * 100.0),
    };
    println!(
        "Capacity of the mix, where one in {} calls burns {} µs: {} calls per second. The load is {load}.\n",
        arguments.burn_one_in,
        arguments.burn_us,
        spread(capacity),
    );
    let mut header = vec!["cheap calls".to_owned()];
    header.extend(FIGURES.iter().map(|figure| format!("{figure}, {}", figure.unit())));
    let mut table = table(&header, 1);
    let row = |name: &str, cell: &dyn Fn(Figure) -> Option<Summary>| {
        let mut row = vec![name.to_owned()];
        row.extend(FIGURES.iter().map(|&figure| spread(cell(figure))));
        row
    };
    let runs: [(&str, OfRound); 3] = [
        ("burning calls inline", |round| &round.with),
        ("burning calls beside", |round| &round.beside),
        ("alone", |round| &round.without),
    ];
    for (name, of) in runs {
        table.add_row(row(name, &|figure| summary(values(figure, of))));
    }
    for (name, of) in &runs[..2] {
        table.add_row(row(&format!("{name} / alone"), &|figure| {
            let compared = [Figure::P50, Figure::P99, Figure::P999, Figure::Max, Figure::ServerCpu];
            compared.contains(&figure).then(|| ratio(figure, *of)).flatten()
        }));
    }
    println!(
        "Median (lowest..highest); latencies are those of the cheap calls, from when they were due:\n\n{table}\n"
    );
    let inline = ratio(Figure::P99, |round| &round.with);
    let beside = ratio(Figure::P99, |round| &round.beside);
    for (name, p99, bar) in [("inline", inline, BAR_INLINE), ("beside the shard", beside, BAR)] {
        let Some(p99) = p99 else { continue };
        let verdict = |limit: f64| if p99.median <= limit { "holds" } else { "MISSES" };
        println!(
            "p99 with burning calls {name} is {} times that without: <= {bar:.0} (bar) {}, <= {AIM:.0} (aim) {}.",
            short(p99.median),
            verdict(bar),
            verdict(AIM)
        );
    }
    beside
}
