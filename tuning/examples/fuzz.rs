//! Feeds everything that reads text with captures and files of the tool that were damaged by chance, and looks for a panic.
//!
//! ```text
//! cargo run --release -p corewire-tune --example fuzz -- SECONDS [SEED]
//! ```
//!
//! Every round takes one of the tests' hosts, damages it in a few places (bytes, numbers, lines: changed, doubled, cut, wrapped,
//! swapped), and goes the whole way: archive, snapshot, doctor, plan, script, and back through the plan's own form. A panic ends the
//! program with the round's seed.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use corewire_tune::doctor::{diagnose, report_json, report_text};
use corewire_tune::host::{Archive, ArchiveHost, NicFacts};
use corewire_tune::journal::Journaled;
use corewire_tune::placement::{CpuOrder, CpuSet, Placement};
use corewire_tune::plan::{Plan, PlanOptions, make, plan_text, script};
use corewire_tune::snapshot::{Scope, Snapshot};

/// xorshift64: small, and the same on every machine.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % (bound.max(1) as u64)).unwrap_or(0)
    }
}

const WORDS: [&str; 14] = [
    "0",
    "-1",
    "4294967295",
    "18446744073709551615",
    "99999999999999999999",
    "",
    ",",
    "0-8191",
    "ffffffff,ffffffff",
    "é",
    "\u{0}",
    ":",
    "CPU7",
    "eth%d-ntfy-block.4294967295",
];

fn damage(text: &str, chance: &mut Chance) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for _ in 0..=chance.below(6) {
        if lines.is_empty() {
            break;
        }
        let at = chance.below(lines.len());
        match chance.below(6) {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[at].clone()),
            2 => {
                let other = chance.below(lines.len());
                lines.swap(at, other);
            }
            // A mail program wraps.
            3 => {
                let cut = chance.below(lines[at].chars().count() + 1);
                let (head, tail): (String, String) =
                    (lines[at].chars().take(cut).collect(), lines[at].chars().skip(cut).collect());
                lines[at] = head;
                lines.insert(at + 1, format!("|{tail}"));
            }
            4 => {
                let mut words: Vec<&str> = lines[at].split(' ').collect();
                let word = chance.below(words.len());
                words[word] = WORDS[chance.below(WORDS.len())];
                lines[at] = words.join(" ");
            }
            _ => {
                let mut chars: Vec<char> = lines[at].chars().collect();
                if !chars.is_empty() {
                    let place = chance.below(chars.len());
                    chars[place] = char::from(u8::try_from(32 + chance.below(95)).unwrap_or(b' '));
                }
                lines[at] = chars.into_iter().collect();
            }
        }
    }
    lines.join("\n") + "\n"
}

/// The whole way of one text. Every refusal is right; only a panic is wrong.
fn round(text: &str) -> bool {
    for read in [
        |text: &str| drop(Placement::from_toml(text)),
        |text: &str| drop(NicFacts::from_text(text)),
        |text: &str| drop(Plan::from_json(text)),
        |text: &str| drop(Journaled::from_text(text).applies()),
        |text: &str| drop(text.parse::<CpuOrder>()),
        |text: &str| drop(CpuSet::from_mask(text)),
    ] {
        read(text);
    }
    let Ok(archive) = Archive::from_text(text) else { return false };
    let Ok(snapshot) = Snapshot::take(&ArchiveHost::new(archive), &Scope::default()) else {
        return false;
    };
    let report = diagnose(&snapshot, None);
    let _ = (report_text(&snapshot, &report), report_json(&snapshot, &report));
    let options = PlanOptions { is_named: true, rps: true, ..PlanOptions::default() };
    let Ok(plan) = make(&snapshot, &options) else { return false };
    let _ = (plan_text(&plan), script(&plan));
    let _ = plan.to_json().map(|json| {
        Plan::from_json(&json).map(|read| assert!(read == plan, "a plan does not read back"))
    });
    let _ = plan.placement.to_toml().map(|toml| Placement::from_toml(&toml));
    let _ = diagnose(&snapshot, Some(&plan.placement));
    true
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|word| word.parse::<u64>().ok());
    let seconds = arguments.next().unwrap_or(10);
    let mut seed = arguments.next().unwrap_or(1);
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let texts: Vec<String> = ["cases", "hosts"]
        .iter()
        .filter_map(|dir| fs::read_dir(tests.join(dir)).ok())
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok())
        .collect();
    let until = Instant::now() + Duration::from_secs(seconds);
    let (mut rounds, mut whole) = (0_u64, 0_u64);
    while Instant::now() < until {
        let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let text = damage(&texts[chance.below(texts.len())], &mut chance);
        let done = std::panic::catch_unwind(|| round(&text));
        match done {
            Ok(went_through) => whole += u64::from(went_through),
            Err(_) => {
                eprintln!("seed {seed} panics");
                std::process::exit(1);
            }
        }
        rounds += 1;
        seed += 1;
    }
    eprintln!("{rounds} rounds, {whole} of them to the plan; no panic");
}
