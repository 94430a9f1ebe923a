//! Corewire beside its peers: the floor, tokio's raw sockets, tarpc and tonic, on the same workloads.
//!
//! ```text
//! cargo run --release -p corewire-benches --bin compare
//! ```
//!
//! Builds everything, runs all contenders in interleaved rounds on two cores, and prints medians, ratios to the floor of
//! the same round, how many times cheaper Corewire is than each peer, and the promises. The picture goes to
//! `target/compare.svg`, or where `--svg` says. All of it ends within ten minutes, whatever was asked.

#![expect(clippy::print_stdout, reason = "this is a command, and its tables are its output")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Parser;
use corewire_benches::cli::{self, Measure};
use corewire_benches::contender::{Contender, Corewire, Floor, Peer};
use corewire_benches::host::Host;
use corewire_benches::results::Results;
use corewire_benches::runner::Outcome;
use corewire_benches::sample::Figure;
use corewire_benches::workload::{Cell, Wait, Workload};
use corewire_benches::{plot, process, report, toolbox, workload};

const FIGURES: [Figure; 6] = [
    Figure::P50,
    Figure::P99,
    Figure::ServerCpuPerCall,
    Figure::CallsPerServerCpuSecond,
    Figure::BytesPerSecond,
    Figure::ServerMemory,
];
const RATIOS: [Figure; 4] =
    [Figure::P50, Figure::P99, Figure::ServerCpuPerCall, Figure::BytesPerSecond];

/// Building and measuring together end within ten minutes; what is left out then is missing in the last rounds.
const BUDGET: Duration = Duration::from_secs(10 * 60 - 20);

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

    /// Where to put the picture
    #[arg(long, value_name = "PATH")]
    svg: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    run(&arguments).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let measure = &arguments.measure;
    let workloads = match (&measure.workloads, measure.workloads()) {
        (None, _) => ORDER.into_iter().filter_map(Workload::named).collect(),
        (Some(_), Ok(workloads)) => workloads,
        (Some(_), Err(wrong)) => {
            eprintln!("error: --workloads: {wrong}");
            return Ok(ExitCode::from(2));
        }
    };
    let asked = workload::cells(&workloads);
    process::kill_children_on_signal()?;
    let begin = Instant::now();
    let contenders = contenders(arguments)?;
    let plan =
        measure.plan(asked.clone(), contenders, Some(BUDGET.saturating_sub(begin.elapsed())));
    plan.check()?;

    let host = Host::look();
    let runs = plan.len();
    let mut outcome =
        plan.run(|number, contender, cell| cli::announce(number, runs, contender, cell));
    let results = Results::new(std::mem::take(&mut outcome.runs), "floor");
    println!("{host}, rounds: {}, seconds each: {}\n", plan.rounds, plan.secs);
    write_out(arguments, &host, &asked, &outcome, &results)?;
    Ok(cli::conclude(&outcome, &results, &asked, measure.enforce))
}

/// Builds what is not built yet, and lists who takes part.
fn contenders(arguments: &Arguments) -> Result<Vec<Box<dyn Contender>>> {
    let (folder, release) = (toolbox::floor_folder(), toolbox::release());
    toolbox::build_floor(&folder)?;
    if !arguments.measure.no_build {
        toolbox::build(toolbox::BUILD_PEERS)?;
        if !arguments.only_peers {
            toolbox::build(toolbox::BUILD_COREWIRE)?;
        }
    }
    let mut contenders: Vec<Box<dyn Contender>> = vec![
        Box::new(Floor::new("floor", folder.clone())),
        Box::new(Peer::tokio(&release, folder)),
        Box::new(Peer::tarpc(&release)),
        Box::new(Peer::tonic(&release)),
    ];
    if !arguments.only_peers {
        contenders.push(Box::new(Corewire::new(release)));
    }
    Ok(contenders)
}

fn write_out(
    arguments: &Arguments,
    host: &Host,
    asked: &[Cell],
    outcome: &Outcome,
    results: &Results,
) -> Result<()> {
    println!(
        "Median (lowest..highest) of each figure:\n\n{}\n",
        report::figures_table(results, &FIGURES)
    );
    println!(
        "Ratios to the floor of the same round:\n\n{}\n",
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
    println!("{}", report::disturbance(results));
    let path = arguments.svg.clone().unwrap_or_else(|| toolbox::target().join("compare.svg"));
    let charts = [chart(results, Figure::ServerCpuPerCall), chart(results, Figure::P50)];
    std::fs::write(&path, plot::svg(&charts))
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("The picture is {}.", path.display());
    if let Some(path) = &arguments.measure.json {
        report::write_json(path, host, asked, outcome, results)?;
    }
    Ok(())
}

/// The figure's ratio to the floor for everyone else, parked to the parked floor and spinning to the spinning one.
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
