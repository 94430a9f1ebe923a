//! Counting a program's instructions in user space with valgrind's callgrind.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::load::flags::Cores;
use crate::load::process::{self, Server, run_to_end};
use crate::load::toolbox;
use crate::report::instructions::{Load, Scenario, per_call};

/// How long one counted run may take. Most take a few seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether valgrind can be started.
///
/// # Errors
///
/// When it cannot be started although it is there.
pub fn is_installed() -> Result<bool> {
    let mut command = Command::new("valgrind");
    match command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Ok(status) => Ok(status.success()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).context("cannot start valgrind"),
    }
}

/// The command inside valgrind, which writes its count into a file.
fn counted(counted: &Command, into: &Path) -> Command {
    let mut option = OsStr::new("--callgrind-out-file=").to_owned();
    option.push(into);
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--quiet"]).arg(option);
    command.arg(counted.get_program()).args(counted.get_args());
    command
}

/// The instructions of all threads, from what callgrind wrote. An error when it has no total, or a total of something
/// else.
fn total(text: &str) -> Result<u64> {
    let field = |name| text.lines().find_map(|line: &str| line.strip_prefix(name)).map(str::trim);
    // The order of events tells what the numbers are; by default only instructions.
    match field("events:") {
        Some(events) if events.split_whitespace().next() == Some("Ir") => {}
        Some(events) => bail!("callgrind counted '{events}' instead of instructions"),
        None => bail!("callgrind wrote no list of events"),
    }
    let total = field("totals:").or_else(|| field("summary:"));
    let first = total.and_then(|total| total.split_whitespace().next());
    let first = first.context("callgrind wrote no total; was the program killed?")?;
    first.parse().with_context(|| format!("callgrind's total is '{first}'"))
}

fn read_total(path: &Path) -> Result<u64> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("callgrind left no {}", path.display()))?;
    total(&text)
}

/// Where the counted programs are, and on which cores they run.
#[derive(Clone, Debug)]
pub struct Counter {
    /// The folder for callgrind's files; they stay there for `callgrind_annotate`.
    pub folder: PathBuf,
    /// Where the server and the client run.
    pub cores: Cores,
}

impl Counter {
    /// Instructions per call in steady state: the difference between a run and one with twice the calls.
    ///
    /// # Errors
    ///
    /// When a program fails, hangs, or was not counted.
    pub fn count(&self, scenario: Scenario) -> Result<f64> {
        let calls = scenario.calls();
        let short = self.run(scenario, calls)?;
        let long = self.run(scenario, calls * 2)?;
        per_call(short, long, calls)
    }

    fn run(&self, scenario: Scenario, calls: u64) -> Result<u64> {
        let file = self.folder.join(format!("{}.{calls}.callgrind", scenario.name()));
        // A file that an earlier run left must not be taken for this run's.
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", file.display()));
            }
            _ => {}
        }
        match scenario.load() {
            None => {
                let mut command = process::own()?;
                command.args(["target", scenario.name(), &calls.to_string()]);
                run_to_end(scenario.name(), &mut counted(&command, &file), PATIENCE)?;
            }
            Some(load) => self.run_sockets(load, calls, &file)?,
        }
        read_total(&file)
    }

    fn run_sockets(&self, load: Load, calls: u64, file: &Path) -> Result<()> {
        let counted = |command, is_it| if is_it { counted(&command, file) } else { command };
        let mut command = counted(toolbox::serve_echo(self.cores.server), load.server);
        let server = Server::start_within("echo_server", &mut command, PATIENCE)?;
        let mut command = counted(toolbox::bench(server.address()), !load.server);
        for (flag, value) in [
            ("--payload", load.payload.to_string()),
            ("--conns", load.conns.to_string()),
            ("--inflight", load.inflight.to_string()),
            ("--calls", calls.to_string()),
            ("--cpu", self.cores.client.to_string()),
        ] {
            command.arg(flag).arg(value);
        }
        run_to_end("corewire bench", &mut command, PATIENCE)?;
        server.stop()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// The frame of such a file, with the costs of two lines of one function.
    const FILE: &str = "# callgrind format\nversion: 1\ncreator: callgrind-3.19.0\npid: 7\n\
        cmd: ./it\npart: 1\n\n\ndesc: Timerange: Basic block 0 - 9\npositions: line\nevents: Ir\n\
        summary: 1230\n\n\nob=(1) ./it\nfl=(1) it.rs\nfn=(1) main\n3 1000\n4 230\n\ntotals: 1234\n";

    #[test]
    fn the_total_is_read() {
        assert_eq!(total(FILE).unwrap(), 1234);
        assert_eq!(total(&FILE.replace("totals: 1234\n", "")).unwrap(), 1230);
        let more = FILE.replace("events: Ir", "events: Ir Dr Dw");
        assert_eq!(total(&more.replace("totals: 1234", "totals: 77 8 9")).unwrap(), 77);
    }

    #[test]
    fn what_is_no_count_of_instructions_is_refused() {
        for (wrong, says) in [
            (String::new(), "no list of events"),
            (FILE.replace("events: Ir", "events: Dr Ir"), "instead of instructions"),
            (FILE.replace("totals: 1234\n", "").replace("summary: 1230\n", ""), "no total"),
            (FILE.replace("totals: 1234", "totals: many"), "'many'"),
        ] {
            let error = format!("{:#}", total(&wrong).unwrap_err());
            assert!(error.contains(says), "{error}");
        }
    }
}
