//! Runs seeds of the simulation, and replays one.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use clap::Parser;
use corewire_sim::{Case, Report, Shards, Shells, Violation};

/// Simulates Corewire's clients and servers over a faulty network, by seed.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// How many seeds to run.
    #[arg(long, default_value_t = 300)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// How many threads to run them on; each seed runs on one.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Do not stop at the first seed that breaks a rule: run all of them, and list those that do.
    #[arg(long)]
    keep_going: bool,
    /// Run this seed alone, and say what it was about.
    #[arg(long)]
    seed: Option<u64>,
    /// Run the case of this name alone: one of those in `cases.rs`.
    #[arg(long)]
    case: Option<String>,
    /// The kind of the clients' channels. The plan of a seed does not depend on it.
    #[arg(long, value_enum, default_value_t = Shell::Shard)]
    shell: Shell,
    /// How the shards of a server know each other. Neither the plan of a seed nor what it draws depends on it, but for the
    /// number of shards.
    #[arg(long, value_enum, default_value_t = Mesh::Both)]
    shards: Mesh,
    /// With --seed or --case: print everything that happens.
    #[arg(long)]
    trace: bool,
    /// Plant each of the bugs that must be found, and fail if one is not found within --seeds.
    #[cfg(feature = "canary")]
    #[arg(long)]
    canary: bool,
    /// With --canary: plant those of the clients' side that the code of --shell has, and only while clients run.
    #[cfg(feature = "canary")]
    #[arg(long)]
    at_clients: bool,
    /// With --seed, --case or --canary: plant this one of them.
    #[cfg(feature = "canary")]
    #[arg(long)]
    plant: Option<String>,
}

/// The kinds of channels that clients use.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Shell {
    /// Those of a shard.
    Shard,
    /// Shared channels, driven as tokio's are.
    Tokio,
    /// Shared channels, driven by a client thread.
    Thread,
    /// Blocking channels, each on a thread of its own.
    Blocking,
    /// Each client of a kind of its own.
    Mixed,
}

/// Which servers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Mesh {
    /// Each shard is a server of its own, although they share an address.
    Apart,
    /// Servers have two to four shards, with a mesh.
    Meshed,
    /// All seeds apart, and those that eight divides meshed as well. With --seed: apart.
    Both,
}

/// One seed in so many is run with a mesh, too.
const MESHED_EVERY: u64 = 8;

impl Mesh {
    /// How a seed among many is run.
    fn of(self, seed: u64) -> &'static [Shards] {
        match self {
            Self::Apart => &[Shards::Apart],
            Self::Meshed => &[Shards::Meshed],
            Self::Both if seed.is_multiple_of(MESHED_EVERY) => &Shards::ALL,
            Self::Both => &[Shards::Apart],
        }
    }

    /// How a seed is run alone.
    fn alone(self) -> Shards {
        if self == Self::Meshed { Shards::Meshed } else { Shards::Apart }
    }
}

#[cfg(feature = "canary")]
impl Shell {
    /// Whether a client of every such kind has the code with this bug.
    fn has(self, bug: corewire_proto::canary::Bug) -> bool {
        let own: &[_] = match self {
            Self::Shard => &AT_SHARDS,
            Self::Tokio | Self::Thread => &AT_SHARED,
            Self::Blocking => return AT_BLOCKING.contains(&bug),
            Self::Mixed => &[],
        };
        AT_CLIENTS.contains(&bug) || own.contains(&bug)
    }
}

impl From<Shell> for Shells {
    fn from(shell: Shell) -> Self {
        match shell {
            Shell::Shard => Self::Shard,
            Shell::Tokio => Self::Tokio,
            Shell::Thread => Self::Thread,
            Shell::Blocking => Self::Blocking,
            Shell::Mixed => Self::Mixed,
        }
    }
}

#[allow(clippy::print_stdout, reason = "this is what the program is for")]
fn say(line: &str) {
    println!("{line}");
}

