//! The command line. Every command writes its answer to standard output and its troubles to standard error, and says by its exit
//! code what came of it; `corewire-tune help` lists the codes.

mod args;
mod commands;
mod watch;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use serde_json::Value;

use crate::doctor::JSON_VERSION;

use args::{Args, Command};

/// What came of a command. The numbers are part of the tool's interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Exit {
    /// Done; nothing wrong; PASS.
    Good = 0,
    /// Faults found; FAIL; drift.
    Bad = 1,
    /// It could not be judged; INCONCLUSIVE.
    Unclear = 2,
    /// Refused before anything was written: a precondition does not hold, or another run holds the lock.
    Refused = 3,
    /// A step failed, and everything was taken back.
    RolledBack = 4,
    /// Something could not be put back: look at the message.
    Stuck = 5,
    /// The command line or a file given to it is wrong.
    Usage = 64,
}

/// A command that did not come to its end: what to say, and the exit code.
#[derive(Debug)]
struct Failure {
    message: String,
    exit: Exit,
}

impl Failure {
    fn new(exit: Exit, message: impl ToString) -> Self {
        Self { message: message.to_string(), exit }
    }
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version are answers, not mistakes.
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

/// What a command answers: text for people, or the same as facts for programs.
#[derive(Debug, Default)]
struct Out {
    json: bool,
    text: String,
    facts: serde_json::Map<String, Value>,
}

impl Out {
    /// Adds text, where people read it.
    fn say(&mut self, text: &str) {
        if !self.json {
            self.text.push_str(text);
        }
    }

    /// Adds a fact, where programs read it.
    fn set(&mut self, name: &str, value: impl serde::Serialize) {
        self.facts.insert(name.to_owned(), serde_json::to_value(value).unwrap_or_default());
    }

    /// Adds every field of a report.
    fn set_all(&mut self, report: impl serde::Serialize) {
        if let Ok(Value::Object(fields)) = serde_json::to_value(report) {
            self.facts.extend(fields);
        }
    }

    /// The text, or the facts with what every answer has.
    fn finish(mut self, exit: Exit) -> String {
        if !self.json || self.facts.is_empty() {
            return self.text;
        }
        self.set("version", JSON_VERSION);
        self.set("exit", exit as u8);
        serde_json::to_string_pretty(&self.facts).unwrap_or_default() + "\n"
    }
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
