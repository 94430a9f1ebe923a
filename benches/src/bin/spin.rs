//! Spinning: latency against CPU time for each policy, on a core of its own, idle, and with a neighbour on
//! the core.
//!
//! ```text
//! cargo run --release -p corewire-benches --bin spin
//! ```

#![expect(clippy::print_stdout, reason = "this is a command, and its tables are its output")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use corewire_benches::load::flags::{self, Cores, whole};
use corewire_benches::load::host::Host;
use corewire_benches::load::{holder, process, toolbox};
use corewire_benches::report;
use corewire_benches::report::plot;
use corewire_benches::report::spin::{self, Bench, POLICIES, Results};
use corewire_cli::pace::Arrivals;

const RATES: [f64; 6] = [100.0, 1_000.0, 5_000.0, 20_000.0, 50_000.0, 100_000.0];
const CONNECTIONS: [usize; 2] = [1, 32];
/// The loads of a server that has a neighbour.
const SHARED: [(usize, f64); 2] = [(1, 5_000.0), (32, 20_000.0)];

/// Measured seconds. The lowest rate has the longest runs, because it has the fewest calls.
const SECS: f64 = 1.5;
const SLOW_SECS: f64 = 3.0;
const IDLE_SECS: f64 = 10.0;
const SHARED_SECS: f64 = 3.0;
const QUICK_SECS: f64 = 0.2;

/// Measure what spinning costs and brings
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,

    /// Rounds of everything; each takes some three and a half minutes
    #[arg(long, default_value_t = 1, value_parser = whole(1..=100_usize))]
    rounds: usize,

    /// Everything once, briefly: shows that all of it works, and measures nothing
    #[arg(long, conflicts_with = "rounds")]
    quick: bool,

    /// How calls are spread over time: constant or poisson
    #[arg(long, default_value = "poisson")]
    arrivals: Arrivals,

    #[command(flatten)]
    cores: Cores,

    /// Also write every run to this file
    #[arg(long, value_name = "PATH")]
    json: Option<PathBuf>,

    /// Where to draw the picture [default: target/spin.svg]
    #[arg(long, value_name = "PATH")]
    svg: Option<PathBuf>,

    /// Use the release binaries as they are
    #[arg(long)]
    no_build: bool,
}

/// What this command starts itself as.
#[derive(Debug, Subcommand)]
enum Role {
    #[command(hide = true)]
    Hold { address: SocketAddr, connections: usize },
    #[command(hide = true)]
    Neighbour { core: usize },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    flags::end(match arguments.role {
        Some(Role::Hold { address, connections }) => holder::hold(address, connections),
        Some(Role::Neighbour { core }) => spin::keep_busy(core),
        None => run(&arguments),
    })
}

fn run(arguments: &Arguments) -> Result<()> {
    arguments.cores.check()?;
    process::kill_children_on_signal()?;
    let _ = holder::raise_file_limit();
    toolbox::make_corewire(arguments.no_build)?;
    let bench = Bench { cores: arguments.cores, arrivals: arguments.arrivals };
    let (host, begun) = (Host::look(), Instant::now());
    let mut results = Results::default();
    for round in 0..arguments.rounds {
        measure(&bench, round, arguments.quick, &mut results)?;
    }
    println!(
        "{host}, {} arrivals, rounds: {}, measured in {:.0} s\n\n{}",
        arguments.arrivals,
        arguments.rounds,
        begun.elapsed().as_secs_f64(),
        results.tables()
    );
    let svg = plot::write(arguments.svg.as_deref(), "spin.svg", &[], &results.panels())?;
    println!("The picture is in {}.", svg.display());
    if let Some(path) = &arguments.json {
        let document = serde_json::json!({
            "host": host,
            "arrivals": arguments.arrivals,
            "results": results,
        });
        report::write_document(path, &document)?;
    }
    Ok(())
}

/// One round. The policies take turns at each load, so that a slow minute is slow for all of them.
fn measure(bench: &Bench, round: usize, quick: bool, results: &mut Results) -> Result<()> {
    let secs = |secs| if quick { QUICK_SECS } else { secs };
    let rates = if quick { &RATES[1..3] } else { &RATES[..] };
    for conns in CONNECTIONS {
        // A policy that did not keep up is not asked for more.
        let mut behind = [false; POLICIES.len()];
        for &rate in rates {
            let slow = if rate < 1000.0 { SLOW_SECS } else { SECS };
            for (policy, behind) in POLICIES.into_iter().zip(&mut behind) {
                if *behind {
                    continue;
                }
                eprintln!("[round {round}] {conns} connections, {rate}/s, spin {policy}");
                let run = bench
                    .load((round, policy), (conns, rate), secs(slow), false)
                    .with_context(|| format!("{conns} connections, {rate}/s, spin {policy}"))?;
                *behind = !run.kept_up();
                results.alone.push(run);
            }
        }
    }
    for policy in POLICIES {
        eprintln!("[round {round}] idle, spin {policy}");
        results.idle.push(bench.idle((round, policy), !quick, secs(IDLE_SECS))?);
    }
    for (conns, rate) in SHARED {
        for policy in POLICIES {
            eprintln!("[round {round}] shared, {conns} connections, {rate}/s, spin {policy}");
            let run = bench.load((round, policy), (conns, rate), secs(SHARED_SECS), true)?;
            results.shared.push(run);
        }
    }
    Ok(())
}
