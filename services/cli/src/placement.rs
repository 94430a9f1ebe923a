//! `corewire placement`: which CPU would get which shard, and why.

use clap::Args;
use corewire_placement::{Facts, Policy, Report, Root};
use std::path::PathBuf;

/// The flags of `corewire placement`.
#[derive(Args)]
pub(crate) struct PlacementFlags {
    /// all, cores, CPUs as in 0,2-5, split:2, node-of:eth0, unpinned:4, or file:placement.toml
    #[arg(default_value = "all")]
    policy: Policy,

    /// Read /proc and /sys of another machine from this folder; its /proc/thread-self/status has the affinity mask
    #[arg(long)]
    root: Option<PathBuf>,
}

/// Prints the table. As a server would start with it, by this process's affinity mask and control group.
pub(crate) fn run(flags: &PlacementFlags) -> Result<(), String> {
    let is_here = flags.root.is_none();
    let mut host = flags.root.clone().map_or_else(Root::system, Root::new);
    // Here the kernel is asked, as a server does.
    let mask = if is_here {
        let cpus = corewire::allowed_cpus().map_err(|error| error.to_string())?;
        Some(cpus.into_iter().filter_map(|cpu| u32::try_from(cpu).ok()).collect())
    } else {
        None
    };
    let facts = Facts::read(&mut host, mask.as_ref()).map_err(|error| error.to_string())?;
    let choice = flags.policy.choose(&mut host, &facts).map_err(|error| error.to_string())?;
    #[allow(clippy::print_stdout, reason = "the table is what the command is for")]
    {
        print!("{}", Report::new(&facts, &choice));
    }
    Ok(())
}
