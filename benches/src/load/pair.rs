//! A server and a load generator that are both this program itself, each in its own process and on its own core.
//!
//! Commands that measure a service which no other program has start themselves twice: with the hidden command `serve`,
//! and with `load`, which receives in JSON where the server is and what to do.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Subcommand;
use corewire::{Placement, Running, Server, ServerBuilder, Spin};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::load::flags::Cores;
use crate::load::process::{self, run_to_end};

/// What this program starts itself as.
#[derive(Debug, Subcommand)]
pub enum Part {
    /// One shard on this core
    #[command(hide = true)]
    Serve {
        /// The core
        core: usize,
        /// Never sleeps
        #[arg(long)]
        spin: bool,
    },
    /// A load generator
    #[command(hide = true)]
    Load {
        /// What to do, in JSON
        work: String,
    },
}

/// The server to be loaded, and where its load generator runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Target {
    /// The server's address.
    pub addr: String,
    /// Its process id.
    pub server_pid: i32,
    /// The load generator's core.
    pub core: usize,
}

impl Part {
    /// Does this part. `serve` adds its service to a server of one shard and starts it; it serves until SIGTERM. What
    /// `load` returns is printed for the parent.
    ///
    /// # Errors
    ///
    /// When the server cannot start or ends badly, the load fails, or its work is not what `load` takes.
    #[expect(clippy::print_stdout, reason = "the parent reads it")]
    pub fn play<L: DeserializeOwned, R: Serialize>(
        &self,
        serve: impl FnOnce(ServerBuilder) -> Result<Running>,
        load: impl FnOnce(Target, L) -> Result<R>,
    ) -> Result<ExitCode> {
        match self {
            Self::Serve { core, spin } => {
                let builder = Server::builder()
                    .address("127.0.0.1:0")
                    .placement(Placement::Cpus(vec![*core]))
                    .spin(if *spin { Spin::Always } else { Spin::Off })
                    .drain_on_signal();
                let running = serve(builder)?;
                for address in running.addresses() {
                    println!("listening {address}");
                }
                let ended = running.wait()?;
                ensure!(ended.shards_lost == 0, "{} shards were lost", ended.shards_lost);
            }
            Self::Load { work } => {
                let (target, work) = serde_json::from_str(work).context("this is no work")?;
                println!("{}", serde_json::to_string(&load(target, work)?)?);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Starts a server, loads it, and ends it; returns what the load generator printed, which may run until `limit`.
///
/// # Errors
///
/// When either of them fails, or the load generator printed something else.
pub fn run<R: DeserializeOwned>(
    cores: Cores,
    spin: bool,
    work: &impl Serialize,
    limit: Duration,
) -> Result<R> {
    let mut command = process::own()?;
    command.args(["serve", &cores.server.to_string()]).args(spin.then_some("--spin"));
    let server = process::Server::start("the server", &mut command)?;
    let (addr, server_pid, core) = (server.address().to_owned(), server.pid(), cores.client);
    let work = serde_json::to_string(&(Target { addr, server_pid, core }, work))?;
    let mut command = process::own()?;
    let stdout = run_to_end("the load generator", command.args(["load", &work]), limit)?;
    server.stop()?;
    serde_json::from_str(&stdout)
        .with_context(|| format!("the load generator printed no result: {stdout}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_generator_is_told_what_its_parent_said() {
        let target = Target { addr: "127.0.0.1:9".to_owned(), server_pid: 7, core: 1 };
        let work = serde_json::to_string(&(&target, 21_u32)).unwrap_or_default();
        let played = |work| {
            let serve = |_: ServerBuilder| anyhow::bail!("it is no server");
            Part::Load { work }.play(serve, |told: Target, work: u32| {
                ensure!(told.addr == target.addr && told.server_pid == 7 && told.core == 1);
                Ok(work * 2)
            })
        };
        assert!(played(work).is_ok());
        assert!(played("{}".to_owned()).is_err());
    }
}
