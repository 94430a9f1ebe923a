//! Who takes part in a comparison: for each, how its server and its load generator are called.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::toolbox;
use crate::workload::{OPEN_IN_FLIGHT, Wait, Workload};

/// One run to be made: the load, for how long, and on which cores.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    /// What is asked of the server.
    pub workload: Workload,
    /// How both sides wait; in an open loop, how the server does.
    pub wait: Wait,
    /// Calls per second of an open loop; `None` is the closed loop.
    pub rate: Option<f64>,
    /// Measured seconds; half a second of warm-up comes before.
    pub secs: f64,
    /// The server's core.
    pub server_core: usize,
    /// The load generator's core.
    pub client_core: usize,
}

/// An echo server with the load generator that speaks its protocol.
///
/// The server prints `listening ADDRESS`, runs on one thread of one core, and ends on SIGTERM. The load generator
/// checks every reply and prints one [`Sample`](crate::sample::Sample).
pub trait Contender: fmt::Debug {
    /// The name that stands in tables.
    fn name(&self) -> &str;

    /// The programs it needs, each with the command that builds it.
    fn programs(&self) -> Vec<(PathBuf, &'static str)>;

    /// Whether it can wait in that way.
    fn can(&self, wait: Wait) -> bool;

    /// The command that starts its server.
    fn server(&self, job: &Job) -> Command;

    /// The command that loads it.
    fn client(&self, job: &Job, address: &str, server_pid: i32) -> Command;
}

/// Adds the flags that every load generator here takes.
fn add_load(command: &mut Command, job: &Job, address: &str, server_pid: i32) {
    let Workload { payload, conns, mut inflight, .. } = job.workload;
    command.arg(address);
    if let Some(rate) = job.rate {
        command.arg("--rate").arg(format!("{rate:.1}"));
        inflight = OPEN_IN_FLIGHT;
    }
    command.arg("--payload").arg(payload.to_string());
    command.arg("--conns").arg(conns.to_string());
    command.arg("--inflight").arg(inflight.to_string());
    command.arg("--secs").arg(job.secs.to_string());
    command.arg("--cpu").arg(job.client_core.to_string());
    command.arg("--server-pid").arg(server_pid.to_string());
    command.arg("--json");
}

/// The C load generator, for everything that echoes length-prefixed frames.
fn floor_client(folder: &Path, job: &Job, address: &str, server_pid: i32) -> Command {
    let mut command = Command::new(folder.join("floor_client"));
    add_load(&mut command, job, address, server_pid);
    // In an open loop the client never sleeps, so that calls are sent when they are due.
    let wait = if job.rate.is_some() { Wait::Spinning } else { job.wait };
    command.args(["--wait", floor_wait(wait)]);
    command
}

fn floor_wait(wait: Wait) -> &'static str {
    match wait {
        Wait::Parked => "epoll",
        Wait::Spinning => "spin",
    }
}

/// The C programs without any RPC: what all others are divided by.
#[derive(Debug)]
pub struct Floor {
    name: String,
    folder: PathBuf,
}

impl Floor {
    /// The floor, from the folder that [`toolbox::build_floor`] filled. A second one under another name shows what the
    /// machine's own noise does to a ratio.
    #[must_use]
    pub fn new(name: &str, folder: PathBuf) -> Self {
        Self { name: name.to_owned(), folder }
    }
}

impl Contender for Floor {
    fn name(&self) -> &str {
        &self.name
    }

    fn programs(&self) -> Vec<(PathBuf, &'static str)> {
        const MAKE: &str = "make -C benches/floor";
        vec![(self.folder.join("floor_server"), MAKE), (self.folder.join("floor_client"), MAKE)]
    }

    fn can(&self, _: Wait) -> bool {
        true
    }

    fn server(&self, job: &Job) -> Command {
        let mut command = Command::new(self.folder.join("floor_server"));
        command.args(["--addr", "127.0.0.1:0", "--wait", floor_wait(job.wait)]);
        command.arg("--cpu").arg(job.server_core.to_string());
        command
    }

    fn client(&self, job: &Job, address: &str, server_pid: i32) -> Command {
        floor_client(&self.folder, job, address, server_pid)
    }
}

/// Corewire's echo example under `corewire bench`.
#[derive(Debug)]
pub struct Corewire {
    release: PathBuf,
}

impl Corewire {
    /// Corewire, from a folder of release binaries.
    #[must_use]
    pub fn new(release: PathBuf) -> Self {
        Self { release }
    }

    fn server_program(&self) -> PathBuf {
        self.release.join("examples").join("echo_server")
    }

    fn client_program(&self) -> PathBuf {
        self.release.join("corewire")
    }
}

impl Contender for Corewire {
    fn name(&self) -> &'static str {
        "corewire"
    }

    fn programs(&self) -> Vec<(PathBuf, &'static str)> {
        vec![
            (self.server_program(), toolbox::BUILD_COREWIRE),
            (self.client_program(), toolbox::BUILD_COREWIRE),
        ]
    }

    fn can(&self, _: Wait) -> bool {
        true
    }

    fn server(&self, job: &Job) -> Command {
        let mut command = Command::new(self.server_program());
        let spin = match job.wait {
            Wait::Parked => "off",
            Wait::Spinning => "always",
        };
        command.args(["--addr", "127.0.0.1:0", "--spin", spin]);
        command.arg("--cores").arg(job.server_core.to_string());
        command
    }

    fn client(&self, job: &Job, address: &str, server_pid: i32) -> Command {
        let mut command = Command::new(self.client_program());
        command.arg("bench");
        add_load(&mut command, job, address, server_pid);
        if job.wait == Wait::Spinning || job.rate.is_some() {
            command.arg("--spin");
        }
        command
    }
}

