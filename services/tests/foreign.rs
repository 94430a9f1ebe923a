//! A client in another language, written from `docs/PROTOCOL.md` alone, calls what is here. Where there is no
//! `python3`, the test says that it was skipped.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{Address, Limits};
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;
use support::service::Habits;
use support::shells::serve;
use support::streams::Seen;
use support::{address, count, end};

/// REQ-83, REQ-84, REQ-85 and what stands below them, from the other end.
#[test]
fn a_client_that_knows_the_document_only() {
    let checks = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign/checks.py");
    let anywhere: Address = "127.0.0.1:0".parse().unwrap();
    let (habits, seen) = (Habits::default(), Seen::default());
    let server = serve(&anywhere, Limits::default(), &habits, &seen);
    let to = address(&server);
    let ran = Command::new("python3")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(checks)
        .args([to.ip().to_string(), to.port().to_string()])
        .output();
    let output = match ran {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("skipped: there is no python3");
            return end(server);
        }
        ran => ran.unwrap(),
    };
    let (said, failed) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "it passed: {said}\n{failed}");
    assert_eq!(said.lines().count(), 11, "{said}");
    assert_eq!(habits.touched.load(std::sync::atomic::Ordering::SeqCst), 5);
    // Those that it broke on purpose.
    assert_eq!(count(&server, |it| it.connections_faulted.value()), 7);
    end(server);
}
