//! Tables for people, and one JSON document for programs.

pub mod bars;
pub mod callgrind;
pub mod cli;
pub mod instructions;
pub mod plot;
pub mod results;
pub mod spin;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::load::host::Host;
use crate::load::runner::{Outcome, Peak};
use crate::load::workload::Cell;
use crate::measure::sample::Figure;
use crate::measure::stats::Summary;
use crate::report::bars::{Level, PROMISES};
use crate::report::results::Results;

/// With more foreign work than this, in cores, a reader should be warned.
const DISTURBED: f64 = 0.1;

/// A number with three significant digits, so that nanoseconds and gigabytes fit the same column.
#[must_use]
pub fn short(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 99.95 {
        format!("{value:.0}")
    } else if magnitude >= 9.995 {
        format!("{value:.1}")
    } else if magnitude >= 0.9995 || magnitude == 0.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    }
}

/// Median and range, such as `6.54 (6.50..6.71)`; of a single value only that; a dash for none.
#[must_use]
pub fn spread(summary: Option<Summary>) -> String {
    match summary {
        None => "-".to_owned(),
        Some(Summary { count: 1, median, .. }) => short(median),
        Some(Summary { median, min, max, .. }) => {
            format!("{} ({}..{})", short(median), short(min), short(max))
        }
    }
}

