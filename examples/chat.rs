//! A room to talk in: one bidirectional stream for each member.
//!
//! ```text
//! cargo run --release --example chat -- --name ada
//! cargo run --release --example chat -- --name bob --addr 127.0.0.1:7002
//! ```
//!
//! Without an address it starts a server of its own and says where it listens, so that others can join.
//! Lines from standard input are sent to the room; the end of the input leaves it.

use clap::Parser;
use corewire::{Address, ClientShard, Streaming, block_on_shard, spawn};
use corewire_examples::room::{RoomClient, RoomServer, Talk};
use corewire_examples::{end, keep};
use std::error::Error;
use std::io::BufRead;
use std::process::ExitCode;

/// Talks in a room
#[derive(Parser)]
struct Flags {
    /// The server's address; a server of its own if not given
    #[arg(long)]
    addr: Option<Address>,

    /// The name to talk under
    #[arg(long, default_value = "somebody")]
    name: String,
}

/// Standard input's lines, read by a thread of their own.
fn typed() -> flume::Receiver<String> {
    let (typed, lines) = flume::bounded(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if typed.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

#[allow(clippy::print_stdout, reason = "the room's lines are what the program is for")]
async fn talk(address: Address, name: String) -> Result<(), Box<dyn Error>> {
    let room = RoomClient::connect(&address).await?;
    let (mut said, lines) = Streaming::channel();
    let mut heard = room.join(name, lines).await?;
    let typed = typed();
    let speaker = spawn(async move {
        while let Ok(line) = typed.recv_async().await {
            if said.send(line).await.is_err() {
                break;
            }
        }
    });
    while let Some(line) = heard.next().await {
        println!("{}", line?);
    }
    drop(speaker);
    Ok(())
}

#[allow(clippy::print_stdout, reason = "others must know where to join")]
fn run(flags: Flags) -> Result<(), Box<dyn Error>> {
    let kept = keep(flags.addr, |_shard| RoomServer::new(Talk::default()))?;
    if kept.server.is_some() {
        println!("the room is at {}", kept.address);
    }
    let address = kept.address.clone();
    block_on_shard(ClientShard::default(), move || talk(address, flags.name))??;
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
