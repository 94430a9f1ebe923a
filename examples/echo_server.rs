//! The least server: it gives back what it gets, without copying it. Load generators call it.
//!
//! ```text
//! cargo run --release --example echo_server -- --addr 127.0.0.1:7000 --cores 0 --spin off
//! cargo run --release --bin corewire -- bench 127.0.0.1:7000 --payload 64 --conns 1 --inflight 1 --secs 2
//! ```

use clap::Parser;
use corewire::echo::{EchoServer, Echoer};
use corewire_examples::{ServerFlags, serve};
use std::process::ExitCode;

/// An echo server on pinned shards
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    server: ServerFlags,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    serve(flags.server.builder().service(|_shard| EchoServer::new(Echoer)))
}
