//! Slow readers: what an endless stream costs the calls on its connection, and the server's memory, while its reader
//! takes 1 MiB per second or nothing at all.
//!
//! ```text
//! cargo run --release -p corewire-benches --bin slow_reader
//! ```
//!
//! Each variant has its own server and client. A round is the unary calls alone, then the same calls with the
//! streams on the same connection. Ends with exit code 1 when a limit is exceeded.

#![expect(clippy::print_stdout, reason = "this is a command, and its table is its output")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Parser;
use corewire_benches::load::flags::{self, Cores, whole, within};
use corewire_benches::load::host::Host;
use corewire_benches::load::pair::{self, Part};
use corewire_benches::load::process;
use corewire_benches::load::slow_reader::{self, Load, Round};
use corewire_benches::measure::stats::Summary;
use corewire_benches::report::{self, short, spread, table};

const MIB: f64 = 1024.0 * 1024.0;

/// How much of the server's memory all streams of a connection together may take, in KiB.
const MEMORY_KIB_MAX: f64 = 2048.0;
/// How many times higher the p99 of the calls alongside streams may be than that of the calls alone, in the median
/// of the rounds.
const P99_RATIO_MAX: f64 = 2.0;
/// By which fraction a reader may miss the rate that it asks for; when nothing is measured, half of the rate is
/// enough.
const RATE_MISSED_MAX: f64 = 0.05;
const QUICK_RATE_MISSED_MAX: f64 = 0.5;
/// The fraction of the calls that may have found no room until the end: those of a moment in which the client did not
/// have its core.
const MISSED_MAX: f64 = 0.005;
/// How far the sender may be ahead of a reader, in KiB for each stream: its window, and what it holds in addition.
const AHEAD_KIB_MAX: f64 = 256.0 + 32.0 + 3.0 * 8.0;

/// Who reads, and how fast.
const VARIANTS: [Variant; 3] = [
    Variant { name: "one, 1 MiB/s", streams: 1, read_rate: MIB },
    Variant { name: "one, reads nothing", streams: 1, read_rate: 0.0 },
    Variant { name: "ten, 1 MiB/s each", streams: 10, read_rate: MIB },
];

#[derive(Debug, Clone, Copy)]
struct Variant {
    name: &'static str,
    streams: usize,
    read_rate: f64,
}

/// Measure what slow readers of streams cost
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,

    /// Rounds of each variant
    #[arg(long, default_value_t = 3, value_parser = whole(1..=100_u32))]
    rounds: u32,

    /// Measured seconds of each half of a round, after half a second of warm-up
    #[arg(long, default_value_t = 20.0, value_parser = within("seconds", 0.1..=600.0))]
    secs: f64,

    /// Unary calls per second
    #[arg(long, default_value_t = 2000.0, value_parser = within("calls per second", 100.0..=1e6))]
    rate: f64,

    /// One round of a second, whose times are not judged: shows that everything works
    #[arg(long, conflicts_with_all = ["rounds", "secs"])]
    quick: bool,

    /// The server spins instead of sleeping
    #[arg(long)]
    spin: bool,

    #[command(flatten)]
    cores: Cores,

    /// Also write every round to this file
    #[arg(long, value_name = "PATH")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    flags::end(match &arguments.part {
        Some(part) => part.play(slow_reader::serve, slow_reader::load),
        None => measure(&arguments),
    })
}

/// All rounds of one variant, on a fresh server.
fn run(arguments: &Arguments, variant: Variant, rounds: u32, secs: f64) -> Result<Vec<Round>> {
    let Variant { streams, read_rate, .. } = variant;
    let load = Load { rate: arguments.rate, streams, read_rate, rounds, secs };
    let limit = Duration::from_secs_f64(f64::from(rounds) * 2.0 * (secs + 1.0) + 20.0);
    pair::run(arguments.cores, arguments.spin, &load, limit)
}

fn measure(arguments: &Arguments) -> Result<ExitCode> {
    arguments.cores.check()?;
    let (rounds, secs) =
        if arguments.quick { (1, 1.0) } else { (arguments.rounds, arguments.secs) };
    process::kill_children_on_signal()?;
    let host = Host::look();
    eprintln!(
        "plan: {} variants of {rounds} rounds of 2 x {secs} s and their warm-ups; about {:.0} s in all",
        VARIANTS.len(),
        VARIANTS.len() as f64 * f64::from(rounds) * 2.0 * (secs + 0.5)
    );
    let begin = Instant::now();
    let mut results = Vec::new();
    for variant in VARIANTS {
        eprintln!("{}", variant.name);
        let rounds = run(arguments, variant, rounds, secs).with_context(|| variant.name)?;
        results.push((variant, rounds));
    }
    println!(
        "{host}, server {}, {} calls/s, rounds: {rounds}, seconds of each half: {secs}, measured in {:.0} s\n",
        if arguments.spin { "spinning" } else { "parked" },
        arguments.rate,
        begin.elapsed().as_secs_f64()
    );
    print_table(&results);
    if let Some(path) = &arguments.json {
        let variants: Vec<_> = results.iter().map(|(it, rounds)| (it.name, rounds)).collect();
        let document = serde_json::json!({ "host": host, "variants": variants });
        report::write_document(path, &document)?;
    }
    let complaints: Vec<String> = results
        .iter()
        .flat_map(|(variant, rounds)| {
            let broken = broken(*variant, rounds, !arguments.quick);
            broken.into_iter().map(|broken| format!("{}: {broken}", variant.name))
        })
        .collect();
    if complaints.is_empty() {
        let judged =
            if arguments.quick { "Every bound but those of the calls" } else { "Every bound" };
        println!("{judged} holds.");
    }
    Ok(flags::broken(&complaints))
}

