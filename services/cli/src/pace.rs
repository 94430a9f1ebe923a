//! When the calls of an open loop are due.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The lowest and the highest rate that can be asked for, in calls per second.
pub const RATES: std::ops::RangeInclusive<f64> = 0.1..=10_000_000.0;

/// Nanoseconds in a second.
const SECOND: f64 = 1e9;

/// How the calls are spread over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// Every call equally long after the one before it.
    #[default]
    Constant,
    /// Exponential distances, as from many independent callers.
    Poisson,
}

impl FromStr for Arrivals {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "constant" => Ok(Self::Constant),
            "poisson" => Ok(Self::Poisson),
            _ => Err("give constant or poisson".into()),
        }
    }
}

impl fmt::Display for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Constant => "constant",
            Self::Poisson => "poisson",
        })
    }
}

/// Reads a rate in calls per second.
///
/// # Errors
///
/// One sentence with what is allowed.
pub fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if RATES.contains(&rate) => Ok(rate),
        _ => Err("give calls per second between 0.1 and 10000000".into()),
    }
}

/// The times at which calls are due, without an end, in nanoseconds since the run began.
#[derive(Clone, Debug)]
pub struct Schedule {
    arrivals: Arrivals,
    interval_ns: f64,
    noise: u64,
    /// Calls before the next one.
    taken: u64,
    /// The time of the next call with its fraction, so that the rate keeps no rounding error.
    next: f64,
}

impl Schedule {
    /// `rate` calls per second. The first is due at once if they come at constant distances. A schedule with Poisson
    /// arrivals is the same for the same `seed`.
    #[must_use]
    pub fn new(rate: f64, arrivals: Arrivals, seed: u64) -> Self {
        let mut schedule =
            Self { arrivals, interval_ns: SECOND / rate, noise: seed, taken: 0, next: 0.0 };
        if arrivals == Arrivals::Poisson {
            schedule.next = schedule.exponential();
        }
        schedule
    }

    /// When the next call is due.
    #[must_use]
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a time is above zero, and a run ends long before 2⁶⁴ ns"
    )]
    pub fn next_at(&self) -> u64 {
        self.next as u64
    }

    /// Takes the next call; returns when it is due.
    #[allow(clippy::cast_precision_loss, reason = "no run makes 2⁵³ calls")]
    pub fn take(&mut self) -> u64 {
        let at = self.next_at();
        self.taken += 1;
        self.next = match self.arrivals {
            // Multiplied instead of added up: after a billion calls the last one is still on time.
            Arrivals::Constant => self.taken as f64 * self.interval_ns,
            Arrivals::Poisson => self.next + self.exponential(),
        };
        at
    }

    /// A distance between two independent calls.
    #[allow(clippy::cast_precision_loss, reason = "53 bits are what a float holds")]
    fn exponential(&mut self) -> f64 {
        let unit = (noise(&mut self.noise) >> 11) as f64 / (1u64 << 53) as f64;
        -(1.0 - unit).ln() * self.interval_ns
    }
}

/// The next number of a sequence that looks random and is the same for the same start (SplitMix64).
pub fn noise(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(schedule: &mut Schedule, count: usize) -> Vec<u64> {
        (0..count).map(|_| schedule.take()).collect()
    }

    #[test]
    fn constant_calls_keep_their_distance_and_lose_no_fraction() {
        let mut schedule = Schedule::new(3.0, Arrivals::Constant, 0);
        assert_eq!(first(&mut schedule, 4), [0, 333_333_333, 666_666_666, 1_000_000_000]);
        let mut fast = Schedule::new(7_000_000.0, Arrivals::Constant, 0);
        let last = first(&mut fast, 7_000_001).pop();
        assert_eq!(last, Some(1_000_000_000), "a million roundings must not add up");
    }

    #[test]
    fn taking_a_call_leaves_the_next_one_to_be_seen() {
        let mut schedule = Schedule::new(10.0, Arrivals::Constant, 0);
        assert_eq!(schedule.next_at(), 0);
        assert_eq!(schedule.take(), 0);
        assert_eq!(schedule.next_at(), 100_000_000);
    }

    #[test]
    #[allow(clippy::cast_precision_loss, reason = "a hundred thousand calls")]
    fn poisson_calls_keep_the_rate_and_spread_exponentially() {
        let mut schedule = Schedule::new(1000.0, Arrivals::Poisson, 42);
        let times = first(&mut schedule, 100_000);
        let seconds = times[times.len() - 1] as f64 / 1e9;
        assert!((99.0..101.0).contains(&seconds), "100,000 calls took {seconds} s");
        let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        // Of exponential distances, 1 - 1/e are below the mean.
        let short = gaps.iter().filter(|gap| **gap < 1_000_000).count() as f64 / gaps.len() as f64;
        assert!((0.62..0.645).contains(&short), "{short}");
    }

    #[test]
    fn a_seed_stands_for_its_schedule() {
        let times = |seed| first(&mut Schedule::new(1000.0, Arrivals::Poisson, seed), 50);
        assert_eq!(times(7), times(7));
        assert_ne!(times(7), times(8));
    }

    #[test]
    fn rates_have_their_limits() {
        assert_eq!(parse_rate("2.5e3"), Ok(2500.0));
        for wrong in ["0", "-5", "1e8", "inf", "NaN", "", "fast"] {
            assert!(parse_rate(wrong).is_err(), "{wrong:?} was taken");
        }
    }
}
