//! Instructions per call: what is counted, the stored base, and whether today's counts stay close to it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::report::write_document;

/// How far above the base a count without sockets may be, as a fraction of the base. The same program gives the same
/// count again within a thousandth.
const IN_MEMORY_TOLERANCE: f64 = 0.02;

/// How far above the base a count over sockets may be. There, the scheduler decides how many calls share a turn;
/// `benches/README.md` has the spread that this was chosen by.
const SOCKETS_TOLERANCE: f64 = 0.10;

/// Something whose instructions are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// A request and a reply of 64 B are encoded.
    CodecEncode,
    /// A request and a reply of 64 B are decoded.
    CodecDecode,
    /// The server's side of a unary call of 64 B, without a socket.
    ServerInMemory,
    /// The client's side of such a call.
    ClientInMemory,
    /// The whole echo server under workload B.
    ServerB,
    /// The whole load generator under workload B.
    ClientB,
    /// The whole echo server under workload E.
    ServerE,
    /// The whole load generator under workload E.
    ClientE,
}

/// The load over sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Bytes of each body.
    pub payload: u32,
    /// Connections.
    pub conns: u32,
    /// Calls in flight on each.
    pub inflight: u32,
    /// Whether the server is counted; otherwise the client.
    pub server: bool,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::CodecEncode,
        Self::CodecDecode,
        Self::ServerInMemory,
        Self::ClientInMemory,
        Self::ServerB,
        Self::ClientB,
        Self::ServerE,
        Self::ClientE,
    ];

    /// Its name in tables, flags and the base.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CodecEncode => "codec-encode",
            Self::CodecDecode => "codec-decode",
            Self::ServerInMemory => "server-in-memory",
            Self::ClientInMemory => "client-in-memory",
            Self::ServerB => "server-b",
            Self::ClientB => "client-b",
            Self::ServerE => "server-e",
            Self::ClientE => "client-e",
        }
    }

    /// The scenario of that name.
    ///
    /// # Errors
    ///
    /// One sentence with the names that exist.
    pub fn parse(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|scenario| scenario.name() == name).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.into_iter().map(Self::name).collect();
            format!("there is no scenario '{name}'; give one of {}", names.join(", "))
        })
    }

    /// Its load, if it goes over sockets.
    #[must_use]
    pub fn load(self) -> Option<Load> {
        let b = |server| Some(Load { payload: 64, conns: 1, inflight: 64, server });
        let e = |server| Some(Load { payload: 1024, conns: 32, inflight: 1, server });
        match self {
            Self::CodecEncode | Self::CodecDecode | Self::ServerInMemory | Self::ClientInMemory => {
                None
            }
            Self::ServerB => b(true),
            Self::ClientB => b(false),
            Self::ServerE => e(true),
            Self::ClientE => e(false),
        }
    }

    /// How many calls the shorter of its two runs makes; the longer one makes twice as many.
    #[must_use]
    pub fn calls(self) -> u64 {
        match self {
            Self::ServerE | Self::ClientE => 40_000,
            Self::ServerB | Self::ClientB => 100_000,
            _ => 64_000,
        }
    }

    /// How far above the base its count may be, as a fraction of the base.
    #[must_use]
    pub fn tolerance(self) -> f64 {
        if self.load().is_some() { SOCKETS_TOLERANCE } else { IN_MEMORY_TOLERANCE }
    }
}

/// Instructions per call by the scenario's name.
pub type Counts = BTreeMap<String, f64>;

/// The stored counts to compare with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Base {
    /// What `rustc --version` said when the counts were made.
    pub rustc: String,
    /// Instructions per call.
    pub per_call: Counts,
}

impl Base {
    /// Reads a base.
    ///
    /// # Errors
    ///
    /// When the file is not there or holds something else; the message says how to fix it.
    pub fn read(path: &Path) -> Result<Self> {
        let remedy = || format!("cannot read the base {}; --save writes one", path.display());
        let text = std::fs::read_to_string(path).with_context(remedy)?;
        let base: Self = serde_json::from_str(&text).with_context(remedy)?;
        for (name, count) in &base.per_call {
            ensure!(count.is_finite() && *count > 0.0, "the base of {name} is no count: {count}");
        }
        Ok(base)
    }

    /// Writes it, with counts to a tenth.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut rounded = self.clone();
        rounded.per_call.values_mut().for_each(|count| *count = (*count * 10.0).round() / 10.0);
        write_document(path, &rounded)
    }
}

