//! Spreads out what would otherwise happen to thousands of connections at the same moment.

use core::time::Duration;

/// A number that follows from a seed and an id, evenly spread (the finaliser of SplitMix64). There is
/// no source of randomness in this layer: the same seed and id give the same times again.
pub(crate) fn mix(seed: u64, id: u64) -> u64 {
    let mut z = seed.wrapping_add(id.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// How much earlier than after `time` something happens: up to `percent` (at most 100) of it, as the
/// random number says. A time without end stays without end.
pub(crate) fn lead(time: Duration, percent: u8, random: u64) -> Duration {
    if time == Duration::MAX {
        return Duration::ZERO;
    }
    let most = time / 100 * u32::from(percent.min(100));
    // The upper half of the number, as a fraction of 2³².
    let nanos = (most.as_nanos() * u128::from(random >> 32)) >> 32;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// REQ-72: within its bounds, the same for the same seed, and spread over connections.
    #[test]
    fn jitter_is_bounded_deterministic_and_spread() {
        let minute = Duration::from_secs(60);
        let leads: Vec<Duration> = (0..1_000).map(|id| lead(minute, 10, mix(7, id))).collect();
        assert!(leads.iter().all(|lead| *lead < minute / 10));
        assert_eq!(leads[5], lead(minute, 10, mix(7, 5)));
        let early = leads.iter().filter(|lead| **lead < minute / 20).count();
        assert!((400..600).contains(&early), "{early} of 1000 in the lower half");
        assert_eq!(lead(minute, 0, u64::MAX), Duration::ZERO);
        assert_eq!(lead(Duration::MAX, 50, u64::MAX), Duration::ZERO);
        assert!(lead(Duration::from_secs(u64::MAX / 2), 100, u64::MAX) > minute);
    }
}
