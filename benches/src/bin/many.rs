//! Many connections: what idle ones cost in memory and CPU, and how evenly busy ones are served.
//!
//! ```text
//! cargo build --release -p corewire-cli && cargo build --release -p corewire-examples --example echo_server
//! cargo run --release -p corewire-benches --bin many
//! ```
//!
//! Connections are spread over as many servers, and as many clients that hold them, as the limit on descriptors
//! requires; memory and CPU are sums over the servers. Every idle connection has made one call. The busy ones each make
//! their next call when they have the reply to the last one.

#![expect(clippy::print_stdout, reason = "this is a command, and its lines are its output")]

use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use corewire_benches::load::flags::{self, whole, within};
use corewire_benches::load::host::Host;
use corewire_benches::load::process::{self, Server, run_to_end};
use corewire_benches::load::{holder, toolbox};
use corewire_benches::measure::clocks::Clocks;
use corewire_benches::measure::memory::Memory;

/// Connections per process: the usual hard limit on descriptors is 20,000 or more.
const EACH_MAX: usize = 17_000;

/// The most connections that can be asked for, far beyond what has been measured.
const CONNECTIONS_MAX: usize = 1_000_000;

/// How long a client may take to make its connections.
const PATIENCE: Duration = Duration::from_secs(120);

/// Connections that warm a server up: the one-time costs of the first ones are not counted.
const WARM: usize = 100;

/// Wait before idleness is measured: until each connection's first timer, that of its hello, has been handled.
const SETTLE: Duration = Duration::from_secs(6);

/// A server pings a silent client after this long; a run that lasts longer says so.
const PING_AFTER: Duration = Duration::from_secs(60);

/// Measure many connections, idle and busy
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,

    /// Numbers of idle connections
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1000,10000,100000", value_parser = whole(0..=CONNECTIONS_MAX))]
    idle: Vec<usize>,

    /// The number of busy connections, all of which are called; 0 for none
    #[arg(long, default_value_t = 10_000, value_parser = whole(0..=CONNECTIONS_MAX))]
    busy: usize,

    /// Seconds for which idle servers are watched, and busy ones measured
    #[arg(long, default_value_t = 5.0, value_parser = within("seconds", 0.05..=600.0))]
    secs: f64,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Hold connections: what this command starts itself as
    #[command(hide = true)]
    Hold { address: SocketAddr, connections: usize },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    flags::end(match arguments.role {
        Some(Role::Hold { address, connections }) => holder::hold(address, connections),
        None => run(&arguments),
    })
}

fn run(arguments: &Arguments) -> Result<()> {
    toolbox::make_corewire(true)?;
    process::kill_children_on_signal()?;
    let allowed = holder::raise_file_limit();
    let most = EACH_MAX.max(arguments.busy) as u64 + 100;
    if allowed < most {
        bail!("{allowed} descriptors are allowed, and {most} are needed; raise `ulimit -Hn`");
    }
    println!("{}\n", Host::look());
    for &connections in &arguments.idle {
        idle(connections, Duration::from_secs_f64(arguments.secs))?;
    }
    if arguments.busy > 0 {
        busy(arguments.busy, arguments.secs)?;
    }
    Ok(())
}

fn server() -> Result<Server> {
    Server::start("echo_server", &mut toolbox::serve_echo(0))
}

fn hold(address: &str, connections: usize) -> Result<Server> {
    let mut command = process::own()?;
    command.args(["hold", address, &connections.to_string()]);
    Server::start_within("a client", &mut command, PATIENCE)
}

/// Memory in use by the servers, in bytes.
fn memory(servers: &[Server]) -> Result<f64> {
    servers.iter().map(|server| Ok(Memory::of(server.pid())?.now_kib * 1024.0)).sum()
}

/// CPU time of all the servers' threads so far.
fn clocks(servers: &[Server]) -> Result<Vec<Clocks>> {
    servers.iter().map(|server| Clocks::read(Some(server.pid()))).collect()
}

#[expect(clippy::cast_precision_loss, reason = "no machine has 2⁵³ bytes")]
fn idle(connections: usize, watch: Duration) -> Result<()> {
    let processes = connections.div_ceil(EACH_MAX).max(1);
    let servers = (0..processes).map(|_| server()).collect::<Result<Vec<_>>>()?;
    let mut clients = Vec::new();
    for server in &servers {
        clients.push(hold(server.address(), WARM)?);
    }
    let before = memory(&servers)?;
    let begun = Instant::now();
    for (index, server) in servers.iter().enumerate() {
        let share = connections * (index + 1) / processes - connections * index / processes;
        clients.push(hold(server.address(), share)?);
    }
    sleep(SETTLE);
    let each = (memory(&servers)? - before).max(0.0) / connections.max(1) as f64;
    let (from, start) = (clocks(&servers)?, Instant::now());
    sleep(watch);
    let used = clocks(&servers)?.into_iter().zip(&from).map(|(now, from)| now.since(from, None));
    let spent: f64 = used.filter_map(|used| used.server_cpu_s).sum();
    let share = 100.0 * spent / start.elapsed().as_secs_f64();
    let pings = if begun.elapsed() < PING_AFTER { "" } else { ", the first pings among it" };
    println!(
        "{connections} idle connections, {processes} servers: {each:.0} bytes of RSS each; {:.1} ms of CPU in {watch:?}, {share:.3} % of a core{pings}",
        spent * 1e3
    );
    for client in clients {
        client.stop()?;
    }
    servers.into_iter().try_for_each(Server::stop)
}

fn busy(connections: usize, secs: f64) -> Result<()> {
    let server = server()?;
    let mut command = toolbox::bench(server.address());
    command.args(["--per-connection", "--cpu", "1"]);
    command.args(["--conns", &connections.to_string(), "--secs", &secs.to_string()]);
    command.args(["--server-pid", &server.pid().to_string()]);
    let text =
        run_to_end("corewire bench", &mut command, Duration::from_secs_f64(secs) + PATIENCE)?;
    let report: serde_json::Value = serde_json::from_str(&text).context("no line of JSON")?;
    let figure = |path: &str| {
        report
            .pointer(path)
            .and_then(serde_json::Value::as_f64)
            .with_context(|| format!("no {path}"))
    };
    println!(
        "{connections} busy connections: {:.0} calls/s, p50 {:.0} µs, p99 {:.0} µs; p99 of a connection {:.0} µs in the median, {:.0} µs at most; the slowest made {:.3} of the mean's calls, the fastest {:.3}",
        figure("/rps")?,
        figure("/p50_us")?,
        figure("/p99_us")?,
        figure("/connections/p99_us_median")?,
        figure("/connections/p99_us_max")?,
        figure("/connections/calls_min")? / figure("/connections/calls_mean")?,
        figure("/connections/calls_max")? / figure("/connections/calls_mean")?,
    );
    server.stop()
}