fn main() -> ExitCode {
    let options = Options::parse();
    #[cfg(feature = "canary")]
    if options.canary {
        return canary(&options);
    }
    #[cfg(feature = "canary")]
    if let Some(name) = &options.plant {
        use corewire_proto::canary::{Bug, plant};
        plant(Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == *name));
    }
    let print = options.trace.then_some(say as fn(&str));
    if let Some(name) = &options.case {
        let Some(case) = Case::ALL.into_iter().find(|case| format!("{case:?}") == *name) else {
            say(&format!("there is no case {name}; there are {:?}", Case::ALL));
            return ExitCode::FAILURE;
        };
        return tell(&corewire_sim::run_case(case, options.shell.into(), print));
    }
    match options.seed {
        Some(seed) => {
            let shards = options.shards.alone();
            tell(&corewire_sim::run(seed, options.shell.into(), shards, print))
        }
        None => many(&options),
    }
}

/// Bugs of the clients' side that clients of every kind but the blocking one have.
#[cfg(feature = "canary")]
const AT_CLIENTS: [corewire_proto::canary::Bug; 11] = {
    use corewire_proto::canary::Bug;
    [
        Bug::GoAwayByOne,
        Bug::EarlySlot,
        Bug::LateDeadline,
        Bug::LostCredit,
        Bug::SilentCancel,
        Bug::LostTurn,
        Bug::DeadRequest,
        Bug::UnboundedUnsent,
        Bug::FullSocketTurns,
        Bug::BlindClocks,
        Bug::CountedAbsence,
    ]
};

/// Bugs of the clients' side that only a shard's channels have, and that only shared channels have.
#[cfg(feature = "canary")]
const AT_SHARDS: [corewire_proto::canary::Bug; 1] = [corewire_proto::canary::Bug::OvertakenMessage];
#[cfg(feature = "canary")]
const AT_SHARED: [corewire_proto::canary::Bug; 1] = [corewire_proto::canary::Bug::LostEnd];

/// Bugs that show at blocking channels: those of a queue of calls, or of a caller who gives up, have no place there.
#[cfg(feature = "canary")]
const AT_BLOCKING: [corewire_proto::canary::Bug; 6] = {
    use corewire_proto::canary::Bug;
    [
        Bug::GoAwayByOne,
        Bug::EarlySlot,
        Bug::LateDeadline,
        Bug::LostCredit,
        Bug::BlindClocks,
        Bug::CountedAbsence,
    ]
};

/// Runs seeds with each bug planted until one shows it.
#[cfg(feature = "canary")]
fn canary(options: &Options) -> ExitCode {
    use corewire_proto::canary::{Bug, plant};
    let mut code = ExitCode::SUCCESS;
    for bug in Bug::ALL {
        if options.plant.as_ref().is_some_and(|name| format!("{bug:?}") != *name) {
            continue;
        }
        if options.at_clients && !options.shell.has(bug) {
            continue;
        }
        // What passes between shards is planted where there are some.
        let shards = if bug.is_of_mesh() { Shards::Meshed } else { options.shards.alone() };
        plant(Some(bug).filter(|_| !options.at_clients));
        let last = options.first.saturating_add(options.seeds);
        let found = (options.first..last).find_map(|seed| {
            let shells = options.shell.into();
            let report = if options.at_clients {
                corewire_sim::run_with_bug_at_clients(seed, shells, bug)
            } else {
                corewire_sim::run(seed, shells, shards, None)
            };
            report.violation.map(|violation| (seed, violation))
        });
        match found {
            Some((seed, violation)) => {
                say(&format!("{bug:?}: found by seed {seed}, rule {}", violation.rule));
            }
            None => {
                say(&format!("{bug:?}: NOT FOUND within {} seeds", options.seeds));
                code = ExitCode::FAILURE;
            }
        }
    }
    plant(None);
    code
}

/// Prints what one run was about, and its result.
fn tell(report: &Report) -> ExitCode {
    say(&report.plan());
    say(&format!(
        "seed {}: {} events, {} ms of virtual time, trace hash {:016x}",
        report.seed,
        report.notes,
        report.ns / 1_000_000,
        report.hash
    ));
    tell_ends(&report.ends);
    tell_violation(report)
}

/// Prints what was broken, with the last events and how to repeat it.
fn tell_violation(report: &Report) -> ExitCode {
    let Some(violation) = &report.violation else { return ExitCode::SUCCESS };
    report.last.iter().for_each(|line| say(line));
    say(&format!("\nseed {} BROKE A RULE at {} ns", report.seed, violation.at));
    say(&format!("  rule   {}", violation.rule));
    say(&format!("  how    {}", violation.what));
    let shell = format!("{:?}", report.shells).to_lowercase();
    let shards = format!("{:?}", report.shards).to_lowercase();
    let seed = report.seed;
    say(&format!(
        "  replay cargo run --release -p corewire-sim -- --seed {seed} --shell {shell} --shards {shards} --trace"
    ));
    ExitCode::FAILURE
}

