//! `corewire placement` as a person meets it.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::{Command, Output};

fn corewire(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_corewire")).args(arguments).output().unwrap()
}

#[test]
fn the_table_names_every_cpu_of_this_machine() {
    for policy in [&["placement"][..], &["placement", "all"], &["placement", "cores"]] {
        let output = corewire(policy);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        for cpu in corewire::allowed_cpus().unwrap() {
            let line =
                text.lines().find(|line| line.split_whitespace().next() == Some(&cpu.to_string()));
            assert!(
                line.is_some_and(|line| line.contains("online, in the affinity mask")),
                "{text}"
            );
        }
        assert!(text.contains("shard 0"), "{text}");
    }
}

#[test]
fn another_machine_is_read_from_a_folder() {
    let root = tempfile::tempdir().unwrap();
    let cpu = root.path().join("sys/devices/system/cpu");
    std::fs::create_dir_all(&cpu).unwrap();
    std::fs::write(cpu.join("online"), "0-5\n").unwrap();
    std::fs::write(cpu.join("isolated"), "4-5\n").unwrap();
    let folder = root.path().to_str().unwrap();
    let output = corewire(&["placement", "4-5", "--root", folder]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.lines().any(|line| line.contains("5  shard 1") && line.contains("isolated")),
        "{text}"
    );
}

#[test]
fn what_is_wrong_is_one_sentence_and_code_2() {
    for (policy, names) in [
        ("some", "unpinned:4"),
        ("split:9999", "leaves no core"),
        ("node-of:none0", "none0"),
        ("8191", "8191"),
        ("file:/no/such", "/no/such"),
    ] {
        let output = corewire(&["placement", policy]);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{policy}: {text}");
        assert!(text.contains(names), "{policy}: {text}");
        assert!(output.stdout.is_empty());
    }
}
