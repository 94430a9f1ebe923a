//! The runs of a comparison, reduced: medians per contender, and ratios to a base within each round.

use serde::Serialize;

use crate::load::runner::{Peak, Run};
use crate::load::workload::{Cell, Wait, Workload};
use crate::measure::sample::Figure;
use crate::measure::stats::{Summary, paired_ratios};

/// All runs of a comparison, and the name of the contender that is the base of ratios.
#[derive(Debug)]
pub struct Results {
    runs: Vec<Run>,
    base: String,
}

/// One contender's summaries in one cell: what the JSON document of a comparison holds per row.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What was asked.
    pub cell: Cell,
    /// The contender that answered.
    pub contender: String,
    /// Each figure's value.
    pub figures: Vec<(Figure, Summary)>,
    /// Each figure's ratio to the base of the same round.
    pub ratios: Vec<(Figure, Summary)>,
}

/// The figures of a row.
pub const FIGURES: [Figure; 14] = [
    Figure::P50,
    Figure::P90,
    Figure::P99,
    Figure::P999,
    Figure::Max,
    Figure::CallsPerSecond,
    Figure::Offered,
    Figure::Missed,
    Figure::SendLateness,
    Figure::ServerCpu,
    Figure::ServerCpuPerCall,
    Figure::CallsPerServerCpuSecond,
    Figure::BytesPerSecond,
    Figure::ServerMemory,
];

impl Results {
    /// Runs, with the name of the base.
    #[must_use]
    pub fn new(runs: Vec<Run>, base: &str) -> Self {
        Self { runs, base: base.to_owned() }
    }

    /// The runs themselves.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The name of the contender that is the base of ratios.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The cells that have runs, in the order of the first round.
    #[must_use]
    pub fn cells(&self) -> Vec<Cell> {
        let mut cells: Vec<Cell> = Vec::new();
        for run in &self.runs {
            if !cells.contains(&run.cell) {
                cells.push(run.cell);
            }
        }
        cells
    }

    /// The contenders that have runs in the cell, in the order of their first run.
    #[must_use]
    pub fn contenders(&self, cell: Cell) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for run in self.runs.iter().filter(|run| run.cell == cell) {
            if !names.contains(&run.contender.as_str()) {
                names.push(&run.contender);
            }
        }
        names
    }

    /// The figure's value in each round.
    fn values(&self, cell: Cell, contender: &str, figure: Figure) -> Vec<(usize, f64)> {
        let ours = self.runs.iter().filter(|run| run.cell == cell && run.contender == contender);
        ours.filter_map(|run| Some((run.round, figure.of(&run.sample)?))).collect()
    }

    /// The figure over all rounds.
    #[must_use]
    pub fn summary(&self, cell: Cell, contender: &str, figure: Figure) -> Option<Summary> {
        let values: Vec<f64> =
            self.values(cell, contender, figure).iter().map(|(_, value)| *value).collect();
        Summary::of(&values)
    }

    /// The figure's ratio to another contender's, over all rounds that both finished.
    #[must_use]
    pub fn ratio_to(
        &self,
        base: &str,
        cell: Cell,
        contender: &str,
        figure: Figure,
    ) -> Option<Summary> {
        Summary::of(&paired_ratios(
            &self.values(cell, contender, figure),
            &self.values(cell, base, figure),
        ))
    }

    /// The figure's ratio to the base.
    #[must_use]
    pub fn ratio(&self, cell: Cell, contender: &str, figure: Figure) -> Option<Summary> {
        self.ratio_to(&self.base, cell, contender, figure)
    }

    /// The cores that others used during the runs.
    #[must_use]
    pub fn foreign_cores(&self) -> Option<Summary> {
        let values: Vec<f64> = self.runs.iter().filter_map(|run| run.foreign_cores).collect();
        Summary::of(&values)
    }

    /// What each contender answered in the closed loop of a workload, as the median of all rounds.
    #[must_use]
    pub fn peaks(&self, workload: Workload) -> Vec<Peak> {
        let mut peaks = Vec::new();
        for wait in [Wait::Parked, Wait::Spinning] {
            let cell = Cell::closed(workload, wait);
            for contender in self.contenders(cell) {
                if let Some(rps) = self.summary(cell, contender, Figure::CallsPerSecond) {
                    peaks.push(Peak { contender: contender.to_owned(), wait, rps: rps.median });
                }
            }
        }
        peaks
    }

    /// Everything in one list.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for cell in self.cells() {
            for contender in self.contenders(cell) {
                let of = |figure| Some((figure, self.summary(cell, contender, figure)?));
                let to_base = |figure| Some((figure, self.ratio(cell, contender, figure)?));
                rows.push(Row {
                    cell,
                    contender: contender.to_owned(),
                    figures: FIGURES.into_iter().filter_map(of).collect(),
                    ratios: FIGURES.into_iter().filter_map(to_base).collect(),
                });
            }
        }
        rows
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::load::workload::ALL;
    use crate::measure::sample::example;

    /// A run of workload A, parked.
    pub(crate) fn run(round: usize, contender: &str, p50_us: f64, server_cpu_s: f64) -> Run {
        Run {
            round,
            cell: Cell::closed(ALL[0], Wait::Parked),
            contender: contender.to_owned(),
            sample: example(p50_us, server_cpu_s),
            foreign_cores: Some(0.01),
        }
    }

    #[test]
    fn a_slow_round_leaves_the_ratio_alone() {
        let runs = vec![
            run(0, "floor", 50.0, 0.02),
            run(0, "corewire", 55.0, 0.03),
            run(1, "corewire", 110.0, 0.06),
            run(1, "floor", 100.0, 0.04),
        ];
        let results = Results::new(runs, "floor");
        let [cell] = results.cells()[..] else { panic!("all runs are of one cell") };
        assert_eq!(results.contenders(cell), ["floor", "corewire"]);
        let ratio = results.ratio(cell, "corewire", Figure::P50).unwrap();
        assert!((ratio.median - 1.1).abs() < 1e-9 && (ratio.max - ratio.min).abs() < 1e-9);
        let cpu = results.ratio(cell, "corewire", Figure::ServerCpuPerCall).unwrap();
        assert!((cpu.median - 1.5).abs() < 1e-9);
        assert_eq!(results.summary(cell, "floor", Figure::P50).unwrap().median, 75.0);
    }

    #[test]
    fn a_peak_is_the_median_rate_of_the_closed_loop() {
        let mut runs = vec![run(0, "floor", 50.0, 0.02); 3];
        for (run, rps) in runs.iter_mut().zip([100.0, 900.0, 300.0]) {
            run.sample.rps = rps;
        }
        let peaks = Results::new(runs, "floor").peaks(ALL[0]);
        assert_eq!(peaks.len(), 1);
        assert_eq!((peaks[0].contender.as_str(), peaks[0].rps), ("floor", 300.0));
    }

    #[test]
    fn what_did_not_run_has_no_row() {
        let results = Results::new(vec![run(0, "floor", 50.0, 0.02)], "floor");
        let cell = results.cells()[0];
        assert_eq!(results.summary(cell, "corewire", Figure::P50), None);
        assert_eq!(results.ratio(cell, "corewire", Figure::P50), None);
        let rows = results.rows();
        assert_eq!((rows.len(), rows[0].figures.len(), rows[0].ratios.len()), (1, 11, 11));
    }
}