fn tell_ends(ends: &BTreeMap<String, u64>) {
    for (end, count) in ends {
        say(&format!("  {count:>9} calls: {end}"));
    }
}

/// The results of many seeds.
#[derive(Debug, Default)]
struct Sum {
    /// How often a seed was run.
    runs: u64,
    notes: u64,
    /// All hashes together, in any order.
    hash: u64,
    ends: BTreeMap<String, u64>,
    /// The first seed that broke a rule.
    failed: Option<Report>,
    /// All that broke a rule, with the rule and how it was broken.
    broken: BTreeMap<(u64, bool), Violation>,
}

impl Sum {
    fn add(&mut self, report: Report) {
        self.runs += 1;
        self.notes += report.notes;
        self.hash = self.hash.wrapping_add(report.hash);
        for (end, count) in &report.ends {
            *self.ends.entry(end.clone()).or_insert(0) += count;
        }
        let Some(violation) = &report.violation else { return };
        let is_meshed = report.shards == Shards::Meshed;
        self.broken.insert((report.seed, is_meshed), violation.clone());
        self.keep_first(report);
    }

    fn keep_first(&mut self, report: Report) {
        if self.failed.as_ref().is_none_or(|failed| report.seed < failed.seed) {
            self.failed = Some(report);
        }
    }

    /// Adds what another thread has.
    fn merge(&mut self, other: Self) {
        self.runs += other.runs;
        self.notes += other.notes;
        self.hash = self.hash.wrapping_add(other.hash);
        for (end, count) in other.ends {
            *self.ends.entry(end).or_insert(0) += count;
        }
        self.broken.extend(other.broken);
        if let Some(report) = other.failed {
            self.keep_first(report);
        }
    }

    /// Prints which seeds broke which rule, and how many seeds broke each.
    fn tell_broken(&self) {
        let mut rules = BTreeMap::new();
        for ((seed, is_meshed), violation) in &self.broken {
            let how = if *is_meshed { ", meshed," } else { "" };
            say(&format!("seed {seed}{how} broke {}\n  how {}", violation.rule, violation.what));
            *rules.entry(violation.rule).or_insert(0u64) += 1;
        }
        for (rule, count) in rules {
            say(&format!("  {count:>9} seeds: {rule}"));
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "how long it took is said, and nothing depends on it")]
fn many(options: &Options) -> ExitCode {
    let begun = std::time::Instant::now();
    let next = AtomicU64::new(options.first);
    let end = options.first.saturating_add(options.seeds);
    let failed = AtomicBool::new(false);
    let (sums, inbox) = flume::unbounded();
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.max(1) {
            let sums = sums.clone();
            let (next, failed) = (&next, &failed);
            scope.spawn(move || {
                let mut sum = Sum::default();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || failed.load(Ordering::Relaxed) {
                        break;
                    }
                    for &shards in options.shards.of(seed) {
                        let report = corewire_sim::run(seed, options.shell.into(), shards, None);
                        let stops = report.violation.is_some() && !options.keep_going;
                        failed.fetch_or(stops, Ordering::Relaxed);
                        sum.add(report);
                    }
                }
                // The receiver outlives the threads.
                let _ = sums.send(sum);
            });
        }
    });
    drop(sums);
    let mut all = Sum::default();
    inbox.drain().for_each(|sum| all.merge(sum));
    let took = begun.elapsed().as_secs_f64();
    tell_ends(&all.ends);
    if options.keep_going {
        all.tell_broken();
    }
    say(&format!(
        "{} runs of seeds from {}: {} events ({} a run), {took:.1} s, {:.0} runs a second, hashes sum to {:016x}",
        all.runs,
        options.first,
        all.notes,
        all.notes / all.runs.max(1),
        f64::from(u32::try_from(all.runs).unwrap_or(u32::MAX)) / took,
        all.hash
    ));
    all.failed.as_ref().map_or(ExitCode::SUCCESS, tell_violation)
}
