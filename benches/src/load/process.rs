//! Servers and load generators as child processes that never outlive this one.
//!
//! A guard kills and reaps its child when it is dropped, which covers every return, error and panic. Drops miss
//! signals: [`kill_children_on_signal`] covers SIGINT, SIGTERM and SIGHUP.
//!
//! While others are measured, this process is asleep: it waits in blocking reads and channels, not by sleeping in a
//! loop.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// How long a server may take to listen, and to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(10);

/// The word before the address in a server's first lines.
const LISTENING: &str = "listening ";

/// How much of a child's standard error is kept for an error message.
const STDERR_KEPT: usize = 2000;

/// The children that are running. A pid stays in this list until its process was reaped *under this lock*, so that
/// nobody signals a number that has come to mean another process.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

fn running() -> MutexGuard<'static, Vec<Pid>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on, a signal to end this process kills its children first. Call it once, before the first child.
///
/// # Errors
///
/// When the signals cannot be watched.
pub fn kill_children_on_signal() -> Result<()> {
    let mut signals =
        Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot watch for signals")?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            let children = running();
            for &pid in children.iter() {
                // A child that has just ended needs no signal, and is reaped all the same.
                let _ = kill_process(pid, Signal::KILL);
                let _ = waitpid(Some(pid), WaitOptions::empty());
            }
            // Still under the lock, so that no child is started in between.
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

/// This program itself, to be started again.
///
/// # Errors
///
/// When the system does not tell where it is.
pub fn own() -> Result<Command> {
    std::env::current_exe().map(Command::new).context("cannot find this program")
}

/// A child that is killed and reaped when this is dropped.
#[derive(Debug)]
struct Guard {
    child: Child,
    pid: Pid,
    name: String,
    stderr: Receiver<String>,
}

impl Guard {
    /// Starts the program with its standard output piped to us and its standard error kept for messages.
    fn start(name: &str, command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut children = running();
        let mut child =
            command.spawn().with_context(|| format!("cannot start {name} ({command:?})"))?;
        let pid = Pid::from_child(&child);
        children.push(pid);
        drop(children);
        let (keep, stderr) = channel();
        if let Some(pipe) = child.stderr.take() {
            // A send fails only when the guard is gone, and then nobody needs the text.
            thread::spawn(move || _ = keep.send(tail(pipe)));
        }
        Ok(Self { child, pid, name: name.to_owned(), stderr })
    }

    /// Reaps the child if it has ended, and returns how.
    fn poll(&mut self) -> Result<Option<ExitStatus>> {
        let mut children = running();
        let status = self.child.try_wait().with_context(|| format!("cannot reap {}", self.name))?;
        if status.is_some() {
            children.retain(|pid| *pid != self.pid);
        }
        Ok(status)
    }

    /// Waits for a child that has closed its standard output, which it does by ending. Nothing is measured any more at
    /// that point, so short sleeps do no harm. `None` if it did not end within a second.
    fn wait_briefly(&mut self) -> Result<Option<ExitStatus>> {
        for _ in 0..1000 {
            if let Some(status) = self.poll()? {
                return Ok(Some(status));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(None)
    }

    /// Kills the child if it still runs, and reaps it.
    fn finish(&mut self) -> Result<()> {
        if self.poll()?.is_none() {
            let mut children = running();
            let _ = self.child.kill();
            self.child.wait().with_context(|| format!("cannot reap {}", self.name))?;
            children.retain(|pid| *pid != self.pid);
        }
        Ok(())
    }

    /// What the child wrote to standard error, as the end of an error message. Ends the child.
    fn complaint(&mut self) -> String {
        let _ = self.finish();
        match self.stderr.recv_timeout(PATIENCE) {
            Ok(text) if !text.trim().is_empty() => format!("; it said: {}", text.trim()),
            _ => String::new(),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // A drop can do nothing about a child that cannot be reaped.
        let _ = self.finish();
    }
}

/// Reads to the end and keeps the last part.
fn tail(mut pipe: impl Read) -> String {
    let mut kept = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(read @ 1..) = pipe.read(&mut chunk) {
        kept.extend_from_slice(&chunk[..read]);
        kept.drain(..kept.len().saturating_sub(STDERR_KEPT));
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    guard: Guard,
    address: String,
    ended: Receiver<()>,
}

impl Server {
    /// Starts a server and waits until it has printed where it listens.
    ///
    /// # Errors
    ///
    /// When it cannot be started, ends at once, or does not print `listening ADDRESS` within ten seconds.
    pub fn start(name: &str, command: &mut Command) -> Result<Self> {
        Self::start_within(name, command, PATIENCE)
    }

    /// As [`start`](Self::start), for a program that may take longer.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), after `patience`.
    pub fn start_within(name: &str, command: &mut Command, patience: Duration) -> Result<Self> {
        let mut guard = Guard::start(name, command)?;
        let stdout = guard.child.stdout.take().context("a piped standard output is there")?;
        let (found, address) = channel();
        let (closing, ended) = channel::<()>();
        thread::spawn(move || {
            // The sender of the address is dropped at its first use, so that an end without an address is noticed
            // at once.
            let mut found = Some(found);
            // Read to the end, so that a server which goes on printing never blocks on a full pipe.
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let (Some(address), true) = (listening_address(&line), found.is_some()) {
                    let _ = found.take().map(|found| found.send(address.to_owned()));
                }
            }
            drop((found, closing));
        });
        match address.recv_timeout(patience) {
            Ok(address) => Ok(Self { guard, address, ended }),
            Err(RecvTimeoutError::Timeout) => Err(anyhow!(
                "{name} did not say within {patience:?} where it listens{}",
                guard.complaint()
            )),
            Err(RecvTimeoutError::Disconnected) => {
                Err(anyhow!("{name} ended before it listened{}", guard.complaint()))
            }
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its process id, for reading its CPU clock.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.guard.pid.as_raw_nonzero().get()
    }

    /// Asks it to end by SIGTERM, and waits until it has.
    ///
    /// # Errors
    ///
    /// When it does not end in ten seconds (it is killed then) or ends with an exit code other than 0.
    pub fn stop(mut self) -> Result<()> {
        let _ = kill_process(self.guard.pid, Signal::TERM);
        // Its output closes when it ends, and so does that of anything it may have started.
        let in_time = !matches!(self.ended.recv_timeout(PATIENCE), Err(RecvTimeoutError::Timeout));
        let fault = match self.guard.wait_briefly()? {
            Some(status) if status.success() && in_time => return Ok(()),
            Some(status) if status.success() => "ended, but its output stayed open".to_owned(),
            Some(status) => format!("ended badly ({status})"),
            None => format!("did not end within {PATIENCE:?}"),
        };
        let complaint = self.guard.complaint();
        bail!("{} {fault} after SIGTERM{complaint}", self.guard.name);
    }
}

/// The address in a line such as `listening 127.0.0.1:4000`, with anything around it.
fn listening_address(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once(LISTENING)?;
    rest.split_whitespace().next()
}

/// Runs a load generator to its end and returns its standard output.
///
/// # Errors
///
/// When it cannot be started, takes longer than `limit` (it is killed then), or ends with an exit code other than 0.
pub fn run_to_end(name: &str, command: &mut Command, limit: Duration) -> Result<String> {
    let mut guard = Guard::start(name, command)?;
    let mut stdout = guard.child.stdout.take().context("a piped standard output is there")?;
    let (send, text) = channel();
    thread::spawn(move || {
        let mut text = String::new();
        let read = stdout.read_to_string(&mut text).map(|_| text);
        _ = send.send(read);
    });
    let Ok(text) = text.recv_timeout(limit) else {
        bail!("{name} did not end within {limit:?}{}", guard.complaint());
    };
    let text = text.with_context(|| format!("cannot read what {name} printed"))?;
    match guard.wait_briefly()? {
        Some(status) if status.success() => {}
        Some(status) => bail!("{name} failed ({status}){}", guard.complaint()),
        None => bail!("{name} closed its output and did not end{}", guard.complaint()),
    }
    Ok(text)
}

/// A shell script that behaves as a server does: it prints where it listens, and ends with success on SIGTERM.
///
/// It sleeps in the foreground and in short pieces. A sleep in the background, which the trap would have to end, can
/// miss its signal between its fork and its first instruction, and then holds the output open for as long as it sleeps.
#[cfg(test)]
pub const SERVES_UNTIL_TERM: &str =
    "trap 'exit 0' TERM; echo listening 127.0.0.1:9; while :; do sleep 0.02 >/dev/null 2>&1; done";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn the_address_is_found_within_a_line() {
        assert_eq!(listening_address("listening 127.0.0.1:80"), Some("127.0.0.1:80"));
        assert_eq!(
            listening_address("shard 0: listening 127.0.0.1:80 (epoll)"),
            Some("127.0.0.1:80")
        );
        assert_eq!(listening_address("listens"), None);
    }

    #[test]
    fn a_server_starts_and_stops() {
        let server = Server::start("it", &mut shell(SERVES_UNTIL_TERM)).unwrap();
        assert_eq!(server.address(), "127.0.0.1:9");
        let pid = Pid::from_raw(server.pid()).unwrap();
        server.stop().unwrap();
        assert!(rustix::process::test_kill_process(pid).is_err(), "the server is still there");
    }

    #[test]
    fn a_dropped_server_is_killed() {
        let server =
            Server::start("it", &mut shell("echo listening 127.0.0.1:9; exec sleep 60")).unwrap();
        let pid = Pid::from_raw(server.pid()).unwrap();
        drop(server);
        assert!(rustix::process::test_kill_process(pid).is_err(), "the server is still there");
        assert!(!running().contains(&pid));
    }

    #[test]
    fn a_server_that_fails_is_quoted() {
        let error = Server::start("it", &mut shell("echo no port >&2; exit 3")).unwrap_err();
        assert_eq!(error.to_string(), "it ended before it listened; it said: no port");
        let error = Server::start("it", &mut Command::new("/nonexistent")).unwrap_err();
        assert!(error.to_string().starts_with("cannot start it"), "{error}");
    }

    #[test]
    fn a_load_generator_that_fails_or_hangs_is_an_error() {
        let limit = Duration::from_secs(30);
        assert_eq!(run_to_end("it", &mut shell("echo fine"), limit).unwrap(), "fine\n");
        let error =
            run_to_end("it", &mut shell("echo 2 calls failed >&2; exit 1"), limit).unwrap_err();
        assert_eq!(error.to_string(), "it failed (exit status: 1); it said: 2 calls failed");
        let error =
            run_to_end("it", &mut shell("exec sleep 60"), Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("did not end within"), "{error}");
    }
}
