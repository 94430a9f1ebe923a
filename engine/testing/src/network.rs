//! What the network between the hosts is like.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::ground::SURE;
use crate::net::Rates;

/// What a network is like: how long bytes take, and how often it fails.
///
/// Connections are those of TCP: bytes arrive in order, unchanged, each once, or the connection ends. So a network that
/// loses packets shows as delay, and one that loses too many as connections that are reset.
///
/// ```
/// use corewire::testing::Network;
/// use std::time::Duration;
///
/// let far = Duration::from_millis(40)..=Duration::from_millis(60);
/// let network = Network { latency: far, resets: 0.001, ..Network::default() };
/// # let _ = network;
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// How long bytes take from one host to another; each piece has a time of its own that is drawn from this range, and
    /// none overtakes another of its connection. Default 100 µs to 1 ms.
    #[doc(alias("delay", "jitter"))]
    pub latency: RangeInclusive<Duration>,
    /// How many bytes a connection carries in a second, in each direction; `None` for any number. Default `None`.
    pub bandwidth: Option<u64>,
    /// How likely it is that what arrives is a reset of its connection instead: 0 to 1, of each piece. The other end
    /// learns of it as well, or only when it sends again. Default 0.
    #[doc(alias("loss", "packet loss"))]
    pub resets: f64,
    /// How likely it is that a connect is refused, or delayed by a second: 0 to 1. Default 0.
    pub refusals: f64,
    /// How likely it is that a write takes only a part of what it could, and that a piece arrives in parts: 0 to 1.
    /// Default 0.
    #[doc(alias("partial write", "short write"))]
    pub cuts: f64,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            latency: Duration::from_micros(100)..=Duration::from_millis(1),
            bandwidth: None,
            resets: 0.0,
            refusals: 0.0,
            cuts: 0.0,
        }
    }
}

impl Network {
    /// A bad network: 1 to 100 ms of latency, 1 % of what arrives is a reset, 5 % of connects fail, 20 % of writes are
    /// cut.
    #[must_use]
    pub fn lossy() -> Self {
        Self {
            latency: Duration::from_millis(1)..=Duration::from_millis(100),
            resets: 0.01,
            refusals: 0.05,
            cuts: 0.2,
            ..Self::default()
        }
    }

    /// A network without latency that never fails.
    #[must_use]
    pub fn instant() -> Self {
        Self { latency: Duration::ZERO..=Duration::ZERO, ..Self::default() }
    }

    /// One sentence on the first setting that is out of its range.
    pub(crate) fn fault(&self) -> Option<String> {
        if self.latency.start() > self.latency.end() {
            return Some(format!(
                "latency begins at {:?} and ends at {:?}; the shorter time comes first",
                self.latency.start(),
                self.latency.end()
            ));
        }
        if self.bandwidth == Some(0) {
            return Some(
                "bandwidth is 0 bytes per second; to let nothing pass, use partition".into(),
            );
        }
        let shares = [("resets", self.resets), ("refusals", self.refusals), ("cuts", self.cuts)];
        let wrong = shares.into_iter().find(|(_, share)| !(0.0..=1.0).contains(share));
        wrong.map(|(name, share)| format!("{name} is {share}; a probability is from 0 to 1"))
    }

    pub(crate) fn rates(&self) -> Rates {
        Rates {
            cut: millionths(self.cuts),
            short_send: millionths(self.cuts),
            reset: millionths(self.resets),
            connect: millionths(self.refusals),
            ..Rates::default()
        }
    }

    pub(crate) fn latency_ns(&self) -> (u64, u64) {
        let ns = |time: &Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 4);
        (ns(self.latency.start()), ns(self.latency.end()))
    }

    /// How long a connection is occupied by this many bytes, in ns.
    pub(crate) fn transmission(&self, bytes: usize) -> u64 {
        let Some(bandwidth) = self.bandwidth else { return 0 };
        let ns = bytes as u128 * 1_000_000_000 / u128::from(bandwidth.max(1));
        u64::try_from(ns).unwrap_or(u64::MAX / 4)
    }
}

/// A probability in millionths; one that is not zero stays possible.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is checked to be from 0 to 1"
)]
fn millionths(share: f64) -> u32 {
    (share * f64::from(SURE)).ceil() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_named() {
        let second = Duration::from_secs(1);
        let wrong = [
            (Network { resets: 1.5, ..Network::default() }, "resets is 1.5"),
            (Network { cuts: f64::NAN, ..Network::default() }, "cuts is NaN"),
            (Network { bandwidth: Some(0), ..Network::default() }, "partition"),
            (Network { latency: second..=Duration::ZERO, ..Network::default() }, "shorter"),
        ];
        for (network, part) in wrong {
            let fault = network.fault().unwrap_or_default();
            assert!(fault.contains(part), "{fault:?} does not say {part:?}");
        }
        for network in [Network::default(), Network::lossy(), Network::instant()] {
            assert_eq!(network.fault(), None);
        }
    }

    #[test]
    fn a_narrow_wire_takes_its_time() {
        let network = Network { bandwidth: Some(1_000_000), ..Network::default() };
        assert_eq!(network.transmission(1_000), 1_000_000);
        assert_eq!(Network::default().transmission(1 << 30), 0);
    }
}
