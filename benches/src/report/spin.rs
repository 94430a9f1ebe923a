//! What spinning costs and what it brings: the runs, the tables and the picture of the command `spin`.

use std::hint;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result};
use corewire_cli::pace::Arrivals;
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::Serialize;

use crate::load::flags::Cores;
use crate::load::process::{self, Server, run_to_end};
use crate::load::toolbox;
use crate::measure::clocks::Clocks;
use crate::measure::sample::Sample;
use crate::measure::stats::Summary;
use crate::report::plot::{Line, Panel, Point};
use crate::report::{spread, table};

/// The policies, as the examples' flag `--spin` takes them.
pub const POLICIES: [&str; 4] = ["off", "50", "200", "always"];

/// Connections of the idle server.
const IDLE: usize = 1000;

/// Wait before idleness is measured: until each connection's first timer, that of its hello, has been handled.
const SETTLE: Duration = Duration::from_secs(6);

/// How long a client may take for its connections, and beyond its measured seconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// The name of a policy for people to read.
#[must_use]
pub fn name(policy: &str) -> String {
    match policy {
        "off" | "always" => policy.to_owned(),
        micros => format!("for {micros} µs"),
    }
}

/// Where the programs run.
#[derive(Debug, Clone)]
pub struct Bench {
    /// The core of the server and its neighbour, and the core of the load generator.
    pub cores: Cores,
    /// How calls are spread over time.
    pub arrivals: Arrivals,
}

/// One load under one policy.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// From 0.
    pub round: usize,
    /// The policy.
    pub policy: &'static str,
    /// Connections.
    pub conns: usize,
    /// Calls per second that were offered.
    pub rate: f64,
    /// What the load generator printed.
    pub sample: Sample,
    /// The share of the core that the neighbour had while the load generator ran, in percent, if there was one.
    pub neighbour: Option<f64>,
}

impl Run {
    /// The server's CPU time in percent of a core.
    #[must_use]
    pub fn cpu(&self) -> f64 {
        100.0 * self.sample.server_cpu_s.unwrap_or(f64::NAN) / self.sample.secs
    }

    /// Whether the server answered what was offered. If not, some calls are missing from its percentiles.
    #[must_use]
    pub fn kept_up(&self) -> bool {
        // Even a client that keeps up may miss the last calls before the end of a run.
        self.sample.open.as_ref().is_some_and(|open| {
            open.missed <= open.offered / 100 && self.sample.rps >= 0.95 * open.offered_rps
        })
    }
}

/// The CPU of an idle server.
#[derive(Debug, Clone, Serialize)]
pub struct Idle {
    /// From 0.
    pub round: usize,
    /// The policy.
    pub policy: &'static str,
    /// In percent of a core.
    pub cpu: f64,
}

/// This program itself, as one of its roles.
fn helper(words: &[&str]) -> Result<Server> {
    Server::start_within("a helper", process::own()?.args(words), PATIENCE)
}

impl Bench {
    fn server(&self, policy: &str) -> Result<Server> {
        let mut command = toolbox::serve_echo(self.cores.server);
        Server::start("echo_server", command.args(["--spin", policy]))
    }

