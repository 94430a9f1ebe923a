//! The command line. Every command writes its results to standard output and its errors to standard error, and reports
//! the outcome by its exit code; `corewire-tune help` lists the codes.

mod answer;
mod args;
mod commands;
mod watch;

use std::io::Write as _;
use std::process::ExitCode;

use answer::{Exit, Failure, Out};
use args::{Args, Command};
use clap::Parser as _;

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version are results, not errors.
            let code = if error.use_stderr() { Exit::Usage } else { Exit::Good };
            let _ = error.print();
            return ExitCode::from(code as u8);
        }
    };
    let mut out = Out { json: args.json, ..Out::default() };
    let result = run(&args, &mut out);
    let exit = match result {
        Ok(exit) => exit,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "corewire-tune: {}", failure.message);
            out.set("error", &failure.message);
            failure.exit
        }
    };
    // A closed pipe (`| head`) is no reason to fail.
    let _ = std::io::stdout().write_all(out.finish(exit).as_bytes());
    ExitCode::from(exit as u8)
}

fn run(args: &Args, out: &mut Out) -> Result<Exit, Failure> {
    match &args.command {
        Command::Doctor(options) => commands::doctor(options, out),
        Command::Plan(options) => commands::plan(options, out),
        Command::Apply(options) => commands::apply(options, out),
        Command::Confirm(options) => commands::confirm(options, out),
        Command::Undo(options) => commands::undo(options, out),
        Command::Verify(options) => commands::verify(options, out),
        Command::Status(options) => commands::status(options, out),
        Command::Capture(options) => commands::capture(options, out),
        Command::Explain(options) => commands::explain(options, out),
        Command::Watch(options) => watch::watch(options),
    }
}
