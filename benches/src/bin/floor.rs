//! Corewire compared with the floor: what this machine's sockets cost without any RPC, and what Corewire adds.
//!
//! ```text
//! cargo run --release -p corewire-benches --bin floor
//! ```
//!
//! Builds the C programs in `benches/floor/` and Corewire's release binaries, runs them in turn on two cores
//! (Corewire's server under its own client, and under the floor's, which costs next to nothing), and prints medians,
//! ratios and the promises with `holds` or `MISSES`. `--only-floors` measures the floor against itself, which shows how
//! much a ratio varies on this machine by itself; `--hosts` adds Corewire without io_uring.

#![expect(clippy::print_stdout, reason = "this is a command, and its tables are its output")]

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use corewire_benches::load::contender::{
    Contender, Corewire, CorewireServer, Floor, PlainCorewire,
};
use corewire_benches::load::host::Host;
use corewire_benches::load::workload::{self, ALL};
use corewire_benches::load::{flags, process, toolbox};
use corewire_benches::measure::sample::Figure;
use corewire_benches::report;
use corewire_benches::report::cli::{self, Measure};
use corewire_benches::report::results::Results;

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

    /// Measure Corewire's shards on plain threads as well
    #[arg(long, conflicts_with = "only_floors")]
    hosts: bool,
}

fn main() -> ExitCode {
    flags::end(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let measure = &arguments.measure;
    let asked = workload::cells(measure.workloads.as_deref().unwrap_or(&ALL));
    process::kill_children_on_signal()?;
    toolbox::build_floor(&toolbox::floor_folder())?;
    let mut contenders: Vec<Box<dyn Contender>> = vec![Box::new(Floor { name: "floor" })];
    if arguments.only_floors {
        contenders.push(Box::new(Floor { name: "floor again" }));
    } else {
        toolbox::make_corewire(measure.no_build)?;
        contenders.push(Box::new(Corewire));
        contenders.push(Box::new(CorewireServer));
        if arguments.hosts {
            contenders.push(Box::new(PlainCorewire));
        }
    }
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
