//! The watcher that takes an apply back when nobody confirms it: a process of its own, because the shell that ran `apply` may be
//! the very connection that the change cut.

use std::io;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::apply;
use crate::host::FaultKind;
use crate::journal::{FileJournal, applies};

use super::args;
use super::commands::machine;
use super::{Exit, Failure};

/// Starts the watcher and leaves it alone.
pub(super) fn start(state: &args::State, id: &str, seconds: u64) -> io::Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("watch").arg("--id").arg(id).arg("--seconds").arg(seconds.to_string());
    command.arg("--state-dir").arg(std::path::absolute(&state.state_dir)?);
    if let Some(root) = &state.machine.root {
        command.arg("--root").arg(std::path::absolute(root)?);
    }
    let log = std::fs::File::create(state.state_dir.join("watch.log"))?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().map(|_| ())
}

/// Waits, then takes the apply back unless it was confirmed or taken back by hand.
pub(super) fn watch(args: &args::Watch) -> Result<Exit, Failure> {
    // Out of the session of the shell, so that its end does not end this process too. It fails only for a process that leads a
    // group already, and then there is nothing to leave.
    let _ = rustix::process::setsid();
    let deadline = Instant::now() + Duration::from_secs(args.seconds);
    let is_settled = || -> Result<bool, Failure> {
        let records = FileJournal::peek(&args.state.state_dir)
            .map_err(|fault| Failure::new(Exit::Stuck, fault))?;
        let all = applies(&records);
        let ours = all.iter().find(|applied| applied.id == args.id);
        // A journal that is gone holds nothing to take back.
        Ok(ours.is_none_or(|applied| applied.is_confirmed || applied.is_ended))
    };
    while Instant::now() < deadline {
        if is_settled()? {
            return Ok(Exit::Good);
        }
        thread::sleep(
            Duration::from_millis(200).min(deadline.saturating_duration_since(Instant::now())),
        );
    }
    let mut journal = open_when_free(args)?;
    // Somebody may have confirmed while the lock was waited for.
    if is_settled()? {
        return Ok(Exit::Good);
    }
    let host = machine(&args.state.machine);
    let report = apply::undo(host.as_ref(), &mut journal, &args.id, false)
        .map_err(|fault| Failure::new(Exit::Stuck, fault))?;
    if report.left.is_empty() {
        Ok(Exit::RolledBack)
    } else {
        Err(Failure::new(Exit::Stuck, report.left.join("\n")))
    }
}

/// The journal, once whoever holds the lock lets go. Gives up after a minute: no other command holds it for longer.
fn open_when_free(args: &args::Watch) -> Result<FileJournal, Failure> {
    let give_up = Instant::now() + Duration::from_secs(60);
    loop {
        match FileJournal::open(&args.state.state_dir) {
            Ok(journal) => return Ok(journal),
            Err(fault)
                if matches!(fault.kind, FaultKind::Refused(_)) && Instant::now() < give_up =>
            {
                thread::sleep(Duration::from_millis(100));
            }
            Err(fault) => return Err(Failure::new(Exit::Stuck, fault)),
        }
    }
}
