//! From one core to two: what a call costs the server when everything is doubled.
//!
//! ```text
//! cargo run --release -p corewire-benches --bin scaling
//! ```
//!
//! Each core has one shard of an echo server and one load generator. The settings take turns in each round: one core
//! with both; two cores, each with a server of one shard of its own; two cores with one server of two shards, whose
//! connections are steered to the core of their packets, or spread by the kernel's hash. The second tells what the machine takes
//! for two busy cores (their caches, their shared execution units), the third what sharing one server takes on top, the fourth
//! what packets cost that cross over.

#![expect(clippy::print_stdout, reason = "this is a command, and its tables are its output")]

use std::fmt;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use clap::Parser;
use corewire_benches::load::flags::{self, Cores, whole, within};
use corewire_benches::load::host::Host;
use corewire_benches::load::process::{self, Server, run_to_end};
use corewire_benches::load::toolbox;
use corewire_benches::measure::sample::Sample;
use corewire_benches::measure::stats::{Summary, paired_ratios};
use corewire_benches::report::{spread, table};

/// The shapes of load: their letters in the design, bytes, connections and calls in flight of each load generator.
const LOADS: [(&str, usize, usize, usize); 2] = [("C", 64, 32, 8), ("E", 1024, 32, 1)];

/// Measure what a second core brings
#[derive(Debug, Parser)]
struct Arguments {
    /// Rounds of everything
    #[arg(long, default_value_t = 7, value_parser = whole(1..=100_usize))]
    rounds: usize,

    /// Measured seconds of each run
    #[arg(long, default_value_t = 2.0, value_parser = within("seconds", 0.1..=600.0))]
    secs: f64,

    /// One round of 0.2 seconds: shows that everything works, and measures nothing
    #[arg(long, conflicts_with_all = ["rounds", "secs"])]
    quick: bool,

    /// Use the release binaries as they are
    #[arg(long)]
    no_build: bool,

    /// The two cores
    #[command(flatten)]
    cores: Cores,
}

/// What runs where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setting {
    OneCore,
    TwoServers,
    Steered,
    Hashed,
}

impl Setting {
    const ALL: [Self; 4] = [Self::OneCore, Self::TwoServers, Self::Steered, Self::Hashed];
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::OneCore => "one core: one shard",
            Self::TwoServers => "two cores: two servers of one shard",
            Self::Steered => "two cores: one server of two shards, steered",
            Self::Hashed => "two cores: one server of two shards, by hash",
        })
    }
}

/// One run of a setting.
struct Run {
    round: usize,
    setting: Setting,
    load: &'static str,
    /// Calls for each CPU second of the servers.
    per_cpu_second: f64,
    /// Calls per second of all load generators.
    rate: f64,
}

fn main() -> ExitCode {
    flags::end(measure(&Arguments::parse()))
}

fn measure(arguments: &Arguments) -> Result<()> {
    arguments.cores.check()?;
    process::kill_children_on_signal()?;
    toolbox::make_corewire(arguments.no_build)?;
    let (rounds, secs) =
        if arguments.quick { (1, 0.2) } else { (arguments.rounds, arguments.secs) };
    let (host, begun) = (Host::look(), Instant::now());
    let mut runs = Vec::new();
    for round in 0..rounds {
        for load in LOADS {
            for setting in Setting::ALL {
                let what = format!("[round {round}] {}, {setting}", load.0);
                eprintln!("{what}");
                let samples = play(setting, arguments.cores, load, secs).context(what)?;
                runs.push(Run::of(round, setting, load.0, &samples)?);
            }
        }
    }
    let took = begun.elapsed().as_secs_f64();
    println!("{host}, rounds: {rounds}, seconds each: {secs}, measured in {took:.0} s\n");
    write_out(&runs);
    Ok(())
}