/// How a count compares with its base.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Within the tolerance, on either side.
    Holds,
    /// Below the base by more than the tolerance: a new base would keep the gain.
    Better,
    /// Above the base by more than the tolerance.
    Worse,
    /// Counted today, but the base does not know it.
    NoBase,
    /// In the base, but not counted today although everything was to be counted.
    NotCounted,
}

/// One scenario's comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The scenario's name.
    pub name: String,
    /// Instructions per call today.
    pub now: Option<f64>,
    /// The same in the base.
    pub base: Option<f64>,
    /// How far above the base it may be.
    pub tolerance: f64,
    /// How they compare.
    pub verdict: Verdict,
}

impl Row {
    /// The difference as a fraction of the base.
    #[must_use]
    pub fn change(&self) -> Option<f64> {
        self.now.zip(self.base).map(|(now, base)| now / base - 1.0)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |count: Option<f64>| count.map_or_else(|| "-".into(), |it| format!("{it:.1}"));
        let change = self.change().map_or_else(|| "-".into(), |it| format!("{:+.1} %", it * 100.0));
        let verdict = match self.verdict {
            Verdict::Holds => "holds",
            Verdict::Better => "better; --save keeps it",
            Verdict::Worse => "WORSE",
            Verdict::NoBase => "NOT IN THE BASE; --save puts it there",
            Verdict::NotCounted => "IN THE BASE, NOT COUNTED",
        };
        let (now, base, percent) = (count(self.now), count(self.base), self.tolerance * 100.0);
        let name = &self.name;
        write!(f, "{name:<18} {now:>9} {base:>9} {change:>9}  {percent:>3.0} %  {verdict}")
    }
}

/// The table's first line.
pub const HEADING: &str = "instructions/call        now      base    change  limit";

/// Today's counts compared with a base.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// One row for each scenario that either side has.
    pub rows: Vec<Row>,
    /// The compilers, base first, when they differ: the comparison is then reported, and not enforced.
    pub other_rustc: Option<(String, String)>,
}

impl Comparison {
    /// Compares. `complete` says that every scenario was to be counted, so that one that is only in the base is missed.
    #[must_use]
    pub fn new(now: &Base, base: &Base, complete: bool) -> Self {
        let tolerance =
            |name: &str| Scenario::parse(name).map_or(IN_MEMORY_TOLERANCE, Scenario::tolerance);
        let known = |name: &String| now.per_call.contains_key(name);
        let missed = base.per_call.keys().filter(|name| complete && !known(name));
        let rows = now.per_call.keys().chain(missed).map(|name| {
            let (now, base) = (now.per_call.get(name).copied(), base.per_call.get(name).copied());
            let tolerance = tolerance(name);
            let verdict = match (now, base) {
                (Some(now), Some(base)) if now > base * (1.0 + tolerance) => Verdict::Worse,
                (Some(now), Some(base)) if now < base * (1.0 - tolerance) => Verdict::Better,
                (Some(_), Some(_)) => Verdict::Holds,
                (Some(_), None) => Verdict::NoBase,
                (None, _) => Verdict::NotCounted,
            };
            Row { name: name.clone(), now, base, tolerance, verdict }
        });
        let other_rustc =
            (now.rustc != base.rustc).then(|| (base.rustc.clone(), now.rustc.clone()));
        Self { rows: rows.collect(), other_rustc }
    }

    /// Whether the command should fail.
    #[must_use]
    pub fn fails(&self) -> bool {
        let red = |row: &Row| {
            matches!(row.verdict, Verdict::Worse | Verdict::NoBase | Verdict::NotCounted)
        };
        self.other_rustc.is_none() && self.rows.iter().any(red)
    }
}

