//! Corewire beside the floor: what this machine's sockets cost without any RPC, and what Corewire adds.
//!
//! ```text
//! cargo run --release -p corewire-benches --bin floor
//! ```
//!
//! Builds the C programs in `benches/floor/` and Corewire's release binaries, runs them in turn on two cores (Corewire's
//! server under its own client, and under the floor's, which costs next to nothing), and prints
//! medians, ratios and the promises with `holds` or `MISSES`. `--only-floors` measures the floor against itself, which
//! shows how much the machine alone moves a ratio.

#![expect(clippy::print_stdout, reason = "this is a command, and its tables are its output")]

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use corewire_benches::cli::{self, Measure};
use corewire_benches::contender::{Contender, Corewire, CorewireServer, Floor};
use corewire_benches::host::Host;
use corewire_benches::results::Results;
use corewire_benches::sample::Figure;
use corewire_benches::{process, report, toolbox, workload};

const FIGURES: [Figure; 4] = [
    Figure::P50,
    Figure::ServerCpuPerCall,
    Figure::CallsPerServerCpuSecond,
    Figure::BytesPerSecond,
];

/// Measured seconds of a run.
const SECS: f64 = 2.0;

/// Measure Corewire's echo server against C programs without any RPC
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    measure: Measure,

    /// Measure the floor against itself, without Corewire
    #[arg(long, conflicts_with = "enforce")]
    only_floors: bool,
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
    let asked = match measure.workloads() {
        Ok(workloads) => workload::cells(&workloads),
        Err(wrong) => {
            eprintln!("error: --workloads: {wrong}");
            return Ok(ExitCode::from(2));
        }
    };
    process::kill_children_on_signal()?;
    let folder = toolbox::floor_folder();
    toolbox::build_floor(&folder)?;
    let floor = Box::new(Floor::new("floor", folder.clone()));
    let rivals: Vec<Box<dyn Contender>> = if arguments.only_floors {
        vec![Box::new(Floor::new("floor again", folder))]
    } else {
        if !measure.no_build {
            toolbox::build(toolbox::BUILD_COREWIRE)?;
        }
        let release = toolbox::release();
        vec![
            Box::new(Corewire::new(release.clone())),
            Box::new(CorewireServer::new(release, folder)),
        ]
    };
    let mut contenders: Vec<Box<dyn Contender>> = vec![floor];
    contenders.extend(rivals);
    let plan = measure.plan(asked.clone(), contenders, SECS);
    plan.check()?;

    let host = Host::look();
    let runs = plan.len();
    let mut outcome =
        plan.run(|number, contender, cell| cli::announce(number, runs, contender, cell));
    let results = Results::new(std::mem::take(&mut outcome.runs), "floor");
    println!("{host}, rounds: {}, seconds each: {}\n", plan.rounds, plan.secs);
    println!(
        "Median (lowest..highest) of each figure:\n\n{}\n",
        report::figures_table(&results, &FIGURES)
    );
    println!(
        "Ratios to the floor of the same round:\n\n{}\n",
        report::ratios_table(&results, &FIGURES)
    );
    if !arguments.only_floors {
        println!(
            "Promises (x is the ratio to the floor):\n\n{}\n",
            report::promises_table(&results, "corewire")
        );
    }
    println!("{}", report::disturbance(&results));
    if let Some(path) = &measure.json {
        report::write_json(path, &host, &asked, &outcome, &results, None)?;
    }
    Ok(cli::conclude(&outcome, &results, &asked, measure.enforce))
}
