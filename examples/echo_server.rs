//! The smallest server: it sends back what it receives, without copying it. Load generators call it.
//!
//! ```text
//! cargo run --release --example echo_server -- --addr 127.0.0.1:7000 --cores 0 --spin off
//! cargo run --release --bin corewire -- bench 127.0.0.1:7000 --payload 64 --conns 1 --inflight 1 --secs 2
//! ```
//!
//! With `--work 20` each call burns 20 µs of CPU first, and with `--shed 5000` calls that waited for more than 5 ms are
//! turned away once a queue persists: this is how a server behaves that is asked for more than it can do.

use clap::Parser;
use corewire::echo::{EchoServer, Echoer};
use corewire::layer::{CallView, Layer};
use corewire::{Budgets, QueueDelay, Status};
use corewire_examples::{ServerFlags, serve};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// An echo server on pinned shards
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    server: ServerFlags,

    /// Microseconds of work that each call is
    #[arg(long, value_name = "MICROSECONDS", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    work: Option<u32>,

    /// Turn calls away that waited for longer than this, once a queue persists
    #[arg(long, value_name = "MICROSECONDS", value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    shed: Option<u32>,
}

/// Keeps the core busy before each call.
struct Work(Duration);

impl Layer for Work {
    type Guard = ();

    fn begin(&self, _: &mut CallView<'_>) -> Result<(), Status> {
        let begun = Instant::now();
        while begun.elapsed() < self.0 {
            std::hint::spin_loop();
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    let micros = |micros: u32| Duration::from_micros(micros.into());
    let queue_delay = flags.shed.map(|target| {
        let usual = QueueDelay::default();
        let target = micros(target);
        QueueDelay { target, interval: usual.interval.max(target) }
    });
    let builder = flags.server.builder().budgets(Budgets { queue_delay, ..Budgets::default() });
    let builder = builder.service(|_shard| EchoServer::new(Echoer));
    serve(match flags.work.map(micros) {
        Some(work) => builder.layer(move |_shard| Work(work)),
        None => builder,
    })
}