/// Corewire's echo example under the C load generator: what the server alone costs, when its client costs as
/// little as the floor's.
#[derive(Debug)]
pub struct CorewireServer {
    server: Corewire,
    floor: PathBuf,
}

impl CorewireServer {
    /// The server from a folder of release binaries, the client from the floor's.
    #[must_use]
    pub fn new(release: PathBuf, floor: PathBuf) -> Self {
        Self { server: Corewire::new(release), floor }
    }
}

impl Contender for CorewireServer {
    fn name(&self) -> &'static str {
        "corewire, C client"
    }

    fn programs(&self) -> Vec<(PathBuf, &'static str)> {
        let mut programs = self.server.programs();
        programs.push((self.floor.join("floor_client"), "make -C benches/floor"));
        programs
    }

    fn can(&self, _: Wait) -> bool {
        true
    }

    fn server(&self, job: &Job) -> Command {
        self.server.server(job)
    }

    fn client(&self, job: &Job, address: &str, server_pid: i32) -> Command {
        let mut command = floor_client(&self.floor, job, address, server_pid);
        let method = corewire_codec::MethodId::of("corewire.Echo", "echo");
        command.arg("--method").arg(method.0.to_string());
        command
    }
}

/// Another framework's echo server, from `benches/peers`.
#[derive(Debug)]
pub struct Peer {
    name: &'static str,
    program: PathBuf,
    /// Where the C load generator is, for a peer that echoes the floor's frames; others bring their own.
    floor: Option<PathBuf>,
}

impl Peer {
    /// tokio's sockets without any RPC, driven by the floor's load generator.
    #[must_use]
    pub fn tokio(release: &Path, floor: PathBuf) -> Self {
        Self { name: "tokio raw", program: release.join("peer_tokio"), floor: Some(floor) }
    }

    /// tarpc under its own client.
    #[must_use]
    pub fn tarpc(release: &Path) -> Self {
        Self { name: "tarpc", program: release.join("peer_tarpc"), floor: None }
    }

    /// tonic under its own client.
    #[must_use]
    pub fn tonic(release: &Path) -> Self {
        Self { name: "tonic", program: release.join("peer_tonic"), floor: None }
    }
}

impl Contender for Peer {
    fn name(&self) -> &str {
        self.name
    }

    fn programs(&self) -> Vec<(PathBuf, &'static str)> {
        vec![(self.program.clone(), toolbox::BUILD_PEERS)]
    }

    fn can(&self, wait: Wait) -> bool {
        wait == Wait::Parked
    }

    fn server(&self, job: &Job) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["serve", "--addr", "127.0.0.1:0", "--cpu"]);
        command.arg(job.server_core.to_string());
        command
    }

    fn client(&self, job: &Job, address: &str, server_pid: i32) -> Command {
        if let Some(folder) = &self.floor {
            return floor_client(folder, job, address, server_pid);
        }
        let mut command = Command::new(&self.program);
        command.arg("load");
        add_load(&mut command, job, address, server_pid);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(command: &Command) -> Vec<String> {
        command.get_args().map(|word| word.to_string_lossy().into_owned()).collect()
    }

    fn job(wait: Wait) -> Job {
        Job {
            workload: crate::workload::ALL[2],
            wait,
            rate: None,
            secs: 0.5,
            server_core: 0,
            client_core: 1,
        }
    }

    #[test]
    fn the_load_is_named_in_full() {
        let load = "127.0.0.1:9 --payload 64 --conns 32 --inflight 8 --secs 0.5 --cpu 1 --server-pid 7 --json";
        let corewire = Corewire::new(PathBuf::new());
        let command = corewire.client(&job(Wait::Spinning), "127.0.0.1:9", 7);
        assert_eq!(words(&command).join(" "), format!("bench {load} --spin"));
        let floor = Floor::new("floor", PathBuf::new());
        let command = floor.client(&job(Wait::Parked), "127.0.0.1:9", 7);
        assert_eq!(words(&command).join(" "), format!("{load} --wait epoll"));
    }

    #[test]
    fn an_open_loop_has_a_rate_and_a_client_that_spins() {
        let job = Job { rate: Some(5000.0), ..job(Wait::Parked) };
        let load = "127.0.0.1:9 --rate 5000.0 --payload 64 --conns 32 --inflight 128 --secs 0.5 --cpu 1 --server-pid 7 --json";
        let floor = Floor::new("floor", PathBuf::new()).client(&job, "127.0.0.1:9", 7);
        assert_eq!(words(&floor).join(" "), format!("{load} --wait spin"));
        let tarpc = Peer::tarpc(Path::new("")).client(&job, "127.0.0.1:9", 7);
        assert_eq!(words(&tarpc).join(" "), format!("load {load}"));
    }

    #[test]
    fn servers_are_pinned_and_wait_as_told() {
        let corewire = Corewire::new(PathBuf::new()).server(&job(Wait::Parked));
        assert_eq!(words(&corewire).join(" "), "--addr 127.0.0.1:0 --spin off --cores 0");
        let floor = Floor::new("floor", PathBuf::new()).server(&job(Wait::Spinning));
        assert_eq!(words(&floor).join(" "), "--addr 127.0.0.1:0 --wait spin --cpu 0");
    }
}
