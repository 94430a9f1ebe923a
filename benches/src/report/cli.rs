//! The flags and the ending of the comparisons, `floor` and `compare`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum as _};

use crate::load::contender::Contender;
use crate::load::flags::{self, Cores, whole, within};
use crate::load::runner::{Outcome, Plan};
use crate::load::workload::{self, Cell, Workloads};
use crate::report::bars::{self, Level};

/// What is measured, how often and where.
#[derive(Debug, Clone, Args)]
pub struct Measure {
    /// Rounds: how often each contender is measured with each workload
    #[arg(long, default_value_t = 5, value_parser = whole(1..=1000_usize))]
    pub rounds: usize,

    /// Measured seconds of each run, after half a second of warm-up [default: 2 for floor, 1.5 for compare]
    #[arg(long, value_parser = within("seconds", 0.05..=600.0))]
    pub secs: Option<f64>,

    /// Workloads, by their letters
    #[arg(long, value_name = "A,B,...", value_parser = workload::parse_list)]
    pub workloads: Option<Workloads>,

    /// One round of 0.3 seconds: shows that everything works, and measures nothing
    #[arg(long, conflicts_with_all = ["rounds", "secs"])]
    pub quick: bool,

    /// Where both sides run.
    #[command(flatten)]
    pub cores: Cores,

    /// Also write every run and every summary to this file
    #[arg(long, value_name = "PATH")]
    pub json: Option<PathBuf>,

    /// Use the release binaries as they are
    #[arg(long)]
    pub no_build: bool,

    /// End with exit code 1 when a promise of this level is broken; `bar` if no level is given
    #[arg(long, value_name = "LEVEL", num_args = 0..=1, default_missing_value = "bar", value_parser = level)]
    pub enforce: Option<Level>,
}

fn level(text: &str) -> Result<Level, String> {
    Level::from_str(text, true).map_err(|_| "give first, bar or aim".to_owned())
}

impl Measure {
    /// The plan for these contenders; `secs` are the measured seconds of a run if no others are asked for.
    #[must_use]
    pub fn plan(&self, cells: Vec<Cell>, contenders: Vec<Box<dyn Contender>>, secs: f64) -> Plan {
        let (rounds, secs) =
            if self.quick { (1, 0.3) } else { (self.rounds, self.secs.unwrap_or(secs)) };
        let cores = self.cores;
        Plan { cells, contenders, peaks: Vec::new(), rounds, secs, cores, budget: None }
    }
}

/// Prints on standard error what is about to run.
pub fn announce(number: usize, of: usize, contender: &str, cell: Cell) {
    eprintln!("[{number}/{of}] {contender}, {}, {}", cell.load(), cell.wait);
}

/// The exit code of a comparison: 1 when a run failed, or when a promise that was to be enforced is broken. Prints why
/// on standard error.
#[must_use]
pub fn conclude(
    outcome: &Outcome,
    results: &crate::report::results::Results,
    asked: &[Cell],
    enforce: Option<Level>,
) -> ExitCode {
    if outcome.left_out > 0 {
        eprintln!("note: {} runs were left out, because the time was over", outcome.left_out);
    }
    let mut complaints = outcome.failures.clone();
    if let Some(level) = enforce {
        let broken = bars::broken(results, "corewire", asked, level);
        complaints
            .extend(broken.iter().map(|promise| format!("this promise is broken: {promise}")));
    }
    flags::broken(&complaints)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::load::workload::{ALL, cells};
    use crate::report::results::Results;
    use crate::report::results::tests::run;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        measure: Measure,
    }

    fn parse(words: &str) -> Result<Measure, clap::Error> {
        let words = std::iter::once("floor").chain(words.split_whitespace());
        Command::try_parse_from(words).map(|command| command.measure)
    }

    #[test]
    fn flags_have_their_limits() {
        for wrong in [
            "--rounds 0",
            "--secs 0",
            "--secs many",
            "--quick --rounds 3",
            "--enforce hope",
            "--rounds -1",
            "--workloads A,Q",
            "--server-core 1024",
        ] {
            assert!(parse(wrong).is_err(), "{wrong} was taken");
        }
    }

    #[test]
    fn a_quick_plan_is_one_short_round() -> Result<(), Box<dyn std::error::Error>> {
        let plan = parse("--quick --workloads c")?.plan(cells(&ALL), Vec::new(), 2.0);
        assert_eq!((plan.rounds, plan.secs < 0.5), (1, true));
        let plan = parse("")?.plan(cells(&ALL), Vec::new(), 2.0);
        assert_eq!((plan.rounds, plan.cores.server, plan.cores.client), (5, 0, 1));
        assert_eq!(parse("--workloads c")?.workloads, Some(vec![ALL[2]]));
        Ok(())
    }

    #[test]
    fn enforcing_takes_a_level_or_the_bar() -> Result<(), clap::Error> {
        assert_eq!(parse("")?.enforce, None);
        assert_eq!(parse("--enforce")?.enforce, Some(Level::Bar));
        assert_eq!(parse("--enforce aim")?.enforce, Some(Level::Aim));
        Ok(())
    }

    #[test]
    fn the_exit_code_is_red_for_failures_and_for_enforced_promises_only() {
        let results = Results::new(
            vec![run(0, "floor", 50.0, 0.02), run(0, "corewire", 90.0, 0.02)],
            "floor",
        );
        let asked = &cells(&ALL[..1])[..1];
        let code = |outcome: &Outcome, enforce| {
            format!("{:?}", conclude(outcome, &results, asked, enforce))
        };
        let (green, red) = (format!("{:?}", ExitCode::SUCCESS), format!("{:?}", ExitCode::FAILURE));
        let fine = Outcome::default();
        assert_eq!(code(&fine, None), green);
        assert_eq!(code(&fine, Some(Level::Bar)), red);
        let failed = Outcome { failures: vec!["it did".to_owned()], ..Outcome::default() };
        assert_eq!(code(&failed, None), red);
    }
}
