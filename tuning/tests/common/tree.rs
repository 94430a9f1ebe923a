//! The program on copies of a machine's files. It is no part of `common`: only tests know where the program is.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(dead_code, reason = "each test program uses its part")]
#![allow(unreachable_pub, reason = "shared by test programs")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use corewire_tune::host::Archive;

use crate::common::classes;

pub fn tune(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_corewire-tune")).args(arguments).output().unwrap()
}

pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn class(name: &str) -> Archive {
    classes::all().into_iter().find(|(known, _, _)| *known == name).unwrap().1
}

/// A machine's files in a temporary directory, with a plan for them.
pub struct Tree {
    pub dir: tempfile::TempDir,
}

impl Tree {
    pub fn new(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        unpack(&class(name), &dir.path().join("root")).unwrap();
        Self { dir }
    }

    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_string_lossy().into_owned()
    }

    pub fn plan(&self, extra: &[&str]) -> Output {
        let root = self.path("root");
        let mut arguments = vec!["plan", "--root", &root, "--sample-ms", "0"];
        arguments.extend(extra);
        let output = tune(&arguments);
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        output
    }

    pub fn with_state(&self, arguments: &[&str]) -> Output {
        let (root, state) = (self.path("root"), self.path("state"));
        let mut all = arguments.to_vec();
        all.extend(["--root", &root, "--state-dir", &state]);
        tune(&all)
    }

    pub fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        walk(&self.dir.path().join("root"), &mut files);
        files
    }
}

/// Writes the first moment of an archive out as a tree under `root`, which should be empty.
pub fn unpack(archive: &Archive, root: &Path) -> std::io::Result<()> {
    let make = |path: &str, text: &str| -> std::io::Result<()> {
        let real = root.join(path.trim_start_matches('/'));
        if let Some(parent) = real.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(real, text)
    };
    for (path, text) in &archive.first.files {
        make(path, text)?;
    }
    for (iface, facts) in &archive.first.nics {
        make(&format!("/nic/{iface}"), facts)?;
    }
    for path in &archive.dirs {
        fs::create_dir_all(root.join(path.trim_start_matches('/')))?;
    }
    let processes: String =
        archive.processes.iter().map(|(pid, name)| format!("{pid} {name}\n")).collect();
    make("/processes", &processes)?;
    for (path, target) in &archive.links {
        let real = root.join(path.trim_start_matches('/'));
        if let Some(parent) = real.parent() {
            fs::create_dir_all(parent)?;
        }
        let target = root.join(target.trim_start_matches('/'));
        fs::create_dir_all(&target)?;
        if !real.exists() {
            std::os::unix::fs::symlink(fs::canonicalize(target)?, real)?;
        }
    }
    Ok(())
}

pub fn walk(dir: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        // The host's lock is the tool's own, and no setting.
        if path.is_symlink() || path.ends_with("run/corewire-tune") {
            continue;
        }
        if path.is_dir() {
            walk(&path, files);
        } else {
            files.insert(path.to_string_lossy().into_owned(), fs::read(&path).unwrap());
        }
    }
}
