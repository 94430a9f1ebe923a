//! A whole Corewire deployment in one program: a key-value store over all allowed cores, a client that
//! makes real calls to it over TCP, each to the core that owns its key, and a table of what each shard did.
//!
//! ```text
//! cargo run --release --example quickstart
//! ```
//!
//! Read it from the bottom: `main` starts the server, runs the client, prints the table and stops
//! the server. The service itself is in `shared/kv.rs`.

use clap::Parser;
use corewire::{
    Address, CallError, Channel, ClientShard, Placement, Running, Server, ShardedChannel,
    block_on_shard, owner_of_key, spawn,
};
use corewire_examples::kv::{KeyValueClient, KeyValueServer, Store};
use hdrhistogram::Histogram;
use std::error::Error;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A key-value service on every core, called for a few seconds
#[derive(Parser)]
struct Flags {
    /// How long to make calls, in seconds
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    secs: u64,

    /// Channels, each with a connection to every shard of the server
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    conns: u32,

    /// Calls in flight on each channel
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    inflight: u32,
}

/// What was measured of the calls to one shard.
struct Measured {
    keys: u64,
    latency_ns: Histogram<u64>,
}

/// Calls in a closed loop: put a value, read it back, compare.
async fn call_until(
    client: KeyValueClient<ShardedChannel<Channel>>,
    name: String,
    until: Instant,
) -> Result<Histogram<u64>, Box<dyn Error>> {
    let mut latency_ns = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
    let mut round = 0u64;
    while Instant::now() < until {
        let value = round.to_le_bytes().to_vec();
        let start = Instant::now();
        client.put(name.clone(), value.clone()).await?;
        let middle = Instant::now();
        let read = client.get(name.clone()).await?;
        let end = Instant::now();
        if read.as_ref() != Some(&value) {
            return Err(format!("{name} reads {read:?}, not {value:?}").into());
        }
        for took in [middle - start, end - middle] {
            latency_ns.saturating_record(u64::try_from(took.as_nanos())?);
        }
        round += 1;
    }
    Ok(latency_ns)
}

/// Opens channels, makes calls on all of them at once, and sorts what it measured by shard.
async fn client(
    server: Address,
    shards: u16,
    flags: Flags,
) -> Result<Vec<Measured>, Box<dyn Error>> {
    let until = Instant::now() + Duration::from_secs(flags.secs);
    let mut measured = Vec::new();
    for _ in 0..shards {
        let latency_ns = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
        measured.push(Measured { keys: 0, latency_ns });
    }
    let mut tasks = Vec::new();
    for conn in 0..flags.conns {
        // It connects until it has reached each shard; the hello says which one took the connection.
        let client = KeyValueClient::new(ShardedChannel::connect(&server).await?);
        for caller in 0..flags.inflight {
            let name = format!("key-{conn}-{caller}");
            let owner = usize::from(owner_of_key(&name, shards).0);
            tasks.push((owner, spawn(call_until(client.clone(), name, until))));
        }
    }
    for (owner, task) in tasks {
        let latency_ns = task.await?;
        if let Some(measured) = measured.get_mut(owner) {
            measured.keys += 1;
            measured.latency_ns.add(&latency_ns)?;
        }
    }
    // A call to a server that refuses it: the error says whether it may have run.
    let client = KeyValueClient::connect(&server).await?;
    match client.remove("no such key".into()).await {
        Err(CallError::Status(status)) if status.code() == corewire::StatusCode::NotFound => {}
        other => return Err(format!("removing an absent key gave {other:?}").into()),
    }
    Ok(measured)
}

#[allow(clippy::print_stdout, reason = "the table is what the program is for")]
fn print_table(server: &Running, measured: &[Measured], secs: u64) {
    println!("shard  cpu  keys       calls    calls/s   p50 µs   p99 µs");
    for (shard, measured) in server.shards().iter().zip(measured) {
        let cpu = shard.info.cpu.map_or_else(|| "-".to_owned(), |cpu| cpu.to_string());
        let latency_us = |quantile| {
            let nanos = u32::try_from(measured.latency_ns.value_at_quantile(quantile));
            f64::from(nanos.unwrap_or(u32::MAX)) / 1000.0
        };
        println!(
            "{:>5}  {:>3}  {:>4}  {:>10}  {:>9}  {:>7.1}  {:>7.1}",
            shard.info.id.0,
            cpu,
            measured.keys,
            measured.latency_ns.len(),
            measured.latency_ns.len() / secs,
            latency_us(0.50),
            latency_us(0.99),
        );
    }
}

#[allow(clippy::print_stdout, reason = "the program tells what it does")]
fn run(flags: Flags) -> Result<(), Box<dyn Error>> {
    let parts = Store::parts();
    let server = Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::AllCpus)
        .sharded(&parts)
        .service(move |_shard| KeyValueServer::new(Store::new(&parts)))
        .start()?;
    let address = server.addresses().first().cloned().ok_or("the server has no address")?;
    let (secs, shards) = (flags.secs, u16::try_from(server.shards().len())?);
    println!("serving on {address} with {shards} shards; calling for {secs} s");
    let measured = block_on_shard(ClientShard::default(), move || client(address, shards, flags))?;
    let measured = Rc::new(measured?);
    print_table(&server, &measured, secs);
    server.stop();
    match server.wait()?.shards_lost {
        0 => Ok(()),
        lost => Err(format!("{lost} shards were lost").into()),
    }
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