/// An empty table: the same characters on a terminal and in a Markdown document. The first `words` columns hold words.
#[must_use]
pub fn table(header: &[impl ToString], words: usize) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::ASCII_MARKDOWN)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(ToString::to_string));
    for (index, column) in table.column_iter_mut().enumerate() {
        if index >= words {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// One row per cell and contender that `shown` takes, one column per figure.
fn cells_table(
    results: &Results,
    figures: &[Figure],
    unit: impl Fn(Figure) -> &'static str,
    shown: impl Fn(&str) -> bool,
    value: impl Fn(Cell, &str, Figure) -> Option<Summary>,
) -> Table {
    let mut header = ["workload", "waiting", "who"].map(str::to_owned).to_vec();
    header.extend(figures.iter().map(|&figure| format!("{figure}, {}", unit(figure))));
    let mut table = table(&header, 3);
    for cell in results.cells() {
        for contender in results.contenders(cell).into_iter().filter(|name| shown(name)) {
            let mut row = vec![cell.load(), cell.wait.to_string(), contender.to_owned()];
            row.extend(figures.iter().map(|&figure| spread(value(cell, contender, figure))));
            table.add_row(row);
        }
    }
    table
}

/// The measured values: one row per cell and contender.
#[must_use]
pub fn figures_table(results: &Results, figures: &[Figure]) -> Table {
    let value = |cell, contender: &str, figure| results.summary(cell, contender, figure);
    cells_table(results, figures, Figure::unit, |_| true, value)
}

/// The ratios to the base: one row per cell and contender other than the base.
#[must_use]
pub fn ratios_table(results: &Results, figures: &[Figure]) -> Table {
    let value = |cell, contender: &str, figure| results.ratio(cell, contender, figure);
    cells_table(results, figures, |_| "x", |name| name != results.base(), value)
}

/// How much of a figure the others need as a multiple of what `of` needs: one row per cell, one column per contender.
#[must_use]
pub fn advantage_table(results: &Results, of: &str, figure: Figure) -> Table {
    let mut others: Vec<&str> = Vec::new();
    for name in results.cells().into_iter().flat_map(|cell| results.contenders(cell)) {
        if name != of && !others.contains(&name) {
            others.push(name);
        }
    }
    let mut table = table(&[&["workload", "waiting"][..], &others].concat(), 2);
    for cell in results.cells() {
        let mut row = vec![cell.load(), cell.wait.to_string()];
        row.extend(others.iter().map(|name| spread(results.ratio_to(of, cell, name, figure))));
        table.add_row(row);
    }
    table
}

/// The promises with what was measured; promises whose cell was not asked for are left out.
#[must_use]
pub fn promises_table(results: &Results, contender: &str) -> Table {
    let titles = ["promise", "measured", "unit", "first version", "bar", "aim"];
    let mut table = table(&titles, 1);
    for promise in &PROMISES {
        let Some(measured) = promise.measured(results, contender) else {
            continue;
        };
        let verdict = |level| promise.verdict(measured.median, level);
        table.add_row([
            promise.to_string(),
            spread(Some(measured)),
            promise.unit().to_owned(),
            verdict(Level::First),
            verdict(Level::Bar),
            verdict(Level::Aim),
        ]);
    }
    table
}

/// How undisturbed the machine was, in one sentence.
#[must_use]
pub fn disturbance(results: &Results) -> String {
    let Some(foreign) = results.foreign_cores() else {
        return "How busy the machine was otherwise is not known.".to_owned();
    };
    let (median, max) = (foreign.median * 100.0, foreign.max * 100.0);
    let judgement = if foreign.median > DISTURBED {
        "the machine was not quiet, so judge neither values nor promises by this"
    } else if foreign.max > DISTURBED {
        "single runs were disturbed, which medians bear"
    } else {
        "the machine was quiet"
    };
    format!(
        "Others used {median:.0} % of one core in the median run and {max:.0} % in the worst: {judgement}."
    )
}

/// The open loop of a comparison.
#[derive(Debug)]
pub struct OpenPart {
    /// What each load is a fraction of.
    pub peaks: Vec<Peak>,
    /// The runs.
    pub results: Results,
}

/// Writes everything, including each run, as one JSON document.
///
/// # Errors
///
/// When the file cannot be written.
pub fn write_json(
    path: &Path,
    host: &Host,
    asked: &[Cell],
    outcome: &Outcome,
    results: &Results,
    open: Option<&OpenPart>,
) -> Result<()> {
    let promises: Vec<serde_json::Value> = PROMISES
        .iter()
        .filter_map(|promise| {
            let measured = promise.measured(results, "corewire")?;
            let holds = |level| promise.holds(measured.median, level);
            Some(serde_json::json!({
                "promise": promise.to_string(),
                "measured": measured,
                "unit": promise.unit(),
                "first": holds(Level::First),
                "bar": holds(Level::Bar),
                "aim": holds(Level::Aim),
            }))
        })
        .collect();
    let document = serde_json::json!({
        "host": host,
        "asked": asked,
        "base": results.base(),
        "rows": results.rows(),
        "promises": promises,
        "failures": outcome.failures,
        "left_out": outcome.left_out,
        "runs": results.runs(),
        "open": open.map(|open| serde_json::json!({
            "peaks": open.peaks,
            "rows": open.results.rows(),
            "runs": open.results.runs(),
        })),
    });
    write_document(path, &document)
}

/// Writes a JSON document for people and programs to read.
///
/// # Errors
///
/// When the file cannot be written.
pub fn write_document(path: &Path, document: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(document).context("the results are plain data")?;
    fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::results::tests::run;

    #[test]
    fn numbers_keep_three_digits() {
        let shown = [0.0, 0.1256, 0.9996, 1.005, 9.996, 56.12, 99.96, 8233.3].map(short);
        assert_eq!(shown, ["0.00", "0.126", "1.00", "1.00", "10.0", "56.1", "100", "8233"]);
    }

    #[test]
    fn a_spread_shows_what_there_is() {
        assert_eq!(spread(None), "-");
        assert_eq!(spread(Summary::of(&[2.0])), "2.00");
        assert_eq!(spread(Summary::of(&[2.0, 1.0, 4.0])), "2.00 (1.00..4.00)");
    }

    #[test]
    fn tables_are_markdown_and_leave_the_base_out_of_ratios() {
        let results = Results::new(
            vec![run(0, "floor", 50.0, 0.02), run(0, "corewire", 55.0, 0.03)],
            "floor",
        );
        let figures = [Figure::P50, Figure::ServerCpuPerCall];
        let text = figures_table(&results, &figures).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[0].starts_with("| workload ") && lines[1].starts_with("|---"), "{text}");
        assert!(
            lines[2].contains("floor") && lines[2].contains("50.0") && lines[2].contains("20.0"),
            "{text}"
        );
        let ratios = ratios_table(&results, &figures).to_string();
        assert_eq!(ratios.lines().count(), 3, "{ratios}");
        assert!(ratios.contains("1.10") && ratios.contains("1.50"), "{ratios}");
    }

    #[test]
    fn an_advantage_is_told_as_what_others_need() {
        let runs = vec![
            run(0, "floor", 50.0, 0.02),
            run(0, "tonic", 70.0, 0.08),
            run(0, "corewire", 55.0, 0.02),
        ];
        let results = Results::new(runs, "floor");
        let text = advantage_table(&results, "corewire", Figure::ServerCpuPerCall).to_string();
        let row = text.lines().last().unwrap_or_default();
        assert!(row.contains("1.00") && row.contains("4.00"), "{text}");
    }

    #[test]
    fn promises_say_holds_or_misses() {
        let results = Results::new(
            vec![run(0, "floor", 50.0, 0.02), run(0, "corewire", 55.0, 0.03)],
            "floor",
        );
        let text = promises_table(&results, "corewire").to_string();
        // p50 is 1.10 of the floor and the CPU 1.50: one at its bar, one beyond.
        assert!(text.contains("<= 1.10 holds") && text.contains("<= 1.30 MISSES"), "{text}");
        assert_eq!(text.lines().count(), 4, "{text}");
    }

    #[test]
    fn a_disturbed_machine_is_called_so() {
        let quiet = Results::new(vec![run(0, "floor", 50.0, 0.02)], "floor");
        assert!(disturbance(&quiet).ends_with("the machine was quiet."));
        let mut loud = run(0, "floor", 50.0, 0.02);
        loud.foreign_cores = Some(0.8);
        let sentence = disturbance(&Results::new(vec![loud], "floor"));
        assert!(sentence.contains("80 %") && sentence.contains("not quiet"), "{sentence}");
    }
}
