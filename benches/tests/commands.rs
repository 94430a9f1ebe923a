//! The commands as a user sees them: their output, their exit codes, and what a Ctrl-C leaves behind. These runs are
//! too short to measure anything.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

const FLOOR: &str = env!("CARGO_BIN_EXE_floor");
const KINDS: &str = env!("CARGO_BIN_EXE_kinds");
const MIXED: &str = env!("CARGO_BIN_EXE_mixed");
const SPIN: &str = env!("CARGO_BIN_EXE_spin");
const SLOW_READER: &str = env!("CARGO_BIN_EXE_slow_reader");
const DEADLINES: &str = env!("CARGO_BIN_EXE_deadlines");
const OVERLOAD: &str = env!("CARGO_BIN_EXE_overload");
const MANY: &str = env!("CARGO_BIN_EXE_many");

fn floor(flags: &str) -> Command {
    let mut command = Command::new(FLOOR);
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

/// The command ends with this code, prints nothing, and its first line of error is a sentence with these words.
fn refuses(program: &str, flags: &str, code: i32, words: &str) {
    let output = Command::new(program).args(flags.split_whitespace()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let first = stderr.lines().next().unwrap_or_default();
    assert_eq!(output.status.code(), Some(code), "{program} {flags}: {stderr}");
    assert!(first.starts_with("error: ") && first.contains(words), "{program} {flags}: {stderr}");
    assert!(output.stdout.is_empty(), "{program} {flags}");
}

#[test]
fn wrong_flags_end_with_code_2_and_say_what_is_allowed() {
    let quick = "'--quick' cannot be used with '--rounds <ROUNDS>'";
    for (program, flags, words) in [
        (FLOOR, "--workloads Q", "give letters from A to E"),
        (FLOOR, "--workloads A,A", "give each once"),
        (FLOOR, "--rounds 0", "give a whole number from 1 to 1000"),
        (FLOOR, "--enforce hope", "give first, bar or aim"),
        (FLOOR, "--only-floors --enforce", "cannot be used with"),
        (FLOOR, "--quick --rounds 2", quick),
        (KINDS, "--rounds 0", "give a whole number from 1 to 100"),
        (KINDS, "--quick --secs 2", "cannot be used with"),
        (FLOOR, "--only-floors --hosts", "cannot be used with"),
        (MIXED, "--rounds 0", "give a whole number from 1 to 100"),
        (MIXED, "--secs 0", "give seconds from 0.1 to 600"),
        (MIXED, "--quick --rounds 2", quick),
        (MIXED, "load", "required"),
        (SPIN, "--rounds many", "give a whole number from 1 to 100"),
        (SPIN, "--quick --rounds 2", quick),
        (SPIN, "--arrivals bursts", "give constant or poisson"),
        (SPIN, "hold", "required"),
        (SLOW_READER, "--rate 1", "give calls per second from 100 to 1000000"),
        (SLOW_READER, "--quick --rounds 2", quick),
        (DEADLINES, "--inflight 5000", "give a whole number from 1 to 4096"),
        (DEADLINES, "--quick --rounds 2", quick),
        (OVERLOAD, "--server-core -1", "unexpected argument"),
        (OVERLOAD, "--server-core 1024", "give a whole number from 0 to 1023"),
        (MANY, "--idle 10,some", "give a whole number from 0 to 1000000"),
        (MANY, "--secs 0", "give seconds from 0.05 to 600"),
    ] {
        refuses(program, flags, 2, words);
    }
}

#[test]
fn one_core_for_both_is_refused_before_anything_runs() {
    let one = "--quick --server-core 1 --client-core 1";
    refuses(FLOOR, &format!("{one} --only-floors"), 1, "choose two cores");
    for program in [MIXED, SPIN, SLOW_READER, DEADLINES, OVERLOAD] {
        refuses(program, one, 1, "choose two cores");
    }
}

#[test]
fn deadlines_end_calls_and_leave_nothing_also_in_a_quick_run() {
    let mut command = Command::new(DEADLINES);
    let output = command.arg("--quick").output().unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    assert_eq!(stdout.lines().filter(|line| line.starts_with("| 1 ")).count(), 1, "{stdout}");
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
    // The line announces the run; its two processes follow within moments.
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
