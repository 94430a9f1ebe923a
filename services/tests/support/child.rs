//! Servers in processes of their own: the test binary runs itself again.
//!
//! A test file that uses this has a test that is the child's `main` when [`role`] says so, and
//! passes at once otherwise.

use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Lines, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use corewire::{Running, ServerBuilder};

/// Says which child this process is to be.
const ROLE: &str = "COREWIRE_TEST_CHILD";

/// What a child prints in front of its addresses, and of its counters.
const LISTENING: &str = "child-listening ";
const COUNTERS: &str = "child-counters ";

/// Which child this process is, if it is one.
pub fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// Tells the parent where the child listens, and from then on what its shards count whenever the
/// parent writes a line.
#[allow(clippy::print_stdout, reason = "it is how parent and child talk")]
pub fn announce(server: &Running) {
    let addresses: Vec<String> = server.addresses().iter().map(ToString::to_string).collect();
    // The harness writes to the same stream; a line of its own keeps the two apart.
    println!("\n{LISTENING}{}", addresses.join(" "));
    let shards = server.shards().to_vec();
    std::thread::spawn(move || {
        for _ in std::io::stdin().lines().map_while(Result::ok) {
            let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
            for (name, value) in shards.iter().flat_map(|shard| shard.counters.snapshot()) {
                *sums.entry(name).or_default() += value;
            }
            let sums: Vec<String> =
                sums.iter().map(|(name, sum)| format!("{name}={sum}")).collect();
            println!("{COUNTERS}{}", sums.join(" "));
        }
    });
}

fn command(test: &str, role: &str, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(ROLE, role);
    command.envs(variables.iter().copied());
    command
}

/// Runs `test` of this binary in a process of its own, as `role`, to its end: whether it ended well, with which
/// code, and what it wrote to standard output and error.
pub fn run(test: &str, role: &str, variables: &[(&str, &str)]) -> (ExitStatus, String, String) {
    let output = command(test, role, variables).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status, text(output.stdout), text(output.stderr))
}

/// Tells the parent something that [`ServerChild::said`] waits for.
#[allow(clippy::print_stdout, reason = "it is how parent and child talk")]
pub fn say(label: &str, text: &str) {
    println!("\n{label} {text}");
}

/// Serves until a signal, and ends the process as a server's `main` would. A process that reads the
/// address may send the signal at once, so it is watched for from before.
pub fn serve(builder: ServerBuilder) -> ! {
    let server = builder.drain_on_signal().start().unwrap();
    announce(&server);
    let lost = server.wait().unwrap().shards_lost;
    std::process::exit(i32::from(lost != 0))
}

/// A child with a server. It is killed when the test ends.
#[derive(Debug)]
pub struct ServerChild {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    pub addresses: Vec<SocketAddr>,
}

impl ServerChild {
    /// Runs `test` of this binary in a process of its own, as `role`.
    pub fn start(test: &str, role: &str) -> Self {
        let mut child = Self::start_silent(test, role);
        child.hear();
        child
    }

    /// The same with these variables of the environment, and none of its own.
    pub fn start_with(test: &str, role: &str, variables: &[(&str, &str)]) -> Self {
        let mut child = Self::spawn(test, role, variables);
        child.hear();
        child
    }

    /// The same for one that is no server, or says nothing at once.
    pub fn start_silent(test: &str, role: &str) -> Self {
        // What the server frees shall show: glibc gives it back at once, instead of keeping what its
        // busiest moment needed.
        let eager = [
            ("MALLOC_ARENA_MAX", "1"),
            ("MALLOC_TRIM_THRESHOLD_", "65536"),
            ("MALLOC_MMAP_THRESHOLD_", "32768"),
        ];
        Self::spawn(test, role, &eager)
    }

    /// The same with these variables, for one that is no server.
    pub fn start_silent_with(test: &str, role: &str, variables: &[(&str, &str)]) -> Self {
        Self::spawn(test, role, variables)
    }

    /// Waits until it says where it listens.
    fn hear(&mut self) {
        let addresses = self.line(LISTENING);
        self.addresses = addresses.split(' ').map(|text| text.parse().unwrap()).collect();
    }

    fn spawn(test: &str, role: &str, variables: &[(&str, &str)]) -> Self {
        let mut child = command(test, role, variables)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines, addresses: Vec::new() }
    }

    /// Waits until the child [says](say) this, or fails when it ends without.
    #[track_caller]
    pub fn said(&mut self, label: &str) -> String {
        self.line(label)
    }

    /// The rest of the next line that begins with `label`.
    fn line(&mut self, label: &str) -> String {
        let mut lines = self.lines.by_ref().map_while(Result::ok);
        lines.find_map(|line| Some(line.strip_prefix(label)?.to_owned())).expect("the child talks")
    }

    /// What the child's shards count, added up.
    pub fn counters(&mut self) -> BTreeMap<String, u64> {
        self.child.stdin.as_mut().unwrap().write_all(b"counters\n").unwrap();
        let text = self.line(COUNTERS);
        let pairs = text.split(' ').map(|pair| pair.split_once('=').unwrap());
        pairs.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
    }

    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Memory in use, in bytes.
    pub fn rss(&self) -> u64 {
        let path = format!("/proc/{}/statm", self.child.id());
        let text = std::fs::read_to_string(path).unwrap();
        let pages: u64 = text.split_whitespace().nth(1).unwrap().parse().unwrap();
        pages * rustix::param::page_size() as u64
    }

    /// CPU time of all its threads, by the scheduler's own count.
    pub fn cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let nanos = tasks.map(|task| {
            let text = std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
            text.split_whitespace().next().unwrap().parse::<u64>().unwrap()
        });
        Duration::from_nanos(nanos.sum())
    }

    /// Open descriptors.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Sends a signal. Returns after `STOP` when all threads have stopped: until then they go on.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
        while signal == Signal::STOP && !self.is_stopped() {
            std::thread::yield_now();
        }
    }

    fn is_stopped(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        threads.map_while(Result::ok).all(|thread| {
            // A thread that has ended meanwhile does not go on either.
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            // The name stands in brackets, and may have any character in it.
            stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('T'))
        })
    }

    /// Waits for its end, for at most `within`.
    #[track_caller]
    pub fn end(mut self, within: Duration) -> (ExitStatus, Duration) {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, start.elapsed());
            }
            assert!(start.elapsed() < within, "the child did not end within {within:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for ServerChild {
    fn drop(&mut self) {
        // It may have ended by itself, which is what most tests want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
