//! Sends a file in parts: a client stream, paced by its credit, whatever the file's size. Its label goes
//! along as the call's attachment.
//!
//! ```text
//! cargo run --release --example upload
//! cargo run --release --example upload -- --file Cargo.lock --addr 127.0.0.1:7002
//! ```
//!
//! Without an address it starts a server of its own; without a file it sends 64 MiB that it makes up.

use clap::Parser;
use corewire::{Address, Bytes, CallOptions, ClientShard, Status, Streaming, block_on_shard};
use corewire_examples::room::{DepotClient, DepotServer, FNV, Scales, fnv};
use corewire_examples::{end, keep};
use std::cell::Cell;
use std::error::Error;
use std::fs::File;
use std::io::{Read, repeat};
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Instant;

/// Bytes of a part.
const PART_BYTES: usize = 64 * 1024;

/// Bytes that are made up when there is no file.
const MADE_UP: u64 = 64 << 20;

/// Sends a file in parts
#[derive(Parser)]
struct Flags {
    /// The server's address; a server of its own if not given
    #[arg(long)]
    addr: Option<Address>,

    /// The file; bytes that are made up if not given
    #[arg(long)]
    file: Option<PathBuf>,

    /// What to put on the label
    #[arg(long, default_value = "handle with care")]
    label: String,
}

/// The next part, or `None` at the end.
fn part(source: &mut impl Read) -> Option<Result<Bytes, Status>> {
    let mut part = vec![0; PART_BYTES];
    match source.read(&mut part) {
        Ok(0) => None,
        Ok(count) => {
            part.truncate(count);
            Some(Ok(Bytes::from(part)))
        }
        // The server's handler reads this as the last item of its stream.
        Err(error) => Some(Err(Status::data_loss(format!("the file cannot be read: {error}")))),
    }
}

#[allow(clippy::print_stdout, reason = "the outcome is what the program is for")]
async fn upload(
    address: Address,
    file: Option<PathBuf>,
    label: Bytes,
) -> Result<(), Box<dyn Error>> {
    let mut source: Box<dyn Read> = match &file {
        Some(path) => Box::new(File::open(path)?),
        None => Box::new(repeat(0x5a).take(MADE_UP)),
    };
    let name = file.map_or_else(|| "made-up".to_owned(), |path| path.display().to_string());
    let depot = DepotClient::connect(&address).await?;
    let hash = Rc::new(Cell::new(fnv(FNV, &label)));
    let seen = Rc::clone(&hash);
    // A part is read when there is credit for it: a slow server makes for a slow reader.
    let parts = Streaming::from_stream(futures_lite::stream::iter(std::iter::from_fn(move || {
        let part = part(&mut source)?;
        if let Ok(bytes) = &part {
            seen.set(fnv(seen.get(), bytes));
        }
        Some(part)
    })));
    let start = Instant::now();
    let depot = depot.with(CallOptions::new().attachment(label));
    let (bytes, sum) = depot.upload(name.clone(), parts).await?;
    if sum != hash.get() {
        return Err(format!("{name}: the server's sum is {sum:x}, not {:x}", hash.get()).into());
    }
    println!("{name}: {bytes} bytes in {:.1?}, sum {sum:x}", start.elapsed());
    Ok(())
}

fn run(flags: Flags) -> Result<(), Box<dyn Error>> {
    let kept = keep(flags.addr, |_shard| DepotServer::new(Scales))?;
    let address = kept.address.clone();
    let label = Bytes::from(flags.label);
    block_on_shard(ClientShard::default(), move || upload(address, flags.file, label))??;
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
