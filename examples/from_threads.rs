//! Calls from plain threads, in two ways that need no executor: over a channel that a client thread
//! drives and all threads share, and over a blocking one that each thread has for itself.
//!
//! ```text
//! cargo run --release --example from_threads
//! cargo run --release --example from_threads -- --addr unix:/run/store.sock
//! ```
//!
//! Without an address it starts a key-value server of its own.

use clap::Parser;
use corewire::{Address, ChannelConfig, ClientShard, ClientThread, Transport, blocking};
use corewire_examples::kv::KeyValueClient;
use corewire_examples::{Kept, end, keep_server};
use std::error::Error;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;

/// Calls a kv_server from plain threads
#[derive(Parser)]
struct Flags {
    /// The server's address, such as 127.0.0.1:7001 or unix:/path; a server of its own if not given
    #[arg(long)]
    addr: Option<Address>,

    /// Threads that call at once
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    threads: u32,
}

type Failure = Box<dyn Error + Send + Sync>;

/// What every thread does, whatever channel it calls over: one client for all of them.
fn use_store<C: Transport>(client: &KeyValueClient<C>, name: &str) -> Result<(), Failure> {
    client.put(name.to_owned(), b"a value".to_vec()).wait()?;
    match client.get(name.to_owned()).wait()? {
        Some(value) if value == b"a value" => Ok(()),
        other => Err(format!("{name} reads {other:?}").into()),
    }
}

/// One channel for all threads; replies can also come by callbacks.
fn over_a_shared_channel(address: &Address, threads: u32) -> Result<u32, Failure> {
    let driver = ClientThread::start(ClientShard::default())?;
    let client = KeyValueClient::new(driver.channel(address, ChannelConfig::default())?);
    let callers: Vec<_> = (0..threads)
        .map(|number| {
            let client = client.clone();
            thread::spawn(move || use_store(&client, &format!("shared-{number}")))
        })
        .collect();
    for caller in callers {
        caller.join().map_err(|_| "a thread panicked")??;
    }
    let (replies, received) = mpsc::channel();
    for number in 0..threads {
        let replies = replies.clone();
        // The callback runs on the client thread: it passes the result on and returns.
        client.get(format!("shared-{number}")).then(move |result| drop(replies.send(result)));
    }
    drop(replies);
    let mut found = 0;
    for reply in received {
        found += u32::from(reply?.is_some());
    }
    Ok(found)
}

/// A connection for each thread; nothing else runs.
fn over_blocking_channels(address: &Address, threads: u32) -> Result<(), Failure> {
    let callers: Vec<_> = (0..threads)
        .map(|number| {
            let address = address.clone();
            thread::spawn(move || {
                let client = KeyValueClient::new(blocking::Channel::connect(&address)?);
                use_store(&client, &format!("blocking-{number}"))
            })
        })
        .collect();
    for caller in callers {
        caller.join().map_err(|_| "a thread panicked")??;
    }
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the program tells what it does")]
fn run(flags: Flags) -> Result<(), Failure> {
    let Kept { address, server } = keep_server(flags.addr)?;
    let found = over_a_shared_channel(&address, flags.threads)?;
    println!("{} threads over one shared channel; {found} callbacks", flags.threads);
    over_blocking_channels(&address, flags.threads)?;
    println!("{} threads over a blocking channel each", flags.threads);
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
