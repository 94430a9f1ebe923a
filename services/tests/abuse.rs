//! Clients that take all they get of a server's memory and time: a well-behaved one is answered all the
//! same, what the server holds stays within its bound, and goes back afterwards.
//!
//! The test is a short version with small bounds. The whole table, with the default ones:
//!
//! ```text
//! ABUSE_SECS=20 cargo test --release -p corewire --test abuse -- --ignored --nocapture
//! ```
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{Budgets, Bytes, Placement, Server, Status, Streaming};
use futures_lite::stream;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};
use support::abuse::{Abuse, attack};
use support::child::{ServerChild, role, serve};
use support::{PATIENCE, client};

const MIB: u64 = 1 << 20;

/// What is abused.
#[corewire::service]
trait Target {
    async fn echo(&self, body: Bytes) -> Result<Bytes, Status>;
    async fn never(&self) -> Result<(), Status>;
    #[one_way]
    async fn note(&self, line: String);
    async fn tail(&self, from: u64) -> Result<Streaming<String>, Status>;
    async fn keep(&self, parts: Streaming<Bytes>) -> Result<u64, Status>;
}

/// Lines that are kept; later ones are forgotten.
const LINES: usize = 4;

#[derive(Clone, Default)]
struct Journal {
    lines: Rc<RefCell<Vec<String>>>,
}

impl Target for Journal {
    async fn echo(&self, body: Bytes) -> Result<Bytes, Status> {
        Ok(body)
    }

    async fn never(&self) -> Result<(), Status> {
        std::future::pending().await
    }

    async fn note(&self, line: String) {
        if self.lines.borrow().len() < LINES {
            self.lines.borrow_mut().push(line);
        }
    }

    async fn tail(&self, from: u64) -> Result<Streaming<String>, Status> {
        let lines = Rc::clone(&self.lines);
        let mut next = usize::try_from(from).unwrap();
        Ok(Streaming::from_stream(stream::poll_fn(move |_| match lines.borrow().get(next) {
            Some(line) => {
                next += 1;
                Poll::Ready(Some(Ok(line.clone())))
            }
            None => Poll::Pending,
        })))
    }

    async fn keep(&self, parts: Streaming<Bytes>) -> Result<u64, Status> {
        let _parts = parts;
        std::future::pending().await
    }
}

/// The bounds of the short version.
fn small() -> Budgets {
    Budgets {
        shard_bytes_max: 32 << 20,
        shard_calls_max: 4096,
        stalled_for: Duration::from_secs(1),
        ..Budgets::default()
    }
}

/// The child's `main`; as a test of its own it has nothing to do.
#[test]
fn child() {
    let Some(role) = role() else { return };
    let budgets = if role == "small" { small() } else { Budgets::default() };
    serve(
        Server::builder()
            .address("127.0.0.1:0")
            .placement(Placement::Unpinned(1))
            .budgets(budgets)
            .service(|_| TargetServer::new(Journal::default())),
    )
}

/// What a well-behaved client saw.
#[derive(Debug, Default)]
struct Seen {
    times: Vec<Duration>,
    failures: Vec<String>,
}

impl Seen {
    fn percentile(&mut self, share: usize) -> Duration {
        self.times.sort_unstable();
        self.times.get(self.times.len() * share / 100).copied().unwrap_or_default()
    }
}

/// Calls every few milliseconds while `goes_on`.
fn behave(to: SocketAddr, goes_on: impl Fn() -> bool + 'static) -> Seen {
    client(move || async move {
        let client = TargetClient::connect(to).await.unwrap();
        let mut seen = Seen::default();
        while goes_on() {
            let body = Bytes::from(vec![7; 1000]);
            let began = Instant::now();
            match client.echo(body.clone()).await {
                Ok(reply) if reply == body => seen.times.push(began.elapsed()),
                Ok(_) => seen.failures.push("another body came back".into()),
                Err(error) => seen.failures.push(error.to_string()),
            }
            corewire::sleep(Duration::from_millis(3)).await;
        }
        seen
    })
}

/// One row of the table.
struct Row {
    quiet: Seen,
    abused: Seen,
    before: u64,
    peak: u64,
    after: u64,
    held_most: u64,
    ends: u64,
}

