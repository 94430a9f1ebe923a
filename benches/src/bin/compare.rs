//! Corewire compared with its peers: the floor, tokio's raw sockets, tarpc and tonic, on the same workloads.
//!
//! ```text
//! cargo run --release -p corewire-benches --bin compare
//! ```
//!
//! Builds everything, then runs all contenders in interleaved rounds on two cores: first the closed loop of every
//! workload, then an open loop at 50, 70 and 90 % of what each contender itself answered in the closed one. Prints medians,
//! ratios to the floor of the same round, how many times cheaper Corewire is than each peer, and the promises. The picture
//! goes to `target/compare.svg`, or where `--svg` says. The measured part ends within ten minutes, whatever was asked.

#![expect(clippy::print_stdout, reason = "this is a command, and its tables are its output")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Parser;
use corewire_benches::load::contender::{Contender, Corewire, Floor, Peer};
use corewire_benches::load::host::Host;
use corewire_benches::load::runner::{Outcome, Plan};
use corewire_benches::load::workload::{Cell, OPEN, Wait, Workload};
use corewire_benches::load::{flags, process, toolbox, workload};
use corewire_benches::measure::sample::Figure;
use corewire_benches::report;
use corewire_benches::report::OpenPart;
use corewire_benches::report::cli::{self, Measure};
use corewire_benches::report::plot;
use corewire_benches::report::results::Results;

const FIGURES: [Figure; 9] = [
    Figure::P50,
    Figure::P99,
    Figure::CallsPerSecond,
    Figure::ServerCpuPerCall,
    Figure::CallsPerServerCpuSecond,
    Figure::BytesPerSecond,
    Figure::ServerCpu,
    Figure::ServerMemory,
    Figure::P999,
];
const RATIOS: [Figure; 4] =
    [Figure::P50, Figure::P99, Figure::ServerCpuPerCall, Figure::BytesPerSecond];
const OPEN_FIGURES: [Figure; 12] = [
    Figure::Offered,
    Figure::CallsPerSecond,
    Figure::P50,
    Figure::P90,
    Figure::P99,
    Figure::P999,
    Figure::Max,
    Figure::SendLateness,
    Figure::Missed,
    Figure::ServerCpuPerCall,
    Figure::ServerCpu,
    Figure::ServerMemory,
];
const OPEN_RATIOS: [Figure; 4] = [Figure::P50, Figure::P99, Figure::P999, Figure::ServerCpuPerCall];

/// The measured part ends within ten minutes: no run starts later than this.
const BUDGET: Duration = Duration::from_secs(10 * 60 - 25);

/// Measured seconds of a run.
const SECS: f64 = 1.5;

/// Rounds of the open loop. Its percentiles come from every call of a run, so fewer rounds show as much.
const OPEN_ROUNDS: usize = 3;

/// The order of the workloads: from the smallest to the largest bodies.
const ORDER: [char; 5] = ['A', 'B', 'C', 'E', 'D'];

/// Measure Corewire and its peers against C programs without any RPC
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    measure: Measure,

    /// Measure the floor and the peers, without Corewire
    #[arg(long, conflicts_with = "enforce")]
    only_peers: bool,

    /// Where to draw the picture [default: target/compare.svg]
    #[arg(long, value_name = "PATH")]
    svg: Option<PathBuf>,
}

