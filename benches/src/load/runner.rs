//! Runs contenders in turn: round by round, so that whatever slows the machine for a while happens to all of them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::load::calls::WARM_UP;
use crate::load::contender::{Contender, Job};
use crate::load::flags::Cores;
use crate::load::host::{CpuTimes, foreign_seconds};
use crate::load::process::{Server, run_to_end};
use crate::load::toolbox;
use crate::load::workload::{Cell, Wait};
use crate::measure::sample::Sample;

/// How long starting and ending the two processes of a run takes.
const AROUND: Duration = Duration::from_millis(200);

/// How long a load generator may take beyond its seconds.
const GRACE: Duration = Duration::from_secs(20);

/// What to measure.
#[derive(Debug)]
pub struct Plan {
    /// Workloads with their ways of waiting.
    pub cells: Vec<Cell>,
    /// Who takes part.
    pub contenders: Vec<Box<dyn Contender>>,
    /// What each contender answered in the closed loop; the loads of the open loop are fractions of it.
    pub peaks: Vec<Peak>,
    /// How often each of them is measured.
    pub rounds: usize,
    /// Measured seconds of each run.
    pub secs: f64,
    /// Where both sides run.
    pub cores: Cores,
    /// No run starts later than this after the first; what is missing then is missing in the last rounds.
    pub budget: Option<Duration>,
}

/// The most that a contender can answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Peak {
    /// The contender.
    pub contender: String,
    /// How its server waits.
    pub wait: Wait,
    /// Calls per second.
    pub rps: f64,
}

/// One run that went well.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// The round, from 0.
    pub round: usize,
    /// What was asked.
    pub cell: Cell,
    /// The contender that answered.
    pub contender: String,
    /// What came out.
    pub sample: Sample,
    /// Cores that others used meanwhile, including what the hypervisor took: 0.1 is a tenth of one core.
    pub foreign_cores: Option<f64>,
}

/// The results of a plan.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The runs that went well.
    pub runs: Vec<Run>,
    /// One sentence for each that did not.
    pub failures: Vec<String>,
    /// Runs that the time budget left out.
    pub left_out: usize,
}

impl Plan {
    /// Checks that all programs are there and that the cores are two different ones.
    ///
    /// # Errors
    ///
    /// One sentence about the first thing that is missing, with how to fix it.
    pub fn check(&self) -> Result<()> {
        self.cores.check()?;
        let programs: Vec<(PathBuf, &str)> =
            self.contenders.iter().flat_map(|contender| contender.programs()).collect();
        toolbox::require(&programs)
    }

    /// The runs in their order. Every other round goes through the contenders backwards, so that none always runs
    /// after the same neighbour.
    fn order(&self) -> Vec<(usize, Cell, &dyn Contender)> {
        let mut order = Vec::new();
        for round in 0..self.rounds {
            for &cell in &self.cells {
                let mut turn: Vec<&dyn Contender> =
                    self.contenders.iter().map(AsRef::as_ref).collect();
                if round % 2 == 1 {
                    turn.reverse();
                }
                // A contender without a peak failed in the closed loop, which was reported there.
                turn.retain(|contender| {
                    contender.can(cell.wait)
                        && (cell.percent.is_none() || self.rate(cell, *contender).is_some())
                });
                order.extend(turn.into_iter().map(|contender| (round, cell, contender)));
            }
        }
        order
    }

    /// The rate of an open loop: the cell's part of the contender's own peak.
    fn rate(&self, cell: Cell, contender: &dyn Contender) -> Option<f64> {
        let percent = f64::from(cell.percent?);
        let is_its = |peak: &&Peak| peak.wait == cell.wait && peak.contender == contender.name();
        self.peaks.iter().find(is_its).map(|peak| peak.rps * percent / 100.0)
    }

    /// How long all of it will take, if nothing fails.
    #[must_use]
    pub fn estimate(&self) -> Duration {
        self.one_run() * u32::try_from(self.len()).unwrap_or(u32::MAX)
    }

    /// How long a run takes.
    #[must_use]
    pub fn one_run(&self) -> Duration {
        Duration::from_secs_f64(self.secs) + WARM_UP + AROUND
    }

    /// How many runs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order().len()
    }

    /// Whether there is nothing to run.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes every run. A run that fails is reported in the outcome and does not end the rest. `watch` is told
    /// what is about to run: its number from 1, its contender and its cell.
    pub fn run(&self, mut watch: impl FnMut(usize, &str, Cell)) -> Outcome {
        let mut outcome = Outcome::default();
        let begin = Instant::now();
        for (number, (round, cell, contender)) in self.order().into_iter().enumerate() {
            if self.budget.is_some_and(|budget| begin.elapsed() > budget) {
                outcome.left_out += 1;
                continue;
            }
            watch(number + 1, contender.name(), cell);
            let job = Job {
                workload: cell.workload,
                wait: cell.wait,
                rate: self.rate(cell, contender),
                secs: self.secs,
                cores: self.cores,
            };
            match run_once(contender, &job) {
                Ok((sample, foreign_cores)) => {
                    let contender = contender.name().to_owned();
                    outcome.runs.push(Run { round, cell, contender, sample, foreign_cores });
                }
                Err(error) => {
                    let name = contender.name();
                    outcome.failures.push(format!(
                        "{name}, {}, {}, round {}: {error:#}",
                        cell.load(),
                        cell.wait,
                        round + 1
                    ));
                }
            }
        }
        outcome
    }
}

