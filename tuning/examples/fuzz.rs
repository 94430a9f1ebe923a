//! Feeds everything that reads text with randomly damaged captures and files of the tool, and looks for panics and for
//! runs that do not end.
//!
//! ```text
//! cargo run --release -p corewire-tune --example fuzz -- SECONDS [SEED]
//! ```
//!
//! Every round takes one of the tests' hosts and damages it in a few places: bytes, words, numbers (to the limits of their types),
//! lines and whole entries, which are also taken from other hosts. Then it goes the whole way: archive, snapshot, doctor, plan,
//! script, apply and undo on a machine in memory, and verify. The files that this writes (plan, placement, journal, reports) are
//! damaged in the same way and read back. A panic, or a round of more than two minutes, ends the program with the
//! round's seed.

#[path = "../tests/common/mod.rs"]
mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::classes;
use common::fake::{FakeHost, MemoryJournal};
use corewire_tune::apply::{ApplyOptions, apply, undo};
use corewire_tune::doctor::{diagnose, report_json, report_text};
use corewire_tune::host::{Archive, ArchiveHost, NicFacts};
use corewire_tune::journal::{Journal as _, Journaled, line_of};
use corewire_tune::placement::{CpuOrder, CpuSet, Layout, Options, Placement};
use corewire_tune::plan::{Goal, Plan, PlanOptions, make, plan_text, script};
use corewire_tune::snapshot::{Scope, Snapshot};
use corewire_tune::verify::{VerifyOptions, VerifyReport, compare, heat_strip, verify};

/// xorshift64: small, and the same on every machine.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % (bound.max(1) as u64)).unwrap_or(0)
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn of<'l, T>(&mut self, list: &'l [T]) -> Option<&'l T> {
        list.get(self.below(list.len()))
    }
}

/// Words that replace another one.
const WORDS: [&str; 20] = [
    "",
    ",",
    ":",
    "-",
    "/",
    "..",
    "0-8191",
    "8191-0",
    "0-4294967295",
    "ffffffff,ffffffff",
    "é",
    "\u{0}",
    "CPU7",
    "eth%d-ntfy-block.4294967295",
    "eth0-TxRx-4294967295",
    "mlx5_comp4294967295@pci:0000:41:00.0",
    "[]",
    "{}",
    "NaN",
    "1e999",
];

/// Numbers at the limits of what may read them.
const LIMITS: [&str; 16] = [
    "-9223372036854775809",
    "-1",
    "0",
    "1",
    "31",
    "32",
    "1023",
    "8191",
    "8192",
    "65536",
    "2147483648",
    "4294967295",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999",
];

/// Replaces one of the line's numbers by another at a limit.
fn stretch(line: &str, chance: &mut Chance) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut was_digit = None;
    for letter in line.chars() {
        if was_digit != Some(letter.is_ascii_digit()) {
            parts.push(String::new());
        }
        was_digit = Some(letter.is_ascii_digit());
        parts.last_mut().into_iter().for_each(|part| part.push(letter));
    }
    let is_number = |part: &String| part.starts_with(|letter: char| letter.is_ascii_digit());
    let numbers: Vec<usize> = (0..parts.len()).filter(|at| is_number(&parts[*at])).collect();
    if let (Some(at), Some(limit)) = (chance.of(&numbers), chance.of(&LIMITS)) {
        parts[*at] = (*limit).to_owned();
    }
    parts.concat()
}

/// The first and the last line, exclusive, of an entry of a capture: `@file ...` and its content.
fn entry(lines: &[String], chance: &mut Chance) -> (usize, usize) {
    let mut first = chance.below(lines.len());
    while first > 0 && !lines[first].starts_with('@') {
        first -= 1;
    }
    let length = lines[first..].iter().skip(1).take_while(|line| line.starts_with('|')).count();
    (first, first + 1 + length)
}

fn damage(text: &str, other: &str, chance: &mut Chance) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let others: Vec<String> = other.lines().map(str::to_owned).collect();
    for _ in 0..=chance.below(8) {
        if lines.is_empty() || others.is_empty() {
            break;
        }
        let at = chance.below(lines.len());
        match chance.below(11) {
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
                words[word] = chance.of(&WORDS).copied().unwrap_or_default();
                lines[at] = words.join(" ");
            }
            5 | 6 => lines[at] = stretch(&lines[at], chance),
            7 => {
                let mut chars: Vec<char> = lines[at].chars().collect();
                if !chars.is_empty() {
                    let place = chance.below(chars.len());
                    chars[place] = char::from(u8::try_from(32 + chance.below(95)).unwrap_or(b' '));
                }
                lines[at] = chars.into_iter().collect();
            }
            // An entry of another host, which takes the place of the host's own if its name is the same.
            8 | 9 => {
                let (first, end) = entry(&others, chance);
                lines.extend_from_slice(&others[first..end]);
            }
            // An entry that is gone, or that is there twice.
            _ => {
                let (first, end) = entry(&lines, chance);
                let taken: Vec<String> = lines.drain(first..end).collect();
                if chance.one_in(2) {
                    lines.extend(taken.iter().chain(&taken).cloned());
                }
            }
        }
    }
    lines.join("\n") + "\n"
}

/// Reads a damaged text of each kind that the tool writes. `text` is one of them.
fn read_back(text: &str) {
    let _ = Placement::from_toml(text);
    let _ = NicFacts::from_text(text);
    let _ = Journaled::from_text(text).applies();
    let _ = text.parse::<CpuOrder>();
    let _ = CpuSet::from_mask(text);
    if let Ok(plan) = Plan::from_json(text) {
        let _ = (plan_text(&plan), script(&plan));
    }
    if let Ok(report) = serde_json::from_str::<VerifyReport>(text) {
        let _ = (heat_strip(&report), compare(&report, &report));
    }
}

