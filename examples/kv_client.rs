//! A command-line client of `kv_server`: how a program that is not a server makes calls.
//!
//! ```text
//! cargo run --release --example kv_client -- --addr 127.0.0.1:7001 put colour green
//! cargo run --release --example kv_client -- --addr 127.0.0.1:7001 get colour
//! ```
//!
//! Keys live on the shard that a connection lands on. With more than one shard, a second run of this
//! program may land on another; start the server with `--cores 0` to see one set of keys.

use clap::{Parser, Subcommand};
use corewire::{ClientShard, block_on_shard};
use corewire_examples::kv::KeyValueClient;
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

/// Reads and writes keys of a kv_server
#[derive(Parser)]
struct Flags {
    /// The server's address
    #[arg(long, default_value = "127.0.0.1:7001")]
    addr: String,

    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Print a key's value
    Get { key: String },
    /// Set a key
    Put { key: String, value: String },
    /// Remove a key
    Remove { key: String },
    /// Print how many keys the answering shard holds
    Size,
}

#[allow(clippy::print_stdout, reason = "a client prints what it got")]
async fn run(flags: Flags) -> Result<(), Box<dyn Error>> {
    let client = KeyValueClient::connect(flags.addr).await?.with_timeout(Duration::from_secs(2));
    match flags.action {
        Action::Get { key } => match client.get(key).await? {
            Some(value) => println!("{}", String::from_utf8_lossy(&value)),
            None => println!("(no value)"),
        },
        Action::Put { key, value } => {
            client.put(key, value.into_bytes()).await?;
        }
        Action::Remove { key } => client.remove(key).await?,
        Action::Size => {
            let (shard, keys) = client.size().await?;
            println!("shard {shard} holds {keys} keys");
        }
    }
    Ok(())
}

#[allow(clippy::print_stderr, reason = "errors go to people")]
fn main() -> ExitCode {
    corewire_examples::log();
    let flags = Flags::parse();
    let outcome = block_on_shard(ClientShard::default(), move || run(flags));
    let error = match outcome {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    eprintln!("error: {error}");
    ExitCode::FAILURE
}
