//! A command-line client of `kv_server`: how a program that is not a server makes calls.
//!
//! ```text
//! cargo run --release --example kv_client -- --addr 127.0.0.1:7001 put colour green
//! cargo run --release --example kv_client -- --addr 127.0.0.1:7001 get colour
//! ```
//!
//! It makes one call, on one connection: the server has it run on the shard that owns the key. A program that makes many
//! uses a `ShardedChannel`, as `quickstart` does, so that calls arrive at the owner at once.

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
    /// Print the keys that begin with this
    Keys { prefix: Option<String> },
    /// Print how many keys each shard holds
    Sizes,
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
        Action::Keys { prefix } => {
            let mut keys = client.keys(prefix.unwrap_or_default()).await?;
            while let Some(key) = keys.next().await {
                println!("{}", key?);
            }
        }
        Action::Sizes => {
            for (shard, keys) in client.sizes().await?.into_iter().enumerate() {
                println!("shard {shard} holds {keys} keys");
            }
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
