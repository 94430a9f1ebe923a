//! The arguments of the command line.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use crate::host::{Host, RealHost, TreeHost};
use crate::plan::{Goal, Topic};
use corewire_placement::{CpuOrder, CpuSet, Layout};

/// Exit codes, shown at the end of the help.
const EXIT_CODES: &str = "Exit codes:
  0   done; no fault; PASS
  1   faults found; FAIL; a setting is no longer as applied
  2   could not be judged; INCONCLUSIVE
  3   refused, nothing was written (the host changed since the plan, irqbalance runs, another run holds the lock)
  4   a step failed and everything was taken back
  5   something could not be put back; the message names it
  64  the command line or a file given to it is wrong";

/// Finds what is wrong between network cards and shards, fixes it, verifies the fix, and undoes it.
#[derive(Debug, Parser)]
#[command(name = "corewire-tune", version, after_help = EXIT_CODES)]
pub(super) struct Args {
    /// Write JSON with a version instead of text, for programs and fleets.
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Look at the host and report what is wrong, with evidence, fix, undo and risk. Changes nothing.
    Doctor(Doctor),
    /// Print the ordered steps that bring queues, interrupts and shards together. Changes nothing.
    Plan(PlanArgs),
    /// Apply a plan; it is undone automatically unless confirmed in time.
    Apply(Apply),
    /// Confirm that the host can still be reached after an apply.
    Confirm(Confirm),
    /// Undo an apply.
    Undo(Undo),
    /// Watch the host under load and judge: PASS, FAIL or INCONCLUSIVE.
    Verify(Verify),
    /// Show what was applied and whether it still holds.
    Status(Status),
    /// Write what the doctor reads into one text file, for a bug report or a fixture.
    Capture(Capture),
    /// Explain a finding.
    Explain(Explain),
    /// Wait, and undo an apply if nobody confirms it.
    #[command(hide = true)]
    Watch(Watch),
}

/// Which machine.
#[derive(Debug, Clone, ClapArgs)]
pub(super) struct Machine {
    /// Use the files under this directory instead of the machine's.
    #[arg(long, value_name = "DIR")]
    pub(super) root: Option<PathBuf>,
}

impl Machine {
    /// The machine that the command is about.
    pub(super) fn host(&self) -> Box<dyn Host> {
        match &self.root {
            Some(root) => Box::new(TreeHost::new(root)),
            None => Box::new(RealHost::new()),
        }
    }
}

/// Which interfaces to look at, and where to read.
#[derive(Debug, Clone, ClapArgs)]
pub(super) struct Look {
    #[command(flatten)]
    pub(super) machine: Machine,
    /// Read a file written by `capture` instead of the machine.
    #[arg(long, value_name = "FILE", conflicts_with = "root")]
    pub(super) from: Option<PathBuf>,
    /// Look at this interface and what is below it; may be repeated.
    #[arg(long, value_name = "IF")]
    pub(super) iface: Vec<String>,
    /// Watch the counters for this many milliseconds; 0 for no watching.
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(0..=600_000))]
    pub(super) sample_ms: u64,
    /// Judge against this placement.toml.
    #[arg(long, value_name = "FILE")]
    pub(super) placement: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Text,
    Json,
    Sh,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Doctor {
    #[command(flatten)]
    pub(super) look: Look,
    /// Also check the limits and threads of the engine's process.
    #[arg(long, value_name = "PID")]
    pub(super) engine_pid: Option<u32>,
    /// Text or json.
    #[arg(long, value_enum, default_value = "text")]
    pub(super) format: Format,
}