fn options(chance: &mut Chance) -> PlanOptions {
    let layouts = [Layout::Aligned, Layout::Aligned, Layout::Split(1), Layout::Split(u32::MAX)];
    let numbers = [None, None, None, Some(1), Some(3), Some(8192)];
    let goals = [None, Some(Goal::Latency), Some(Goal::Throughput)];
    let cpus = if chance.one_in(4) { "3,1-2".parse().ok() } else { None };
    PlanOptions {
        is_named: !chance.one_in(8),
        rps: chance.one_in(2),
        goal: chance.of(&goals).copied().flatten(),
        derive: Options {
            layout: chance.of(&layouts).copied().unwrap_or_default(),
            cpus,
            shards: chance.of(&numbers).copied().flatten(),
            smt: chance.one_in(2),
            queues: chance.of(&numbers).copied().flatten(),
        },
        ..PlanOptions::default()
    }
}

/// Applies the plan, undoes it, and damages what was written meanwhile.
fn apply_and_undo(archive: Archive, plan: &Plan, chance: &mut Chance) {
    let host = FakeHost::new(archive);
    let mut journal = MemoryJournal::default();
    let allowed = ApplyOptions { irqbalance_is_banned: true, ..ApplyOptions::default() };
    let _ = apply(&host, &mut journal, plan, &allowed, &mut |_| Ok(()));
    let _ = undo(&host, &mut journal, "apply-1", chance.one_in(2));
    let records = journal.records().map(|journaled| journaled.records).unwrap_or_default();
    let text: String = records.iter().filter_map(|record| line_of(record).ok()).collect();
    read_back(&damage(&text, &text, chance));
}

/// The whole way of one text. Every refusal is right; only a panic is wrong. Returns whether there was a plan.
fn round(text: &str, chance: &mut Chance) -> bool {
    let Ok(archive) = Archive::from_text(text) else { return false };
    let scope = Scope { engine_pid: chance.one_in(4).then_some(1), ..Scope::default() };
    let watching = VerifyOptions {
        ifaces: Vec::new(),
        targets: None,
        samples: 2,
        period: Duration::from_secs(1),
        skew_max: 1.5,
        flows: None,
    };
    if let Ok(report) = verify(&ArchiveHost::new(archive.clone()), &watching, &mut || true) {
        let json = serde_json::to_string_pretty(&report).unwrap_or_default();
        let _ = (heat_strip(&report), compare(&report, &report));
        read_back(&damage(&json, &json, chance));
    }
    let Ok(snapshot) = Snapshot::take(&ArchiveHost::new(archive.clone()), &scope) else {
        return false;
    };
    let report = diagnose(&snapshot, None);
    let _ = (report_text(&snapshot, &report), report_json(&snapshot, &report));
    let Ok(plan) = make(&snapshot, &options(chance)) else { return false };
    let _ = (plan_text(&plan), script(&plan));
    if let Ok(json) = plan.to_json() {
        let read = Plan::from_json(&json);
        assert!(read.is_ok_and(|read| read == plan), "a plan does not read back");
        read_back(&damage(&json, &json, chance));
    }
    if let Ok(toml) = plan.placement.to_toml() {
        let damaged = damage(&toml, &toml, chance);
        read_back(&damaged);
        for given in [Placement::from_toml(&toml), Placement::from_toml(&damaged)] {
            let Ok(given) = given else { continue };
            let _ = diagnose(&snapshot, Some(&given));
            let options = PlanOptions { given: Some(given), ..PlanOptions::default() };
            let _ = make(&snapshot, &options).map(|plan| (plan_text(&plan), script(&plan)));
        }
    }
    apply_and_undo(archive, &plan, chance);
    true
}

/// The seed of the current round.
static RUNNING: AtomicU64 = AtomicU64::new(0);

/// How long a round may take. Most take a hundredth of a second; a damaged count of interrupts may make tens of
/// thousands of them, each of which is looked up by its name.
const ROUND: Duration = Duration::from_secs(120);

/// Ends the program when a round does not end.
fn watch() {
    let (mut seed, mut since) = (0, Instant::now());
    loop {
        std::thread::sleep(ROUND / 10);
        let running = RUNNING.load(Ordering::Relaxed);
        if running != seed {
            (seed, since) = (running, Instant::now());
        } else if since.elapsed() > ROUND {
            eprintln!("seed {seed} takes more than {ROUND:?}");
            std::process::exit(1);
        }
    }
}

fn main() {
    std::thread::spawn(watch);
    let mut arguments = std::env::args().skip(1).filter_map(|word| word.parse::<u64>().ok());
    let seconds = arguments.next().unwrap_or(10);
    let mut seed = arguments.next().unwrap_or(1);
    let texts: Vec<String> =
        classes::all().iter().map(|(_, archive, _)| archive.to_text()).collect();
    let until = Instant::now() + Duration::from_secs(seconds);
    let (mut rounds, mut whole) = (0_u64, 0_u64);
    while Instant::now() < until {
        RUNNING.store(seed, Ordering::Relaxed);
        let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let (one, other) = (chance.below(texts.len()), chance.below(texts.len()));
        let done = std::panic::catch_unwind(|| {
            let mut chance = Chance(chance.0);
            let text = damage(&texts[one], &texts[other], &mut chance);
            round(&text, &mut chance)
        });
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
    eprintln!("{rounds} rounds, {whole} of them to the plan; none panics, none hangs");
}
