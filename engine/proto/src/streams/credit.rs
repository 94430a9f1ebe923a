//! Credit: how many bytes may still be sent, and how many were taken since the last grant.
//!
//! Both ends count the same thing. A message costs its payload and sixteen bytes more, so that even
//! empty messages come to an end. It may be sent while credit is left, however large it is: the
//! credit then falls below zero, by one message at most, and the next message waits until grants
//! have lifted it above zero again. So a message larger than the window passes, and what a receiver
//! holds is bounded by the window and one frame.

use core::num::NonZeroU32;

use corewire_codec::{HEADER_BYTES, Rule};

/// No credit may be lifted above this (REQ-53): the greatest initial credit.
const CREDIT_MAX: i64 = 1 << 30;

/// What a message with `payload_bytes` of payload costs (REQ-52).
#[allow(clippy::cast_possible_truncation, reason = "a header has sixteen bytes")]
pub(crate) const fn message_cost(payload_bytes: u32) -> u32 {
    payload_bytes.saturating_add(HEADER_BYTES as u32)
}

/// What this side may still send. Invariant: at most [`CREDIT_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SendCredit(i32);

impl SendCredit {
    /// A credit of `initial` bytes, which is what a limit of the hello allows: at most 1 GiB.
    pub(crate) fn new(initial: u32) -> Self {
        Self(i32::try_from(initial).unwrap_or(i32::MAX))
    }

    /// Whether a message may be sent.
    pub(crate) fn is_open(self) -> bool {
        self.0 > 0
    }

    /// Bytes left; none when it is overdrawn.
    pub(crate) fn available(self) -> u32 {
        u32::try_from(self.0).unwrap_or(0)
    }

    /// A message is sent. The credit was above zero.
    pub(crate) fn charge(&mut self, cost: u32) {
        self.0 = self.0.saturating_sub_unsigned(cost);
    }

    /// The receiver grants more.
    ///
    /// # Errors
    ///
    /// The grant lifts the credit above its maximum.
    pub(crate) fn grant(&mut self, bytes: u32) -> Result<(), Rule> {
        let sum = i64::from(self.0) + i64::from(bytes);
        if sum > CREDIT_MAX {
            return Err(Rule::BadCredit);
        }
        self.0 = i32::try_from(sum).map_err(|_| Rule::BadCredit)?;
        Ok(())
    }
}

/// What the peer may still send: its credit is the window less what is `held` and `ungranted`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RecvWindow {
    /// Received and not consumed.
    held: u32,
    /// Consumed, and not granted again yet.
    ungranted: u32,
}

impl RecvWindow {
    /// A message arrives.
    ///
    /// # Errors
    ///
    /// No credit was left.
    pub(crate) fn receive(&mut self, cost: u32, window: u32) -> Result<(), Rule> {
        if self.held.saturating_add(self.ungranted) >= window {
            return Err(Rule::CreditOverdrawn);
        }
        self.held = self.held.saturating_add(cost);
        Ok(())
    }

    /// A message of a stream is consumed; returns what to grant now. Grants are gathered until half the
    /// window can be given back. That takes fewer frames and never stalls: a sender of whose bytes none
    /// is held has at least the other half.
    pub(crate) fn consume(&mut self, cost: u32, window: u32) -> Option<NonZeroU32> {
        self.release(cost);
        self.grant_from(window / 2)
    }

    /// The same for the window that all streams share. Part of it may be held for long by readers that
    /// stall, so credit is granted once half of what is left to the others can be given back: with
    /// half of the whole, they could wait for bytes that never accumulate.
    pub(crate) fn consume_shared(&mut self, cost: u32, window: u32) -> Option<NonZeroU32> {
        self.release(cost);
        self.grant_shared(window)
    }

    /// What to grant now that a message came, for the window that all streams share: it took from what is
    /// left to the others, so what was gathered may now be half of that. The message's reader may never
    /// consume anything, so nothing would check again.
    pub(crate) fn grant_shared(&mut self, window: u32) -> Option<NonZeroU32> {
        self.grant_from(window.saturating_sub(self.held) / 2)
    }

