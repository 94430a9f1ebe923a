//! Hashing 50 MB beside small calls: what one slow call does to all others when its handler computes on the shard,
//! and when it is a blocking method, which runs on a thread beside it. Starts a server with one shard and its callers in one
//! process and prints the latencies of the small calls.
//!
//! ```text
//! cargo run --release --example offload
//! ```

use corewire::{ClientShard, Placement, Server, Status, block_on_shard, sleep, spawn};
use hdrhistogram::Histogram;
use std::cell::Cell;
use std::error::Error;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is hashed.
const BYTES: usize = 50_000_000;

/// How long small calls are made in each of the three ways.
const MEASURE_FOR: Duration = Duration::from_secs(2);

/// Small calls in a second.
const RATE: u32 = 2000;

/// Keeps some bytes.
#[corewire::service]
pub trait Archive {
    /// A small call.
    async fn size(&self) -> Result<u64, Status>;
    /// The hash of the archive, computed on the shard: as it should not be done.
    async fn hash_inline(&self) -> Result<u64, Status>;
    /// The same on a thread beside the shards. The service is shared with that thread, so it has to be `Sync`.
    #[blocking]
    fn hash(&self) -> Result<u64, Status>;
}

struct Stored {
    bytes: Arc<[u8]>,
}

impl Archive for Stored {
    async fn size(&self) -> Result<u64, Status> {
        Ok(self.bytes.len() as u64)
    }

    async fn hash_inline(&self) -> Result<u64, Status> {
        Ok(fnv_1a(&self.bytes))
    }

    fn hash(&self) -> Result<u64, Status> {
        Ok(fnv_1a(&self.bytes))
    }
}

/// FNV-1a, 64 bits: a multiplication for each byte, one after the other.
fn fnv_1a(bytes: &[u8]) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}

/// Who hashes meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hashing {
    Nobody,
    Inline,
    Beside,
}

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Makes small calls at a steady rate while another caller has the archive hashed again and again. The next call does not
/// wait for the one before it, so those that come while the shard is held all count.
async fn measure(address: corewire::Address, hashing: Hashing) -> Outcome<Histogram<u64>> {
    let over = Rc::new(Cell::new(false));
    let hashes = spawn({
        let (archive, over) = (ArchiveClient::connect(address.clone()).await?, Rc::clone(&over));
        async move {
            while hashing != Hashing::Nobody && !over.get() {
                match hashing {
                    Hashing::Inline => archive.hash_inline().await?,
                    _ => archive.hash().await?,
                };
                sleep(Duration::from_millis(100)).await;
            }
            Ok::<_, corewire::CallError>(())
        }
    });
    let archive = ArchiveClient::connect(address).await?;
    let times = Rc::new(Cell::new(Some(Histogram::new(3)?)));
    let mut calls = Vec::new();
    let begun = Instant::now();
    for number in 0.. {
        let due = begun + Duration::from_secs(1) * number / RATE;
        if due - begun >= MEASURE_FOR {
            break;
        }
        sleep(due.saturating_duration_since(Instant::now())).await;
        let (archive, times) = (archive.clone(), Rc::clone(&times));
        calls.push(spawn(async move {
            let sent = Instant::now();
            archive.size().await?;
            if let Some(mut kept) = times.take() {
                kept.record(u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX)).ok();
                times.set(Some(kept));
            }
            Ok::<_, corewire::CallError>(())
        }));
    }
    for call in calls {
        call.await?;
    }
    over.set(true);
    hashes.await?;
    times.take().ok_or_else(|| "the times are there".into())
}

#[allow(clippy::print_stdout, reason = "the latencies are what the program is for")]
fn main() -> Outcome<()> {
    corewire_examples::log();
    let bytes: Arc<[u8]> = (0..BYTES).map(|at| at.to_le_bytes()[1]).collect();
    let server = Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Unpinned(1))
        .service(move |_shard| ArchiveServer::new(Stored { bytes: Arc::clone(&bytes) }))
        .start()?;
    let address = server.addresses()[0].clone();
    println!(
        "small calls, {RATE} in a second, while another caller hashes {} MB:",
        BYTES / 1_000_000
    );
    println!("{:<24} {:>9} {:>9} {:>9}", "hashing", "p50 µs", "p99 µs", "max µs");
    for (name, hashing) in [
        ("nobody", Hashing::Nobody),
        ("on the shard", Hashing::Inline),
        ("on a thread beside it", Hashing::Beside),
    ] {
        let address = address.clone();
        let main = move || async move { measure(address, hashing).await };
        let times = block_on_shard(ClientShard::default(), main)??;
        let (p50, p99) = (times.value_at_quantile(0.5), times.value_at_quantile(0.99));
        println!("{name:<24} {p50:>9} {p99:>9} {:>9}", times.max());
    }
    let counts = server.offload_counts();
    println!("{} hashes were offloaded, on {} threads", counts.run, counts.threads);
    Ok(()) // dropping the server drains it
}
