//! A key-value server: one store over all shards. Each shard has the keys that it owns in a plain map behind a `RefCell`; no
//! lock is anywhere. The service is in `shared/kv.rs`.
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
    let parts = Store::parts();
    let builder = flags.server.builder().sharded(&parts);
    serve(builder.service(move |_shard| KeyValueServer::new(Store::new(&parts))))
}
