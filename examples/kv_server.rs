//! A key-value server. Its state belongs to shards: plain maps behind a `RefCell`, no lock anywhere.
//!
//! ```text
//! cargo run --release --example kv_server -- --addr 127.0.0.1:7001 --cores 0,1
//! cargo run --release --example kv_client -- --addr 127.0.0.1:7001 put colour green
//! ```

use clap::Parser;
use corewire_examples::kv::{KeyValueServer, Store};
use corewire_examples::{ServerFlags, serve};
use std::process::ExitCode;

/// A key-value server on pinned shards
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    server: ServerFlags,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    serve(flags.server.builder().service(|_shard| KeyValueServer::new(Store::default())))
}
