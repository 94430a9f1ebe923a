//! A handler or a task that holds its shard is named, soon and not too often.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use corewire::{Placement, Server, Status, spawn, yield_if_due};
use rustix::time::{ClockId, clock_gettime};
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use support::lines::Lines;
use support::{address, client, count, end, until};

#[corewire::service]
pub trait Mill {
    async fn echo(&self, number: u32) -> Result<u32, Status>;
    /// Computes for so long.
    async fn grind(&self, ms: u64) -> Result<(), Status>;
    /// The same in a task, and after a yield that makes it a parked call.
    async fn later(&self, ms: u64, in_task: bool) -> Result<(), Status>;
    /// Sleeps, and keeps its shard from doing anything else.
    async fn nap(&self, ms: u64) -> Result<(), Status>;
    /// The same, and lets others run.
    async fn politely(&self, ms: u64) -> Result<(), Status>;
}

struct Miller;

/// Uses so much CPU time, however long that takes: what the thread waits for a CPU is not held against its handler.
fn burn(ms: u64) {
    let cpu = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
    let begun = cpu();
    while cpu() - begun < Duration::from_millis(ms) {}
}

impl Mill for Miller {
    async fn echo(&self, number: u32) -> Result<u32, Status> {
        Ok(number)
    }

    async fn grind(&self, ms: u64) -> Result<(), Status> {
        burn(ms);
        Ok(())
    }

    async fn later(&self, ms: u64, in_task: bool) -> Result<(), Status> {
        if in_task {
            spawn(async move { burn(ms) }).await;
        } else {
            futures_lite::future::yield_now().await;
            burn(ms);
        }
        Ok(())
    }

    async fn nap(&self, ms: u64) -> Result<(), Status> {
        std::thread::sleep(Duration::from_millis(ms));
        Ok(())
    }

    async fn politely(&self, ms: u64) -> Result<(), Status> {
        let end = Instant::now() + Duration::from_millis(ms);
        while Instant::now() < end {
            yield_if_due().await;
        }
        Ok(())
    }
}

/// The number of this name in a line.
fn ms(line: &str, name: &str) -> u64 {
    line.split(name).nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
}

/// All in one test, because the subscriber is that of the whole process.
#[test]
fn who_holds_a_shard_is_named() {
    let lines = Lines::default();
    tracing::subscriber::set_global_default(lines.clone()).unwrap();
    let server = Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Unpinned(1))
        .service(|_| MillServer::new(Miller))
        .start()
        .unwrap();
    let to = address(&server);
    let holds = || count(&server, |it| it.holds.value());

    // Alone, it is known at once; unless the shard's thread waited for a CPU so long, meanwhile or shortly before, that
    // this may have been it.
    client({
        let lines = lines.clone();
        move || async move {
            let mill = MillClient::connect(to).await.unwrap();
            mill.echo(1).await.unwrap();
            while lines.count("WARN", "a handler held its shard").0 == 0 {
                mill.grind(50).await.unwrap();
                corewire::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    let held = "a handler held its shard";
    let line = lines.await_line("WARN", &[held, "method=Mill/grind", "shard=0"]);
    assert!((49..2000).contains(&ms(&line, "held_ms=")), "{line}");
    until("it is counted", || holds() >= 1);
    assert!(count(&server, |it| it.longest_hold_us.value()) >= 25_000);

    // Among others it is named with call and peer, within a second of the first time.
    let begun = Instant::now();
    client({
        let lines = lines.clone();
        move || async move {
            let over = Rc::new(Cell::new(false));
            let mut others = Vec::new();
            for _ in 0..4 {
                let (mill, over) = (MillClient::connect(to).await.unwrap(), Rc::clone(&over));
                others.push(spawn(async move {
                    while !over.get() {
                        mill.echo(2).await.unwrap();
                    }
                }));
            }
            let mill = MillClient::connect(to).await.unwrap();
            let named = || {
                let lines = lines.0.lock().unwrap();
                lines.iter().any(|it| it.contains("method=Mill/grind") && it.contains(" peer="))
            };
            while !named() {
                assert!(begun.elapsed() < Duration::from_secs(1), "it is not named");
                mill.grind(50).await.unwrap();
                corewire::sleep(Duration::from_millis(5)).await;
            }
            over.set(true);
            for other in others {
                other.await;
            }
        }
    });
    let line = lines.await_line("WARN", &[held, "method=Mill/grind", " peer=", " call="]);
    assert!(line.contains("127.0.0.1:"), "{line}");

    // A parked call, and a task by the place where it was spawned.
    client(move || async move {
        let mill = MillClient::connect(to).await.unwrap();
        mill.later(50, false).await.unwrap();
        mill.later(50, true).await.unwrap();
    });
    lines.await_line("WARN", &[held, "method=Mill/later", " peer="]);
    lines.await_line("WARN", &["a task held its shard", "task=services/tests/holds.rs:"]);

    // One that sleeps holds its shard, too, without CPU time.
    client(move || async move {
        let mill = MillClient::connect(to).await.unwrap();
        mill.nap(60).await.unwrap();
    });
    let line = lines.await_line("WARN", &[held, "method=Mill/nap"]);
    assert!(ms(&line, "held_ms=") >= 59 && ms(&line, " cpu_ms=") < 30, "{line}");

    // One that yields holds nothing, and others run meanwhile.
    let echoed = client(move || async move {
        let mill = MillClient::connect(to).await.unwrap();
        let other = MillClient::connect(to).await.unwrap();
        let long = spawn(async move { mill.politely(300).await.unwrap() });
        let mut echoed = 0;
        while !long.is_finished() {
            other.echo(3).await.unwrap();
            echoed += 1;
        }
        echoed
    });
    assert!(echoed >= 20, "{echoed} calls");
    let longest_us = count(&server, |it| it.longest_hold_us.value());
    assert!(longest_us < 200_000, "{longest_us} µs");

    // On a busy machine a wait for a CPU may explain some of them.
    let all = || holds() + count(&server, |it| it.cpu_waits.value());
    let before = all();
    // However often it happens, a few lines are written, and all are counted.
    client(move || async move {
        let mill = MillClient::connect(to).await.unwrap();
        for _ in 0..20 {
            mill.grind(30).await.unwrap();
        }
    });
    until("all are counted", || all() >= before + 20);
    let written = lines.count("WARN", "held").0;
    assert!(written <= 15, "{written} lines");
    end(server);
}
