//! `corewire bench` as a person or a script meets it when something is wrong.
#![allow(clippy::unwrap_used, reason = "tests")]

use corewire::echo::{EchoServer, Echoer};
use corewire::{Placement, Server};
use std::process::{Command, Output};

fn corewire(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_corewire")).args(arguments).output().unwrap()
}

#[test]
fn wrong_flags_end_with_code_2_and_the_flag_in_words() {
    for (arguments, names) in [
        (&["bench", "127.0.0.1:1", "--conns", "0"][..], "--conns"),
        (&["bench", "127.0.0.1:1", "--payload", "99999999"], "--payload"),
        (&["bench", "127.0.0.1:1", "--secs", "never"], "--secs"),
        (&["bench", "127.0.0.1:1", "--cpu", "99999"], "99999"),
        (&["bench", "127.0.0.1:1", "--rate", "0"], "--rate"),
        (&["bench", "127.0.0.1:1", "--rate", "-3"], "-3"),
        (&["bench", "127.0.0.1:1", "--rate", "fast"], "--rate"),
        (&["bench", "127.0.0.1:1", "--rate", "1e9"], "10000000"),
        (&["bench", "127.0.0.1:1", "--rate", "10", "--arrivals", "bursts"], "--arrivals"),
        (&["bench", "127.0.0.1:1", "--arrivals", "poisson"], "--rate"),
        (&["bench", "127.0.0.1:1", "--seed", "5"], "--rate"),
        (&["bench", "127.0.0.1:1", "--park"], "--rate"),
        (&["bench", "127.0.0.1:1", "--rate", "10", "--park", "--spin"], "--spin"),
        (&["bench", "127.0.0.1:1", "--spin=never"], "--spin"),
        (&["bench", "127.0.0.1:1", "--calls", "0"], "--calls"),
        (&["bench", "127.0.0.1:1", "--calls", "9", "--secs", "1"], "--secs"),
        (&["bench"], "ADDR"),
    ] {
        let output = corewire(arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(names), "{arguments:?}: {text}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_dead_address_is_one_sentence() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = corewire(&["bench", &gone.to_string(), "--secs", "0.1", "--json"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains(&gone.to_string()), "{text}");
    assert!(output.stdout.is_empty());
}

/// What counts instructions divides by this number, so no call may be missing and none too many.
#[test]
fn a_given_number_of_calls_is_made_exactly() {
    let server = Server::builder().address("127.0.0.1:0").placement(Placement::Unpinned(1));
    let server = server.service(|_| EchoServer::new(Echoer)).start().unwrap();
    let address = server.addresses()[0].to_string();
    let arguments =
        ["bench", &address, "--calls", "1001", "--conns", "3", "--inflight", "8", "--json"];
    let output = corewire(&arguments);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((report["calls"].as_u64(), report["errors"].as_u64()), (Some(1001), Some(0)));
    assert!(report["rps"].as_f64() > Some(0.0) && report["secs"].as_f64() < Some(60.0), "{report}");
    let served: u64 = server.shards().iter().map(|shard| shard.counters.calls.value()).sum();
    assert_eq!(served, 1001);
}
