//! Instructions per call, counted by valgrind, compared with the stored base.
//!
//! ```text
//! cargo run --release -p corewire-benches --bin instructions
//! ```
//!
//! Counts do not depend on what else the machine does, so that they show a change of two percent, which no clock here
//! could tell from noise. `--save` writes `benches/instructions.json`, the base.

#![expect(clippy::print_stdout, reason = "this is a command, and its table is its output")]

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand};
use corewire::Bytes;
use corewire_benches::load::flags::{self, Cores};
use corewire_benches::load::in_memory::{
    ClientSide, ServerSide, decode_all, echo_method, frames, put_reply, put_request,
};
use corewire_benches::load::{process, toolbox};
use corewire_benches::report::callgrind::{self, Counter};
use corewire_benches::report::instructions::{Base, Comparison, Counts, HEADING, Scenario};
use corewire_codec::{RecvBuffer, SendBuffer};

/// Calls that a scenario without sockets handles together, as a turn does in workload B.
const BATCH: u32 = 64;

/// Count the instructions of a call, and compare them with the stored base
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    inner: Option<Inner>,

    /// Count these scenarios only
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', value_parser = Scenario::parse)]
    only: Vec<Scenario>,

    /// Write the counts as the new base instead of comparing
    #[arg(long, conflicts_with = "only")]
    save: bool,

    /// Where the base is [default: benches/instructions.json]
    #[arg(long, value_name = "PATH")]
    base: Option<PathBuf>,

    /// Use the release binaries as they are
    #[arg(long)]
    no_build: bool,

    #[command(flatten)]
    cores: Cores,
}

#[derive(Debug, Subcommand)]
enum Inner {
    /// What is run inside valgrind
    #[command(hide = true)]
    Target {
        #[arg(value_parser = Scenario::parse)]
        scenario: Scenario,
        calls: u64,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    flags::end(match &arguments.inner {
        Some(Inner::Target { scenario, calls }) => {
            target(*scenario, *calls).map(|()| ExitCode::SUCCESS)
        }
        None => run(&arguments),
    })
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    if !callgrind::is_installed()? {
        eprintln!("error: valgrind is missing; install it (on Debian: apt-get install valgrind)");
        return Ok(ExitCode::from(2));
    }
    ensure!(!cfg!(debug_assertions), "counts are of release builds: run this with --release");
    let complete = arguments.only.is_empty();
    let scenarios = if complete { Scenario::ALL.to_vec() } else { arguments.only.clone() };
    let path = arguments.base.clone();
    let path = path.unwrap_or_else(|| toolbox::workspace().join("benches/instructions.json"));
    // Read first: a missing base should not cost a minute.
    let base = if arguments.save { None } else { Some(Base::read(&path)?) };
    process::kill_children_on_signal()?;
    if scenarios.iter().any(|scenario| scenario.load().is_some()) {
        toolbox::make_corewire(arguments.no_build)?;
    }
    let now = Base { rustc: rustc()?, per_call: count(arguments, &scenarios)? };
    match base {
        None => {
            for (name, count) in &now.per_call {
                println!("{name:<18} {count:>9.1}");
            }
            now.write(&path)?;
            println!("\nthe base is now {}", path.display());
            Ok(ExitCode::SUCCESS)
        }
        Some(base) => Ok(compare(&now, &base, complete)),
    }
}

fn count(arguments: &Arguments, scenarios: &[Scenario]) -> Result<Counts> {
    let folder = toolbox::target().join("instructions");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let counter = Counter { folder, cores: arguments.cores };
    let mut counts = Counts::new();
    for (number, scenario) in scenarios.iter().enumerate() {
        eprintln!("[{}/{}] {}", number + 1, scenarios.len(), scenario.name());
        counts.insert(scenario.name().to_owned(), counter.count(*scenario)?);
    }
    Ok(counts)
}

fn compare(now: &Base, base: &Base, complete: bool) -> ExitCode {
    let comparison = Comparison::new(now, base, complete);
    println!("{HEADING}");
    for row in &comparison.rows {
        println!("{row}");
    }
    if let Some((base, now)) = &comparison.other_rustc {
        println!("\nThe base was made with {base}, this with {now}:");
        println!(
            "the comparison is only told and not enforced; --save makes a base with this one."
        );
    }
    if comparison.fails() {
        eprintln!("error: a count is above its limit, or one side lacks it");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// The compiler that the workspace is built with.
fn rustc() -> Result<String> {
    let program = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(program)
        .arg("--version")
        .current_dir(toolbox::workspace())
        .output()
        .context("cannot start rustc")?;
    ensure!(output.status.success(), "rustc does not tell its version");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The counted work: batches until at least `calls` calls were handled.
fn target(scenario: Scenario, calls: u64) -> Result<()> {
    let body = Bytes::from(vec![7; 64]);
    let batches = calls / u64::from(BATCH);
    ensure!(batches > 0, "give at least {BATCH} calls");
    match scenario {
        Scenario::CodecEncode => {
            let (mut out, method) = (SendBuffer::new(), echo_method());
            for _ in 0..batches {
                for call in 0..BATCH {
                    put_request(&mut out, call, method, &body)?;
                    put_reply(&mut out, call, &body)?;
                }
                sent(&mut out);
            }
        }
        Scenario::CodecDecode => {
            let (requests, replies) = frames(BATCH, &body)?;
            let mut recv = RecvBuffer::new();
            for _ in 0..batches {
                let read = decode_all(&mut recv, &requests)? + decode_all(&mut recv, &replies)?;
                ensure!(read == 2 * BATCH as usize, "{read} frames were read");
            }
        }
        Scenario::ServerInMemory => {
            let (requests, _) = frames(BATCH, &body)?;
            let mut server = ServerSide::new()?;
            for _ in 0..batches {
                ensure!(server.serve(&requests)? == BATCH as usize, "a call is missing");
                sent(server.out());
            }
        }
        Scenario::ClientInMemory => {
            let mut client = ClientSide::new(BATCH, body)?;
            for _ in 0..batches {
                ensure!(client.call()? == BATCH as usize, "a reply is missing");
                sent(client.out());
            }
        }
        Scenario::ServerB | Scenario::ClientB | Scenario::ServerE | Scenario::ClientE => {
            anyhow::bail!("{} is counted over sockets", scenario.name());
        }
    }
    Ok(())
}

/// The socket took everything.
fn sent(out: &mut SendBuffer) {
    std::hint::black_box(out.first_chunk());
    let all = out.len();
    out.advance(all);
}
