//! The command `instructions` as a user sees it. Nothing is counted by valgrind here.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::{Command, Output};

fn instructions(flags: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_instructions"));
    command.args(flags.split_whitespace());
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn without_valgrind_it_ends_with_code_2_and_says_what_to_install() {
    let output = instructions("").env("PATH", "/nonexistent").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("install valgrind"), "{}", stderr(&output));
    assert!(output.stdout.is_empty());
}

#[test]
fn wrong_flags_end_with_code_2() {
    for flags in ["--only everything", "--save --only codec-encode", "--server-core many"] {
        let output = instructions(flags).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags}: {}", stderr(&output));
    }
}

#[test]
fn what_is_counted_runs_by_itself() {
    for name in ["codec-encode", "codec-decode", "server-in-memory", "client-in-memory"] {
        let output = instructions(&format!("target {name} 640")).output().unwrap();
        assert!(output.status.success(), "{name}: {}", stderr(&output));
    }
    // Fewer calls than a batch would count nothing, and it does not run sockets.
    for wrong in ["codec-encode 63", "server-b 640"] {
        let output = instructions(&format!("target {wrong}")).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{wrong}");
    }
}
