//! What every command of this package does in the same way: it reads its flags, requires two cores, and ends.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::process::{ExitCode, Termination};
use std::str::FromStr;

use anyhow::{Result, bail};
use clap::Args;
use rustix::thread::CpuSet;

/// Reads a value of this range, and refuses others with a message: `what` it is, and from where to where. The type
/// of the range must be that of the flag's field, which clap checks only when it runs.
pub fn within<T>(
    what: &'static str,
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: FromStr + PartialOrd + Display + Clone,
{
    move |text| match text.parse() {
        Ok(value) if range.contains(&value) => Ok(value),
        _ => Err(format!("give {what} from {} to {}", range.start(), range.end())),
    }
}

/// Reads a whole number of this range, as [`within`] does.
pub fn whole<T>(range: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: FromStr + PartialOrd + Display + Clone,
{
    within("a whole number", range)
}

/// Where the two sides of a measurement run.
#[derive(Debug, Clone, Copy, Args)]
pub struct Cores {
    /// The core that servers run on
    #[arg(long = "server-core", default_value_t = 0, value_parser = whole(0..=CpuSet::MAX_CPU - 1))]
    pub server: usize,

    /// The core that load generators run on
    #[arg(long = "client-core", default_value_t = 1, value_parser = whole(0..=CpuSet::MAX_CPU - 1))]
    pub client: usize,
}

impl Cores {
    /// Checks that they are two different cores: a server that shares a core with its load measures the scheduler.
    ///
    /// # Errors
    ///
    /// One sentence, when they are the same.
    pub fn check(self) -> Result<()> {
        let Self { server, client } = self;
        if server == client {
            bail!("--server-core and --client-core are both {server}: choose two cores");
        }
        Ok(())
    }
}

/// How a command ends: with its own exit code, or with exit code 1 and one line on standard error.
#[must_use]
pub fn end(outcome: Result<impl Termination>) -> ExitCode {
    outcome.map_or_else(|error| broken(&[format!("{error:#}")]), Termination::report)
}

/// Exit code 1 if there is anything to complain about, each in a line on standard error; otherwise 0.
#[must_use]
pub fn broken(complaints: &[impl Display]) -> ExitCode {
    for complaint in complaints {
        eprintln!("error: {complaint}");
    }
    if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn what_is_out_of_range_is_told_the_range() {
        assert_eq!(within("seconds", 0.1..=600.0)("0.1"), Ok(0.1));
        for wrong in ["0.09", "601", "NaN", "many", ""] {
            let error = within("seconds", 0.1..=600.0)(wrong).unwrap_err();
            assert_eq!(error, "give seconds from 0.1 to 600", "{wrong}");
        }
        assert_eq!(whole(1..=100_u8)("100"), Ok(100));
        for wrong in ["0", "101", "300", "-1", "1.5"] {
            let error = whole(1..=100_u8)(wrong).unwrap_err();
            assert_eq!(error, "give a whole number from 1 to 100", "{wrong}");
        }
    }

    #[test]
    fn one_core_is_not_enough() {
        assert!(Cores { server: 0, client: 1 }.check().is_ok());
        let error = Cores { server: 3, client: 3 }.check().unwrap_err();
        assert!(error.to_string().contains("both 3: choose two cores"), "{error}");
    }

    #[test]
    fn an_error_or_a_complaint_ends_red() {
        let shown = |code: ExitCode| format!("{code:?}");
        let (green, red) = (shown(ExitCode::SUCCESS), shown(ExitCode::FAILURE));
        assert_eq!(shown(end(Ok(()))), green);
        assert_eq!(shown(end(Ok(ExitCode::FAILURE))), red);
        assert_eq!(shown(end(Err::<(), _>(anyhow::anyhow!("it broke")))), red);
        assert_eq!(shown(broken(&[""; 0])), green);
    }
}
