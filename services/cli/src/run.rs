//! One run of `corewire bench`, with the loop that was asked for.

use corewire::block_on_shard;

use crate::bench::BenchFlags;
use crate::process::Process;
use crate::{bench, open};

/// Runs the load and prints what it found; returns whether every call succeeded.
pub(crate) fn run(flags: BenchFlags) -> Result<bool, String> {
    let server = flags.server_pid.map(Process::other).transpose()?;
    let shard = flags.shard();
    let (json, failures) = (flags.json, flags.failures);
    let report = match flags.rate {
        Some(rate) => block_on_shard(shard, move || open::load(flags, rate, server)),
        None => block_on_shard(shard, move || bench::load(flags, server)),
    };
    let report = report.map_err(|error| error.to_string())??;
    #[allow(clippy::print_stdout, reason = "the report is what the command is for")]
    if json {
        println!("{}", report.json());
    } else {
        print!("{}", report.table());
    }
    Ok(failures || (report.errors == 0 && report.calls > 0))
}
