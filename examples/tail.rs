//! Follows a log on a server: a server stream, fed by one-way calls.
//!
//! ```text
//! cargo run --release --example tail
//! cargo run --release --example tail -- --addr 127.0.0.1:7002 --from 10
//! ```
//!
//! Without an address it starts a server of its own, notes twenty lines there, and ends when it has read
//! them; with one it follows until it is stopped.

use clap::Parser;
use corewire::{Address, ClientShard, block_on_shard, sleep, spawn};
use corewire_examples::room::{JournalClient, JournalServer, Lines};
use corewire_examples::{end, keep};
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

/// Lines that are noted on a server of its own.
const LINES: u64 = 20;

/// Follows a log on a server
#[derive(Parser)]
struct Flags {
    /// The server's address; a server of its own if not given
    #[arg(long)]
    addr: Option<Address>,

    /// The number of the first line
    #[arg(long, default_value_t = 0)]
    from: u64,
}

/// Notes lines, one every 20 ms. All it knows is that they were written into the connection.
async fn write(journal: JournalClient) -> Result<(), corewire::CallError> {
    for number in 0..LINES {
        journal.note(format!("line {number} of {LINES}")).await?;
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the lines are what the program is for")]
async fn follow(address: Address, from: u64, own: bool) -> Result<(), Box<dyn Error>> {
    let journal = JournalClient::connect(&address).await?;
    let mut lines = journal.tail(from).await?;
    let writer = own.then(|| spawn(write(journal.clone())));
    while let Some(line) = lines.next().await {
        let (number, line) = line?;
        println!("{number:>6}  {line}");
        if own && number + 1 == LINES {
            break;
        }
    }
    // Dropping the stream stops the server's side of it.
    drop(lines);
    match writer {
        Some(writer) => Ok(writer.await?),
        None => Ok(()),
    }
}

fn run(flags: Flags) -> Result<(), Box<dyn Error>> {
    let kept = keep(flags.addr, |_shard| JournalServer::new(Lines::default()))?;
    let (address, own) = (kept.address.clone(), kept.server.is_some());
    if own && flags.from >= LINES {
        return Err(format!("a server of its own has {LINES} lines; give --from below that").into());
    }
    block_on_shard(ClientShard::default(), move || follow(address, flags.from, own))??;
    Ok(end(kept.server)?)
}

#[allow(clippy::print_stderr, reason = "errors go to people")]
fn main() -> ExitCode {
    corewire_examples::log();
    match run(Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
