//! Every requirement of `docs/PROTOCOL.md` is cited by code or a test, and every citation exists.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Calls `found` with the number of each `REQ-n` in a text, and with whether it is a definition.
fn each_number(text: &str, mut found: impl FnMut(u32, bool)) {
    for (at, _) in text.match_indices("REQ-") {
        let rest = &text[at + 4..];
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let Ok(number) = rest[..digits].parse() else { continue };
        let defines = text[..at].ends_with("\n**") && rest[digits..].starts_with(".**");
        found(number, defines);
    }
}

/// All Rust files below a folder, but for what a build leaves behind and this very file.
fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                rust_files(&path, files);
            }
        } else if name.ends_with(".rs") && name != "requirements.rs" {
            files.push(path);
        }
    }
}

#[test]
fn every_requirement_is_cited_and_every_citation_exists() {
    let document = std::fs::read_to_string(root().join("docs/PROTOCOL.md")).unwrap();
    let mut cited_by: BTreeMap<u32, Vec<PathBuf>> = BTreeMap::new();
    let mut unknown = Vec::new();
    each_number(&document, |number, defines| {
        if defines {
            let twice = cited_by.insert(number, Vec::new());
            assert!(twice.is_none(), "REQ-{number} is defined twice");
        }
    });
    assert!(cited_by.len() > 40, "only {} definitions were found", cited_by.len());
    each_number(&document, |number, _| {
        if !cited_by.contains_key(&number) {
            unknown.push(format!("REQ-{number} in docs/PROTOCOL.md"));
        }
    });
    let mut files = Vec::new();
    rust_files(&root(), &mut files);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        each_number(&text, |number, _| match cited_by.get_mut(&number) {
            Some(by) => by.push(file.clone()),
            None => unknown.push(format!("REQ-{number} in {}", file.display())),
        });
    }
    assert!(unknown.is_empty(), "cited, but not in docs/PROTOCOL.md: {unknown:#?}");
    let uncited: Vec<_> =
        cited_by.iter().filter(|(_, by)| by.is_empty()).map(|(number, _)| number).collect();
    assert!(uncited.is_empty(), "no code or test cites REQ {uncited:?}");
}

/// The check itself can fail: it sees a definition, a citation, and no number at all.
#[test]
fn the_scan_tells_definitions_from_citations() {
    let mut seen = Vec::new();
    each_number("x\n**REQ-7.** see REQ-12, REQ-n, REQ-3.**", |number, defines| {
        seen.push((number, defines));
    });
    assert_eq!(seen, [(7, true), (12, false), (3, false)]);
}

/// Each rule's number and requirement appear in the document's table of misbehaviour.
#[test]
fn every_rule_is_in_the_table() {
    let document = std::fs::read_to_string(root().join("docs/PROTOCOL.md")).unwrap();
    let table = document.split("## 11 ").nth(1).unwrap().split("## 12 ").next().unwrap();
    for rule in corewire_codec::Rule::ALL {
        let named = format!("rule {}", rule.number());
        let found = table
            .match_indices(&named)
            .any(|(at, _)| !table[at + named.len()..].starts_with(|c: char| c.is_ascii_digit()));
        assert!(found, "{named} is not in section 11");
    }
}
