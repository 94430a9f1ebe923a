//! Calls from a tokio program: the connection is a task of the runtime, the client goes into any
//! number of tasks. One call's results come as a stream.
//!
//! ```text
//! cargo run --release --example from_tokio
//! cargo run --release --example from_tokio -- --addr 127.0.0.1:7001
//! ```
//!
//! Without an address it starts a key-value server of its own.

use clap::Parser;
use corewire::{Address, CallError, ChannelConfig, SharedChannel, StatusCode};
use corewire_examples::kv::KeyValueClient;
use corewire_examples::{Kept, end, keep_server};
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;
use tokio::task::JoinSet;

/// Calls a kv_server from tokio tasks
#[derive(Parser)]
struct Flags {
    /// The server's address, such as 127.0.0.1:7001 or unix:/path; a server of its own if not given
    #[arg(long)]
    addr: Option<Address>,

    /// Tasks that call at once
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    tasks: u32,
}

type Failure = Box<dyn Error + Send + Sync>;

/// Returns how many values were read back, and how many keys the server then listed.
async fn call(address: &Address, tasks: u32) -> Result<(u32, u32), Failure> {
    let channel = SharedChannel::on_tokio(address, ChannelConfig::default())?;
    let client = KeyValueClient::new(channel).with_timeout(Duration::from_secs(2));
    let mut running = JoinSet::new();
    for number in 0..tasks {
        let client = client.clone();
        running.spawn(async move {
            let key = format!("tokio-{number}");
            client.put(key.clone(), number.to_le_bytes().to_vec()).await?;
            client.get(key).await
        });
    }
    let mut found = 0;
    while let Some(read) = running.join_next().await {
        found += u32::from(read??.is_some());
    }
    // `next` is the stream's own method; any library's `StreamExt` adds adapters.
    let mut keys = client.keys("tokio-".into()).await?;
    let mut listed = 0;
    while let Some(key) = keys.next().await {
        // An error is the last item.
        key?;
        listed += 1;
    }
    // An error says what happened, and whether the call may have run.
    match client.remove("no such key".into()).await {
        Err(CallError::Status(status)) if status.code() == StatusCode::NotFound => {}
        other => return Err(format!("removing an absent key gave {other:?}").into()),
    }
    // Calls in flight would be finished first; there are none.
    client.channel().close().await;
    Ok((found, listed))
}

#[allow(clippy::print_stdout, reason = "the program tells what it does")]
fn run(flags: Flags) -> Result<(), Failure> {
    let Kept { address, server } = keep_server(flags.addr)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (found, listed) = runtime.block_on(call(&address, flags.tasks))?;
    println!("{} tasks over one connection; {found} values read back", flags.tasks);
    println!("{listed} keys listed by a stream");
    end(server)?;
    Ok(())
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
