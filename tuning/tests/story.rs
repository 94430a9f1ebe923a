//! Runs `tests/story.sh`, the whole story on a real kernel, when asked to:
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
    if std::env::var_os("COREWIRE_TUNE_STORY").is_none() {
        eprintln!("SKIPPED: set COREWIRE_TUNE_STORY=1 to run tests/story.sh (root, ip)");
        return;
    }
    let tune = Path::new(env!("CARGO_BIN_EXE_corewire-tune"));
    let flood = tune.parent().unwrap().join("examples/flood");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/story.sh");
    let status = Command::new("sh")
        .arg(script)
        .env("COREWIRE_TUNE", tune)
        .env("FLOOD", flood)
        .status()
        .unwrap();
    match status.code() {
        Some(0) => {}
        // Who asked for the story must not be told that all is well when nothing was looked at.
        Some(SKIPPED) => {
            panic!("the story was asked for, and this machine cannot run it; see the line above")
        }
        code => panic!("the story ended with {code:?}"),
    }
}
