//! Who takes part in a comparison: for each contender, the commands of its server and its load generator.

use std::fmt;
use std::path::PathBuf;
use std::process::Command;

use crate::load::flags::Cores;
use crate::load::toolbox;
use crate::load::workload::{OPEN_IN_FLIGHT, Wait, Workload};

/// One run to make: the load, for how long, and on which cores.
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
    /// Where both sides run.
    pub cores: Cores,
}

/// An echo server with the load generator that speaks its protocol.
///
/// The server prints `listening ADDRESS`, runs on one thread of one core, and ends on SIGTERM. The load generator
/// checks every reply and prints one [`Sample`](crate::measure::sample::Sample).
pub trait Contender: fmt::Debug {
    /// The name shown in tables.
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
    command.arg("--cpu").arg(job.cores.client.to_string());
    command.arg("--server-pid").arg(server_pid.to_string());
    command.arg("--json");
}

/// The C load generator, for everything that echoes length-prefixed frames.
fn floor_client(job: &Job, address: &str, server_pid: i32) -> Command {
    let mut command = Command::new(floor_program("floor_client").0);
    add_load(&mut command, job, address, server_pid);
    // In an open loop the client never sleeps, so that calls are sent when they are due.
    let wait = if job.rate.is_some() { Wait::Spinning } else { job.wait };
    command.args(["--wait", floor_wait(wait)]);
    command
}

/// One of the C programs, with the command that builds it.
fn floor_program(name: &str) -> (PathBuf, &'static str) {
    (toolbox::floor_folder().join(name), "make -C benches/floor")
}

fn floor_wait(wait: Wait) -> &'static str {
    match wait {
        Wait::Parked => "epoll",
        Wait::Spinning => "spin",
    }
}

/// The C programs without any RPC: all others are divided by their figures.
#[derive(Debug)]
pub struct Floor {
    /// The name shown in tables. A second floor under another name shows what the machine's own noise does to a
    /// ratio.
    pub name: &'static str,
}

impl Contender for Floor {
    fn name(&self) -> &str {
        self.name
    }

    fn programs(&self) -> Vec<(PathBuf, &'static str)> {
        vec![floor_program("floor_server"), floor_program("floor_client")]
    }

    fn can(&self, _: Wait) -> bool {
        true
    }

    fn server(&self, job: &Job) -> Command {
        let mut command = Command::new(floor_program("floor_server").0);
        command.args(["--addr", "127.0.0.1:0", "--wait", floor_wait(job.wait)]);
        command.arg("--cpu").arg(job.cores.server.to_string());
        command
    }

    fn client(&self, job: &Job, address: &str, server_pid: i32) -> Command {
        floor_client(job, address, server_pid)
    }
}

/// Corewire's echo example under `corewire bench`.
#[derive(Debug)]
pub struct Corewire;

impl Contender for Corewire {
    fn name(&self) -> &'static str {
        "corewire"
    }

    fn programs(&self) -> Vec<(PathBuf, &'static str)> {
        toolbox::corewire_programs()
    }

    fn can(&self, _: Wait) -> bool {
        true
    }

    fn server(&self, job: &Job) -> Command {
        let mut command = toolbox::serve_echo(job.cores.server);
        command.args(match job.wait {
            Wait::Parked => ["--spin", "off"],
            Wait::Spinning => ["--spin", "always"],
        });
        command
    }

    fn client(&self, job: &Job, address: &str, server_pid: i32) -> Command {
        let mut command = Command::new(toolbox::corewire());
        command.arg("bench");
        add_load(&mut command, job, address, server_pid);
        if job.wait == Wait::Spinning || job.rate.is_some() {
            command.arg("--spin");
        }
        command
    }
}

/// The same with shards on plain threads, which wait by epoll alone, on both sides.
#[derive(Debug)]
pub struct PlainCorewire;

impl Contender for PlainCorewire {
    fn name(&self) -> &'static str {
        "corewire, plain host"
    }

    fn programs(&self) -> Vec<(PathBuf, &'static str)> {
        Corewire.programs()
    }

    fn can(&self, wait: Wait) -> bool {
        Corewire.can(wait)
    }

    fn server(&self, job: &Job) -> Command {
        on_plain_threads(Corewire.server(job))
    }

    fn client(&self, job: &Job, address: &str, server_pid: i32) -> Command {
        on_plain_threads(Corewire.client(job, address, server_pid))
    }
}

fn on_plain_threads(mut command: Command) -> Command {
    command.env("COREWIRE_HOST", "plain");
    command
}

/// Corewire's echo example under the C load generator: what the server alone costs, when its client costs as
/// little as the floor's.
#[derive(Debug)]
pub struct CorewireServer;