/// Runs one abuse for a while, and looks what is left `later`.
fn run(server: &mut ServerChild, abuse: Abuse, conns: usize, secs: u64, later: Duration) -> Row {
    let to = server.address();
    let until = |time: Duration| {
        let end = Instant::now() + time;
        move || Instant::now() < end
    };
    let time = Duration::from_secs(secs);
    let quiet = behave(to, until(time.min(Duration::from_secs(3))));
    let before = server.rss();
    let goes_on = Arc::new(AtomicBool::new(true));
    let attackers = std::thread::spawn({
        let goes_on = Arc::clone(&goes_on);
        move || attack(to, abuse, conns, || goes_on.load(Ordering::SeqCst))
    });
    let good = std::thread::spawn({
        let goes_on = Arc::clone(&goes_on);
        move || behave(to, move || goes_on.load(Ordering::SeqCst))
    });
    let (mut peak, mut held_most) = (before, 0);
    let going = until(time);
    while going() {
        peak = peak.max(server.rss());
        held_most = held_most.max(server.counters()["held_bytes"]);
        std::thread::sleep(Duration::from_millis(10));
    }
    goes_on.store(false, Ordering::SeqCst);
    let (ends, abused) = (attackers.join().unwrap(), good.join().unwrap());
    let end = Instant::now() + PATIENCE;
    while server.counters()["connections_open"] > 0 {
        assert!(Instant::now() < end, "connections stay open: {:?}", server.counters());
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(later);
    Row { quiet, abused, before, peak, after: server.rss(), held_most, ends }
}

#[allow(clippy::print_stdout, reason = "the table is what is asked for")]
fn print(abuse: Abuse, conns: usize, row: &mut Row) {
    let (quiet, abused) = (row.quiet.percentile(99), row.abused.percentile(99));
    println!(
        "| {abuse:?} | {conns} | {} of {} | {quiet:.1?} | {abused:.1?} | {} | {} | {} | {} | {} |",
        row.abused.times.len(),
        row.abused.times.len() + row.abused.failures.len(),
        row.held_most / MIB,
        row.before / MIB,
        row.peak / MIB,
        row.after / MIB,
        row.ends,
    );
}

/// The server's child has few buffers and no neighbours, so what it holds shows in its memory.
#[test]
fn a_well_behaved_client_is_answered_whatever_others_hold() {
    let secs = 3;
    for abuse in Abuse::ALL {
        let mut server = ServerChild::start("child", "small");
        let mut row = run(&mut server, abuse, 16, secs, Duration::from_millis(100));
        print(abuse, 16, &mut row);
        let failures = &row.abused.failures;
        assert!(failures.is_empty(), "{abuse:?}: {} failed: {}", failures.len(), failures[0]);
        assert!(!row.abused.times.is_empty());
        // One request or reply goes over it, and what is counted by a formula is not to the byte.
        assert!(row.held_most <= 34 * MIB, "{abuse:?}: {} bytes were held", row.held_most);
        let room = 32 * MIB + 24 * MIB;
        assert!(row.peak < row.before + room, "{abuse:?}: {} → {}", row.before, row.peak);
        assert_eq!(server.counters()["held_bytes"], 0, "{abuse:?}");
        assert!(server.is_running());
    }
}

/// The whole table, for people. Twenty-four rows of `ABUSE_SECS` each, and half a minute between them.
#[test]
#[ignore = "takes a quarter of an hour; run it on a quiet machine, in release"]
#[allow(clippy::print_stdout, reason = "the table is what is asked for")]
fn the_whole_table() {
    let number = |name: &str, usual: u64| {
        std::env::var(name).ok().map_or(usual, |text| text.parse().expect("a number"))
    };
    let (secs, later) = (number("ABUSE_SECS", 20), number("ABUSE_LATER_SECS", 30));
    println!(
        "| abuse | connections | answered | p99 without | p99 | MiB held | MiB before | peak | after | ended |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    // "Tails 16" is that row alone.
    let only = std::env::var("ABUSE_ONLY").ok();
    for abuse in Abuse::ALL {
        for conns in [1, 16, 40, 400] {
            if only.as_ref().is_some_and(|only| *only != format!("{abuse:?} {conns}")) {
                continue;
            }
            let mut server = ServerChild::start_with("child", "large", &[]);
            let mut row = run(&mut server, abuse, conns, secs, Duration::from_secs(later));
            print(abuse, conns, &mut row);
        }
    }
}