/// One server, one load generator, one sample.
fn run_once(contender: &dyn Contender, job: &Job) -> Result<(Sample, Option<f64>)> {
    let name = contender.name();
    let server = Server::start(&format!("the server of {name}"), &mut contender.server(job))?;
    let mut client = contender.client(job, server.address(), server.pid());
    let before = CpuTimes::now();
    let begin = Instant::now();
    let limit = Duration::from_secs_f64(job.secs) + WARM_UP + GRACE;
    let stdout = run_to_end(&format!("the load generator of {name}"), &mut client, limit)?;
    let wall = begin.elapsed().as_secs_f64();
    let after = CpuTimes::now();
    let sample = Sample::parse(&stdout)
        .with_context(|| format!("the load generator of {name} gave no sample"))?;
    server.stop()?;
    let foreign = before.zip(after).map(|(before, after)| {
        // The sample counts only the measured seconds; the warm-up used as much in its time.
        let counted = sample.client_cpu_s + sample.server_cpu_s.unwrap_or(0.0);
        let used = counted * (sample.secs + WARM_UP.as_secs_f64()) / sample.secs;
        foreign_seconds(before, after, used) / wall
    });
    Ok((sample, foreign))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::load::workload::{ALL, cells, open_cells};
    use crate::measure::sample;

    /// A contender made of two shell scripts.
    #[derive(Debug)]
    struct Script {
        name: &'static str,
        client: String,
        spins: bool,
    }

    impl Contender for Script {
        fn name(&self) -> &str {
            self.name
        }

        fn programs(&self) -> Vec<(PathBuf, &'static str)> {
            vec![(PathBuf::from("/bin/sh"), "nothing")]
        }

        fn can(&self, wait: Wait) -> bool {
            self.spins || wait == Wait::Parked
        }

        fn server(&self, _: &Job) -> Command {
            let mut command = Command::new("sh");
            command.args(["-c", crate::load::process::SERVES_UNTIL_TERM]);
            command
        }

        fn client(&self, _: &Job, _: &str, _: i32) -> Command {
            let mut command = Command::new("sh");
            command.args(["-c", &self.client]);
            command
        }
    }

    fn good(name: &'static str, spins: bool) -> Box<dyn Contender> {
        let line =
            serde_json::to_string(&sample::example(50.0, 0.02)).expect("a sample is plain data");
        Box::new(Script { name, client: format!("echo '{line}'"), spins })
    }

    fn plan(contenders: Vec<Box<dyn Contender>>) -> Plan {
        Plan {
            cells: cells(&ALL[..1]),
            contenders,
            peaks: Vec::new(),
            rounds: 2,
            secs: 0.1,
            cores: Cores { server: 0, client: 1 },
            budget: None,
        }
    }

    #[test]
    fn rounds_are_interleaved_and_turn_round() {
        let plan = plan(vec![good("one", true), good("two", false)]);
        let order: Vec<(usize, Wait, &str)> = plan
            .order()
            .iter()
            .map(|(round, cell, contender)| (*round, cell.wait, contender.name()))
            .collect();
        let (parked, spinning) = (Wait::Parked, Wait::Spinning);
        assert_eq!(
            order,
            [
                (0, parked, "one"),
                (0, parked, "two"),
                (0, spinning, "one"),
                (1, parked, "two"),
                (1, parked, "one"),
                (1, spinning, "one"),
            ]
        );
    }

    #[test]
    fn an_open_loop_runs_at_parts_of_ones_own_peak() {
        let mut plan = plan(vec![good("one", true), good("two", false), good("none", true)]);
        plan.cells = open_cells(ALL[2]);
        let peak = |contender: &str, wait, rps| Peak { contender: contender.to_owned(), wait, rps };
        plan.peaks = vec![peak("one", Wait::Parked, 1000.0), peak("two", Wait::Parked, 200.0)];
        let rates: Vec<(&str, Option<f64>)> = plan
            .order()
            .iter()
            .take(4)
            .map(|(_, cell, contender)| (contender.name(), plan.rate(*cell, *contender)))
            .collect();
        assert_eq!(
            rates,
            [
                ("one", Some(500.0)),
                ("two", Some(100.0)),
                ("one", Some(700.0)),
                ("two", Some(140.0))
            ]
        );
        assert_eq!(plan.len(), 12, "whoever has no peak does not run");
    }

    #[test]
    fn a_failing_contender_does_not_stop_the_others() {
        let bad = Script {
            name: "bad",
            client: "echo 7 calls failed >&2; exit 1".to_owned(),
            spins: false,
        };
        let outcome = plan(vec![Box::new(bad), good("good", false)]).run(|_, _, _| ());
        assert_eq!(outcome.runs.len(), 2, "{:?}", outcome.failures);
        assert_eq!(outcome.failures.len(), 2);
        assert_eq!(
            outcome.failures[0],
            "bad, A: 64 B, 1 x 1, parked, round 1: the load generator of bad failed (exit status: 1); it said: 7 calls failed"
        );
    }

    #[test]
    fn a_spent_budget_leaves_the_rest_out() {
        let mut plan = plan(vec![good("good", false)]);
        plan.budget = Some(Duration::ZERO);
        let outcome = plan.run(|_, _, _| ());
        assert_eq!((outcome.runs.len(), outcome.left_out), (0, 2));
    }

    #[test]
    fn one_core_is_not_enough() {
        let mut plan = plan(vec![good("good", false)]);
        assert!(plan.check().is_ok());
        plan.cores.client = 0;
        assert!(plan.check().is_err());
    }
}
