//! What Corewire promises, as ratios to the floor, and whether a comparison confirms it.

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

use crate::load::workload::{Cell, Wait, Workload};
use crate::measure::sample::Figure;
use crate::measure::stats::Summary;
use crate::report::results::Results;

/// How strict a promise is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// What the engine's first version had to reach.
    First,
    /// What every version has to reach.
    Bar,
    /// What the design is for.
    Aim,
}

/// On which side of the limit the good values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Good {
    AtMost,
    AtLeast,
}

/// One figure in one cell, with its limit per level. A limit is a ratio to the floor, or an absolute value.
#[derive(Debug, Clone, Copy)]
pub struct Promise {
    workload: char,
    wait: Wait,
    figure: Figure,
    absolute: bool,
    good: Good,
    first: Option<f64>,
    bar: f64,
    aim: f64,
}

/// A figure that should be small, as a ratio to the floor.
const fn at_most(
    workload: char,
    wait: Wait,
    figure: Figure,
    first: Option<f64>,
    bar: f64,
    aim: f64,
) -> Promise {
    Promise { workload, wait, figure, absolute: false, good: Good::AtMost, first, bar, aim }
}

/// All promises.
pub const PROMISES: [Promise; 8] = [
    at_most('A', Wait::Spinning, Figure::P50, Some(1.5), 1.35, 1.15),
    at_most('A', Wait::Parked, Figure::P50, Some(1.2), 1.10, 0.87),
    at_most('A', Wait::Parked, Figure::ServerCpuPerCall, None, 1.3, 0.90),
    at_most('B', Wait::Parked, Figure::ServerCpuPerCall, Some(2.5), 1.6, 1.1),
    Promise {
        absolute: true,
        good: Good::AtLeast,
        ..at_most('B', Wait::Spinning, Figure::CallsPerServerCpuSecond, None, 1.5, 3.0)
    },
    at_most('C', Wait::Parked, Figure::ServerCpuPerCall, Some(1.8), 1.4, 1.15),
    Promise {
        good: Good::AtLeast,
        ..at_most('D', Wait::Parked, Figure::BytesPerSecond, None, 0.85, 0.95)
    },
    at_most('E', Wait::Parked, Figure::ServerCpuPerCall, Some(1.25), 1.15, 1.05),
];

impl Promise {
    /// The limit at a level, where there is one.
    #[must_use]
    pub fn limit(&self, level: Level) -> Option<f64> {
        match level {
            Level::First => self.first,
            Level::Bar => Some(self.bar),
            Level::Aim => Some(self.aim),
        }
    }

    /// Whether a value is within the limit of a level; `None` where there is no limit.
    #[must_use]
    pub fn holds(&self, value: f64, level: Level) -> Option<bool> {
        self.limit(level).map(|limit| match self.good {
            Good::AtMost => value <= limit,
            Good::AtLeast => value >= limit,
        })
    }

    /// The limit of a level and whether the value is within it, such as `<= 1.35 holds`; a dash where there is no
    /// limit.
    #[must_use]
    pub fn verdict(&self, value: f64, level: Level) -> String {
        let (Some(limit), Some(holds)) = (self.limit(level), self.holds(value, level)) else {
            return "-".to_owned();
        };
        let sign = if self.good == Good::AtMost { "<=" } else { ">=" };
        format!("{sign} {limit:.2} {}", if holds { "holds" } else { "MISSES" })
    }

    /// The unit of its limits: `x` for a ratio.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        if self.absolute { self.figure.unit() } else { "x" }
    }

    fn cell(&self) -> Option<Cell> {
        Workload::named(self.workload).map(|workload| Cell::closed(workload, self.wait))
    }

    /// What was measured for it; `None` when its cell did not run.
    #[must_use]
    pub fn measured(&self, results: &Results, contender: &str) -> Option<Summary> {
        let cell = self.cell()?;
        if self.absolute {
            results.summary(cell, contender, self.figure)
        } else {
            results.ratio(cell, contender, self.figure)
        }
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}, {}", self.workload, self.wait, self.figure)
    }
}

/// The promises of a level that the results do not confirm. A promise whose cell was asked for but has no result is
/// broken, too; a promise whose cell was not asked for is not judged.
#[must_use]
pub fn broken(
    results: &Results,
    contender: &str,
    asked: &[Cell],
    level: Level,
) -> Vec<&'static Promise> {
    let was_asked = |promise: &&Promise| promise.cell().is_some_and(|cell| asked.contains(&cell));
    let breaks = |promise: &&Promise| match promise.measured(results, contender) {
        Some(measured) => promise.holds(measured.median, level) == Some(false),
        None => promise.limit(level).is_some(),
    };
    PROMISES.iter().filter(was_asked).filter(breaks).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::workload::{ALL, cells};
    use crate::report::results::tests::run;

    #[test]
    fn a_limit_itself_holds() {
        let spinning = &PROMISES[0];
        assert_eq!(spinning.verdict(1.35, Level::Bar), "<= 1.35 holds");
        assert_eq!(spinning.verdict(1.36, Level::Bar), "<= 1.35 MISSES");
        let bulk = &PROMISES[6];
        assert_eq!(bulk.verdict(0.85, Level::Bar), ">= 0.85 holds");
        assert_eq!(bulk.verdict(0.84, Level::Bar), ">= 0.85 MISSES");
        assert_eq!(bulk.verdict(0.84, Level::First), "-");
    }

    #[test]
    fn every_promise_gets_stricter_by_level() {
        for promise in &PROMISES {
            assert!(promise.cell().is_some(), "{promise}");
            assert_eq!(promise.holds(promise.aim, Level::Bar), Some(true), "{promise}");
            assert_eq!(promise.holds(promise.bar, Level::Aim), Some(false), "{promise}");
            assert_ne!(promise.holds(promise.bar, Level::First), Some(false), "{promise}");
        }
    }

    #[test]
    fn only_what_was_asked_for_is_judged() {
        // 1.3 times the latency of the floor, 1.2 times its CPU, in workload A only.
        let runs = vec![run(0, "floor", 50.0, 0.020), run(0, "corewire", 65.0, 0.024)];
        let results = Results::new(runs, "floor");
        let parked = &cells(&ALL[..1])[..1];
        let names = |asked: &[Cell], level| -> Vec<String> {
            broken(&results, "corewire", asked, level).iter().map(ToString::to_string).collect()
        };
        assert_eq!(names(parked, Level::Bar), ["A parked, p50"]);
        assert_eq!(names(parked, Level::Aim), ["A parked, p50", "A parked, server CPU per call"]);
        // Asked for, but without a result: broken.
        assert_eq!(names(&cells(&ALL[..1]), Level::Bar), ["A spinning, p50", "A parked, p50"]);
    }
}