    /// Offers `rate` over `conns` connections for `secs` seconds; with a neighbour, another process that never
    /// sleeps uses the server's core, too.
    ///
    /// # Errors
    ///
    /// When a program cannot be started or fails.
    pub fn load(
        &self,
        (round, policy): (usize, &'static str),
        (conns, rate): (usize, f64),
        secs: f64,
        neighbour: bool,
    ) -> Result<Run> {
        let server = self.server(policy)?;
        let core = self.cores.server.to_string();
        let beside = if neighbour { Some(helper(&["neighbour", &core])?) } else { None };
        let pid = beside.as_ref().map(Server::pid);
        let mut command = toolbox::bench(server.address());
        command.args(["--payload", "64"]);
        for (flag, value) in [
            ("--conns", conns.to_string()),
            ("--rate", rate.to_string()),
            ("--arrivals", self.arrivals.to_string()),
            ("--seed", (round + 1).to_string()),
            ("--secs", secs.to_string()),
            ("--cpu", self.cores.client.to_string()),
            ("--server-pid", server.pid().to_string()),
        ] {
            command.arg(flag).arg(value);
        }
        let before = Clocks::read(pid)?;
        let limit = Duration::from_secs_f64(secs) + PATIENCE;
        let stdout = run_to_end("corewire bench", &mut command, limit)?;
        let used = Clocks::read(pid)?.since(&before, pid);
        let sample = Sample::parse(&stdout)?;
        beside.map_or(Ok(()), Server::stop)?;
        server.stop()?;
        let neighbour = used.server_cpu_s.map(|cpu| 100.0 * cpu / used.secs);
        Ok(Run { round, policy, conns, rate, sample, neighbour })
    }

    /// Watches a server with connections that do nothing; `settle` first waits until it is really idle.
    ///
    /// # Errors
    ///
    /// When a program cannot be started or fails.
    pub fn idle(
        &self,
        (round, policy): (usize, &'static str),
        settle: bool,
        secs: f64,
    ) -> Result<Idle> {
        let server = self.server(policy)?;
        let holder = helper(&["hold", server.address(), &IDLE.to_string()])?;
        if settle {
            sleep(SETTLE);
        }
        let pid = Some(server.pid());
        let before = Clocks::read(pid)?;
        sleep(Duration::from_secs_f64(secs));
        let used = Clocks::read(pid)?.since(&before, pid);
        holder.stop()?;
        server.stop()?;
        let cpu = used.server_cpu_s.context("the server has no CPU clock")?;
        Ok(Idle { round, policy, cpu: 100.0 * cpu / used.secs })
    }
}

/// Keeps a core busy until SIGTERM: the neighbour.
///
/// # Errors
///
/// When it cannot run on that core, or signals cannot be watched.
#[expect(clippy::print_stdout, reason = "the line is how the parent hears that all is ready")]
pub fn keep_busy(core: usize) -> Result<()> {
    let over = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&over))
        .context("cannot watch for signals")?;
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).with_context(|| format!("cannot run on core {core}"))?;
    println!("listening nowhere");
    while !over.load(Ordering::Relaxed) {
        hint::spin_loop();
    }
    Ok(())
}

/// All that was measured.
#[derive(Debug, Default, Serialize)]
pub struct Results {
    /// Loads on a server that has its core to itself.
    pub alone: Vec<Run>,
    /// Idle servers.
    pub idle: Vec<Idle>,
    /// Loads on a server with a neighbour on its core.
    pub shared: Vec<Run>,
}

/// The different loads in the order in which they came.
fn loads(runs: &[Run]) -> Vec<(usize, f64)> {
    let mut loads = Vec::new();
    for run in runs {
        if !loads.contains(&(run.conns, run.rate)) {
            loads.push((run.conns, run.rate));
        }
    }
    loads
}

/// Median and range over the rounds of one load under one policy.
fn summary(
    runs: &[Run],
    (conns, rate): (usize, f64),
    policy: &str,
    of: impl Fn(&Run) -> f64,
) -> Option<Summary> {
    let these = runs.iter().filter(|run| {
        run.conns == conns && run.rate.total_cmp(&rate).is_eq() && run.policy == policy
    });
    Summary::of(&these.map(of).collect::<Vec<_>>())
}

impl Results {
    /// The tables, as Markdown.
    #[must_use]
    pub fn tables(&self) -> String {
        let mut idle = table(&["spin", "server CPU, % of a core"], 1);
        for policy in POLICIES {
            let these = self.idle.iter().filter(|idle| idle.policy == policy);
            let summary = Summary::of(&these.map(|idle| idle.cpu).collect::<Vec<_>>());
            idle.add_row([name(policy), spread(summary)]);
        }
        format!(
            "A core of its own, open loop, 64 B. `*`: it did not answer all that was offered, so that its percentiles are too good:\n\n{}\n\n\
             {IDLE} idle connections:\n\n{idle}\n\n\
             A neighbour on the same core that never sleeps:\n\n{}\n",
            loads_table(&self.alone, false),
            loads_table(&self.shared, true),
        )
    }

