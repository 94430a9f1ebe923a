//! Every requirement of `docs/PROTOCOL.md` is cited by a test, and every citation exists.
//!
//! A test cites a requirement in its doc comment (`REQ-7`) or at the beginning of its name (`req_7_…`).
//! What other comments say is held to exist and counts for nothing.
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

/// What each test of a file cites.
fn each_test_citation(text: &str, mut found: impl FnMut(u32)) {
    let (mut documented, mut is_test, mut in_attribute) = (Vec::new(), false, false);
    for line in text.lines().map(str::trim) {
        if line.starts_with("///") {
            each_number(line, |number, _| documented.push(number));
        } else if line.starts_with("#[") || in_attribute {
            is_test |= line == "#[test]";
            in_attribute = !line.ends_with(']');
        } else {
            if is_test && let Some(name) = line.strip_prefix("fn ") {
                documented.drain(..).for_each(&mut found);
                let numbers =
                    name.strip_prefix("req_").into_iter().flat_map(|rest| rest.split('_'));
                numbers.map_while(|part| part.parse().ok()).for_each(&mut found);
            }
            documented.clear();
            is_test = false;
        }
    }
}

/// Where tests cite a requirement.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tested {
    /// Below `codec` or `engine`.
    in_memory: bool,
    /// In `services/tests`.
    over_sockets: bool,
}

/// What a hostile peer can do about streams and calls is tested twice: on the bare state machines, and
/// over real sockets.
const BAD_INPUT: [(u32, &str); 8] = [
    (21, "metadata over its bound"),
    (34, "a timeout of zero, and of a thousand years"),
    (52, "credit overdrawn"),
    (53, "credit that no counter holds"),
    (54, "data behind the end; a stream never opened, or long over"),
    (55, "a cancel for an unknown call"),
    (73, "no credit ever granted"),
    (74, "streams opened for ever"),
];

#[test]
fn every_requirement_is_cited_by_a_test_and_every_citation_exists() {
    let document = std::fs::read_to_string(root().join("docs/PROTOCOL.md")).unwrap();
    let mut tested: BTreeMap<u32, Tested> = BTreeMap::new();
    let mut unknown = Vec::new();
    each_number(&document, |number, defines| {
        if defines {
            let twice = tested.insert(number, Tested::default());
            assert!(twice.is_none(), "REQ-{number} is defined twice");
        }
    });
    assert!(tested.len() > 40, "only {} definitions were found", tested.len());
    each_number(&document, |number, _| {
        if !tested.contains_key(&number) {
            unknown.push(format!("REQ-{number} in docs/PROTOCOL.md"));
        }
    });
    let mut files = Vec::new();
    rust_files(&root(), &mut files);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        each_number(&text, |number, _| {
            if !tested.contains_key(&number) {
                unknown.push(format!("REQ-{number} in {}", file.display()));
            }
        });
        let over_sockets = file.starts_with(root().join("services/tests"));
        each_test_citation(&text, |number| {
            if let Some(tested) = tested.get_mut(&number) {
                *if over_sockets { &mut tested.over_sockets } else { &mut tested.in_memory } = true;
            }
        });
    }
    assert!(unknown.is_empty(), "cited, but not in docs/PROTOCOL.md: {unknown:#?}");
    let untested: Vec<_> = tested
        .iter()
        .filter(|(_, by)| **by == Tested::default())
        .map(|(number, _)| number)
        .collect();
    assert!(untested.is_empty(), "no test cites REQ {untested:?}");
    for (number, input) in BAD_INPUT {
        let both = Tested { in_memory: true, over_sockets: true };
        assert_eq!(tested.get(&number), Some(&both), "REQ-{number}: {input}");
    }
}

/// The checks themselves can fail: they see a definition, a citation, and no number at all.
#[test]
fn the_scan_tells_definitions_from_citations() {
    let mut seen = Vec::new();
    each_number("x\n**REQ-7.** see REQ-12, REQ-n, REQ-3.**", |number, defines| {
        seen.push((number, defines));
    });
    assert_eq!(seen, [(7, true), (12, false), (3, false)]);
}

#[test]
fn the_scan_tells_tests_from_other_code() {
    let text = "
        //! REQ-1
        /// REQ-2
        fn helper() {}
        /// REQ-3,
        /// REQ-4.
        #[test]
        #[allow(
            dead_code,
            reason = \"it cites\"
        )]
        fn req_5_6_and_7() {
            // REQ-8
        }
        /// REQ-9
        const X: u32 = 0;
        #[test]
        fn req_10_x() {}
    ";
    let mut seen = Vec::new();
    each_test_citation(text, |number| seen.push(number));
    assert_eq!(seen, [3, 4, 5, 6, 10]);
}

/// Section 11 has a row for each rule, with the requirements that the rule's own text names, and no other;
/// and its first table says what breaks it.
#[test]
fn every_rule_is_in_the_tables() {
    let document = std::fs::read_to_string(root().join("docs/PROTOCOL.md")).unwrap();
    let section = document.split("## 11 ").nth(1).unwrap().split("## 12 ").next().unwrap();
    let (breaches, by_number) = section.split_once("**Rules by number.**").unwrap();
    let requirements = |text: &str| {
        let mut numbers = Vec::new();
        each_number(text, |number, _| numbers.push(number));
        numbers
    };
    let rows: Vec<(u32, Vec<u32>)> = by_number
        .lines()
        .filter_map(|line| {
            let number = line.strip_prefix("| ")?.split(' ').next()?.parse().ok()?;
            Some((number, requirements(line)))
        })
        .collect();
    let rules = corewire_codec::Rule::ALL.iter();
    let wanted: Vec<_> = rules.map(|rule| (rule.number(), requirements(rule.text()))).collect();
    assert_eq!(rows, wanted);
    for (number, _) in wanted {
        let named = format!("rule {number}");
        let found = breaches
            .match_indices(&named)
            .any(|(at, _)| !breaches[at + named.len()..].starts_with(|c: char| c.is_ascii_digit()));
        assert!(found, "{named} is not in the first table of section 11");
    }
}
