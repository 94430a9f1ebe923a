//! The back-off between failed connections, the same for every kind of channel.

use std::time::{Duration, Instant};

use crate::config::ChannelConfig;

/// How long to leave a server alone after connections that brought nothing.
#[derive(Clone, Debug)]
pub struct Backoff {
    failures: u32,
    jitter: u64,
}

impl Backoff {
    /// No failures yet. `seed` makes two clients wait differently.
    pub fn new(seed: u64) -> Self {
        Self { failures: 0, jitter: seed | 1 }
    }

    /// A connection ended. Returns the earliest time to connect again: at once (`None`) if the connection
    /// was `proven`, because its server works.
    pub fn handle_end(
        &mut self,
        proven: bool,
        config: &ChannelConfig,
        now: Instant,
    ) -> Option<Instant> {
        if proven {
            self.failures = 0;
            return None;
        }
        self.failures = self.failures.saturating_add(1);
        now.checked_add(self.wait(config))
    }

    /// Exponential, capped, and drawn from its upper half so that clients that lost the same server do not
    /// all come back at once.
    fn wait(&mut self, config: &ChannelConfig) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(16);
        let wait = config.backoff_min.saturating_mul(1 << doublings).min(config.backoff_max);
        // Xorshift64 (Marsaglia 2003): good enough to spread clients, and needs no dependency.
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        let half = wait / 2;
        half + half.mul_f64(f64::from((self.jitter >> 40) as u32 & 0xff_ffff) / f64::from(1 << 24))
    }
}

/// A number that differs from client to client and from run to run.
pub fn random_seed() -> u64 {
    std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0u8)
}
