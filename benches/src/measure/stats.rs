//! The statistics of a handful of rounds: medians, because one disturbed round must not move the result.

use serde::Serialize;

/// A few measurements of the same thing, summarised.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// How many values there were.
    pub count: usize,
    /// The middle value; for an even count, the mean of the two middle ones.
    pub median: f64,
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
    /// The median of all distances from the median: the spread without its outliers.
    pub mad: f64,
}

impl Summary {
    /// Reduces the values; `None` when there is none, or one that is not a finite number.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let median = middle(&sorted);
        let mut distances: Vec<f64> = sorted.iter().map(|value| (value - median).abs()).collect();
        distances.sort_by(f64::total_cmp);
        Some(Self {
            count: sorted.len(),
            median,
            min: sorted[0],
            max: sorted[sorted.len() - 1],
            mad: middle(&distances),
        })
    }
}

/// The median of sorted values, of which there is at least one.
fn middle(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { f64::midpoint(sorted[half - 1], sorted[half]) }
}

/// Divides each round's value by the base's value of the same round. A machine that was slow for a while was slow for
/// both, so the ratio is steadier than either; a round that only one of them finished says nothing and is left out.
#[must_use]
pub fn paired_ratios(values: &[(usize, f64)], base: &[(usize, f64)]) -> Vec<f64> {
    let base_of = |round| base.iter().find(|(of, _)| *of == round).map(|(_, value)| *value);
    let ratio = |&(round, value): &(usize, f64)| Some(value / base_of(round)?);
    values.iter().filter_map(ratio).filter(|ratio| ratio.is_finite()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::float_cmp,
        reason = "tests, with values that floats hold exactly"
    )]

    use super::*;

    #[test]
    fn an_odd_and_an_even_count() {
        let odd = Summary::of(&[3.0, 1.0, 9.0]).unwrap();
        assert_eq!((odd.count, odd.median, odd.min, odd.max, odd.mad), (3, 3.0, 1.0, 9.0, 2.0));
        let even = Summary::of(&[4.0, 1.0, 2.0, 3.0]).unwrap();
        assert_eq!((even.median, even.mad), (2.5, 1.0));
    }

    #[test]
    fn one_disturbed_round_moves_neither_median_nor_spread() {
        let quiet = Summary::of(&[10.0, 11.0, 12.0, 13.0, 14.0]).unwrap();
        let disturbed = Summary::of(&[10.0, 11.0, 12.0, 13.0, 900.0]).unwrap();
        assert_eq!((quiet.median, quiet.mad), (disturbed.median, disturbed.mad));
        assert_eq!(disturbed.max, 900.0);
    }

    #[test]
    fn nothing_and_no_number_have_no_summary() {
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(Summary::of(&[1.0, f64::NAN]), None);
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The machine was twice as slow in round 1; round 2 of the base failed.
        let ratios = paired_ratios(&[(0, 30.0), (1, 60.0), (2, 30.0)], &[(0, 20.0), (1, 40.0)]);
        assert_eq!(ratios, [1.5, 1.5]);
        assert!(paired_ratios(&[(0, 1.0)], &[(0, 0.0)]).is_empty());
    }
}
