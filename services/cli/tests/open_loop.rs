//! `corewire bench --rate` against a server that stalls: the calls that fell due meanwhile must show it.
#![allow(clippy::unwrap_used, reason = "tests")]

use corewire::echo::{Echo, EchoServer};
use corewire::{Bytes, Placement, Running, Server, Status};
use std::cell::Cell;
use std::process::Command;
use std::time::Duration;

/// Echoes, and keeps its shard for 100 ms at one call.
struct Stalls {
    calls: Cell<u32>,
    at: u32,
}

impl Echo for Stalls {
    async fn echo(&self, body: Bytes) -> Result<Bytes, Status> {
        self.calls.set(self.calls.get() + 1);
        if self.calls.get() == self.at {
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(body)
    }
}

/// A server of one shard that stalls at that call.
fn serve(at: u32) -> Running {
    let cpus = corewire::allowed_cpus().unwrap();
    Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Cpus(cpus[..1].to_vec()))
        .service(move |_shard| EchoServer::new(Stalls { calls: Cell::new(0), at }))
        .start()
        .unwrap()
}

fn bench(server: &Running, flags: &str) -> serde_json::Value {
    let output = Command::new(env!("CARGO_BIN_EXE_corewire"))
        .args(["bench", &server.addresses()[0].to_string(), "--json"])
        .args(flags.split_whitespace())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_stall_is_seen_by_every_call_that_fell_due_meanwhile() {
    for how in ["", "--park", "--inflight 3"] {
        // At 1000 calls per second, call 600 is due 100 ms after the warm-up.
        let server = serve(600);
        let line = bench(&server, &format!("--rate 1000 --conns 2 --secs 0.4 {how}"));
        let us = |key: &str| line[key].as_f64().unwrap();
        // A quarter of the calls fell due in the stall; a closed loop would have seen it in two.
        assert!(us("max_us") > 90e3 && us("p90_us") > 40e3, "{how}: {line}");
        assert_eq!(line["open"]["offered"], 400, "{how}: {line}");
        assert_eq!(line["errors"], 0);
        if how == "--inflight 3" {
            let late = line["open"]["late_p99_us"].as_f64().unwrap();
            assert!(late > 40e3, "without room, calls are sent late: {line}");
        }
        server.stop();
    }
}

#[test]
fn more_than_can_be_sent_is_missed_and_not_forgotten() {
    let server = serve(0);
    let line = bench(&server, "--rate 10000000 --inflight 1 --secs 0.1 --arrivals poisson");
    let count = |key: &str| line["open"][key].as_u64().unwrap();
    assert!(count("missed") > count("offered") / 2, "{line}");
    assert!((990_000..1_010_000).contains(&count("offered")), "{line}");
    server.stop();
}
