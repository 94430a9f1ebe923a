//! The watcher that undoes an apply when nobody confirms it: a process of its own, because the shell that ran `apply`
//! may be using the very connection that the change cut.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::apply;
use crate::host::{Fault, FaultKind};
use crate::journal::{Applied, FileJournal, HELD};
use crate::lock::HostLock;

use super::answer::{Exit, Failure};
use super::args;

/// Starts the watcher, and returns once nothing that ends this program can end it.
pub(super) fn start(state: &args::State, id: &str, seconds: u64) -> Result<(), Fault> {
    let fail = |error: io::Error| Fault::from_io("the watcher", &error);
    let mut command = Command::new(std::env::current_exe().map_err(fail)?);
    command.arg("watch").arg("--id").arg(id).arg("--seconds").arg(seconds.to_string());
    command.arg("--state-dir").arg(std::path::absolute(&state.state_dir).map_err(fail)?);
    if let Some(root) = &state.machine.root {
        command.arg("--root").arg(std::path::absolute(root).map_err(fail)?);
    }
    let log = std::fs::File::create(state.state_dir.join("watch.log")).map_err(fail)?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    let mut child = command.spawn().map_err(fail)?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line).map_err(fail)?;
    }
    if line.trim() == READY {
        Ok(())
    } else {
        Err(Fault::format("the watcher", "it ended before it began to watch"))
    }
}

/// What the watcher prints when it watches.
const READY: &str = "ready";

/// Waits until the apply is over, then for its confirmation. An apply that was ended in the middle is undone at once;
/// one that nobody confirms is undone after the given time.
pub(super) fn watch(args: &args::Watch) -> Result<Exit, Failure> {
    // Leave the session of the shell, so that its end does not end this process too. It fails only for a process that
    // leads a group already, and then there is nothing to leave.
    let _ = rustix::process::setsid();
    let mut out = io::stdout();
    let _ = writeln!(out, "{READY}").and_then(|()| out.flush());
    let stuck = |fault: Fault| Failure::new(Exit::Stuck, fault);
    let look = || -> Result<Option<Applied>, Failure> {
        let all = FileJournal::peek(&args.state.state_dir).map_err(stuck)?.applies();
        // A journal that is gone holds nothing to undo.
        Ok(all
            .into_iter()
            .find(|applied| applied.id == args.id && !applied.is_confirmed && !applied.is_ended))
    };
    // While the apply runs, it holds the locks.
    let mut locks = Some(open_when_free(args, None)?);
    let Some(applied) = look()? else { return Ok(Exit::Good) };
    if applied.is_complete {
        locks = None;
        let deadline = Instant::now() + Duration::from_secs(args.seconds);
        while Instant::now() < deadline {
            if look()?.is_none() {
                return Ok(Exit::Good);
            }
            thread::sleep(
                Duration::from_millis(200).min(deadline.saturating_duration_since(Instant::now())),
            );
        }
    }
    let (_host_lock, mut journal) = match locks {
        Some(locks) => locks,
        None => open_when_free(args, Some(Duration::from_secs(60)))?,
    };
    // The apply may have been confirmed while this waited for the lock.
    if look()?.is_none() {
        return Ok(Exit::Good);
    }
    let host = args.state.machine.host();
    let report = apply::undo(host.as_ref(), &mut journal, &args.id, false).map_err(stuck)?;
    if report.left.is_empty() {
        Ok(Exit::RolledBack)
    } else {
        Err(Failure::new(Exit::Stuck, report.left.join("\n")))
    }
}

/// The locks and the journal, once they are free. `patience` limits the wait, except when waiting for an apply that
/// runs.
fn open_when_free(
    args: &args::Watch,
    patience: Option<Duration>,
) -> Result<(HostLock, FileJournal), Failure> {
    let give_up = patience.map(|patience| Instant::now() + patience);
    loop {
        match open(&args.state) {
            Ok(both) => return Ok(both),
            Err(fault)
                if is_held(&fault) && give_up.is_none_or(|give_up| Instant::now() < give_up) =>
            {
                thread::sleep(Duration::from_millis(50));
            }
            Err(fault) => return Err(Failure::new(Exit::Stuck, fault)),
        }
    }
}

/// Takes the host's lock and the journal's.
pub(super) fn open(state: &args::State) -> Result<(HostLock, FileJournal), Fault> {
    let lock = HostLock::take(state.machine.root.as_deref())?;
    Ok((lock, FileJournal::open(&state.state_dir)?))
}

/// Whether the fault says that another run holds a lock.
pub(super) fn is_held(fault: &Fault) -> bool {
    matches!(&fault.kind, FaultKind::Refused(reason) if reason == HELD)
}