/// One figure over the rounds.
fn over(rounds: &[Round], figure: impl Fn(&Round) -> f64) -> Option<Summary> {
    Summary::of(&rounds.iter().map(figure).collect::<Vec<_>>())
}

fn p99_ratio(round: &Round) -> f64 {
    round.with.p99_us / round.alone.p99_us
}

fn memory_kib(round: &Round) -> f64 {
    round.peak_kib - round.before_kib
}

fn print_table(results: &[(Variant, Vec<Round>)]) {
    let header = [
        "readers",
        "p50 alone, µs",
        "p50, µs",
        "p99 alone, µs",
        "p99, µs",
        "p99, x",
        "longest alone, µs",
        "longest, µs",
        "server memory, KiB",
        "read, MiB/s",
        "ahead of each reader, KiB",
    ];
    let mut table = table(&header, 1);
    for (variant, rounds) in results {
        let cell = |figure: fn(&Round) -> f64| spread(over(rounds, figure));
        table.add_row([
            variant.name.to_owned(),
            cell(|round| round.alone.p50_us),
            cell(|round| round.with.p50_us),
            cell(|round| round.alone.p99_us),
            cell(|round| round.with.p99_us),
            cell(p99_ratio),
            cell(|round| round.alone.max_us),
            cell(|round| round.with.max_us),
            cell(memory_kib),
            cell(|round| round.read_mib_s),
            cell(|round| round.ahead_kib),
        ]);
    }
    println!(
        "Unary calls from when they were due, alone and beside the streams of their connection; the server's memory at its peak beyond that before the streams; median (lowest..highest):\n\n{table}\n"
    );
}

/// The limits that are exceeded, in words.
///
/// The speed of calls and readers is judged only if it was `measured`: others may use the cores in a quick run.
fn broken(variant: Variant, rounds: &[Round], measured: bool) -> Vec<String> {
    if rounds.is_empty() {
        return vec!["there is no round".to_owned()];
    }
    let mut broken = Vec::new();
    let all = |figure: fn(&Round) -> f64| rounds.iter().map(figure);
    let most = |figure| all(figure).fold(f64::MIN, f64::max);
    let ratio = over(rounds, p99_ratio).map_or(f64::INFINITY, |it| it.median);
    if measured && ratio > P99_RATIO_MAX {
        let ratio = short(ratio);
        broken.push(format!("the p99 of calls is {ratio} x that alone, over {P99_RATIO_MAX} x"));
    }
    let memory = most(memory_kib);
    if memory >= MEMORY_KIB_MAX {
        broken.push(format!("{memory:.0} KiB of the server's memory, over {MEMORY_KIB_MAX:.0}"));
    }
    let ahead = most(|round| round.ahead_kib);
    if ahead > AHEAD_KIB_MAX {
        broken.push(format!("the sender is {ahead:.0} KiB ahead, over {AHEAD_KIB_MAX:.0}"));
    }
    let wanted = variant.read_rate * variant.streams as f64 / MIB;
    let read = all(|round| round.read_mib_s).fold(f64::MAX, f64::min);
    let missed = if measured { RATE_MISSED_MAX } else { QUICK_RATE_MISSED_MAX };
    if read < wanted * (1.0 - missed) {
        broken.push(format!("the readers got {read:.2} MiB/s of {wanted:.2}"));
    }
    let missed = most(|round| round.with.missed as f64 / round.with.offered as f64);
    if measured && missed > MISSED_MAX {
        let percent = short(missed * 100.0);
        broken.push(format!("{percent} % of the calls beside streams could not be sent"));
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;
    use corewire_benches::load::slow_reader::Calls;

    fn round(p99_us: f64) -> Round {
        let alone = Calls {
            rps: 2000.0,
            p50_us: 20.0,
            p99_us: 50.0,
            max_us: 900.0,
            offered: 1000,
            missed: 5,
        };
        Round {
            alone,
            with: Calls { p99_us, ..alone },
            before_kib: 4000.0,
            peak_kib: 4300.0,
            read_mib_s: 0.99,
            ahead_kib: 290.0,
        }
    }

    #[test]
    fn each_bound_can_be_broken() {
        let judge = |rounds: &[Round]| broken(VARIANTS[0], rounds, true).len();
        assert_eq!(judge(&[round(60.0), round(99.0), round(900.0)]), 0);
        assert_eq!(judge(&[round(60.0), round(101.0), round(900.0)]), 1);
        assert_eq!(broken(VARIANTS[0], &[round(900.0)], false).len(), 0);
        let good = round(60.0);
        assert_eq!(judge(&[Round { peak_kib: 6100.0, ..good }, good]), 1);
        assert_eq!(judge(&[Round { ahead_kib: 400.0, ..good }, good]), 1);
        assert_eq!(judge(&[Round { read_mib_s: 0.9, ..good }, good]), 1);
        let full = Calls { missed: 6, ..good.with };
        assert_eq!(judge(&[Round { with: full, ..good }, good]), 1);
        // Without a round nothing is proven.
        assert_eq!(judge(&[]), 1);
    }
}