/// Runs the servers and load generators of a setting once.
fn play(
    setting: Setting,
    cores: Cores,
    (_, payload, conns, inflight): (&str, usize, usize, usize),
    secs: f64,
) -> Result<Vec<Sample>> {
    let (first, second) = (cores.server.to_string(), cores.client.to_string());
    let serve = |cores: &str, steering: &str| {
        let mut command = Command::new(toolbox::echo_server());
        command.args(["--addr", "127.0.0.1:0", "--cores", cores, "--steering", steering]);
        Server::start("echo_server", &mut command)
    };
    let both = format!("{first},{second}");
    let servers = match setting {
        Setting::OneCore => vec![serve(&first, "hash")?],
        Setting::TwoServers => vec![serve(&first, "hash")?, serve(&second, "hash")?],
        Setting::Steered => vec![serve(&both, "incoming-cpu")?],
        Setting::Hashed => vec![serve(&both, "hash")?],
    };
    let clients = match (setting, &servers[..]) {
        (Setting::OneCore, [server, ..]) => vec![(server, first)],
        (_, [one, two]) => vec![(one, first), (two, second)],
        (_, [server, ..]) => vec![(server, first), (server, second)],
        (_, []) => Vec::new(),
    };
    let limit = Duration::from_secs_f64(secs) + Duration::from_secs(20);
    let samples = thread::scope(|scope| {
        let started: Vec<_> = clients
            .iter()
            .map(|(server, core)| {
                let mut command = toolbox::bench(server.address());
                command.args(["--payload", &payload.to_string(), "--conns", &conns.to_string()]);
                command.args(["--inflight", &inflight.to_string(), "--secs", &secs.to_string()]);
                command.args(["--cpu", core, "--server-pid", &server.pid().to_string()]);
                scope.spawn(move || run_to_end("corewire bench", &mut command, limit))
            })
            .collect();
        let ended = started.into_iter().map(|client| {
            let output =
                client.join().map_err(|_| anyhow!("a load generator's thread panicked"))?;
            Sample::parse(&output?)
        });
        ended.collect::<Result<Vec<_>>>()
    })?;
    for server in servers {
        server.stop()?;
    }
    Ok(samples)
}

impl Run {
    #[expect(clippy::cast_precision_loss, reason = "calls of some seconds are far below 2^53")]
    fn of(round: usize, setting: Setting, load: &'static str, samples: &[Sample]) -> Result<Self> {
        let calls: u64 = samples.iter().map(|sample| sample.calls).sum();
        let cpu = samples.iter().map(|sample| sample.server_cpu_s);
        let cpu: f64 = cpu.sum::<Option<f64>>().context("the server's CPU time is missing")?;
        let shared = matches!(setting, Setting::Steered | Setting::Hashed);
        // Both load generators looked at the one server, in the same seconds.
        let cpu = if shared { cpu / 2.0 } else { cpu };
        let rate = samples.iter().map(|sample| sample.rps).sum();
        Ok(Self { round, setting, load, per_cpu_second: calls as f64 / cpu, rate })
    }
}

fn write_out(runs: &[Run]) {
    let values = |load, setting, figure: fn(&Run) -> f64| -> Vec<(usize, f64)> {
        let of = |run: &&Run| (run.load, run.setting) == (load, setting);
        runs.iter().filter(of).map(|run| (run.round, figure(run))).collect()
    };
    let plain = |values: Vec<(usize, f64)>| {
        spread(Summary::of(&values.into_iter().map(|(_, value)| value).collect::<Vec<_>>()))
    };
    let header = ["load", "setting", "calls/s", "calls per server CPU second", "x of one core's"];
    let mut table = table(&header.map(str::to_owned), 2);
    for (load, ..) in LOADS {
        for setting in Setting::ALL {
            let cost = |setting| values(load, setting, |run| run.per_cpu_second);
            table.add_row([
                load.to_owned(),
                setting.to_string(),
                plain(values(load, setting, |run| run.rate)),
                plain(cost(setting)),
                spread(Summary::of(&paired_ratios(&cost(setting), &cost(Setting::OneCore)))),
            ]);
        }
    }
    println!("Median (lowest..highest):\n\n{table}");
}
