//! Deadlines: a hundred thousand calls with a timeout of 50 ms, to handlers that sleep for ten seconds. When do they
//! end, who ends them, and what is left of them?
//!
//! ```text
//! cargo run --release -p corewire-benches --bin deadlines
//! ```
//!
//! A server and a client, each in its own process and on its own core. The first round warms up: memory is compared
//! from the second on. Ends with exit code 1 when a limit is exceeded.

#![expect(clippy::print_stdout, reason = "this is a command, and its table is its output")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use corewire_benches::load::deadlines::{self, Load, Round};
use corewire_benches::load::flags::{self, Cores, whole};
use corewire_benches::load::host::Host;
use corewire_benches::load::pair::{self, Part};
use corewire_benches::load::process;
use corewire_benches::report::{self, short, table};

/// The timeout of each call.
const TIMEOUT_MS: u32 = 50;
/// By when calls must have ended at their caller, at the 99th percentile.
const P99_MS_MAX: f64 = 55.0;
/// What a round may leave in either process' memory, in KiB.
const LEFT_KIB_MAX: f64 = 1024.0;

/// Measure calls whose deadline passes
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,

    /// Rounds, in addition to one that warms up
    #[arg(long, default_value_t = 3, value_parser = whole(1..=100_u32))]
    rounds: u32,

    /// Calls of each round
    #[arg(long, default_value_t = 100_000, value_parser = whole(1..=100_000_000_u64))]
    calls: u64,

    /// Connections
    #[arg(long, default_value_t = 16, value_parser = whole(1..=1000_usize))]
    conns: usize,

    /// Calls in flight on each connection
    #[arg(long, default_value_t = 250, value_parser = whole(1..=4096_usize))]
    inflight: usize,

    /// One round of 10,000 calls, whose times are not judged: shows that everything works
    #[arg(long, conflicts_with_all = ["rounds", "calls"])]
    quick: bool,

    #[command(flatten)]
    cores: Cores,

    /// Also write every round to this file
    #[arg(long, value_name = "PATH")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    flags::end(match &arguments.part {
        Some(part) => part.play(deadlines::serve, deadlines::load),
        None => measure(&arguments),
    })
}

fn run(arguments: &Arguments, rounds: u32, calls: u64) -> Result<Vec<Round>> {
    let Arguments { conns, inflight, .. } = *arguments;
    let timeout = Duration::from_millis(TIMEOUT_MS.into());
    let load = Load { calls, conns, inflight, timeout, rounds: rounds + 1 };
    let waves = calls.div_ceil((conns * inflight) as u64) * u64::from(rounds + 1);
    let limit = Duration::from_millis(waves * u64::from(TIMEOUT_MS) * 4) + Duration::from_secs(60);
    pair::run(arguments.cores, false, &load, limit)
}

fn measure(arguments: &Arguments) -> Result<ExitCode> {
    let Arguments { cores, conns, inflight, .. } = *arguments;
    cores.check()?;
    let (rounds, calls) =
        if arguments.quick { (1, 10_000) } else { (arguments.rounds, arguments.calls) };
    process::kill_children_on_signal()?;
    let host = Host::look();
    let results = run(arguments, rounds, calls)?;
    println!(
        "{host}, {calls} calls a round, {conns} connections x {inflight} in flight, {TIMEOUT_MS} ms for each call, handlers sleep for 10 s\n"
    );
    print_table(&results);
    if let Some(path) = &arguments.json {
        let document = serde_json::json!({ "host": host, "rounds": results });
        report::write_document(path, &document)?;
    }
    ensure!(results.len() > 1, "there is no round beside that which warms up");
    // The first round is judged as well, except for what it leaves in memory.
    let complaints: Vec<String> = results
        .iter()
        .enumerate()
        .flat_map(|(number, round)| {
            let broken = broken(round, calls, number > 0, !arguments.quick);
            broken.into_iter().map(move |broken| format!("round {number}: {broken}"))
        })
        .collect();
    if complaints.is_empty() {
        let judged = if arguments.quick { "Every bound but that of time" } else { "Every bound" };
        println!("{judged} holds.");
    }
    Ok(flags::broken(&complaints))
}