    /// Latency over the CPU time that it costs: one line per policy, one point per rate.
    #[must_use]
    pub fn panels(&self) -> Vec<Panel> {
        let mut panels = Vec::new();
        let mut conns: Vec<usize> = self.alone.iter().map(|run| run.conns).collect();
        conns.sort_unstable();
        conns.dedup();
        for conns in conns {
            for (figure, of) in [
                ("p50", (|run: &Run| run.sample.p50_us) as fn(&Run) -> f64),
                ("p99", |run| run.sample.p99_us),
            ] {
                let title = format!(
                    "{figure} in µs over the server's CPU in % of a core, {conns} connections"
                );
                let lines = POLICIES.iter().map(|policy| self.line(conns, policy, of)).collect();
                panels.push(Panel { title, lines });
            }
        }
        panels
    }

    fn line(&self, conns: usize, policy: &str, of: fn(&Run) -> f64) -> Line {
        let loads = loads(&self.alone).into_iter().filter(|load| load.0 == conns);
        let point = |load| {
            let (cpu, y) = (
                summary(&self.alone, load, policy, Run::cpu)?,
                summary(&self.alone, load, policy, of)?,
            );
            Some(Point { x: cpu.median, y: y.median, low: y.min, high: y.max })
        };
        Line { name: name(policy), points: loads.filter_map(point).collect() }
    }
}

fn loads_table(runs: &[Run], neighbour: bool) -> comfy_table::Table {
    let mut header = vec![
        "connections",
        "offered/s",
        "spin",
        "answered/s",
        "server CPU, % of a core",
        "p50, µs",
        "p99, µs",
    ];
    if neighbour {
        header.push("the neighbour's CPU, % of a core");
    }
    let mut table = table(&header, 3);
    for load in loads(runs) {
        for policy in POLICIES {
            let of = |of: fn(&Run) -> f64| summary(runs, load, policy, of);
            let Some(answered) = of(|run| run.sample.rps) else { continue };
            let behind = of(|run| if run.kept_up() { 0.0 } else { 1.0 });
            let mark = if behind.is_some_and(|behind| behind.max > 0.0) { " *" } else { "" };
            let mut row = vec![load.0.to_string(), load.1.to_string(), name(policy)];
            row.push(spread(Some(answered)) + mark);
            row.push(spread(of(Run::cpu)));
            row.push(spread(of(|run| run.sample.p50_us)));
            row.push(spread(of(|run| run.sample.p99_us)));
            if neighbour {
                row.push(spread(of(|run| run.neighbour.unwrap_or(f64::NAN))));
            }
            table.add_row(row);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(policy: &'static str, rate: f64, p99_us: f64) -> Run {
        let line = format!(
            r#"{{"payload":64,"conns":1,"inflight":256,"secs":2.0,"calls":10,"errors":0,"rps":{rate},"p50_us":5.0,"p90_us":6.0,"p99_us":{p99_us},"p999_us":9.0,"max_us":9.0,"client_cpu_s":2.0,"server_cpu_s":0.5}}"#
        );
        #[expect(clippy::expect_used, reason = "tests")]
        let sample = Sample::parse(&line).expect("a sample");
        Run { round: 0, policy, conns: 1, rate, sample, neighbour: Some(61.5) }
    }

    #[test]
    fn tables_and_picture_have_every_policy_and_rate() {
        let results = Results {
            alone: vec![run("off", 100.0, 80.0), run("200", 100.0, 12.0), run("200", 5000.0, 11.0)],
            idle: vec![Idle { round: 0, policy: "off", cpu: 0.125 }],
            shared: vec![run("always", 100.0, 4000.0)],
        };
        let text = results.tables();
        assert!(text.contains("for 200 µs") && text.contains("0.125"), "{text}");
        assert!(text.contains("61.5") && text.contains("4000"), "{text}");
        assert!(text.contains("25.0"), "half a second of two is a quarter: {text}");
        let panels = results.panels();
        assert_eq!(panels.len(), 2);
        let points: usize = panels[1].lines.iter().map(|line| line.points.len()).sum();
        assert_eq!(points, 3);
    }
}
