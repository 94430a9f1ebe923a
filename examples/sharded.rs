//! State on all cores: a service counts words, each on the shard that owns it, and a handler asks the other shards.
//!
//! ```text
//! cargo run --release --example sharded
//! cargo run --release --example sharded -- --shards 4 --lines 100000
//! ```
//!
//! A line of words comes in on some connection. Its handler sends each word to the shard that owns it, with
//! `Sharded::on`, and waits for all of them. `top` asks all shards at once. At the end the sum of all counts must be the number of words
//! that were sent: nothing was lost, and nothing counted twice.

use clap::Parser;
use corewire::{
    ClientShard, OnShardError, Placement, Server, Sharded, Status, block_on_shard, spawn,
};
use std::cell::RefCell;
use std::collections::HashMap;
use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

/// Counts words over all shards
#[derive(Parser)]
struct Flags {
    /// Shards of the server
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    shards: u16,

    /// Lines to count, of eight words each
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    lines: u64,
}

#[corewire::service]
trait Words {
    /// Counts the words of a line.
    async fn count(&self, line: String) -> Result<(), Status>;
    /// The words that were seen most often, and how often.
    async fn top(&self, most: u32) -> Result<Vec<(String, u64)>, Status>;
    /// How many words were counted in all.
    async fn total(&self) -> Result<u64, Status>;
}

/// The words that one shard owns.
type Counts = RefCell<HashMap<String, u64>>;

struct Counting {
    counts: Sharded<Counts>,
}

impl Words for Counting {
    async fn count(&self, line: String) -> Result<(), Status> {
        let mut sent = Vec::new();
        for word in line.split_whitespace().map(str::to_owned) {
            let owner = self.counts.of(&word);
            let add = |counts: &Counts| *counts.borrow_mut().entry(word).or_default() += 1;
            // On its way at once, with the others: one wake for all that go to one shard.
            sent.push(spawn(self.counts.on(owner, add)));
        }
        for counted in sent {
            counted.await?;
        }
        Ok(())
    }

    async fn top(&self, most: u32) -> Result<Vec<(String, u64)>, Status> {
        let all = self.counts.map_all(|counts| counts.borrow().clone()).await;
        let all = all.into_iter().collect::<Result<Vec<_>, OnShardError>>()?;
        let mut words: Vec<(String, u64)> = all.into_iter().flatten().collect();
        words.sort_unstable_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        words.truncate(most as usize);
        Ok(words)
    }

    async fn total(&self) -> Result<u64, Status> {
        let sums = self.counts.map_all(|counts| counts.borrow().values().sum::<u64>()).await;
        Ok(sums.into_iter().sum::<Result<u64, OnShardError>>()?)
    }
}

const STOCK: [&str; 12] = [
    "wire", "core", "frame", "shard", "queue", "ring", "lane", "bell", "turn", "call", "reply",
    "drain",
];

/// A line of eight words, some of which are more frequent than others.
fn line(number: u64) -> String {
    let word = |place: u64| {
        let at = number.wrapping_mul(place + 3) % 12;
        STOCK[usize::try_from(at.min(number % 12)).unwrap_or(0)]
    };
    (0..8).map(word).collect::<Vec<_>>().join(" ")
}

#[allow(clippy::print_stdout, reason = "the table is what the program is for")]
fn run(flags: Flags) -> Result<(), Box<dyn Error>> {
    let counts: Sharded<Counts> = Sharded::new(|_shard| Counts::default());
    let server = Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Unpinned(flags.shards))
        .sharded(&counts)
        .service(move |_shard| WordsServer::new(Counting { counts: counts.clone() }))
        .start()?;
    let address = server.addresses().first().cloned().ok_or("the server has no address")?;
    let begun = Instant::now();
    let (top, total) = block_on_shard(ClientShard::default(), move || async move {
        let mut connections = Vec::new();
        for connection in 0..8 {
            let client = WordsClient::connect(&address).await?;
            connections.push(spawn(async move {
                for number in (connection..flags.lines).step_by(8) {
                    client.count(line(number)).await?;
                }
                Ok::<_, corewire::CallError>(())
            }));
        }
        for connection in connections {
            connection.await?;
        }
        let client = WordsClient::connect(&address).await?;
        Ok::<_, Box<dyn Error>>((client.top(5).await?, client.total().await?))
    })??;
    let took = begun.elapsed();
    println!("{} lines in {took:.1?}; the most frequent words:", flags.lines);
    for (word, count) in top {
        println!("{count:>10}  {word}");
    }
    server.stop();
    server.wait()?;
    match total == 8 * flags.lines {
        true => Ok(()),
        false => Err(format!("{total} words were counted, and {} sent", 8 * flags.lines).into()),
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