fn print_table(rounds: &[Round]) {
    let header = [
        "round",
        "ended by client's timer",
        "by server's reply",
        "not sent",
        "otherwise",
        "calls/s",
        "least, ms",
        "p50, ms",
        "p99, ms",
        "longest, ms",
        "handlers at the end",
        "left",
        "gone after, ms",
        "server memory, KiB",
        "client memory, KiB",
    ];
    let mut table = table(&header, 1);
    for (number, round) in rounds.iter().enumerate() {
        let ends = round.ends;
        let calls = ends.by_client + ends.by_server + ends.not_sent + ends.otherwise;
        let name = if number == 0 { "warm-up".to_owned() } else { number.to_string() };
        table.add_row([
            name,
            ends.by_client.to_string(),
            ends.by_server.to_string(),
            ends.not_sent.to_string(),
            ends.otherwise.to_string(),
            short(calls as f64 / round.secs),
            short(round.min_ms),
            short(round.p50_ms),
            short(round.p99_ms),
            short(round.max_ms),
            round.live_at_end.to_string(),
            round.left.to_string(),
            short(round.gone_after_ms),
            format!("{:.0} → {:.0}", round.server_kib.0, round.server_kib.1),
            format!("{:.0} → {:.0}", round.client_kib.0, round.client_kib.1),
        ]);
    }
    println!("{table}\n");
}

/// The limits that are exceeded, in words.
fn broken(round: &Round, calls: u64, warm: bool, percentiles: bool) -> Vec<String> {
    let mut broken = Vec::new();
    let ends = round.ends;
    let expired = ends.by_client + ends.by_server;
    if expired != calls {
        broken.push(format!(
            "{expired} of {calls} calls ended at their deadline; {} were not sent, {} ended otherwise",
            ends.not_sent, ends.otherwise
        ));
    }
    if percentiles && round.p99_ms > P99_MS_MAX {
        broken.push(format!("the p99 is {:.1} ms, over {P99_MS_MAX} ms", round.p99_ms));
    }
    if round.left > 0 {
        broken.push(format!("{} handlers or parked calls are left", round.left));
    }
    for (who, (before, after)) in [("server", round.server_kib), ("client", round.client_kib)] {
        if warm && after - before > LEFT_KIB_MAX {
            broken.push(format!("{:.0} KiB more of the {who}'s memory are in use", after - before));
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;
    use corewire_benches::load::deadlines::Ends;

    #[test]
    fn each_bound_can_be_broken() {
        let ends = Ends { by_client: 90, by_server: 10, not_sent: 0, otherwise: 0 };
        let good = Round {
            ends,
            secs: 1.0,
            min_ms: 50.0,
            p50_ms: 51.0,
            p99_ms: 54.0,
            max_ms: 80.0,
            live_at_end: 3,
            left: 0,
            gone_after_ms: 1.0,
            server_kib: (9000.0, 9100.0),
            client_kib: (9000.0, 8000.0),
        };
        let judge = |round: &Round| broken(round, 100, true, true).len();
        assert_eq!(judge(&good), 0);
        let fewer = Ends { by_client: 89, otherwise: 1, ..ends };
        assert_eq!(judge(&Round { ends: fewer, ..good }), 1);
        assert_eq!(judge(&Round { p99_ms: 55.1, ..good }), 1);
        assert_eq!(judge(&Round { left: 1, ..good }), 1);
        assert_eq!(judge(&Round { server_kib: (9000.0, 10_100.0), ..good }), 1);
        assert_eq!(judge(&Round { client_kib: (9000.0, 10_100.0), ..good }), 1);
        let first = Round { server_kib: (4000.0, 10_100.0), p99_ms: 60.0, ..good };
        assert_eq!(broken(&first, 100, false, false).len(), 0);
    }
}
