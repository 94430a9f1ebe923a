//! How a run of a simulation fails, as the author of the test reads it.

use std::any::Any;
use std::fmt;
use std::time::Duration;

/// Why a simulation failed, and how to see it again. Its `Display` says it all.
pub struct SimulationFailed {
    /// The seed that led here.
    pub seed: u64,
    /// The virtual time until then.
    pub elapsed: Duration,
    /// What went wrong.
    pub why: FailureKind,
    /// What each host was waiting for, one per line.
    pub hosts: Vec<String>,
    /// The last things that happened, one per line.
    pub last: Vec<String>,
    pub(crate) panic: Option<Box<dyn Any + Send>>,
}

/// What went wrong in a simulation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureKind {
    /// The test, or the code of a host, panicked: with this text.
    Panicked(String),
    /// The test returned this error.
    Failed(String),
    /// The test waits, and nothing will ever happen: a deadlock.
    Hung,
    /// The test had not ended within this virtual time.
    TimeUp(Duration),
    /// The hosts have done this many things, and time hardly passes.
    Livelock(u64),
    /// A server does not start, and why.
    CannotStart(String),
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(text) => write!(f, "a panic: {text}"),
            Self::Failed(text) => write!(f, "the test returned an error: {text}"),
            Self::Hung => f.write_str(
                "the test waits for something that will never happen: nothing is on its way, and no time is waited for",
            ),
            Self::TimeUp(limit) => write!(
                f,
                "the test had not ended after {limit:?} of virtual time, its limit (Simulation::set_time_limit)"
            ),
            Self::Livelock(steps) => write!(
                f,
                "the hosts are busy for ever, and time hardly passes ({steps} steps; Simulation::set_step_limit allows more): does a task wake itself again and again?"
            ),
            Self::CannotStart(why) => f.write_str(why),
        }
    }
}

impl fmt::Display for SimulationFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, elapsed, why, .. } = self;
        writeln!(
            f,
            "the simulation failed with seed {seed} after {elapsed:?} of virtual time: {why}"
        )?;
        self.hosts.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        if !self.last.is_empty() {
            writeln!(f, "the last that happened:")?;
        }
        self.last.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        // The test harness names its threads after the tests.
        let thread = std::thread::current();
        let test = thread.name().filter(|name| *name != "main").unwrap_or_default();
        write!(
            f,
            "to see it again: COREWIRE_SEED={seed} cargo test {test} (COREWIRE_TRACE=1 prints all that happens)"
        )
    }
}

impl fmt::Debug for SimulationFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for SimulationFailed {}

/// What a test returns: nothing, or a `Result`.
#[diagnostic::on_unimplemented(
    message = "a simulated test returns nothing or a `Result`, and `{Self}` is neither",
    label = "returns `{Self}`"
)]
pub trait TestOutcome {
    /// The text of the failure, if it is one.
    fn failure(&self) -> Option<String>;
}

impl TestOutcome for () {
    fn failure(&self) -> Option<String> {
        None
    }
}

impl<T, E: fmt::Debug> TestOutcome for Result<T, E> {
    fn failure(&self) -> Option<String> {
        self.as_ref().err().map(|error| format!("{error:?}"))
    }
}
