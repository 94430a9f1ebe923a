//! The script that `plan --format sh` writes, against the binary, by every shell that is installed; and the scripts for people.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
#[path = "common/tree.rs"]
mod tree;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use tree::{Tree, code, text};

/// An `ethtool` that sets what a tree's cards say of themselves.
const ETHTOOL: &str = r#"#!/bin/sh
case $1 in
    -L) name=channels.$3 ;;
    -G) name=ring.$3 ;;
    -C) name=coalesce.$3 ;;
    *) exit 1 ;;
esac
value=$4
case $value in on) value=1 ;; off) value=0 ;; esac
grep -q "^$name " "$ROOT/nic/$2" || exit 1
sed "s/^$name .*/$name $value/" "$ROOT/nic/$2" > "$ROOT/nic/$2.new" && mv "$ROOT/nic/$2.new" "$ROOT/nic/$2"
"#;

/// The files of a tree by their place in it, so that two trees can be compared.
fn relative(tree: &Tree) -> BTreeMap<String, Vec<u8>> {
    let root = tree.path("root");
    tree.contents().into_iter().map(|(path, bytes)| (path.replacen(&root, "", 1), bytes)).collect()
}

#[test]
fn the_script_and_the_binary_end_in_the_same_state() {
    let shells: Vec<Vec<&str>> = [vec!["sh"], vec!["dash"], vec!["busybox", "sh"]]
        .into_iter()
        .filter(|words| {
            let found = Command::new(words[0]).args(&words[1..]).args(["-c", ":"]).output().is_ok();
            if !found {
                eprintln!("SKIPPED: {words:?} is not installed");
            }
            found
        })
        .collect();
    assert!(!shells.is_empty(), "not even sh");
    for name in ["ixgbe-64-cpus", "mlx5-two-sockets", "bond-of-two", "offline-hole-old-kernel"] {
        let goal = ["--goal", "latency", "--iface", "eth0"];
        let goal =
            if name == "bond-of-two" { &["--goal", "latency", "--iface", "bond0"] } else { &goal };
        let goal = if name == "mlx5-two-sockets" {
            &["--goal", "latency", "--iface", "ens1f0np0"]
        } else {
            goal
        };
        let by_binary = Tree::new(name);
        let before = by_binary.contents();
        fs::write(
            by_binary.path("plan.json"),
            by_binary.plan(&[&goal[..], &["--format", "json"]].concat()).stdout,
        )
        .unwrap();
        let output = by_binary.with_state(&["apply", &by_binary.path("plan.json"), "--confirm"]);
        assert_eq!(code(&output), 0, "{name}: {}", text(&output.stderr));
        let expected = relative(&by_binary);
        assert_eq!(code(&by_binary.with_state(&["undo"])), 0);
        assert_eq!(by_binary.contents(), before, "{name}: undo by the binary");
        for shell in &shells {
            let tree = Tree::new(name);
            let start = relative(&tree);
            let script = tree.path("plan.sh");
            fs::write(&script, tree.plan(&[&goal[..], &["--format", "sh"]].concat()).stdout)
                .unwrap();
            let bin = tree.dir.path().join("bin");
            fs::create_dir(&bin).unwrap();
            fs::write(bin.join("ethtool"), ETHTOOL).unwrap();
            fs::set_permissions(bin.join("ethtool"), fs::Permissions::from_mode(0o755)).unwrap();
            let run = |word: &str| {
                let path =
                    format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
                let output = Command::new(shell[0])
                    .args(&shell[1..])
                    .args([script.as_str(), word])
                    .env("ROOT", tree.path("root"))
                    .env("PATH", path)
                    .output();
                let output = output.unwrap();
                assert_eq!(code(&output), 0, "{name}, {shell:?} {word}: {}", text(&output.stderr));
            };
            run("dry-run");
            assert_eq!(relative(&tree), start, "{name}, {shell:?}: a dry run wrote");
            run("apply");
            assert_eq!(relative(&tree), expected, "{name}, {shell:?}: apply");
            run("apply");
            assert_eq!(relative(&tree), expected, "{name}, {shell:?}: apply again");
            run("undo");
            assert_eq!(relative(&tree), start, "{name}, {shell:?}: undo");
        }
    }
}

#[test]
fn the_script_writes_the_ban_and_takes_it_back_to_the_byte() {
    let tree = Tree::new("disks-and-irqbalance");
    let config = tree.path("root/etc/default/irqbalance");
    let before = fs::read_to_string(&config).unwrap();
    let script = tree.path("plan.sh");
    fs::write(&script, tree.plan(&["--only", "irqbalance", "--format", "sh"]).stdout).unwrap();
    let run = |word: &str| {
        let root = tree.path("root");
        let output = Command::new("sh").args([&script, word]).env("ROOT", root).output().unwrap();
        assert_eq!(code(&output), 0, "{word}: {}", text(&output.stderr));
        fs::read_to_string(&config).unwrap()
    };
    assert_eq!(run("dry-run"), before);
    let banned = before.replace("--foreground", "--foreground --banmod=ixgbe --banmod=eth0");
    assert_eq!(run("apply"), banned);
    assert_eq!(run("undo"), before);
}

#[test]
fn the_script_for_people_shows_and_changes_nothing() {
    let tree = Tree::new("offline-hole-old-kernel");
    let (root, before) = (tree.path("root"), tree.contents());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/show-netfilter.sh");
    let run =
        |arguments: &[&str]| Command::new("sh").arg(&script).args(arguments).output().unwrap();
    let output = run(&["--root", &root, "--port", "9000"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert!(!output.stdout.is_empty());
    assert_eq!(code(&run(&["--port", "x"])), 64);
    assert_eq!(tree.contents(), before);
}
