//! The commands `floor`, `mixed` and `spin` as a person meets it: its output, its exit codes, and what a Ctrl-C leaves behind. These runs are
//! too short to measure anything.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

fn floor(flags: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_floor"));
    command.args(flags.split_whitespace());
    command
}

#[test]
fn a_quick_run_prints_its_tables_and_writes_its_document() {
    let json = Path::new(env!("CARGO_TARGET_TMPDIR")).join("quick.json");
    let output = floor("--quick --only-floors --workloads C --json").arg(&json).output().unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stderr}");
    let rows = stdout.lines().filter(|line| line.starts_with("| C: 64 B, 32 x 8 ")).count();
    // The floor and the floor again with their figures, and the second one with its ratios.
    assert_eq!(rows, 3, "{stdout}");
    assert!(stderr.contains("[2/2] floor again, C: 64 B, 32 x 8, parked"), "{stderr}");
    let document: serde_json::Value =
        serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    assert_eq!(document["runs"].as_array().map(Vec::len), Some(2));
    assert!(document["runs"][0]["sample"]["calls"].as_u64() > Some(0), "{document}");
}

#[test]
fn wrong_flags_end_with_code_2() {
    for flags in [
        "--workloads Q",
        "--rounds 0",
        "--enforce hope",
        "--only-floors --enforce",
        "--quick --rounds 2",
    ] {
        let output = floor(flags).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags}");
        assert!(!output.stderr.is_empty(), "{flags}");
    }
}

#[test]
fn mixed_refuses_wrong_flags_and_one_core_for_both() {
    let mixed = |flags: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mixed"));
        command.args(flags.split_whitespace()).output().unwrap()
    };
    for flags in ["--rounds 0", "--secs 0", "--quick --rounds 2", "load"] {
        assert_eq!(mixed(flags).status.code(), Some(2), "{flags}");
    }
    let output = mixed("--quick --server-core 1 --client-core 1");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("choose two cores"));
}

#[test]
fn spin_refuses_wrong_flags_and_one_core_for_both() {
    let spin = |flags: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spin"));
        command.args(flags.split_whitespace()).output().unwrap()
    };
    for flags in ["--rounds 0", "--quick --rounds 2", "--arrivals bursts", "hold"] {
        assert_eq!(spin(flags).status.code(), Some(2), "{flags}");
    }
    let output = spin("--quick --server-core 1 --client-core 1");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("choose two cores"));
}

#[test]
fn slow_reader_and_deadlines_refuse_wrong_flags_and_one_core_for_both() {
    for program in [env!("CARGO_BIN_EXE_slow_reader"), env!("CARGO_BIN_EXE_deadlines")] {
        let run =
            |flags: &str| Command::new(program).args(flags.split_whitespace()).output().unwrap();
        for flags in ["--rounds 0", "--rate 1", "--inflight 5000", "--quick --rounds 2", "load"] {
            assert_eq!(run(flags).status.code(), Some(2), "{program} {flags}");
        }
        let output = run("--quick --server-core 1 --client-core 1");
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains("choose two cores"));
    }
}

#[test]
fn deadlines_end_calls_and_leave_nothing_also_in_a_quick_run() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_deadlines"));
    let output = command.arg("--quick").output().unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    assert_eq!(stdout.lines().filter(|line| line.starts_with("| 1 ")).count(), 1, "{stdout}");
}

#[test]
fn one_core_for_both_is_refused_before_anything_runs() {
    let output = floor("--quick --only-floors --server-core 1 --client-core 1").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("choose two cores") && !stderr.contains("[1/"), "{stderr}");
}

/// The processes that a process has started.
fn children(pid: u32) -> Vec<Pid> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    text.split_whitespace().filter_map(|word| Pid::from_raw(word.parse().ok()?)).collect()
}

#[test]
fn a_signal_takes_the_children_along() {
    let mut command = floor("--rounds 100 --secs 60 --only-floors --workloads E");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.starts_with("[1/200]"), "{line}");
    // The line announces the run; its two processes follow within a blink.
    let mut running = Vec::new();
    while running.len() < 2 {
        running = children(child.id());
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
    for pid in running {
        assert!(test_kill_process(pid).is_err(), "process {pid:?} is still there");
    }
    stderr.read_to_string(&mut line).unwrap();
}