fn main() -> ExitCode {
    flags::end(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let measure = &arguments.measure;
    let workloads = measure
        .workloads
        .clone()
        .unwrap_or_else(|| ORDER.into_iter().filter_map(Workload::named).collect());
    let asked = workload::both_ways(&workloads);
    process::kill_children_on_signal()?;
    let mut plan = measure.plan(asked.clone(), contenders(arguments)?, SECS);
    plan.check()?;
    let peak_of = workloads.iter().copied().find(|workload| workload.name == OPEN);
    let open_runs = shrink(&mut plan, peak_of);

    let host = Host::look();
    let begin = Instant::now();
    plan.budget = Some(BUDGET.saturating_sub(plan.one_run() * count(open_runs)));
    let runs = plan.len() + open_runs;
    let mut outcome =
        plan.run(|number, contender, cell| cli::announce(number, runs, contender, cell));
    let results = Results::new(std::mem::take(&mut outcome.runs), "floor");
    let (rounds, closed_runs) = (plan.rounds, runs - open_runs);
    let open = peak_of.map(|workload| {
        plan.peaks = results.peaks(workload);
        plan.cells = workload::open_cells(workload);
        plan.rounds = rounds.min(OPEN_ROUNDS);
        plan.budget = Some(BUDGET.saturating_sub(begin.elapsed()));
        let mut part = plan.run(|number, contender, cell| {
            cli::announce(closed_runs + number, runs, contender, cell);
        });
        outcome.failures.append(&mut part.failures);
        outcome.left_out += part.left_out;
        OpenPart {
            peaks: std::mem::take(&mut plan.peaks),
            results: Results::new(part.runs, "floor"),
        }
    });
    println!(
        "{host}, rounds: {rounds} (open loop: {}), seconds each: {}, measured in {:.0} s\n",
        rounds.min(OPEN_ROUNDS),
        plan.secs,
        begin.elapsed().as_secs_f64()
    );
    write_out(arguments, &host, &asked, &outcome, &results, open.as_ref())?;
    Ok(cli::conclude(&outcome, &results, &asked, measure.enforce))
}

/// Prints what will run and how long that takes, after leaving out rounds that do not fit into the time. Returns the
/// number of runs of the open loop.
fn shrink(plan: &mut Plan, peak_of: Option<Workload>) -> usize {
    let both = |wait| plan.contenders.iter().filter(|contender| contender.can(wait)).count();
    let open_round = peak_of
        .map_or(0, |_| workload::PERCENTS.len() * (both(Wait::Parked) + both(Wait::Spinning)));
    let wanted = plan.rounds;
    let (open_runs, took) = loop {
        let open_runs = open_round * plan.rounds.min(OPEN_ROUNDS);
        let took = plan.estimate() + plan.one_run() * count(open_runs);
        if took <= BUDGET || plan.rounds == 1 {
            break (open_runs, took);
        }
        plan.rounds -= 1;
    };
    let Plan { rounds, secs, .. } = *plan;
    eprintln!(
        "plan: {} runs of {secs} s and their warm-ups: {rounds} rounds of the closed loop, {} of the open loop; about {:.0} s in all",
        plan.len() + open_runs,
        if peak_of.is_some() { plan.rounds.min(OPEN_ROUNDS) } else { 0 },
        took.as_secs_f64()
    );
    if plan.rounds < wanted {
        eprintln!("note: {} rounds do not fit into ten minutes", wanted);
    }
    if took > BUDGET {
        eprintln!("note: not even one round fits into ten minutes; what does not will be left out");
    }
    if peak_of.is_none() {
        eprintln!("note: no open loop, because its load is a part of what workload {OPEN} shows");
    }
    open_runs
}

fn count(runs: usize) -> u32 {
    u32::try_from(runs).unwrap_or(u32::MAX)
}

/// Builds what is not built yet, and lists the contenders.
fn contenders(arguments: &Arguments) -> Result<Vec<Box<dyn Contender>>> {
    toolbox::build_floor(&toolbox::floor_folder())?;
    if !arguments.measure.no_build {
        toolbox::build(toolbox::BUILD_PEERS)?;
    }
    let mut contenders: Vec<Box<dyn Contender>> = vec![
        Box::new(Floor { name: "floor" }),
        Box::new(Peer::TOKIO),
        Box::new(Peer::TARPC),
        Box::new(Peer::TONIC),
    ];
    if !arguments.only_peers {
        toolbox::make_corewire(arguments.measure.no_build)?;
        contenders.push(Box::new(Corewire));
    }
    Ok(contenders)
}

fn write_out(
    arguments: &Arguments,
    host: &Host,
    asked: &[Cell],
    outcome: &Outcome,
    results: &Results,
    open: Option<&OpenPart>,
) -> Result<()> {
    println!(
        "Closed loop, median (lowest..highest) of each figure:\n\n{}\n",
        report::figures_table(results, &FIGURES)
    );
    println!(
        "Closed loop, ratios to the floor of the same round:\n\n{}\n",
        report::ratios_table(results, &RATIOS)
    );
    if !arguments.only_peers {
        println!(
            "How many times Corewire's server CPU per call each peer needs, in the same round:\n\n{}\n",
            report::advantage_table(results, "corewire", Figure::ServerCpuPerCall)
        );
        println!(
            "Promises (x is the ratio to the floor):\n\n{}\n",
            report::promises_table(results, "corewire")
        );
    }
    if let Some(open) = open {
        write_open(&open.results);
    }
    println!("{}", report::disturbance(results));
    if let Some(open) = open {
        println!("Open loop: {}", report::disturbance(&open.results));
    }
    let charts = [chart(results, Figure::ServerCpuPerCall), chart(results, Figure::P50)];
    let panels: Vec<plot::Panel> = open
        .iter()
        .flat_map(|open| [Figure::P50, Figure::P99].map(|figure| panel(&open.results, figure)))
        .collect();
    let path = plot::write(arguments.svg.as_deref(), "compare.svg", &charts, &panels)?;
    println!("The picture is {}.", path.display());
    if let Some(path) = &arguments.measure.json {
        report::write_json(path, host, asked, outcome, results, open)?;
    }
    Ok(())
}

/// The tables of the open loop.
fn write_open(results: &Results) {
    println!(
        "Open loop, 64 B over 32 connections, at parts of each one's own closed-loop peak, latency from when a call was due:\n\n{}\n",
        report::figures_table(results, &OPEN_FIGURES)
    );
    println!(
        "Open loop, ratios to the floor of the same round and part (each at its own rate):\n\n{}\n",
        report::ratios_table(results, &OPEN_RATIOS)
    );
}

/// Latency against load: one line for each contender and way of waiting.
fn panel(results: &Results, figure: Figure) -> plot::Panel {
    let mut lines: Vec<plot::Line> = Vec::new();
    for cell in results.cells() {
        for contender in results.contenders(cell) {
            let name = match cell.wait {
                Wait::Parked => contender.to_owned(),
                Wait::Spinning => format!("{contender}, spinning"),
            };
            let (Some(x), Some(y)) = (
                results.summary(cell, contender, Figure::CallsPerSecond),
                results.summary(cell, contender, figure),
            ) else {
                continue;
            };
            let point = plot::Point { x: x.median, y: y.median, low: y.min, high: y.max };
            match lines.iter_mut().find(|line| line.name == name) {
                Some(line) => line.points.push(point),
                None => lines.push(plot::Line { name, points: vec![point] }),
            }
        }
    }
    plot::Panel {
        title: format!(
            "Open loop: {figure} in µs from when a call was due, over calls answered per second"
        ),
        lines,
    }
}

/// The figure's ratio to the floor for all other contenders, parked to the parked floor and spinning to the
/// spinning one.
fn chart(results: &Results, figure: Figure) -> plot::Chart {
    let group = |cell: Cell| {
        let bar = |contender: &str| {
            let ratio = results.ratio(cell, contender, figure)?;
            let (value, low, high) = (ratio.median, ratio.min, ratio.max);
            Some(plot::Bar { name: contender.to_owned(), value, low, high })
        };
        let others = results.contenders(cell).into_iter().filter(|&name| name != results.base());
        let label = match cell.wait {
            Wait::Parked => cell.workload.to_string(),
            Wait::Spinning => format!("{}, spinning", cell.workload.name),
        };
        plot::Group { label, bars: others.filter_map(bar).collect() }
    };
    plot::Chart {
        title: format!(
            "{figure}, as a multiple of the floor's (median and range; lower is better)"
        ),
        groups: results
            .cells()
            .into_iter()
            .map(group)
            .filter(|group| !group.bars.is_empty())
            .collect(),
    }
}