impl Contender for CorewireServer {
    fn name(&self) -> &'static str {
        "corewire, C client"
    }

    fn programs(&self) -> Vec<(PathBuf, &'static str)> {
        vec![(toolbox::echo_server(), toolbox::BUILD_COREWIRE), floor_program("floor_client")]
    }

    fn can(&self, _: Wait) -> bool {
        true
    }

    fn server(&self, job: &Job) -> Command {
        Corewire.server(job)
    }

    fn client(&self, job: &Job, address: &str, server_pid: i32) -> Command {
        let mut command = floor_client(job, address, server_pid);
        let method = corewire_codec::MethodId::of("corewire.Echo", "echo");
        command.arg("--method").arg(method.0.to_string());
        command
    }
}

/// Another framework's echo server, from `benches/peers`.
#[derive(Debug)]
pub struct Peer {
    name: &'static str,
    program: &'static str,
    /// Whether it echoes the floor's frames, so that the floor's load generator drives it; others have their own.
    of_floor: bool,
}

impl Peer {
    /// tokio's sockets without any RPC, driven by the floor's load generator.
    pub const TOKIO: Self = Self { name: "tokio raw", program: "peer_tokio", of_floor: true };
    /// tarpc under its own client.
    pub const TARPC: Self = Self { name: "tarpc", program: "peer_tarpc", of_floor: false };
    /// tonic under its own client.
    pub const TONIC: Self = Self { name: "tonic", program: "peer_tonic", of_floor: false };

    fn program(&self) -> PathBuf {
        toolbox::release().join(self.program)
    }
}

impl Contender for Peer {
    fn name(&self) -> &str {
        self.name
    }

    fn programs(&self) -> Vec<(PathBuf, &'static str)> {
        vec![(self.program(), toolbox::BUILD_PEERS)]
    }

    fn can(&self, wait: Wait) -> bool {
        wait == Wait::Parked
    }

    fn server(&self, job: &Job) -> Command {
        let mut command = Command::new(self.program());
        command.args(["serve", "--addr", "127.0.0.1:0", "--cpu"]);
        command.arg(job.cores.server.to_string());
        command
    }

    fn client(&self, job: &Job, address: &str, server_pid: i32) -> Command {
        if self.of_floor {
            return floor_client(job, address, server_pid);
        }
        let mut command = Command::new(self.program());
        command.arg("load");
        add_load(&mut command, job, address, server_pid);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOR: Floor = Floor { name: "floor" };

    fn words(command: &Command) -> Vec<String> {
        command.get_args().map(|word| word.to_string_lossy().into_owned()).collect()
    }

    fn job(wait: Wait) -> Job {
        Job {
            workload: crate::load::workload::ALL[2],
            wait,
            rate: None,
            secs: 0.5,
            cores: Cores { server: 0, client: 1 },
        }
    }

    #[test]
    fn the_load_is_named_in_full() {
        let load = "127.0.0.1:9 --payload 64 --conns 32 --inflight 8 --secs 0.5 --cpu 1 --server-pid 7 --json";
        let command = Corewire.client(&job(Wait::Spinning), "127.0.0.1:9", 7);
        assert_eq!(words(&command).join(" "), format!("bench {load} --spin"));
        let command = FLOOR.client(&job(Wait::Parked), "127.0.0.1:9", 7);
        assert_eq!(words(&command).join(" "), format!("{load} --wait epoll"));
    }

    #[test]
    fn an_open_loop_has_a_rate_and_a_client_that_spins() {
        let job = Job { rate: Some(5000.0), ..job(Wait::Parked) };
        let load = "127.0.0.1:9 --rate 5000.0 --payload 64 --conns 32 --inflight 128 --secs 0.5 --cpu 1 --server-pid 7 --json";
        let floor = FLOOR.client(&job, "127.0.0.1:9", 7);
        assert_eq!(words(&floor).join(" "), format!("{load} --wait spin"));
        let tarpc = Peer::TARPC.client(&job, "127.0.0.1:9", 7);
        assert_eq!(words(&tarpc).join(" "), format!("load {load}"));
    }

    #[test]
    fn servers_are_pinned_and_wait_as_told() {
        let corewire = Corewire.server(&job(Wait::Parked));
        assert_eq!(words(&corewire).join(" "), "--addr 127.0.0.1:0 --cores 0 --spin off");
        let floor = FLOOR.server(&job(Wait::Spinning));
        assert_eq!(words(&floor).join(" "), "--addr 127.0.0.1:0 --wait spin --cpu 0");
    }
}
