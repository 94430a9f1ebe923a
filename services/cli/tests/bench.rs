//! `corewire bench` as a person or a script meets it when something is wrong.
#![allow(clippy::unwrap_used, reason = "tests")]

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
