//! The kinds of channels: what a call costs over each of them.
//!
//! ```text
//! cargo run --release -p corewire-benches --bin kinds
//! ```
//!
//! An echo server has one core, and the callers the other one, together with whatever drives their connection. The
//! kinds take turns in each round.

#![expect(clippy::print_stdout, reason = "this is a command, and its tables are its output")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Parser;
use corewire_benches::load::flags::{self, Cores, whole, within};
use corewire_benches::load::host::Host;
use corewire_benches::load::kinds::{self, Kind, Load};
use corewire_benches::load::pair::{self, Part};
use corewire_benches::load::process;
use corewire_benches::measure::sample::{Figure, Sample};
use corewire_benches::measure::stats::{Summary, paired_ratios};
use corewire_benches::report::{self, spread, table};

const IN_FLIGHT: [usize; 2] = [1, 64];
const FIGURES: [Figure; 5] = [
    Figure::P50,
    Figure::P99,
    Figure::CallsPerSecond,
    Figure::ClientCpuPerCall,
    Figure::ServerCpuPerCall,
];

/// Measure what a call costs over each kind of channel
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,

    /// Rounds of every kind
    #[arg(long, default_value_t = 5, value_parser = whole(1..=100_usize))]
    rounds: usize,

    /// Measured seconds of each run, after half a second of warm-up
    #[arg(long, default_value_t = 1.5, value_parser = within("seconds", 0.1..=600.0))]
    secs: f64,

    /// One round of 0.2 seconds: shows that everything works, and measures nothing
    #[arg(long, conflicts_with_all = ["rounds", "secs"])]
    quick: bool,

    #[command(flatten)]
    cores: Cores,

    /// Also write every run to this file
    #[arg(long, value_name = "PATH")]
    json: Option<PathBuf>,
}

/// One run of a kind.
#[derive(Debug, serde::Serialize)]
struct Run {
    round: usize,
    kind: Kind,
    sample: Sample,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    flags::end(match &arguments.part {
        Some(part) => part.play(kinds::serve, kinds::load),
        None => measure(&arguments),
    })
}

fn measure(arguments: &Arguments) -> Result<ExitCode> {
    arguments.cores.check()?;
    let (rounds, secs) =
        if arguments.quick { (1, 0.2) } else { (arguments.rounds, arguments.secs) };
    process::kill_children_on_signal()?;
    let (host, begun) = (Host::look(), Instant::now());
    let limit = Duration::from_secs_f64(secs) + Duration::from_secs(20);
    let mut runs = Vec::new();
    for round in 0..rounds {
        for inflight in IN_FLIGHT {
            for kind in Kind::ALL.into_iter().filter(|kind| kind.can(inflight)) {
                let what = format!("[round {round}] {kind}, {inflight} in flight");
                eprintln!("{what}");
                let load = Load { kind, inflight, secs };
                let sample = pair::run::<Sample>(arguments.cores, false, &load, limit)
                    .and_then(Sample::checked)
                    .context(what)?;
                runs.push(Run { round, kind, sample });
            }
        }
    }
    println!(
        "{host}, rounds: {rounds}, seconds each: {secs}, measured in {:.0} s\n",
        begun.elapsed().as_secs_f64()
    );
    write_out(&runs);
    if let Some(path) = &arguments.json {
        report::write_document(path, &serde_json::json!({ "host": host, "runs": runs }))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write_out(runs: &[Run]) {
    let values = |kind: Kind, inflight: usize, figure: Figure| -> Vec<(usize, f64)> {
        let of = |run: &&Run| run.kind == kind && run.sample.inflight == inflight;
        let runs = runs.iter().filter(of);
        runs.filter_map(|run| Some((run.round, figure.of(&run.sample)?))).collect()
    };
    let mut header = vec!["kind of channel".to_owned(), "in flight".to_owned()];
    header.extend(FIGURES.iter().map(|figure| format!("{figure}, {}", figure.unit())));
    header.push("client CPU per call, x of a shard's".to_owned());
    let mut table = table(&header, 1);
    for inflight in IN_FLIGHT {
        for kind in Kind::ALL.into_iter().filter(|kind| kind.can(inflight)) {
            let mut row = vec![kind.to_string(), inflight.to_string()];
            row.extend(FIGURES.iter().map(|&figure| {
                let values = values(kind, inflight, figure);
                spread(Summary::of(&values.into_iter().map(|(_, value)| value).collect::<Vec<_>>()))
            }));
            let cpu = |kind| values(kind, inflight, Figure::ClientCpuPerCall);
            row.push(spread(Summary::of(&paired_ratios(&cpu(kind), &cpu(Kind::Shard)))));
            table.add_row(row);
        }
    }
    println!("Median (lowest..highest), bodies of 64 bytes:\n\n{table}");
}