#[derive(Debug, ClapArgs)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    pub(super) look: Look,
    /// `aligned`: queue i on the CPU of shard i. `split:N`: N CPUs for interrupts only.
    #[arg(long, default_value = "aligned")]
    pub(super) layout: Layout,
    /// Place shards on these CPUs in this order, such as 8,0-3; isolated CPUs are used only when they are named here.
    #[arg(long, value_name = "LIST")]
    pub(super) cpus: Option<CpuOrder>,
    /// How many shards; by default one for each core of the card's node.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=8192))]
    pub(super) shards: Option<u32>,
    /// How many queues; by default one for each shard.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=8192))]
    pub(super) queues: Option<u32>,
    /// Use SMT siblings as separate cores.
    #[arg(long)]
    pub(super) smt: bool,
    /// Switch RPS on where there are fewer queues than shards, without waiting for evidence.
    #[arg(long)]
    pub(super) rps: bool,
    /// Also plan steps that help one goal and hurt the other.
    #[arg(long, value_enum)]
    pub(super) goal: Option<Goal>,
    /// Only these topics, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(super) only: Vec<Topic>,
    /// Text, json (what `apply` takes) or sh (a script to read and run).
    #[arg(long, value_enum, default_value = "text")]
    pub(super) format: Format,
    /// Write the plan into this file instead of to standard output.
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
    /// Also write the placement for the engine into this file.
    #[arg(long, value_name = "FILE")]
    pub(super) emit_placement: Option<PathBuf>,
}

/// Where the journal is.
#[derive(Debug, Clone, ClapArgs)]
pub(super) struct State {
    #[command(flatten)]
    pub(super) machine: Machine,
    /// The directory of the journal.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/corewire/tune")]
    pub(super) state_dir: PathBuf,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Apply {
    #[command(flatten)]
    pub(super) state: State,
    /// The plan, as `plan --format json` wrote it.
    #[arg(value_name = "PLAN")]
    pub(super) plan: PathBuf,
    /// Undo everything after this many seconds unless `confirm` is run before.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(super) confirm_within: u64,
    /// Confirm at once: for scripts and units, not for a shell that is connected over the card in question.
    #[arg(long)]
    pub(super) confirm: bool,
    /// irqbalance runs, and leaves this card's interrupts alone.
    #[arg(long)]
    pub(super) irqbalance_is_banned: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Confirm {
    #[command(flatten)]
    pub(super) state: State,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Undo {
    #[command(flatten)]
    pub(super) state: State,
    /// The apply to undo; by default the last one that holds.
    #[arg(long, value_name = "ID")]
    pub(super) id: Option<String>,
    /// Undo every apply.
    #[arg(long, conflicts_with = "id")]
    pub(super) all: bool,
    /// Put values back even where they were changed since.
    #[arg(long)]
    pub(super) force: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Verify {
    #[command(flatten)]
    pub(super) machine: Machine,
    /// Count the drops of this interface; may be repeated.
    #[arg(long, value_name = "IF")]
    pub(super) iface: Vec<String>,
    /// Watch for this many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(super) duration: u32,
    /// The CPUs over which packets should spread; by default those of --placement, or all.
    #[arg(long, value_name = "LIST")]
    pub(super) cpus: Option<CpuSet>,
    /// Take the CPUs from this placement.toml.
    #[arg(long, value_name = "FILE")]
    pub(super) placement: Option<PathBuf>,
    /// The largest max/mean that passes, unless chance explains more.
    #[arg(long, value_name = "X", default_value_t = 1.5)]
    pub(super) max_skew: f64,
    /// How many flows the load has; by default the TCP sockets in use.
    #[arg(long, value_name = "N")]
    pub(super) flows: Option<u64>,
    /// Compare two reports instead of watching.
    #[arg(long, value_name = "FILE", requires = "after")]
    pub(super) before: Option<PathBuf>,
    /// The second report to compare.
    #[arg(long, value_name = "FILE", requires = "before")]
    pub(super) after: Option<PathBuf>,
    /// Run this load, and watch no longer than it runs.
    #[arg(last = true, value_name = "CMD")]
    pub(super) load: Vec<String>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Status {
    #[command(flatten)]
    pub(super) state: State,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Capture {
    #[command(flatten)]
    pub(super) look: Look,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    pub(super) out: PathBuf,
    /// A line that says what machine this is.
    #[arg(long, default_value = "")]
    pub(super) comment: String,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Explain {
    /// The finding, such as IRQ_PILE; without one all are listed.
    #[arg(value_name = "ID")]
    pub(super) id: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Watch {
    #[command(flatten)]
    pub(super) state: State,
    #[arg(long)]
    pub(super) id: String,
    #[arg(long)]
    pub(super) seconds: u64,
}
