//! Runs `tests/story.sh`, the whole story on a real kernel, and `tests/namespaces.sh`, a table of what goes wrong, when asked to:
//!
//! ```text
//! COREWIRE_TUNE_STORY=1 cargo test --release -p corewire-tune --test story -- --nocapture
//! ```
//!
//! It needs root, `ip` and two CPUs that are not busy with something else. Without the variable it says that it did
//! not run: a test that loads the machine for a minute must not run unasked.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::Command;

/// What the script ends with when the machine cannot run it.
const SKIPPED: i32 = 77;

#[test]
fn the_story_on_a_real_kernel() {
    run("story.sh");
}

#[test]
fn what_goes_wrong_on_a_real_kernel() {
    run("namespaces.sh");
}

fn run(name: &str) {
    if std::env::var_os("COREWIRE_TUNE_STORY").is_none() {
        eprintln!("SKIPPED: set COREWIRE_TUNE_STORY=1 to run tests/{name} (root, ip)");
        return;
    }
    let tune = Path::new(env!("CARGO_BIN_EXE_corewire-tune"));
    let flood = tune.parent().unwrap().join("examples/flood");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name);
    let status = Command::new("sh")
        .arg(script)
        .env("COREWIRE_TUNE", tune)
        .env("FLOOD", flood)
        .status()
        .unwrap();
    match status.code() {
        Some(0) => {}
        // A caller that asked for the story must not be told that all is well when nothing was checked.
        Some(SKIPPED) => {
            panic!("{name} was asked for, and this machine cannot run it; see the line above")
        }
        code => panic!("{name} ended with {code:?}"),
    }
}
