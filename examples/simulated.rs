//! Three services tested without sockets, over a bad network, in virtual time: a client pays through a till, and the till
//! books in a ledger. Payments must not be lost, and not be booked twice.
//!
//! ```text
//! cargo run --release --example simulated                # 200 seeds of a till that is right
//! cargo run --release --example simulated -- --careless  # a till that tries again whatever happened
//! COREWIRE_SEED=3 COREWIRE_TRACE=1 cargo run --release --example simulated
//! ```
//!
//! Read it from the bottom: `main` runs the test of each seed, which is what a `#[corewire::test(seeds = 200)]` would do.

use clap::Parser;
use corewire::testing::{Network, Simulation};
use corewire::{Channel, ChannelConfig, Server, Status, sleep, spawn};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[corewire::service]
trait Ledger {
    /// Books an amount.
    async fn book(&self, amount: u64) -> Result<(), Status>;
}

#[corewire::service]
trait Till {
    /// Pays an amount.
    async fn pay(&self, amount: u64) -> Result<(), Status>;
}

/// The sum of what was booked: its disk, which outlives its process.
struct Books(Arc<AtomicU64>);

impl Ledger for Books {
    async fn book(&self, amount: u64) -> Result<(), Status> {
        self.0.fetch_add(amount, Ordering::Relaxed);
        // Time in which the reply may get lost.
        sleep(Duration::from_millis(20)).await;
        Ok(())
    }
}

struct Counter {
    ledger: LedgerClient,
    careless: bool,
}

impl Till for Counter {
    async fn pay(&self, amount: u64) -> Result<(), Status> {
        loop {
            match self.ledger.book(amount).await {
                Ok(()) => return Ok(()),
                // It may be booked. Only one who does not care tries again.
                Err(error) if error.may_have_run() && !self.careless => {
                    return Err(error.to_status());
                }
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

fn channel(to: &str) -> Channel {
    #[allow(clippy::expect_used, reason = "both names are right, and this runs on a shard")]
    Channel::new(to, ChannelConfig::default()).expect("an address")
}

/// What the client knows at the end, and what was booked.
struct Outcome {
    paid: u64,
    perhaps: u64,
    booked: u64,
}

/// The test: payments, while the network is bad and the till crashes.
async fn pay(sim: Simulation, careless: bool) -> Outcome {
    let disk = Arc::new(AtomicU64::new(0));
    let books = Arc::clone(&disk);
    sim.server(
        "ledger",
        Server::builder().service(move |_| LedgerServer::new(Books(Arc::clone(&books)))),
    );
    sim.server(
        "till",
        Server::builder().service(move |_| {
            let ledger = LedgerClient::new(channel("ledger:7000"));
            TillServer::new(Counter {
                ledger: ledger.with_timeout(Duration::from_millis(500)),
                careless,
            })
        }),
    );
    sim.set_network(Network::lossy());
    let trouble = sim.clone();
    let trouble = spawn(async move {
        sleep(Duration::from_millis(trouble.draw(0..2000))).await;
        trouble.restart("till");
        sleep(Duration::from_millis(trouble.draw(0..2000))).await;
        trouble.partition("till", "ledger");
        sleep(Duration::from_secs(2)).await;
        trouble.heal("till", "ledger");
    });
    let till = TillClient::new(channel("till:7001")).with_timeout(Duration::from_secs(3));
    let (mut paid, mut perhaps) = (0, 0);
    for amount in 1..=20 {
        match till.pay(amount).await {
            Ok(()) => paid += amount,
            Err(error) if error.may_have_run() => perhaps += amount,
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
    trouble.await;
    // What is still under way ends.
    sleep(Duration::from_secs(60)).await;
    Outcome { paid, perhaps, booked: disk.load(Ordering::Relaxed) }
}

/// A simulated test that may find a bug
#[derive(Parser)]
struct Flags {
    /// How many seeds to run
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    seeds: u64,

    /// Run the till that has the bug
    #[arg(long)]
    careless: bool,
}

#[allow(clippy::print_stdout, reason = "this is what the program says to people")]
fn main() {
    let Flags { seeds, careless } = Flags::parse();
    Simulation::for_seeds(0..seeds, move |sim| async move {
        let Outcome { paid, perhaps, booked } = pay(sim, careless).await;
        if (paid..=paid + perhaps).contains(&booked) {
            Ok(())
        } else {
            Err(format!("booked {booked}, of which {paid} was paid and {perhaps} may have been"))
        }
    });
    println!("{seeds} seeds: no payment was lost, and none was booked twice");
}