    fn release(&mut self, cost: u32) {
        let cost = cost.min(self.held);
        self.held -= cost;
        self.ungranted = self.ungranted.saturating_add(cost);
    }

    fn grant_from(&mut self, least: u32) -> Option<NonZeroU32> {
        if self.ungranted < least {
            return None;
        }
        NonZeroU32::new(core::mem::take(&mut self.ungranted))
    }

    /// Bytes that were received and not consumed, with the cost of their frames.
    pub(crate) fn held(self) -> u32 {
        self.held
    }

    /// Bytes that were consumed and not granted again yet.
    pub(crate) fn ungranted(self) -> u32 {
        self.ungranted
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// REQ-52: the greatest message on the greatest window, with another before it.
    #[test]
    fn the_greatest_numbers_fit() {
        let window = 1 << 30;
        let mut credit = SendCredit::new(window);
        let mut held = RecvWindow::default();
        for bytes in [window - 17, 1 << 30] {
            assert!(credit.is_open());
            credit.charge(message_cost(bytes));
            held.receive(message_cost(bytes), window).unwrap();
        }
        assert!(!credit.is_open());
        assert_eq!(credit.available(), 0);
        assert_eq!(held.receive(16, window), Err(Rule::CreditOverdrawn));
        let first = held.consume(message_cost(window - 17), window).unwrap();
        let second = held.consume(message_cost(1 << 30), window).unwrap();
        credit.grant(first.get()).unwrap();
        credit.grant(second.get()).unwrap();
        assert_eq!(credit, SendCredit::new(window));
    }

    /// REQ-53: up to the maximum and not a byte past it, whatever the number.
    #[test]
    fn a_grant_past_the_maximum_is_refused() {
        let mut credit = SendCredit::new(1 << 30);
        for bytes in [1, 1 << 30, u32::MAX] {
            assert_eq!(credit.grant(bytes), Err(Rule::BadCredit));
        }
        credit.charge(5);
        assert_eq!(credit.grant(6), Err(Rule::BadCredit));
        assert_eq!(credit.grant(5), Ok(()));
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: Some(Box::new(
                proptest::test_runner::FileFailurePersistence::Direct(concat!(
                    env!("CARGO_MANIFEST_DIR"), "/src/credit.regressions"
                )),
            )),
            ..ProptestConfig::default()
        })]

        /// REQ-52, REQ-71: whatever the sizes, both ends agree; a sender whose bytes were all taken may
        /// send, and one of a shared window whenever not all of it is held; and consuming more than was
        /// received gives nothing.
        #[test]
        fn both_ends_agree(
            window in 16_384u32..1 << 20,
            shared in any::<bool>(),
            steps in proptest::collection::vec((any::<bool>(), 0u32..100_000), 0..200),
        ) {
            let mut credit = SendCredit::new(window);
            let mut received = RecvWindow::default();
            let mut queue = std::collections::VecDeque::new();
            let consume = if shared { RecvWindow::consume_shared } else { RecvWindow::consume };
            for (send, bytes) in steps {
                if send {
                    let cost = message_cost(bytes);
                    let open = credit.is_open();
                    prop_assert_eq!(open, received.clone().receive(cost, window).is_ok());
                    if open {
                        credit.charge(cost);
                        received.receive(cost, window).unwrap();
                        queue.push_back(cost);
                        if shared && let Some(grant) = received.grant_shared(window) {
                            credit.grant(grant.get()).unwrap();
                        }
                    }
                    prop_assert!(!shared || credit.is_open() == (received.held() < window));
                } else {
                    // Nothing comes of consuming what is not there.
                    let cost = queue.pop_front().unwrap_or(bytes);
                    if let Some(grant) = consume(&mut received, cost, window) {
                        credit.grant(grant.get()).unwrap();
                    }
                    prop_assert!(credit.is_open() || !queue.is_empty());
                    let held = received.held();
                    prop_assert!(!shared || credit.is_open() == (held < window));
                }
                prop_assert_eq!(received.held(), queue.iter().sum::<u32>());
                prop_assert!(!queue.is_empty() || credit.available() > window / 2);
                prop_assert!(credit.available() <= window);
            }
        }
    }
}