/// Instructions per call, from a run of `calls` calls and one of twice as many: what both have in common, such as the
/// start, cancels out.
///
/// # Errors
///
/// When the longer run took no more than the shorter one, which means that something else was counted.
#[expect(clippy::cast_precision_loss, reason = "no run here makes 2⁵³ instructions")]
pub fn per_call(short: u64, long: u64, calls: u64) -> Result<f64> {
    ensure!(calls > 0, "no calls, no count");
    match long.checked_sub(short) {
        Some(more @ 1..) => Ok(more as f64 / calls as f64),
        _ => bail!("twice the calls took no more instructions: {short}, then {long}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn base(rustc: &str, counts: &[(&str, f64)]) -> Base {
        let per_call = counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        Base { rustc: rustc.to_owned(), per_call }
    }

    fn verdicts(comparison: &Comparison) -> Vec<(&str, Verdict)> {
        comparison.rows.iter().map(|row| (&*row.name, row.verdict)).collect()
    }

    #[test]
    fn more_than_two_percent_above_fails() {
        let stored = base("1.95", &[("codec-encode", 100.0)]);
        for (now, verdict, fails) in [
            (102.1, Verdict::Worse, true),
            (101.9, Verdict::Holds, false),
            (98.1, Verdict::Holds, false),
            (97.9, Verdict::Better, false),
        ] {
            let now = base("1.95", &[("codec-encode", now)]);
            let comparison = Comparison::new(&now, &stored, false);
            assert_eq!(verdicts(&comparison), [("codec-encode", verdict)]);
            assert_eq!(comparison.fails(), fails, "{comparison:?}");
        }
    }

    #[test]
    fn counts_over_sockets_have_their_own_limit() {
        let stored = base("1.95", &[("server-b", 1000.0)]);
        let limit = 1000.0 * (1.0 + SOCKETS_TOLERANCE);
        let compare =
            |now| Comparison::new(&base("1.95", &[("server-b", now)]), &stored, false).fails();
        assert!(!compare(limit - 1.0) && compare(limit + 1.0));
    }

    #[test]
    fn what_one_side_lacks_is_red() {
        let one = base("1.95", &[("codec-encode", 100.0)]);
        let both = base("1.95", &[("codec-encode", 100.0), ("server-b", 500.0)]);
        let gained = Comparison::new(&both, &one, true);
        assert_eq!(gained.rows[1].verdict, Verdict::NoBase);
        assert!(gained.fails());
        let lost = Comparison::new(&one, &both, true);
        assert_eq!(lost.rows[1].verdict, Verdict::NotCounted);
        assert!(lost.fails());
        // A run that asks for one scenario does not miss the others.
        let asked = Comparison::new(&one, &both, false);
        assert_eq!(verdicts(&asked), [("codec-encode", Verdict::Holds)]);
        assert!(!asked.fails());
    }

    #[test]
    fn another_compiler_is_told_and_not_enforced() {
        let stored = base("rustc 1.95.0", &[("codec-encode", 100.0)]);
        let now = base("rustc 1.96.0", &[("codec-encode", 150.0)]);
        let comparison = Comparison::new(&now, &stored, true);
        assert_eq!(comparison.rows[0].verdict, Verdict::Worse);
        assert_eq!(comparison.other_rustc, Some(("rustc 1.95.0".into(), "rustc 1.96.0".into())));
        assert!(!comparison.fails());
    }

    #[test]
    fn a_base_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("instructions.json");
        let missing = format!("{:#}", Base::read(&path).unwrap_err());
        assert!(missing.contains("--save"), "{missing}");
        base("1.95", &[("codec-encode", 100.04), ("server-b", 501.26)]).write(&path).unwrap();
        let read = Base::read(&path).unwrap();
        assert_eq!(read, base("1.95", &[("codec-encode", 100.0), ("server-b", 501.3)]));
        for wrong in [r#"{"rustc":"1.95"}"#, r#"{"rustc":"1.95","per_call":{"server-b":0}}"#, "{"] {
            std::fs::write(&path, wrong).unwrap();
            assert!(Base::read(&path).is_err(), "{wrong} was read");
        }
    }

    #[test]
    fn the_start_falls_out() {
        assert_eq!(per_call(1_500, 2_000, 10).unwrap(), 50.0);
        assert!(per_call(2_000, 2_000, 10).is_err());
        assert!(per_call(2_000, 1_000, 10).is_err());
        assert!(per_call(1, 2, 0).is_err());
    }

    #[test]
    fn every_scenario_has_a_name_of_its_own() {
        for scenario in Scenario::ALL {
            assert_eq!(Scenario::parse(scenario.name()), Ok(scenario));
        }
        assert!(Scenario::parse("server").unwrap_err().contains("server-in-memory"));
    }

    #[test]
    fn a_row_says_what_to_do() {
        let stored = base("1.95", &[("codec-encode", 100.0)]);
        let now = base("1.95", &[("codec-encode", 120.0), ("server-b", 5.0)]);
        let comparison = Comparison::new(&now, &stored, true);
        let text = comparison.rows[0].to_string();
        assert!(text.contains("+20.0 %") && text.contains("WORSE"), "{text}");
        assert!(comparison.rows[1].to_string().contains("--save"));
    }
}
