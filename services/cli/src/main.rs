//! The `corewire` command: Corewire's tools for operators.
//!
//! `corewire bench` loads an echo service and measures it; `corewire placement` prints which CPU would get which shard, and
//! why. Wrong flags end in one sentence and exit
//! code 2; a run in which a call failed ends with exit code 1.
#![forbid(unsafe_code)]

mod bench;
mod open;
mod placement;
mod process;
mod report;
mod run;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Tools for services built on Corewire
#[derive(Parser)]
#[command(name = "corewire", version)]
struct Flags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Load an echo service and measure it
    Bench(bench::BenchFlags),
    /// Print which CPU would get which shard, and why
    Placement(placement::PlacementFlags),
}

#[allow(clippy::print_stderr, reason = "errors go to people")]
fn main() -> ExitCode {
    use std::io::IsTerminal;
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error"));
    // Colours are for people: a log that goes to a file has none.
    let colours = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours);
    log.with_writer(std::io::stderr).init();
    let outcome = match Flags::parse().command {
        Command::Bench(flags) => run::run(flags),
        Command::Placement(flags) => placement::run(&flags).map(|()| true),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
